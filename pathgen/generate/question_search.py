"""One question in an actor, from waiting to finished: its search, what is known of it from before, its record."""

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
    """What is run on a question: a `PathSearch`, or the scan of all moves that calibrates a prior."""

    stop_reason: StopReason | None
    simulations: int
    evaluations: list[Evaluation]

    def ask(self) -> list[LayerPath]:
        """The paths to evaluate next; empty once stopped."""

    def tell(self, path: LayerPath, evaluation: Evaluation) -> bool:
        """Take one result."""

    def finish(self, reason: StopReason) -> None:
        """Stop for a reason of the caller's."""


@dataclass(slots=True, eq=False)
class QuestionSearch:
    """The search of one question, on which the model works together with others.

    Attributes:
        prepared: the question in tokens.
        asker: its search or scan.
        stored: evaluations from an earlier run or a calibration; asks are answered from here first.
        seconds_budget: stops the search once it has taken so long; None for no limit.
        seconds: its share of the batches it took part in, in proportion to paths; earlier runs' included.
        layers_run: layer executions on the model here, after sharing.
        layer_executions: Σ depth of the paths run on the model here (those answered from `stored` left out).
        error: why it could not be searched, when it could not.
        attempts: times that the question failed before.
        earlier_simulations: of the stored record.
        earlier_layers_run: of the stored record.
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
        """Begin where a stored record of the question ends."""
        self.stored = {evaluation.path: evaluation for evaluation in earlier.evaluations}
        self.earlier_simulations = earlier.simulations or 0
        self.earlier_layers_run = earlier.layers_run or 0
        self.seconds = (earlier.seconds or 0.0) if earlier.simulations else 0.0  # a scan's are no search's

    @property
    def done(self) -> bool:
        """Whether it has stopped, or failed."""
        return self.error is not None or self.asker.stop_reason is not None

    @property
    def new_simulations(self) -> int:
        """Simulations that no earlier run had made."""
        return max(0, self.asker.simulations - self.earlier_simulations)

    def pending(self) -> list[LayerPath]:
        """Paths that only the model can answer; asks that `stored` can answer are answered on the way.

        What is stored is told whatever time it took, and the full path is evaluated in any case. On a fresh search of
        the same question, seed and settings this rebuilds the tree without the model, also under a larger budget.
        Empty while paths given before are untold.
        """
        while self.error is None and (asked := self.asker.ask()):
            for path in asked:
                if path in self.stored:
                    self.asker.tell(path, self.stored[path])
            missing = [path for path in asked if path not in self.stored]
            if missing and self._has_run_out:
                self.asker.finish("budget")
            elif missing:
                return missing
        return []

    @property
    def _has_run_out(self) -> bool:
        out = self.seconds_budget is not None and self.seconds >= self.seconds_budget
        return out and bool(self.asker.evaluations)

    def record(self, run: RunSettings, writer: str) -> PathRecord:
        """What is known of the question by now: a failure, a search that has stopped, or what a later one can use."""
        record = new_record(self.prepared.question, self.attempts, run, writer, self.error)
        if self.error is not None:
            return record
        if isinstance(self.asker, PathSearch) and self.done:
            fill_searched(record, self.asker)
        else:
            self._fill_searching(record)
        record.layers_run = self.earlier_layers_run + self.layers_run
        record.seconds = self.seconds
        return record

    def _fill_searching(self, record: PathRecord) -> None:
        """A search or scan under way: what its search was told, then what is stored and not asked yet."""
        told = {evaluation.path: evaluation for evaluation in self.asker.evaluations}
        record.status = "searching"
        record.stop_reason = "interrupted"
        record.evaluations = list((told | self.stored | told).values())
        record.simulations = self.asker.simulations
        record.layer_executions = sum(evaluation.path.depth for evaluation in record.evaluations)


def fill_searched(record: PathRecord, search: PathSearch) -> None:
    """Make it the record of a search that has stopped."""
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
