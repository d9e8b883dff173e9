"""Many searches at once: the paths that they ask for next run as one batch on the model."""

from __future__ import annotations

import time

import torch

from ..evaluation.evaluator import Evaluator
from ..paths.layer_path import LayerPath
from .question_search import QuestionSearch


class Interleaver:
    """Keeps several questions in flight on one evaluator. A round evaluates every path that they ask for, once.

    Each search waits for all paths that it asked for and gets their results in that order. So other searches in
    the batch change only the last bits of a float.
    """

    def __init__(self, evaluator: Evaluator):
        self.evaluator = evaluator
        self.running: list[QuestionSearch] = []

    def step(self) -> list[QuestionSearch]:
        """Run one round; return the questions that ended in it, and free their states."""
        asked = [(search, path) for search in self.running for path in search.pending()]
        if asked:
            started = time.perf_counter()
            self._evaluate(asked)
            share = (time.perf_counter() - started) / len(asked)
            for search, path in asked:
                search.seconds += share
                search.layer_executions += path.depth
        for search in self.running:
            search.layers_run = self.evaluator.layers_run(search.prepared)
        ended = [search for search in self.running if search.done]
        self.running = [search for search in self.running if not search.done]
        for search in ended:
            self.evaluator.forget(search.prepared)
        return ended

    def _evaluate(self, asked: list[tuple[QuestionSearch, LayerPath]]) -> None:
        """Run the paths and pass on the results. A batch that does not fit the memory runs in halves.

        A question fails if one of its paths does not fit alone.
        """
        asked = [(search, path) for search, path in asked if search.error is None]
        try:
            evaluations = self.evaluator.evaluate([(search.prepared, path) for search, path in asked])
        except torch.OutOfMemoryError as error:
            no_memory = f"out of memory on a single path: {error}"
        else:
            for (search, path), evaluation in zip(asked, evaluations, strict=True):
                if path == LayerPath.full(len(path)):
                    search.asker.influence = self.evaluator.influence(search.prepared)
                    if evaluation.margin is None:
                        search.error = "the model gives NaN or Inf at full depth"
                search.asker.tell(path, evaluation)
            return
        # Not in the except block: there the exception still holds the batch's tensors.
        self.evaluator.executor.kept.clear()
        torch.cuda.empty_cache()
        if len(asked) == 1:
            asked[0][0].error = no_memory
        else:
            middle = (len(asked) + 1) // 2
            self._evaluate(asked[:middle])
            self._evaluate(asked[middle:])
