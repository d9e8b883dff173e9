"""`infer bench`: systems side by side on the same questions and the same frozen model."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import torch

from cluster.program.progress import counted
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.errors import InputError
from pathgen.evaluation.evaluator import Evaluator
from pathgen.questions.question import Question
from pathgen.store.files import check_writable, open_folder, parent
from pathgen.store.provenance import ShardMetadata
from router.dev.routed_scores import askable
from router.net.policy import RouterPolicy

from ..systems.confident_search import search_questions
from ..systems.early_exit import EarlyExit
from .answers import Answer, SystemResult
from .figures import BenchResult, OracleFigures, SystemFigures
from .inputs import BenchInputs
from .model_cost import ModelCost
from .options import BenchOptions
from .results import ResultStore, result_key, timing_key
from .systems import Systems, Unavailable
from .timing import TIMED_QUESTIONS, TURNS, Forwarded, Forwards, PolicyMaker, Run, Timing, time_systems


@dataclass(frozen=True, slots=True)
class BenchOutcome:
    """What a benchmark found.

    Attributes:
        figures: of all systems.
        questions: that were asked.
        answers: by system that was run, one a question.
        left_out: how many questions do not fit the model's context.
    """

    figures: BenchResult
    questions: list[Question]
    answers: dict[str, tuple[Answer, ...]]
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
        self.inputs = BenchInputs.load(options)
        self.store = ResultStore(options.out) if options.out else None
        if options.report is not None:
            fs, path = open_folder(options.report)
            check_writable(fs, parent(path), f"--report {options.report}")
        if seen := self.inputs.seen_in_training:
            tell(f"warning: {seen} of {len(self.inputs.questions)} questions took part in training or choosing")

    def run(self) -> BenchOutcome:
        """Run every system and time them all, or take from --out what an earlier call found.

        Raises:
            InputError: no question can be asked of the model, or the device is unusable.
        """
        options, inputs = self.options, self.inputs
        model = PathModel.from_pretrained(options.model, dtype=inputs.dtype, device=inputs.device)
        evaluator = Evaluator(model, inputs.task, chat=inputs.chat)
        questions = askable(evaluator, inputs.questions)
        if not questions:
            why = "each is too long, or has no tokens, or such as the model does not know"
            raise InputError(f"none of the {len(inputs.questions)} questions can be asked: {why}")
        keys = {name: result_key(name, inputs, questions, options.seed) for name in options.wanted_systems}
        results, skipped = self._results(evaluator, questions, keys)
        environment = self._environment()
        timed_as = timing_key([keys[name] for name in results], options.batch_size, environment)
        timings = self._timings(evaluator, questions, results, timed_as)
        cost = ModelCost.of(model, [evaluator.prepare(question) for question in questions])
        systems: list[SystemFigures] = []
        for name in options.wanted_systems:
            kind = OracleFigures if name == "oracle" else SystemFigures
            if name in skipped:
                systems.append(kind(name=name, skipped=skipped[name]))
                continue
            figures = kind.of(name, results[name], results["full"], cost, options.seed)
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
            settings=self._settings(),
            systems=tuple(systems),
        )
        if self.store:
            self.store.save_bench(found)
        answers = {name: result.answers for name, result in results.items()}
        return BenchOutcome(found, questions, answers, len(inputs.questions) - len(questions))

    def _results(
        self, evaluator: Evaluator, questions: Sequence[Question], keys: Mapping[str, str]
    ) -> tuple[dict[str, SystemResult], dict[str, str]]:
        """Every system's answers, and why some have none; each is kept as soon as it is finished."""
        stored = {name: self.store.load(name, key) if self.store else None for name, key in keys.items()}
        finished = {name: result for name, result in stored.items() if result is not None}
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
        """Of all systems but the oracle, which nobody can deploy; a router's own paths are timed beside it.

        All are timed anew where --out lacks one of them: in turns, they meet the same noise.
        """
        if self.store and (known := self.store.load_timings(key)):
            return known
        places = list(range(min(TIMED_QUESTIONS, len(questions))))
        together = list(range(min(self.options.batch_size, len(questions))))
        timed = {place: evaluator.prepare(questions[place]) for place in {*places, *together}}
        forwards = Forwards(evaluator, timed)

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
        rounds = (TURNS + 1) * len(places)
        with counted("timing", rounds, quiet=self.options.quiet) as on_round:
            timings = time_systems(runs, places, together, evaluator.model.device, on_round)
        if self.store:
            self.store.save_timings(key, timings)
        return timings

    def _live_policy(self, name: str, result: SystemResult, evaluator: Evaluator) -> PolicyMaker:
        """The policy that the system would be deployed with."""
        model = evaluator.model
        if name in self.inputs.routers:
            router = self.inputs.routers[name].router.to(model.device)
            policy = RouterPolicy(router)  # made once, as where it is deployed
            return lambda places: policy
        if name == "early_exit":
            assert isinstance(result.setting, float)
            threshold = result.setting
            return lambda places: EarlyExit(model, threshold)
        return _replayed(result)

    def _settings(self) -> dict[str, Any]:
        """The options as they were resolved."""
        resolved = {
            "systems": list(self.options.wanted_systems),
            "paths": list(self.options.paths),
            "device": self.inputs.device,
            "dtype": self.inputs.dtype,
        }
        return {**asdict(self.options), **resolved}

    def _environment(self) -> dict[str, Any]:
        """What the figures were measured with."""
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


def _fixed(name: str) -> str:
    """Under which a router's paths are timed without the router."""
    return f"{name}, fixed"


def _replayed(result: SystemResult) -> PolicyMaker:
    paths = result.paths
    return lambda places: FixedPaths(paths[place] for place in places)
