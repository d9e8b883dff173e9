"""The published search of Dr.LLM (arXiv 2510.12773), run as published: the rival in comparisons of speed.

One question, one path, one forward of the stock Hugging Face model at a time: the model's list of layers is
rebuilt along the path, the choices are the rows of one right-padded batch, and nothing is shared or kept
between paths but their verdicts. The search is `published_chain`. Where it differs from the release:

- the full path is run once (released: once before the search and again inside it);
- logits are computed for the choices' tokens only, as the release's `generate` computes the last token's;
- an answer is right if gold has the largest log-likelihood (released: if the generated letter is gold's), so
  that answers are judged exactly as this project's own search judges them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.published.chain import Layers, chain_search
from pathgen.errors import InputError
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.question import Question
from pathgen.questions.tasks import choice_margin, find_task

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Result:
    """One searched question.

    Attributes:
        question_id: the question's id.
        base_correct: whether the full path is right.
        solved: whether any evaluated path is right.
        best_path: the shortest right path, then the one of fewest different layers; None if unsolved.
        best_depth: its depth, None if unsolved.
        simulations: rounds of the search, those answered from memory among them.
        layer_executions: sum of the evaluated paths' depths, the full one among them.
        layers_run: the same per row, that is, per choice.
        token_layers: the same per token of the padded batch.
        seconds: wall time, tokenisation included.
    """

    question_id: str
    base_correct: bool
    solved: bool
    best_path: LayerPath | None
    best_depth: int | None
    simulations: int
    layer_executions: int
    layers_run: int
    token_layers: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ChoiceBatch:
    """A question as a batch, right-padded: row c is the prompt followed by choice c.

    Attributes:
        ids: [choices, tokens] token ids.
        mask: [choices, tokens], 1 on tokens and 0 on padding.
        prompt_tokens: how many tokens of each row are the prompt's.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    prompt_tokens: int


@contextmanager
def rebuilt(model: PreTrainedModel, layers: Layers) -> Iterator[None]:
    """Within it the stock model's decoder holds references to these layers, in order; restored afterwards.

    The config's layer count and attention kinds follow, because stock forwards cut the list at the one and
    pick each layer's mask by the other.

    Raises:
        InputError: if the decoder keeps its layers elsewhere than in `layers`.
    """
    import torch

    decoder: Any = model.get_decoder()
    stack = getattr(decoder, "layers", None)
    if not isinstance(stack, torch.nn.ModuleList):
        raise InputError(f"{type(model).__name__}: the decoder has no list `layers` to rebuild along a path")
    config, before = decoder.config, {"num_hidden_layers": len(stack)}
    if kinds := getattr(config, "layer_types", None):
        before["layer_types"] = kinds
        config.layer_types = [kinds[layer] for layer in layers]
    config.num_hidden_layers = len(layers)
    decoder.layers = torch.nn.ModuleList(stack[layer] for layer in layers)
    try:
        yield
    finally:
        decoder.layers = stack
        for name, value in before.items():
            setattr(config, name, value)


def choice_batch(tokenizer: PreTrainedTokenizerBase, question: Question, task: str = "arc") -> ChoiceBatch:
    """Tokenise a question as a task with choices does.

    Raises:
        InputError: if the question is no multiple choice.
    """
    import torch

    if question.choices is None or question.gold is None:
        raise InputError(f"question {question.id}: the published search needs choices and a gold index")
    prompt, choices = find_task(task).encode(question, tokenizer, chat=False)
    rows = [prompt + choice for choice in choices]
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    return ChoiceBatch(ids, mask, len(prompt))


def choice_scores(model: PreTrainedModel, batch: ChoiceBatch, layers: Layers) -> list[float]:
    """Summed log-likelihood of each choice, in nats, by one stock forward along `layers`."""
    import torch

    ids, mask = batch.ids.to(model.device), batch.mask.to(model.device)
    targets = ids[:, batch.prompt_tokens :]
    with torch.inference_mode(), rebuilt(model, layers):
        output = model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=targets.shape[1] + 1)
    logits = output.logits[:, :-1]
    likelihoods = logits.float().log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    return (likelihoods * mask[:, batch.prompt_tokens :]).sum(-1).tolist()


def is_right(scores: Sequence[float], question: Question) -> bool:
    """Whether gold's margin is positive; never with a NaN or an infinity among the scores."""
    assert question.choices is not None
    assert question.gold is not None
    return all(map(math.isfinite, scores)) and choice_margin(scores, question.choices, question.gold) > 0


def search_question(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    question: Question,
    *,
    simulations: int,
    rng: np.random.Generator,
) -> Result:
    """Search one question as published and time it.

    Raises:
        InputError: if the question is no multiple choice, or the model's list of layers cannot be rebuilt.
    """
    started_s = time.perf_counter()
    batch = choice_batch(tokenizer, question)
    num_layers = model.get_decoder().config.num_hidden_layers

    def evaluate(layers: Layers) -> bool:
        return is_right(choice_scores(model, batch, layers), question)

    search = chain_search(evaluate, num_layers, simulations=simulations, rng=rng)
    seconds = time.perf_counter() - started_s
    right = [layers for layers, correct in search.evaluated.items() if correct]
    best = min(right, key=lambda layers: (len(layers), len(set(layers))), default=None)
    executions = sum(map(len, search.evaluated))
    return Result(
        question_id=question.id,
        base_correct=next(iter(search.evaluated.values())),
        solved=best is not None,
        best_path=None if best is None else LayerPath.from_executions(best, num_layers),
        best_depth=None if best is None else len(best),
        simulations=search.simulations,
        layer_executions=executions,
        layers_run=executions * batch.ids.shape[0],
        token_layers=executions * batch.ids.numel(),
        seconds=seconds,
    )
