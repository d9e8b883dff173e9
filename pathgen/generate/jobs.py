"""What the driver sends to actors, as small plain data: the run's settings, and one job per question."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ..actors.model_spec import ModelSpec
from ..paths.cost import CostModel
from ..paths.records import PathRecord, seeded_hash
from ..questions.chat import Chat
from ..questions.question import Question
from ..store.provenance import ShardMetadata
from .options import GenerateOptions

BACKLOG = 2
"""Questions waiting for each one in flight: enough to choose like lengths, few to run alone after a death."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """All that an actor needs to search questions of one run.

    Attributes:
        out: the run's folder.
        token: of the run's lease.
        chat: how prompts are asked, as the run began.
        in_flight: searches interleaved in one actor.
    """

    out: str
    token: str
    metadata: ShardMetadata
    model: ModelSpec
    options: GenerateOptions
    cost: CostModel
    in_flight: int
    chat: Chat = False

    @property
    def num_layers(self) -> int:
        """Layers of the model."""
        return len(self.cost.weights)


@dataclass(frozen=True, slots=True)
class Job:
    """One question for an actor.

    Attributes:
        resume: files with stored evaluations, relative to the run's folder.
        attempts: how often it failed before.
    """

    question: Question
    resume: tuple[str, ...] = ()
    attempts: int = 0

    @property
    def key(self) -> str:
        """The question's id."""
        return self.question.id


def new_record(
    question: Question, attempts: int, run: RunSettings, writer: str, error: str | None = None
) -> PathRecord:
    """A record without results, of status `failed`; `attempts` counts the failures before."""
    return PathRecord(
        question=question,
        question_sha=question.sha,
        task=run.options.task,
        status="failed",
        num_layers=run.num_layers,
        seed=seeded_hash(run.options.seed, question.id),
        writer=writer,
        attempts=attempts + 1,
        created_ms=time.time_ns() // 1_000_000,
        error=error,
    )
