"""Evaluations of (question, path) pairs of one task on one model."""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engine.executor import KEEP_BYTES, Executor
from ..engine.mask_probe import find_mask_form
from ..engine.path_model import PathModel
from ..engine.probe.restrictions import RowKind
from ..engine.token_rows import Row, packed_row, plain_rows
from ..errors import PathgenError
from ..paths.layer_path import LayerPath
from ..paths.records import Evaluation
from ..questions.chat import Chat
from ..questions.grading import answers_agree
from ..questions.question import Question
from ..questions.tasks import Task, choice_margin
from .batching import Extent, like_lengths
from .decoding import GreedyAnswer, greedy_answers

BATCH_STATE_BYTES = 2 << 30
"""Bound on the pool of states of one batch."""
DECODE_ROWS = 64
"""Most (question, path) pairs that decode together."""


class QuestionError(PathgenError):
    """One question does not fit this model (it is too long, for example); other questions may."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A question in tokens: its prompt, and the rows that the engine scores."""

    question: Question
    prompt_ids: list[int]
    rows: list[Row]

    @property
    def tokens(self) -> int:
        """Length of its longest row."""
        return max(len(row) for row in self.rows)

    @property
    def keys(self) -> set[Hashable]:
        """What identifies the states of its rows and their stems."""
        return {key for row in self.rows for key in (row.key, row.stem_key)}


class Evaluator:
    """Runs paths on questions of one task with one model, which needs a tokenizer.

    With `chat`, prompts use the chat template, on the day that it names if it names one.
    `keep_bytes` limits the hidden states kept between calls.
    """

    def __init__(self, model: PathModel, task: Task, *, chat: Chat = False, keep_bytes: int = KEEP_BYTES):
        if model.tokenizer is None:
            raise ValueError("evaluating questions needs a PathModel with a tokenizer")
        self.model = model
        self.task = task
        self.chat = chat
        self.masks = None if task.generates else find_mask_form(model)
        self.executor = Executor(model, self.masks, keep_bytes)
        self.max_tokens = context_tokens(model.config)

    def prepare(self, question: Question) -> Prepared:
        """Tokenise a question.

        Raises:
            QuestionError: it does not fit the context, or has no choices, no tokens, or a token unknown to the model.
        """
        assert self.model.tokenizer is not None
        prompt, continuations = self.task.encode(question, self.model.tokenizer, self.chat)
        if not prompt or not continuations or not all(continuations):
            raise QuestionError(f"question {question.id}: its prompt or a choice has no tokens for this tokenizer")
        vocabulary = self.model.hf_model.get_input_embeddings().num_embeddings
        if (largest := max(map(max, (prompt, *continuations)))) >= vocabulary:
            raise QuestionError(
                f"question {question.id}: the tokenizer gives token {largest}, the model knows {vocabulary}"
            )
        key = (question.id, question.sha)  # two folders may use one id for different questions
        packed = self.masks is not None
        rows = [packed_row(key, prompt, continuations)] if packed else plain_rows(key, prompt, continuations)
        if (longest := self.task.longest(prompt, continuations)) > self.max_tokens:
            raise QuestionError(
                f"question {question.id}: {longest} tokens with its answer, the model's context is {self.max_tokens}"
            )
        return Prepared(question, prompt, rows)

    def evaluate(self, asked: Sequence[tuple[Prepared, LayerPath]]) -> list[Evaluation]:
        """One evaluation per pair, in order. The search fills in `simulation`."""
        found: dict[int, Evaluation] = {}
        for indices in self._batches(asked):
            found.update(zip(indices, self._evaluate_batch([asked[index] for index in indices]), strict=True))
        return [found[index] for index in range(len(asked))]

    def forget(self, prepared: Prepared) -> None:
        """Free the states and the count of layers of a question whose search has ended."""
        keys = prepared.keys
        self.executor.kept.forget(keys)
        for key in keys:
            self.executor.work.layers_run_by_row.pop(key, None)
            self.executor.influence.pop(key, None)

    def influence(self, prepared: Prepared) -> tuple[float, ...] | None:
        """How much each layer and pair of layers changes the prompt's states, as `InfluenceMeter.found`.

        None if its full path has not run.
        """
        return self.executor.influence.get(prepared.rows[0].key)

    def layers_run(self, prepared: Prepared) -> int:
        """Layer executions for a question so far, after sharing, over all its rows."""
        return sum(self.executor.work.layers_run_by_row[key] for key in prepared.keys)

    def _batches(self, asked: Sequence[tuple[Prepared, LayerPath]]) -> Iterator[list[int]]:
        """Indices of pairs that run together: of similar length, and within the memory bound."""
        state_bytes = self.model.config.hidden_size * self.model.hf_model.dtype.itemsize

        def is_full(batch: list[int], index: int) -> bool:
            width = asked[batch[0]][0].tokens * (len(batch) + 1)
            full = width * len(asked[index][0].rows) * state_bytes > BATCH_STATE_BYTES
            return full or (self.task.generates and len(batch) == DECODE_ROWS)

        extents = [Extent(prepared.tokens, 1, prepared.tokens, self._kind(prepared)) for prepared, _ in asked]
        order = sorted(
            range(len(asked)), key=lambda i: (extents[i].kind, -asked[i][0].tokens, asked[i][0].question.id, i)
        )
        return like_lengths(extents, order, is_full)

    def _kind(self, prepared: Prepared) -> RowKind:
        tokens = len(prepared.prompt_ids) if self.task.generates else prepared.tokens
        return self.model.restrictions.kind(tokens, decodes=self.task.generates)

    def _evaluate_batch(self, pairs: list[tuple[Prepared, LayerPath]]) -> list[Evaluation]:
        if self.task.generates:
            return self._generated(pairs)
        flat = [(row, path) for prepared, path in pairs for row in prepared.rows]
        logprobs = iter(self.executor.token_logprobs(flat))
        return [_chosen(prepared, path, [next(logprobs) for _ in prepared.rows]) for prepared, path in pairs]

    def _generated(self, pairs: list[tuple[Prepared, LayerPath]]) -> list[Evaluation]:
        """The row that scores the reference starts with the prompt, so running it is also the prefill."""
        logprobs, cache = self.executor.prefill([(prepared.rows[0], path) for prepared, path in pairs])
        started = time.perf_counter()
        answers = greedy_answers(
            self.model,
            [prepared.prompt_ids for prepared, _ in pairs],
            [path for _, path in pairs],
            cache,
            max_new_tokens=self.task.max_new_tokens,
            stop=self.task.stop,
        )
        self.executor.work.seconds["decode"] += time.perf_counter() - started
        return [
            _graded(prepared, path, float(values.mean()), answer)
            for (prepared, path), values, answer in zip(pairs, logprobs, answers, strict=True)
        ]


