"""Compares systems on the same questions and the same frozen model."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import torch

from cluster.program.progress import counted
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.errors import InputError
from pathgen.evaluation.evaluator import Evaluator
from pathgen.models.resolving import resolve_model
from pathgen.questions.question import Question
from pathgen.store.files import check_writable, open_folder, parent
from pathgen.store.provenance import ShardMetadata
from router.dev.routed_scores import askable
from router.net.policy import policy_of

from ..systems.confident_search import search_questions
from ..systems.early_exit import EarlyExit
from .answers import Answer, SystemResult
from .figures import BenchResult, OracleFigures, SystemFigures
from .inputs import BenchInputs
from .model_cost import ModelCost
from .options import BRIDGEABLE, BRIDGED, BenchOptions
from .results import ResultStore, result_key, timing_key
from .systems import Systems, Unavailable
from .timing import TIMED_QUESTIONS, TURNS, Forwarded, Forwards, PolicyMaker, Run, Timing, time_systems

FIXED = ", fixed"
"""Ends the name under which a router's paths are timed without the router."""


@dataclass(frozen=True, slots=True)
class BenchOutcome:
    """The figures of a benchmark, and each system's answers; `left_out` counts questions too long for the model."""

    figures: BenchResult
    questions: list[Question]
    answers: dict[str, tuple[Answer, ...]]
    left_out: int


