"""Many searches at once: what each asks next is gathered into one batch on the model, and told back."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch

from ..evaluation.evaluator import Evaluator, Prepared
from ..paths.layer_path import LayerPath
from ..paths.records import Evaluation, StopReason


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
class Running:
    """One question under way.

    Attributes:
        prepared: the question in tokens.
        asker: its search or scan.
        stored: evaluations from an earlier run or a calibration; asks are answered from here first.
        seconds_budget: stops the search once it has taken so long; None for no limit.
        seconds: its share of the batches it took part in, in proportion to paths; earlier runs' included.
        layers_run: layer executions on the model here, after sharing.
        layer_executions: Σ depth of the paths run on the model here (those answered from `stored` left out).
        error: why it could not be searched, when it could not.
    """

    prepared: Prepared
    asker: Asker
    stored: Mapping[LayerPath, Evaluation] = field(default_factory=dict)
    seconds_budget: float | None = None
    seconds: float = 0.0
    layers_run: int = 0
    layer_executions: int = 0
    error: str | None = None

    @property
    def done(self) -> bool:
        """Whether it has stopped, or failed."""
        return self.error is not None or self.asker.stop_reason is not None

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


class Interleaver:
    """Keeps several questions in flight on one evaluator. A round evaluates all that they ask, once.

    Each search waits for all its asked paths and is told them in ask order, so what else shared the batch
    changes nothing but the last bits of a float.
    """

    def __init__(self, evaluator: Evaluator):
        self.evaluator = evaluator
        self.running: list[Running] = []

    def step(self) -> list[Running]:
        """One round; the questions that ended in it. What is kept for them is freed."""
        asked = [(running, path) for running in self.running for path in running.pending()]
        if asked:
            started = time.perf_counter()
            self._evaluate(asked)
            share = (time.perf_counter() - started) / len(asked)
            for running, path in asked:
                running.seconds += share
                running.layer_executions += path.depth
        for running in self.running:
            running.layers_run = self.evaluator.layers_run(running.prepared)
        ended = [running for running in self.running if running.done]
        self.running = [running for running in self.running if not running.done]
        for running in ended:
            self.evaluator.forget(running.prepared)
        return ended

    def _evaluate(self, asked: list[tuple[Running, LayerPath]]) -> None:
        """Run and tell; after running out of memory half a batch at a time.

        A question of which not even one path fits has failed.
        """
        asked = [(running, path) for running, path in asked if running.error is None]
        error = self._out_of_memory(asked)
        if error is None:
            return
        # Only here, as the exception has held on to what the batch had allocated.
        self.evaluator.executor.kept.clear()
        torch.cuda.empty_cache()
        if len(asked) == 1:
            asked[0][0].error = f"out of memory on a single path: {error}"
            return
        middle = (len(asked) + 1) // 2
        for half in (asked[:middle], asked[middle:]):
            self._evaluate(half)

    def _out_of_memory(self, asked: list[tuple[Running, LayerPath]]) -> str | None:
        try:
            self._tell(asked)
        except torch.OutOfMemoryError as error:
            return str(error)
        return None

    def _tell(self, asked: list[tuple[Running, LayerPath]]) -> None:
        evaluations = self.evaluator.evaluate([(running.prepared, path) for running, path in asked])
        for (running, path), evaluation in zip(asked, evaluations, strict=True):
            if path == LayerPath.full(len(path)) and evaluation.margin is None:
                running.error = "the model gives NaN or Inf at full depth"
            running.asker.tell(path, evaluation)