def _chosen(prepared: Prepared, path: LayerPath, logprobs: list[np.ndarray]) -> Evaluation:
    question = prepared.question
    assert question.choices is not None
    assert question.gold is not None
    owners = np.concatenate([row.owners for row in prepared.rows])
    scores = np.bincount(owners, weights=np.concatenate(logprobs)).tolist()
    if not all(math.isfinite(score) for score in scores):
        return Evaluation(path, correct=False, margin=None)
    margin = choice_margin(scores, question.choices, question.gold)
    return Evaluation(path, correct=margin > 0, margin=margin, choice_scores=tuple(scores))


def _graded(prepared: Prepared, path: LayerPath, margin: float, answer: GreedyAnswer) -> Evaluation:
    if not math.isfinite(margin):
        return Evaluation(path, correct=False, margin=None, answer=answer.text, cut=answer.cut)
    correct = answers_agree(answer.text, prepared.question.reference or "")
    return Evaluation(path, correct, margin, answer=answer.text, cut=answer.cut)


def context_tokens(config: Any) -> int:
    """The longest row that a model accepts, in tokens.

    Some rotary tables (dynamic, longrope) change with the longest row of a batch, so one row would change the
    others. These models are limited to their original context.
    """
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    limit = getattr(config, "max_position_embeddings", None) or 1 << 30
    if rope.get("rope_type", rope.get("type")) in ("dynamic", "longrope"):
        name = "original_max_position_embeddings"
        limit = min(limit, rope.get(name) or getattr(config, name, None) or limit)
    return int(limit)