class Bench:
    """One benchmark. The constructor checks all inputs before the model loads.

    Args:
        options: of the command.
        tell: prints one line.

    Raises:
        InputError: bad options, questions, files or folders.
        ArtefactError: a router, static path or folder of paths is damaged or of another model.
    """

    def __init__(self, options: BenchOptions, tell: Callable[[str], None]):
        self.options = options
        told: list[str] = []
        self.inputs = BenchInputs.load(options, told.append)
        self.store = ResultStore(options.out) if options.out else None
        if options.report is not None:
            fs, path = open_folder(options.report)
            check_writable(fs, parent(path), f"--report {options.report}")
        for line in told:
            tell(line)
        if hint := bridges_hint(self.inputs, options):
            tell(hint)
        if seen := self.inputs.seen_in_training:
            tell(f"warning: {seen} of {len(self.inputs.questions)} questions took part in training or choosing")

    def run(self) -> BenchOutcome:
        """Run and time every system, except what --out already has.

        Raises:
            InputError: no question can be asked, or the device is unusable.
        """
        options, inputs = self.options, self.inputs
        model = PathModel.from_pretrained(options.model, dtype=inputs.dtype, device=inputs.device)
        evaluator = Evaluator(model, inputs.task, chat=inputs.chat)
        questions = askable(evaluator, inputs.questions)
        if not questions:
            why = "each is too long, or has no tokens, or has tokens that the model does not know"
            raise InputError(f"none of the {len(inputs.questions)} questions can be asked: {why}")
        keys = {name: result_key(name, inputs, questions, options.seed) for name in options.wanted_systems}
        results, skipped = self._results(evaluator, questions, keys)
        environment = self._environment()
        timed_as = timing_key([keys[name] for name in results], options.batch_size, environment)
        timings = self._timings(evaluator, questions, results, timed_as)
        prepared = [evaluator.prepare(question) for question in questions]
        cost = ModelCost.of(model, resolve_model(options.model), prepared)
        systems: list[SystemFigures] = []
        for name in options.wanted_systems:
            kind = OracleFigures if name == "oracle" else SystemFigures
            if name in skipped:
                systems.append(kind(name=name, skipped=skipped[name]))
                continue
            own_cost = cost.over(inputs.bridges_of(name))
            figures = kind.of(name, questions, results[name], results["full"], own_cost, options.seed)
            if name in timings:
                figures = figures.timed(timings[name], timings.get(_fixed(name)))
            if isinstance(figures, OracleFigures):
                figures = figures.with_placebo([inputs.records[question.sha] for question in questions])
            systems.append(figures)
        found = BenchResult(
            model=options.model,
            task=inputs.task.name,
            questions=len(questions),
            seed=options.seed,
            seen_in_training=inputs.seen_in_training,
            num_layers=inputs.num_layers,
            batch_size=options.batch_size,
            environment=environment,
            settings={
                **asdict(options),
                "answers": {"max_new_tokens": inputs.task.max_new_tokens, "stop_text": inputs.task.stop},
                "systems": options.wanted_systems,
                "device": inputs.device,
                "dtype": inputs.dtype,
            },
            systems=tuple(systems),
        )
        if self.store:
            self.store.save_bench(found)
        answers = {name: result.answers for name, result in results.items()}
        return BenchOutcome(found, questions, answers, len(inputs.questions) - len(questions))

    def _results(
        self, evaluator: Evaluator, questions: Sequence[Question], keys: Mapping[str, str]
    ) -> tuple[dict[str, SystemResult], dict[str, str]]:
        """The result of every system, and why systems were skipped. Each result is stored as soon as it is finished."""
        finished = {name: result for name, key in keys.items() if self.store and (result := self.store.load(name, key))}
        systems = Systems(self.inputs, questions, evaluator, self.options, finished)
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
        self, evaluator: Evaluator, questions: Sequence[Question], results: dict[str, SystemResult], key: str
    ) -> dict[str, Timing]:
        """Time all systems but the oracle, which cannot be deployed; a router's paths also without the router.

        If --out lacks one of them, all are timed: in turns, so that noise affects all alike.
        """
        if self.store and (known := self.store.load_timings(key)):
            return known
        places = range(min(TIMED_QUESTIONS, len(questions)))
        together = range(min(self.options.batch_size, len(questions)))
        forwards = Forwards(evaluator, {place: evaluator.prepare(questions[place]) for place in {*places, *together}})

        def searched(batch: Sequence[int]) -> Forwarded:
            asked = [questions[place] for place in batch]
            search_questions(evaluator, asked, self.options.seed)
            return Forwarded(sum(len(row.targets) for q in asked for row in evaluator.prepare(q).rows), None)

        runs: dict[str, Run] = {}
        for name, result in results.items():
            if name.removesuffix(BRIDGED) == "search":
                runs[name] = searched
            elif name != "oracle":
                runs[name] = partial(forwards.run, policy=self._live_policy(name, result, evaluator))
            if name in self.inputs.routers:
                runs[_fixed(name)] = partial(forwards.run, policy=_replayed(result))
        runs = {name: self._over_bridges(name, run, evaluator.model) for name, run in runs.items()}
        with counted("timing", (TURNS + 1) * len(places), quiet=self.options.quiet) as on_round:
            timings = time_systems(runs, places, together, evaluator.model.device, on_round)
        if self.store:
            self.store.save_timings(key, timings)
        return timings

    def _over_bridges(self, name: str, run: Run, model: PathModel) -> Run:
        """The same run, over the bridges of the system."""
        placed = model.placed(self.inputs.bridges_of(name.removesuffix(FIXED)))

        def bridged(batch: Sequence[int]) -> Forwarded:
            with model.bridged(placed):
                return run(batch)

        return bridged

    def _live_policy(self, name: str, result: SystemResult, evaluator: Evaluator) -> PolicyMaker:
        """The policy of the system in deployment."""
        model = evaluator.model
        if name in self.inputs.routers:
            router = self.inputs.routers[name].router.to(model.device)
            policy = policy_of(router, pinned=model.pinned_layers)  # made once, as in deployment
            return lambda places: policy
        if name.removesuffix(BRIDGED) == "early_exit":
            assert isinstance(result.setting, float)
            threshold = result.setting
            return lambda places: EarlyExit(model, threshold)
        return _replayed(result)

    def _environment(self) -> dict[str, Any]:
        device = self.inputs.device
        origin = ShardMetadata.here(self.options.model, self.inputs.fingerprint, self.inputs.task.name)
        return {
            "layerpaths": origin.package_version,
            "git_commit": origin.git_commit,
            "model_fingerprint": origin.fingerprint,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": version("transformers"),
            "machine": platform.machine(),
            "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
            "dtype": self.inputs.dtype,
            "threads": torch.get_num_threads(),
        }


def bridges_hint(inputs: BenchInputs, options: BenchOptions) -> str | None:
    """That a router has bridges which its rivals are not given; None if all are given alike, or none is asked for."""
    if not any(name.removesuffix(BRIDGED) in BRIDGEABLE for name in options.wanted_systems):
        return None
    given = inputs.bridges.digest if inputs.bridges else None
    for name, router in inputs.routers.items():
        own = router.router.config.bridges
        if own not in (None, given):
            folder = shlex.quote(options.routers[name])
            what = "the others run none" if given is None else f"--bridges are {given}"
            return f"warning: {name} runs over bridges {own}, {what}; `--bridges {folder}` gives them the same"
    return None


def _fixed(name: str) -> str:
    """The name under which a router's paths are timed without the router."""
    return name + FIXED


def _replayed(result: SystemResult) -> PolicyMaker:
    paths = result.paths
    return lambda places: FixedPaths(paths[place] for place in places)
