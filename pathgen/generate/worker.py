"""The search actor. The driver imports this module too, so torch is imported only where the model is loaded."""

from __future__ import annotations

from collections.abc import Iterable

from cluster.fleet.work_thread import WorkThread

from ..actors.model_spec import is_sticky
from ..faults import fault_point
from ..store.run_folder import RunDirectory
from ..store.writer import RecordWriter
from .jobs import BACKLOG, Job, RunSettings


class SearchWorker(WorkThread):
    """Searches questions, and commits records under its writer id. The constructor loads the model, once."""

    def __init__(self, run: RunSettings, writer: str):
        from ..evaluation.evaluator import Evaluator
        from .searcher import Searcher

        evaluator = Evaluator(run.model.load(run.out), run.options.answers.task(run.options.task), chat=run.chat)
        self._searcher = Searcher(run, writer, evaluator, RunDirectory(run.out).load_record)
        self.moved_at, self.counters = self._searcher.moved_at, self._searcher.counters
        self._writer = RecordWriter(run.out, writer, run.metadata, run.token)
        super().__init__(run.in_flight * (1 + BACKLOG), is_sticky)

    @property
    def held(self) -> int:
        """Questions taken and not ended."""
        return self._searcher.held

    def take_up(self, item: Job) -> None:
        """Add a question to the searcher's backlog."""
        fault_point(f"take-up-{item.key}")
        self._searcher.take_up(item)

    def step(self) -> None:
        """One round of all searches. The writer gets the records that ended, and commits what is due."""
        if self._searcher.held:
            records = self._searcher.step()
            fault_point("after-step")
            for record in records:
                self._writer.add(record)
            self.publish(
                finished=[record.question.id for record in records],
                failed=[record.question.id for record in records if record.status == "failed"],
            )
        self.publish(durable=self._writer.tick(self._searcher.under_way))

    def commit(self) -> Iterable[str]:
        """Commit the finished records."""
        return self._writer.commit()

    def close(self) -> Iterable[str]:
        """Commit the finished records, and store the searches under way as progress."""
        return self._writer.close(self._searcher.under_way())
