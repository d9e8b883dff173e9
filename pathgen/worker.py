"""The search actor: a thread that searches, and the short calls by which a fleet drives it."""

from __future__ import annotations

import os
import threading
import time

import torch

from cluster.protocol import Item, Report

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
IDLE_S = 1.0


class SearchWorker:
    """Answers `cluster.protocol.FleetActor`. The model is loaded once, by the constructor.

    Args:
        run: the run's settings.
        writer: the id under which this actor writes.
    """

    def __init__(self, run: RunSettings, writer: str):
        torch.set_num_threads(run.threads)
        device_map = "auto" if run.devices_per_actor > 1 else None
        model = PathModel.from_pretrained(run.model, dtype=run.dtype, device=run.device, device_map=device_map)
        evaluator = Evaluator(model, find_task(run.task), chat=run.chat)
        self._capacity = run.in_flight * (1 + BACKLOG)
        self._searcher = Searcher(run, writer, evaluator, RunDirectory(run.out).load_record)
        self._writer = RecordWriter(run.out, writer, run.metadata, run.token)

        self._news = threading.Condition()  # guards all below
        self._fresh: list[Job] = []
        self._report = Report(room=self._capacity)
        self._draining = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="search", daemon=True)
        self._thread.start()

    def extend(self, items: list[Item]) -> None:
        """Take questions into the backlog."""
        with self._news:
            self._raise_error()
            self._fresh += [item.payload for item in items]
            self._news.notify_all()

    def poll(self, wait_s: float) -> Report:
        """News: at once if a question finished or became durable, else after `wait_s`."""
        with self._news:
            self._news.wait_for(
                lambda: self._report.finished or self._report.durable or self._error is not None, timeout=wait_s
            )
            return self._take_report()

    def drain(self) -> Report:
        """Commit what is finished, keep the searches under way as progress, and stop working."""
        with self._news:
            self._draining = True
            self._news.notify_all()
        self._thread.join()
        with self._news:
            return self._take_report()

    def _take_report(self) -> Report:
        self._raise_error()
        now = time.monotonic()
        news = self._report
        self._report = Report(room=0)
        return Report(
            room=max(0, self._capacity - self._searcher.held - len(self._fresh)),
            active={key: now - moved_at for key, moved_at in dict(self._searcher.moved_at).items()},
            finished=news.finished,
            failed=news.failed,
            durable=news.durable,
            counters=dict(self._searcher.counters),
        )

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        """The thread: rounds until drained."""
        try:
            while self._wait_for_work():
                self._round()
            self._publish(durable=self._writer.close(self._searcher.under_way()))
        except BaseException as error:  # whatever it is, the fleet must hear of it
            if _is_sticky(error):
                os._exit(1)  # a CUDA context that has failed fails for ever; only a new process helps
            with self._news:
                self._error = error
                self._news.notify_all()

    def _wait_for_work(self) -> bool:
        """Sleep a little if there is nothing to do; False once draining."""
        with self._news:
            if not (self._fresh or self._searcher.held or self._draining):
                self._news.wait(timeout=IDLE_S)
            return not self._draining

    def _round(self) -> None:
        with self._news:
            fresh, self._fresh = self._fresh, []
        for job in fresh:
            fault_point(f"take-up-{job.question.id}")
            self._searcher.take_up(job)
        if self._searcher.held:
            records = self._searcher.step()
            fault_point("after-step")
            for record in records:
                self._writer.add(record)
            self._publish(
                finished=[record.question_id for record in records],
                failed=[record.question_id for record in records if record.status == "failed"],
            )
        self._publish(durable=self._writer.tick(self._searcher.under_way))

    def _publish(
        self, finished: list[str] | None = None, failed: list[str] | None = None, durable: list[str] | None = None
    ) -> None:
        """Add to the next report."""
        if not (finished or failed or durable):
            return
        with self._news:
            self._report = Report(
                room=0,
                finished=(*self._report.finished, *(finished or ())),
                failed=(*self._report.failed, *(failed or ())),
                durable=(*self._report.durable, *(durable or ())),
            )
            self._news.notify_all()


def _is_sticky(error: BaseException) -> bool:
    """Whether a CUDA error leaves this process useless."""
    accelerator_error = getattr(torch, "AcceleratorError", ())
    return isinstance(error, accelerator_error) or "CUDA error" in str(error)
