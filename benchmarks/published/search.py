"""The published search of Dr.LLM (arXiv 2510.12773), run as published: the rival in comparisons of speed.

One question, one path, one forward of the stock Hugging Face model at a time: the model's list of layers is
rebuilt along the path, the choices are the rows of one right-padded batch (letters may be read off one row, as
the release reads its generated letter), and nothing is shared or kept between paths but their verdicts. The
search is `published_chain`. Where it differs from the release:

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
        layers_run: the same per row.
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
    """A question as a batch, right-padded: row c is the prompt followed by choice c, or one row serves all.

    Attributes:
        ids: [rows, tokens] token ids.
        mask: [rows, tokens], 1 on tokens and 0 on padding.
        targets: [choices, K] tokens of the choices.
        targets_mask: [choices, K], 1 on tokens and 0 on padding.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    targets: torch.Tensor
    targets_mask: torch.Tensor


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


def choice_batch(
    tokenizer: PreTrainedTokenizerBase, question: Question, task: str = "arc", *, one_row: bool = False
) -> ChoiceBatch:
    """Tokenise a question as the task does; with `one_row`, choices that differ in their last token alone are one row.

    Raises:
        InputError: if the question is no multiple choice.
    """
    if question.choices is None or question.gold is None:
        raise InputError(f"question {question.id}: the published search needs choices and a gold index")
    prompt, choices = find_task(task).encode(question, tokenizer, chat=False)
    alike = one_row and len({tuple(choice[:-1]) for choice in choices}) == 1
    ids, mask = _right_padded([prompt + choice for choice in choices] if not alike else [prompt + choices[0][:-1]])
    return ChoiceBatch(ids, mask, *_right_padded(choices))


def _right_padded(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    return ids, mask


def choice_scores(model: PreTrainedModel, batch: ChoiceBatch, layers: Layers) -> list[float]:
    """Summed log-likelihood of each choice, in nats, by one stock forward along `layers`."""
    import torch

    choices, tokens = batch.targets.shape
    ids, mask, targets, targets_mask = (
        part.to(model.device) for part in (batch.ids, batch.mask, batch.targets, batch.targets_mask)
    )
    own_rows = len(ids) == choices
    with torch.inference_mode(), rebuilt(model, layers):
        output = model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=tokens + own_rows)
    logits = output.logits[:, :-1] if own_rows else output.logits.expand(choices, -1, -1)
    likelihoods = logits.float().log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    return (likelihoods * targets_mask).sum(-1).tolist()


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
    task: str = "arc",
    one_row: bool = False,
) -> Result:
    """Search one question as published and time it; `one_row` as in `choice_batch`.

    Raises:
        InputError: if the question is no multiple choice, or the model's list of layers cannot be rebuilt.
    """
    started_s = time.perf_counter()
    batch = choice_batch(tokenizer, question, task, one_row=one_row)
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
