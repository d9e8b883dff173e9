"""Ways of scoring given paths of given questions, from one stock forward a path to what searches ask."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.lab.measurement import apportion
from benchmarks.published.search import choice_batch, choice_scores
from pathgen.engine.executor import KEEP_BYTES, Executor
from pathgen.engine.path_model import PathModel
from pathgen.errors import PathgenError
from pathgen.evaluation.evaluator import Evaluator
from pathgen.generate.interleave import Interleaver
from pathgen.generate.jobs import BACKLOG
from pathgen.generate.question_search import QuestionSearch
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import Evaluation, StopReason
from pathgen.questions.question import Question
from pathgen.questions.tasks import Task

MAX_EDITS = 4
"""Most edits of a random path."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and the paths to run on it."""

    question: Question
    paths: list[LayerPath]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a way of running gave for a block.

    Attributes:
        seconds: [questions] wall time; of interleaved questions, their share of it.
        scores: [questions][paths][choices] summed log-likelihoods, in nats.
        layers_run: layer executions after sharing, one per row of tokens.
        token_layers: the same in tokens, padding included.
    """

    seconds: list[float]
    scores: list[list[tuple[float, ...]]]
    layers_run: int
    token_layers: int


Way = Callable[[Sequence[Asked]], Outcome]


class FixedAsk:
    """Asks for given paths, some at a time, in the place of a search."""

    def __init__(self, paths: Sequence[LayerPath], parallel_leaves: int) -> None:
        self._chunks = [list(paths[at : at + parallel_leaves]) for at in range(0, len(paths), parallel_leaves)]
        self._untold: list[LayerPath] = []
        self.evaluations: list[Evaluation] = []
        self.simulations = 0  # it walks no tree
        self.influence: tuple[float, ...] | None = None
        self.stop_reason: StopReason | None = None

    def ask(self) -> list[LayerPath]:
        """The next paths; nothing while some are untold."""
        if not self._untold and self._chunks:
            self._untold = self._chunks.pop(0)
            return list(self._untold)
        return []

    def tell(self, path: LayerPath, evaluation: Evaluation) -> bool:
        """Take a result."""
        self._untold.remove(path)
        self.evaluations.append(evaluation)
        if not self._untold and not self._chunks:
            self.finish("budget")
        return True

    def finish(self, reason: StopReason) -> None:
        """Stop."""
        self.stop_reason = self.stop_reason or reason


def random_paths(num_layers: int, count: int, rng: np.random.Generator) -> list[LayerPath]:
    """Different paths of 1 to MAX_EDITS edits, each a skip or a repeat, at layers drawn evenly."""
    found: dict[LayerPath, None] = {}
    while len(found) < count:
        actions = np.ones(num_layers, dtype=int)
        edits = rng.integers(1, min(MAX_EDITS, num_layers - 1) + 1)
        actions[rng.choice(num_layers, size=edits, replace=False)] = rng.choice([0, 2], size=edits)
        found[LayerPath(actions)] = None
    return list(found)


def plain_evaluator(model: PathModel, task: Task, keep_bytes: int = KEEP_BYTES) -> Evaluator:
    """An evaluator that gives each choice a row of its own, whatever the model's family would accept."""
    evaluator = Evaluator(model, task, keep_bytes=keep_bytes)
    evaluator.masks = None
    evaluator.executor = Executor(model, None, keep_bytes)
    return evaluator


def stock(model: PathModel) -> Way:
    """The unmodified forward, one path at a time."""
    assert model.tokenizer is not None
    tokenizer = model.tokenizer

    def run(block: Sequence[Asked]) -> Outcome:
        seconds, scores, layers_run, token_layers = [], [], 0, 0
        for asked in block:
            batch = choice_batch(tokenizer, asked.question)
            started = time.perf_counter()
            scores.append([tuple(choice_scores(model.hf_model, batch, path.executions)) for path in asked.paths])
            seconds.append(time.perf_counter() - started)
            depth = sum(path.depth for path in asked.paths)
            layers_run += depth * batch.ids.shape[0]
            token_layers += depth * batch.ids.numel()
        return Outcome(seconds, scores, layers_run, token_layers)

    return run


def engine_calls(evaluator: Evaluator, paths_per_call: int) -> Way:
    """The engine, one question and so many paths a call."""

    def run(block: Sequence[Asked]) -> Outcome:
        work = evaluator.executor.work
        layers_before, tokens_before = work.layers_run, work.token_layers
        seconds, scores = [], []
        for asked in block:
            prepared = evaluator.prepare(asked.question)
            started = time.perf_counter()
            found: list[Evaluation] = []
            for at in range(0, len(asked.paths), paths_per_call):
                found += evaluator.evaluate([(prepared, path) for path in asked.paths[at : at + paths_per_call]])
            seconds.append(time.perf_counter() - started)
            scores.append([_scores(evaluation) for evaluation in found])
        return Outcome(seconds, scores, work.layers_run - layers_before, work.token_layers - tokens_before)

    return run


def interleaved(evaluator: Evaluator, parallel_leaves: int, in_flight: int) -> Way:
    """As searches ask: `parallel_leaves` paths of each of `in_flight` questions a round."""

    def run(block: Sequence[Asked]) -> Outcome:
        work = evaluator.executor.work
        layers_before, tokens_before = work.layers_run, work.token_layers
        running = [
            QuestionSearch(evaluator.prepare(asked.question), FixedAsk(asked.paths, parallel_leaves)) for asked in block
        ]
        waiting, interleaver = list(running), Interleaver(evaluator)
        started = time.perf_counter()
        while waiting or interleaver.running:
            _fill(interleaver.running, waiting, in_flight)
            interleaver.step()
        seconds = apportion(time.perf_counter() - started, [one.seconds for one in running])
        scores = [[_scores(evaluation) for evaluation in one.asker.evaluations] for one in running]
        return Outcome(seconds.tolist(), scores, work.layers_run - layers_before, work.token_layers - tokens_before)

    return run


def _fill(running: list[QuestionSearch], waiting: list[QuestionSearch], in_flight: int) -> None:
    """Keep the batch full with questions of like length out of a short backlog, as an actor does."""
    while waiting and len(running) < in_flight:
        near = np.median([one.prepared.tokens for one in running]) if running else 0
        backlog = waiting[: in_flight * (1 + BACKLOG) - len(running)]
        chosen = min(backlog, key=lambda one: abs(one.prepared.tokens - near))
        waiting.remove(chosen)
        running.append(chosen)


def _scores(evaluation: Evaluation) -> tuple[float, ...]:
    if evaluation.choice_scores is None:
        raise PathgenError(f"path {evaluation.path} gives NaN or Inf; ask with another --seed")
    return evaluation.choice_scores
