"""`infer bench`: systems side by side on the same questions and the same frozen model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from pathgen.errors import InputError
from pathgen.evaluator import Evaluator
from pathgen.headroom import headroom
from pathgen.model import FixedPaths, PathModel
from pathgen.questions import Question
from pathgen.rows import to_table
from router.metrics import PathShares
from router.policy import RouterPolicy
from router.routed import askable

from .answers import SystemResult
from .bench_inputs import BenchInputs
from .bench_options import BenchOptions
from .bench_results import ResultStore, result_key
from .bench_timing import TIMED_QUESTIONS, Forwarded, Forwards, PolicyMaker, Run, Timing, time_systems
from .confident_search import search_questions
from .cost import ModelCost
from .early_exit import EarlyExit
from .path_runner import PathRunner
from .statistics import Comparison, wilson_interval
from .systems import Systems, Unavailable

ORACLE_LABEL = "upper bound, chosen with gold"
FIGURES = (
    "accuracy",
    "accuracy_ci95",
    "delta_vs_full",
    "delta_ci95",
    "p_value",
    "discordant",
    "mean_depth",
    "layers_saved",
    "off_full_share",
    "off_common_share",
    "tokens_per_second",
    "latency_ms_p50",
    "latency_ms_p95",
    "flops_ratio",
    "router_overhead_ratio",
    "cache_bytes",
    "peak_memory_mb",
    "setting",
)
"""Of each system, null where they do not apply."""


@dataclass(frozen=True, slots=True)
class BenchOutcome:
    """What a benchmark found.

    Attributes:
        summary: the JSON object of `--json`.
        rows: by system, what it did on each question.
        left_out: questions that do not fit the model's context.
    """

    summary: dict[str, Any]
    rows: dict[str, list[dict[str, Any]]]
    left_out: int


class Bench:
    """Whatever can be refused is refused by the constructor, before the model loads.

    Args:
        options: what was asked for.
        tell: shows one line to the person.

    Raises:
        InputError: bad options, questions, files or folders.
        ArtefactError: a router, static path or folder of paths of another model, or a damaged one.
    """

    def __init__(self, options: BenchOptions, tell: Callable[[str], None]):
        self.options = options
        self.tell = tell
        self.inputs = BenchInputs.load(options)
        self.store = ResultStore(options.out) if options.out else None
        if seen := self.inputs.seen_in_training:
            tell(f"warning: {seen} of {len(self.inputs.questions)} questions were seen in a router's training")

    def run(self) -> BenchOutcome:
        """Run every system, or take it from --out, then time them all.

        Raises:
            InputError: no question fits the model's context, or the device is unusable.
        """
        options, inputs = self.options, self.inputs
        model = PathModel.from_pretrained(options.model, dtype=inputs.dtype, device=inputs.device)
        evaluator = Evaluator(model, inputs.task, chat=inputs.chat)
        questions = askable(evaluator, inputs.questions)
        if not questions:
            raise InputError(f"none of the {len(inputs.questions)} questions fits the model's context")
        runner = PathRunner(evaluator, options.batch_size, quiet=options.quiet)
        results, skipped = self._results(runner, questions)
        timings = self._timings(evaluator, questions, results)
        cost = ModelCost.of(model, [evaluator.prepare(question) for question in questions])
        systems = [
            self._figures(name, results, timings, cost, questions)
            if name in results
            else {"name": name, **dict.fromkeys(FIGURES), "points": [], "skipped": skipped[name]}
            for name in options.wanted_systems
        ]
        summary = {
            "model": options.model,
            "task": inputs.task.name,
            "questions": len(questions),
            "seed": options.seed,
            "seen_in_training": inputs.seen_in_training,
            "num_layers": inputs.num_layers,
            "batch_size": options.batch_size,
            "systems": systems,
        }
        if self.store:
            self.store.save_bench(summary)
        rows = {name: _rows(questions, result) for name, result in results.items()}
        return BenchOutcome(summary, rows, len(inputs.questions) - len(questions))

    def _results(
        self, runner: PathRunner, questions: Sequence[Question]
    ) -> tuple[dict[str, SystemResult], dict[str, str]]:
        """Every system's answers, and why some have none; each is kept as soon as it is finished."""
        shas = [question.sha for question in questions]
        seed = self.options.seed
        keys = {name: result_key(name, self.inputs, shas, seed) for name in self.options.wanted_systems}
        stored = {name: self.store.load(name, key) if self.store else None for name, key in keys.items()}
        finished = {name: result for name, result in stored.items() if result is not None}
        systems = Systems(self.inputs, questions, runner, seed, finished)
        results: dict[str, SystemResult] = {}
        skipped: dict[str, str] = {}
        for name, key in keys.items():
            try:
                results[name] = systems.result(name)
            except Unavailable as error:
                skipped[name] = str(error)
                continue
            if self.store and name not in finished:
                self.store.save(name, key, results[name])
        return results, skipped

    def _timings(
        self, evaluator: Evaluator, questions: Sequence[Question], results: dict[str, SystemResult]
    ) -> dict[str, Timing]:
        """Of all systems but the oracle, which nobody can deploy; a router's own paths are timed beside it."""
        places = list(range(min(TIMED_QUESTIONS, len(questions))))
        forwards = Forwards(evaluator, {place: evaluator.prepare(questions[place]) for place in places})

        def run_of(policy: PolicyMaker) -> Run:
            return lambda batch: forwards.run(batch, policy)

        def searched(batch: Sequence[int]) -> Forwarded:
            asked = [questions[place] for place in batch]
            search_questions(evaluator, asked, self.options.seed)
            return Forwarded(sum(len(row.targets) for q in asked for row in evaluator.prepare(q).rows), None)

        runs: dict[str, Run] = {}
        for name, result in results.items():
            if name == "search":
                runs[name] = searched
            elif name != "oracle":
                runs[name] = run_of(self._live_policy(name, result, evaluator))
            if name in self.inputs.routers:
                runs[_fixed(name)] = run_of(_replayed(result))
        return time_systems(runs, places, self.options.batch_size, evaluator.model.device)

    def _live_policy(self, name: str, result: SystemResult, evaluator: Evaluator) -> PolicyMaker:
        """The policy that the system would be deployed with."""
        model = evaluator.model
        if name in self.inputs.routers:
            router = self.inputs.routers[name].router.to(model.device)
            return lambda places: RouterPolicy(router)
        if name == "early_exit":
            assert isinstance(result.setting, float)
            threshold = result.setting
            return lambda places: EarlyExit(model, threshold)
        return _replayed(result)

    def _figures(
        self,
        name: str,
        results: dict[str, SystemResult],
        timings: dict[str, Timing],
        cost: ModelCost,
        questions: Sequence[Question],
    ) -> dict[str, Any]:
        result, full = results[name], results["full"]
        shares = PathShares.of(np.array(result.paths))
        compared = Comparison.of(result.correct, full.correct, self.options.seed)
        timing, fixed = timings.get(name), timings.get(_fixed(name))
        figures = (
            float(result.correct.mean()),
            list(wilson_interval(int(result.correct.sum()), len(result.correct))),
            compared.delta if name != "full" else None,
            list(compared.ci95) if name != "full" else None,
            compared.p_value if name != "full" else None,
            list(compared.discordant) if name != "full" else None,
            shares.mean_depth,
            self.inputs.num_layers - shares.mean_depth,
            shares.off_full,
            shares.off_common,
            timing.tokens_per_second if timing else None,
            timing.latency_ms(50) if timing else None,
            timing.latency_ms(95) if timing else None,
            cost.ratio([answer.effort for answer in result.answers]),
            timing.overhead_over(fixed) if timing and fixed else None,
            timing.cache_bytes if timing else None,
            timing.peak_memory_mb if timing else None,
            result.setting,
        )
        found: dict[str, Any] = {"name": name, **dict(zip(FIGURES, figures, strict=True))}
        found |= {"points": [asdict(point) for point in result.points], "skipped": None}
        if name == "oracle":
            found |= {"label": ORACLE_LABEL, "placebo_accuracy": self._placebo_accuracy(questions)}
        return found

    def _placebo_accuracy(self, questions: Sequence[Question]) -> float | None:
        """What the oracle would reach by luck alone: as many wrong answers mended as reach an equally likely wrong one.

        None for generated answers, and where no wrong choice ever ranked like gold.
        """
        records = [self.inputs.records[question.sha] for question in questions]
        found = headroom(pl.DataFrame(pl.from_arrow(to_table(records))))
        if found is None or not found["questions"]:
            return None
        base = float(np.mean([bool(record.base_correct) for record in records]))
        return None if found["placebo"] is None else base + (1 - base) * found["placebo"]


def _fixed(name: str) -> str:
    """Under which a router's paths are timed without the router."""
    return f"{name}, fixed"


def _replayed(result: SystemResult) -> PolicyMaker:
    paths = result.paths
    return lambda places: FixedPaths(paths[place] for place in places)


def _rows(questions: Sequence[Question], result: SystemResult) -> list[dict[str, Any]]:
    """One row a question, for the report."""
    return [
        {
            "question_id": question.id,
            "prompt": question.prompt,
            "choices": list(question.choices) if question.choices else None,
            "gold": question.gold,
            "path": list(answer.path),
            "correct": answer.correct,
            "answer": answer.answer,
        }
        for question, answer in zip(questions, result.answers, strict=True)
    ]
