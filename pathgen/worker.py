"""The search actor, and what every actor with a model shares: how it loads, and which errors end its process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import torch

from cluster.work_thread import WorkThread

from .evaluator import Evaluator
from .faults import fault_point
from .job import Job, RunSettings
from .model import PathModel
from .rundir import RunDirectory
from .searcher import Searcher
from .tasks import find_task
from .writer import RecordWriter

BACKLOG = 2
"""Questions held for each one in flight: enough to pick neighbours in length from, few to prove innocent later."""


class SearchWorker(WorkThread):
    """Searches questions. The model is loaded once, by the constructor.

    Args:
        run: the run's settings.
        writer: the id under which this actor writes.
    """

    def __init__(self, run: RunSettings, writer: str):
        evaluator = Evaluator(load_placed(run), find_task(run.task), chat=run.chat)
        self._searcher = Searcher(run, writer, evaluator, RunDirectory(run.out).load_record)
        self._writer = RecordWriter(run.out, writer, run.metadata, run.token)
        super().__init__(run.in_flight * (1 + BACKLOG), is_sticky)

    @property
    def held(self) -> int:
        """Questions taken up and not ended."""
        return self._searcher.held

    @property
    def moved_at(self) -> Mapping[str, float]:
        """As `Searcher.moved_at`."""
        return self._searcher.moved_at

    @property
    def counters(self) -> Mapping[str, float]:
        """As `Searcher.counters`."""
        return self._searcher.counters

    def take_up(self, job: Job) -> None:
        """Take a question into the searcher's backlog."""
        fault_point(f"take-up-{job.question.id}")
        self._searcher.take_up(job)

    def step(self) -> None:
        """One round of all searches; records that ended go to the writer, which commits what is due."""
        if self._searcher.held:
            records = self._searcher.step()
            fault_point("after-step")
            for record in records:
                self._writer.add(record)
            self.publish(
                finished=[record.question_id for record in records],
                failed=[record.question_id for record in records if record.status == "failed"],
            )
        self.publish(durable=self._writer.tick(self._searcher.under_way))

    def close(self) -> Iterable[str]:
        """Commit what is finished, and keep the searches under way as progress."""
        return self._writer.close(self._searcher.under_way())


class PlacedModel(Protocol):
    """Settings that say which model an actor loads, and on what."""

    @property
    def model(self) -> str:
        """Alias, folder or hub id."""

    @property
    def dtype(self) -> str:
        """Of the weights."""

    @property
    def device(self) -> str:
        """Torch device."""

    @property
    def devices_per_actor(self) -> int:
        """Above 1, the model is spread over so many devices."""

    @property
    def threads(self) -> int:
        """Torch threads of the process."""


def load_placed(settings: PlacedModel) -> PathModel:
    """The model of an actor, in an actor's process; errors as `PathModel.from_pretrained`."""
    torch.set_num_threads(settings.threads)
    device_map = "auto" if settings.devices_per_actor > 1 else None
    return PathModel.from_pretrained(
        settings.model, dtype=settings.dtype, device=settings.device, device_map=device_map
    )


def is_sticky(error: BaseException) -> bool:
    """Whether a CUDA error leaves this process useless: a context that has failed fails for ever."""
    accelerator_error = getattr(torch, "AcceleratorError", ())
    return isinstance(error, accelerator_error) or "CUDA error" in str(error)
