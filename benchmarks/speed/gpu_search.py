"""How many questions a second a search gets through on a made model, ours in several settings and the published one.

Verdicts of random weights are chance, so both searches run all their simulations: ours by the stop rule `budget`, the
published one because its answers are never called right. Its chain drifts to ever shallower paths, so the layers that
it asks for are told beside its questions, and so is the time of stock forwards along the paths that ours asked for.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import product
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.lab.accelerator import synchronise, without_cudnn_attention
from benchmarks.lab.in_process import InProcess, run_settings
from benchmarks.lab.measurement import mean, ratio
from benchmarks.published.chain import Layers, chain_search
from benchmarks.published.search import choice_batch, choice_scores
from benchmarks.speed.made_models import MadeModel, make_questions
from benchmarks.speed.model_time import full_depth, searched
from pathgen.engine.executor import KEEP_BYTES
from pathgen.evaluation.evaluator import Evaluator
from pathgen.generate.jobs import RunSettings
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.question import Question
from pathgen.questions.tasks import find_task
from pathgen.search.settings import SearchSettings

SETTINGS = {"full": tuple(product((2, 8, 32), (4, 8, 16))), "tiny": ((1, 4), (2, 8))}
"""Questions in flight, and paths that a search asks at a time, by set of shapes."""
QUESTIONS = 192
"""Made of each kind; a setting searches as many as its time allows."""
MOST_PUBLISHED = 12
MORE_KEPT_BYTES = 16 << 30
MORE_HEAD_ROWS = 4096

Setting = tuple[int, int]
"""One of SETTINGS."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What one search of some questions took.

    Attributes:
        seconds: [questions] wall time of each, or its share of it.
        evaluations: paths evaluated, all questions together.
        layer_executions: sum of these paths' depths.
        figures: what else is told of it.
        asked: the questions and their paths, where they are kept.
    """

    seconds: Sequence[float]
    evaluations: int
    layer_executions: int
    figures: dict[str, Any] = field(default_factory=dict)
    asked: Sequence[tuple[Question, list[LayerPath]]] = ()

    def told(self, seed: int) -> dict[str, Any]:
        """The rate with its interval over questions, and what stands behind it."""
        spent, count = mean(self.seconds, seed), len(self.seconds)
        low, high = spent["ci95"]
        return {
            "questions_per_second": {"value": 1 / spent["value"], "ci95": [1 / high, 1 / low], "n": count},
            "layer_executions_per_second": self.layer_executions / sum(self.seconds),
            "evaluations_per_question": self.evaluations / count,
            "layer_executions_per_question": self.layer_executions / count,
            **self.figures,
        }


@dataclass(frozen=True, slots=True)
class SearchBench:
    """The searches of one made model.

    Attributes:
        settings: those of ours that are tried.
        simulations: per question, of both searches.
        seed: of questions, searches and intervals.
    """

    made: MadeModel
    settings: Sequence[Setting]
    simulations: int
    seed: int

    def section(self, seconds: float) -> dict[str, Any]:
        """All figures of the searches, in about so many seconds."""
        self.published("arc", 0.0)  # warms up
        theirs = self.published("arc", 0.1 * seconds)
        ours = {setting: self.ours("arc", setting, 0.45 * seconds / len(self.settings)) for setting in self.settings}
        fastest = min(self.settings, key=lambda setting: float(np.mean(ours[setting].seconds)))
        stock = self.stock(ours[fastest], 0.06 * seconds)
        letters = self.published("arc-letter", 0.06 * seconds)
        letters_ours = self.ours("arc-letter", fastest, 0.06 * seconds)
        return {
            "arc": {
                "published": theirs.told(self.seed),
                "ours": {_name(setting): speed.told(self.seed) for setting, speed in ours.items()},
                "fastest": _name(fastest),
                "fastest_over_published": self.compare(ours[fastest], theirs),
                "stock_forwards_along_our_paths": stock.told(self.seed),
                "fastest_over_stock_forwards": self.compare(ours[fastest], stock),
            },
            "arc_variants": {name: speed.told(self.seed) for name, speed in self.variants(fastest, 0.16 * seconds)},
            "arc-letter": {
                "published": letters.told(self.seed),
                "ours": {_name(fastest): letters_ours.told(self.seed)},
                "fastest_over_published": self.compare(letters_ours, letters),
            },
            "steps": self.steps(fastest),
        }

    def questions(self, task: str) -> list[Question]:
        """The made questions of a task."""
        return make_questions(task, QUESTIONS, self.made.path_model.config.vocab_size, self.seed)

    def published(self, task: str, seconds: float) -> Speed:
        """The published search of at least one question, one after the other, until the time is over."""
        spent, evaluated, executed = [], 0, 0
        for number, question in enumerate(self.questions(task)[:MOST_PUBLISHED]):
            batch = choice_batch(self.made.path_model.tokenizer, question, task, one_row=True)  # type: ignore[arg-type]

            def evaluate(layers: Layers, batch=batch) -> bool:
                choice_scores(self.made.plain, batch, layers)
                return False

            started, rng = time.perf_counter(), np.random.default_rng([self.seed, number])
            search = chain_search(
                evaluate, self.made.path_model.num_layers, simulations=self.simulations if seconds else 2, rng=rng
            )
            spent.append(time.perf_counter() - started)
            evaluated += len(search.evaluated)
            executed += sum(map(len, search.evaluated))
            if sum(spent) >= seconds:
                break
        return Speed(spent, evaluated, executed)

    def stock(self, ours: Speed, seconds: float) -> Speed:
        """One stock forward a path, as the published search runs them, along the paths that ours asked for."""
        spent, evaluated, executed = [], 0, 0
        for question, paths in ours.asked:
            batch = choice_batch(self.made.path_model.tokenizer, question)  # type: ignore[arg-type]
            started = time.perf_counter()
            for path in paths:
                choice_scores(self.made.plain, batch, path.executions)
            spent.append(time.perf_counter() - started)
            evaluated += len(paths)
            executed += sum(path.depth for path in paths)
            if sum(spent) >= seconds:
                break
        return Speed(spent, evaluated, executed)

    def ours(self, task: str, setting: Setting, seconds: float, *, keep_bytes: int = KEEP_BYTES) -> Speed:
        """Our search of whole batches of questions, as many as the time allows after one that warms up."""
        evaluator = Evaluator(self.made.path_model, find_task(task), keep_bytes=keep_bytes)
        search, questions = InProcess(self.run(task, setting), evaluator), self.questions(task)
        in_flight, started = setting[0], time.perf_counter()
        search.search(questions[:in_flight])
        synchronise(self.made.device)
        warm_s, before = time.perf_counter() - started, search.token_layers
        batches = max(1, round(seconds / warm_s) - 1)
        found = search.search(questions[in_flight : in_flight * (1 + batches)])
        count = len(found)
        print(f"  {task}, {_name(setting)}: {count / sum(f.seconds for f in found):.2f} questions/s", file=sys.stderr)
        figures = {
            "layers_run_per_question": sum(f.record.layers_run or 0 for f in found) / count,
            "token_layers_per_question": (search.token_layers - before) / count,
            "packed": evaluator.masks is not None,
        }
        return Speed(
            [f.seconds for f in found],
            sum(len(f.record.evaluations) for f in found),
            sum(f.record.layer_executions or 0 for f in found),
            figures,
            [(f.record.question, [evaluation.path for evaluation in f.record.evaluations]) for f in found],
        )

    def variants(self, setting: Setting, seconds: float) -> list[tuple[str, Speed]]:
        """The setting again, with one thing changed at a time that is suspected of costing time on a GPU."""
        changes: dict[str, tuple[AbstractContextManager[Any], int]] = {
            "unchanged": (nullcontext(), KEEP_BYTES),
            "no cuDNN attention": (without_cudnn_attention(self.made.device), KEEP_BYTES),
            f"{MORE_KEPT_BYTES >> 30} GiB of kept states": (nullcontext(), MORE_KEPT_BYTES),
            f"{MORE_HEAD_ROWS} rows of the head": (
                mock.patch("pathgen.engine.logprobs.HEAD_ROWS", MORE_HEAD_ROWS),
                KEEP_BYTES,
            ),
            "unchanged again": (nullcontext(), KEEP_BYTES),
        }
        found = []
        for name, (change, keep_bytes) in changes.items():
            with change:
                found.append((name, self.ours("arc", setting, seconds / len(changes), keep_bytes=keep_bytes)))
        return found

    def steps(self, setting: Setting) -> dict[str, Any]:
        """Where the model time goes, the device waited for after each step."""
        task, questions = find_task("arc"), self.questions("arc")[: 2 * setting[0]]
        at_full_depth = full_depth(Evaluator(self.made.path_model, task), questions)
        in_search = searched(self.run("arc", setting), Evaluator(self.made.path_model, task), questions)
        return {"setting": _name(setting), "full_depth": at_full_depth, "search": in_search}

    def run(self, task: str, setting: Setting) -> RunSettings:
        """The settings of a run of ours."""
        return run_settings(
            self.made.path_model,
            find_task(task),
            self.made.name,
            SearchSettings(simulations=self.simulations, parallel_leaves=setting[1], stop="budget"),
            seed=self.seed,
            in_flight=setting[0],
            threads=1,
            metadata=self.made.metadata(task),
        )

    def compare(self, ours: Speed, theirs: Speed) -> dict[str, Any]:
        """How many times as fast ours is, by questions and by the layers asked for."""
        mine, rival = (speed.layer_executions / sum(speed.seconds) for speed in (ours, theirs))
        return {
            "questions_per_second": ratio(theirs.seconds, ours.seconds, self.seed, paired=False),
            "layer_executions_per_second": mine / rival,
        }


def _name(setting: Setting) -> str:
    return f"{setting[0]} in flight, {setting[1]} leaves"
