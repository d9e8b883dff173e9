"""The results of a search as plain data: evaluations of paths, and the record of one question."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

from ..questions.question import Question
from .layer_path import LayerPath

Status = Literal["improved", "kept", "unsolved", "failed", "searching"]
StopReason = Literal["budget", "early", "exhausted", "interrupted"]

HASH_BITS = 63
SOLVED: tuple[Status, ...] = ("improved", "kept")
SEARCHED: tuple[Status, ...] = (*SOLVED, "unsolved")
NOT_ASKED = -1
"""`Evaluation.simulation` of a path that no search has asked for."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One path run on one question.

    Attributes:
        correct: choices: margin > 0; generation: the answer graded equal to the reference.
        margin: nats. Choices: gold's summed log-likelihood minus the best other's. Generation: mean
            log-likelihood per token of the reference answer. None if the model gave NaN or Inf.
        choice_scores: summed log-likelihood of each choice, in nats; None for generation.
        answer: the generated text; None for choices.
        cut: whether the answer ended only because it had the task's most tokens.
        simulation: 0 for the full path, then 1, 2, … in the order the search asked.
    """

    path: LayerPath
    correct: bool
    margin: float | None
    choice_scores: tuple[float, ...] | None = None
    answer: str | None = None
    simulation: int = NOT_ASKED
    cut: bool = False


@dataclass(slots=True)
class PathRecord:
    """The result of one question's search: one row of a shard, with the columns of `store.schema.SCHEMA`.

    `question_sha` is the shard's value: the question's `sha` when the record was made. `influence` orders the moves
    of a search: how much each layer, then each pair of layers, changes the question's states.
    """

    question: Question
    question_sha: str
    task: str
    status: Status
    num_layers: int
    seed: int
    writer: str
    attempts: int
    created_ms: int
    stop_reason: StopReason | None = None
    base_correct: bool | None = None
    base_margin: float | None = None
    best_path: LayerPath | None = None
    best_depth: int | None = None
    best_margin: float | None = None
    evaluations: list[Evaluation] = field(default_factory=list)
    simulations: int | None = None
    layer_executions: int | None = None
    layers_run: int | None = None
    seconds: float | None = None
    error: str | None = None
    influence: tuple[float, ...] | None = None


def seeded_hash(seed: int, key: str) -> int:
    """A number of HASH_BITS that depends only on the seed and the key, a question's id or hash."""
    digest = hashlib.blake2b(f"{seed}\x1f{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - HASH_BITS)
