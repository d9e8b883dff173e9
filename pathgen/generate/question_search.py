"""One question in an actor, from waiting to finished: its search, its stored evaluations, its record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ..paths.layer_path import LayerPath
from ..paths.records import Evaluation, PathRecord, StopReason
from ..search.path_search import PathSearch
from .jobs import RunSettings, new_record

if TYPE_CHECKING:
    from ..evaluation.evaluator import Prepared


class Asker(Protocol):
    """What runs on a question: a `PathSearch`, or a stand-in for one in a benchmark."""

    stop_reason: StopReason | None
    simulations: int
    evaluations: list[Evaluation]
    influence: tuple[float, ...] | None

    def ask(self) -> list[LayerPath]:
        """The paths to evaluate next; empty once stopped."""

    def tell(self, path: LayerPath, evaluation: Evaluation) -> bool:
        """Take one result."""

    def finish(self, reason: StopReason) -> None:
        """Stop for the caller's reason."""


@dataclass(slots=True, eq=False)
class QuestionSearch:
    """The search of one question; the model works on several together.

    Attributes:
        stored: evaluations of an earlier run; they answer asks first.
        seconds_budget: the search stops after this time; None for no limit.
        seconds: its share of the batches it took part in, in proportion to paths; earlier runs included.
        layers_run: layer executions on the model in this process, after sharing.
        layer_executions: Σ depth of the paths run on the model in this process; without those from `stored`.
        error: why it could not be searched.
        attempts: how often the question failed before.
        earlier_simulations, earlier_layers_run: of the stored record.
    """

    prepared: Prepared
    asker: Asker
    stored: dict[LayerPath, Evaluation] = field(default_factory=dict)
    seconds_budget: float | None = None
    seconds: float = 0.0
    layers_run: int = 0
    layer_executions: int = 0
    error: str | None = None
    attempts: int = 0
    earlier_simulations: int = 0
    earlier_layers_run: int = 0

    def go_on_from(self, earlier: PathRecord) -> None:
        """Continue a stored record of the question."""
        self.stored = {evaluation.path: evaluation for evaluation in earlier.evaluations}
        self.asker.influence = earlier.influence
        self.earlier_simulations = earlier.simulations or 0
        self.earlier_layers_run = earlier.layers_run or 0
        self.seconds = earlier.seconds or 0.0

    @property
    def done(self) -> bool:
        """Whether it has stopped, or failed."""
        return self.error is not None or self.asker.stop_reason is not None

    @property
    def new_simulations(self) -> int:
        """Simulations beyond those of earlier runs."""
        return max(0, self.asker.simulations - self.earlier_simulations)

    def pending(self) -> list[LayerPath]:
        """Paths that the model must evaluate; asks that `stored` can answer are answered at once.

        Stored results and the full path are used even without time left. A new search of the same question, seed
        and settings rebuilds its tree this way without the model, also under a larger budget. Empty while paths
        returned before have no result.
        """
        while self.error is None and (asked := self.asker.ask()):
            for path in asked:
                if path in self.stored:
                    self.asker.tell(path, self.stored[path])
            if missing := [path for path in asked if path not in self.stored]:
                has_time = self.seconds_budget is None or self.seconds < self.seconds_budget
                if has_time or not self.asker.evaluations:
                    return missing
                self.asker.finish("budget")
        return []

    def record(self, run: RunSettings, writer: str) -> PathRecord:
        """The question's record so far: a failure, a finished search, or progress for a later one."""
        record = new_record(self.prepared.question, self.attempts, run, writer, self.error)
        if self.error is not None:
            return record
        if isinstance(self.asker, PathSearch) and self.done:
            fill_searched(record, self.asker)
        else:
            self._fill_searching(record)
        record.influence = self.asker.influence
        record.layers_run = self.earlier_layers_run + self.layers_run
        record.seconds = self.seconds
        return record

    def _fill_searching(self, record: PathRecord) -> None:
        """Record a search under way: its results, then the stored ones not asked for yet."""
        told = {evaluation.path: evaluation for evaluation in self.asker.evaluations}
        record.status = "searching"
        record.stop_reason = "interrupted"
        record.evaluations = list((told | self.stored | told).values())
        record.simulations = self.asker.simulations
        record.layer_executions = sum(evaluation.path.depth for evaluation in record.evaluations)


def fill_searched(record: PathRecord, search: PathSearch) -> None:
    """Fill in the results of a search that has stopped."""
    base = search.base
    assert base is not None
    assert search.stop_reason is not None
    best = search.best() or base  # unsolved: the full path
    record.status = search.status()
    record.stop_reason = search.stop_reason
    record.base_correct, record.base_margin = base.correct, base.margin
    record.best_path, record.best_depth, record.best_margin = LayerPath(best.path), best.path.depth, best.margin
    record.evaluations = list(search.evaluations)
    record.simulations, record.layer_executions = search.simulations, search.layer_executions
