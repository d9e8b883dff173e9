"""Many searches at once: what each asks next is gathered into one batch on the model, and told back."""

from __future__ import annotations

import time

import torch

from ..evaluation.evaluator import Evaluator
from ..paths.layer_path import LayerPath
from .question_search import QuestionSearch


class Interleaver:
    """Keeps several questions in flight on one evaluator. A round evaluates all that they ask, once.

    Each search waits for all its asked paths and is told them in ask order, so what else shared the batch
    changes nothing but the last bits of a float.
    """

    def __init__(self, evaluator: Evaluator):
        self.evaluator = evaluator
        self.running: list[QuestionSearch] = []

    def step(self) -> list[QuestionSearch]:
        """One round; the questions that ended in it. What is kept for them is freed."""
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
        """Run and tell; after running out of memory half a batch at a time.

        A question of which not even one path fits has failed.
        """
        asked = [(search, path) for search, path in asked if search.error is None]
        no_memory = ""
        try:
            evaluations = self.evaluator.evaluate([(search.prepared, path) for search, path in asked])
        except torch.OutOfMemoryError as error:
            no_memory = f"out of memory on a single path: {error}"
        if no_memory:
            # Only here, as the exception has held on to what the batch had allocated.
            self.evaluator.executor.kept.clear()
            torch.cuda.empty_cache()
            if len(asked) == 1:
                asked[0][0].error = no_memory
                return
            middle = (len(asked) + 1) // 2
            self._evaluate(asked[:middle])
            self._evaluate(asked[middle:])
            return
        for (search, path), evaluation in zip(asked, evaluations, strict=True):
            if path == LayerPath.full(len(path)) and evaluation.margin is None:
                search.error = "the model gives NaN or Inf at full depth"
            search.asker.tell(path, evaluation)
