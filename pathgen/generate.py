"""The generation run: from questions to committed path records, resumed wherever it was left."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl

from .card import write_card
from .checkpoints import fingerprint, num_layers, resolve_model
from .compaction import compact
from .cost import CostModel
from .errors import InputError, PathgenError
from .index import Budgets
from .job import Job, RunSettings
from .lease import RunLease, check_lease
from .options import GenerateOptions
from .prior import Prior, load_prior
from .questions import load_questions
from .rundir import Plan, RunDirectory
from .runinfo import RunInfo
from .shards import ShardMetadata
from .stats import LIGHT_COLUMNS, summarize
from .storage import is_local, put
from .tasks import find_task

if TYPE_CHECKING:
    from cluster.session import Session

PRIOR_NAME = "prior.json"
INTERRUPTED = "interrupted: finished work is kept; the same command goes on from here"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: the JSON that `--json` prints, the exit code, and lines for the person."""

    summary: dict[str, Any]
    exit_code: int
    remarks: list[str]


class Interrupted(PathgenError):
    """A signal ended the run at once (exit code 128 + its number)."""

    def __init__(self, number: int):
        super().__init__(INTERRUPTED)
        self.exit_code = 128 + number


class GenerationRun:
    """One call of `pathgen generate`. Whatever can be refused is refused by the constructor, before a model loads.

    Args:
        options: what was asked for.
        tell: shows one line to the person.

    Raises:
        InputError: bad questions, model, task, folder or budgets.
        ArtefactError: the folder holds a run of other settings, or the prior is of another model.
    """

    def __init__(self, options: GenerateOptions, tell: Callable[[str], None]):
        self.options = options
        self.tell = tell
        self.directory = RunDirectory(options.out)
        self.directory.check_usable()
        self.task = find_task(options.task)
        self.questions = load_questions(
            options.questions, columns=options.columns, limit=options.limit, needs=self.task.needs
        )
        self.folder = resolve_model(options.model)
        self.fingerprint = fingerprint(self.folder)
        self.num_layers = num_layers(self.folder)
        self.prior = self._given_prior()
        self._device: str | None = options.device
        self._check_chat()
        self.info = self._info()
        self.budgets = Budgets.of(self.info.settings, self.num_layers)
        self.directory.check_settings(self.info)
        self.stop = threading.Event()
        self.signal: int | None = None
        self._can_wind_up = False

    def run(self) -> Outcome:
        """Do what is left to do, under the folder's lease.

        Raises:
            PathgenError, ClusterError: with the exit code in the class.
        """
        if self.options.dry_run:
            return self._dry()
        try:
            return self._run()
        except KeyboardInterrupt:
            raise Interrupted(self.signal or signal.SIGINT) from None

    def _run(self) -> Outcome:
        started = time.perf_counter()
        self.directory.create()
        fs, root = self.directory.fs, self.directory.root
        with RunLease(fs, root, on_wait=self.tell) as lease, self._signals():
            self.info = self.directory.begin(self.info)
            write_card(fs, root, self.info, {})
            plan = self._scan()
            jobs = self._jobs(plan)
            work = self._search(jobs, len(plan.done), lease.token) if jobs else {}
            if self.signal is None:
                compact(fs, root, partial(check_lease, fs, root, lease.token))
            rows = pl.DataFrame(pl.from_arrow(self.directory.table(LIGHT_COLUMNS)))
            summary = self._summary(rows, len(plan.done), work, time.perf_counter() - started)
            write_card(fs, root, self.info, _card_rows(summary))
        remarks, exit_code = self._verdict(rows)
        return Outcome(summary, exit_code, remarks)

    def _info(self) -> RunInfo:
        """What makes this run what it is."""
        options = self.options
        try:
            options.search.check_budget(self.num_layers)
            settings = options.settings(self.task, self.num_layers, self._dtype(), self.prior)
        except ValueError as error:
            raise InputError(str(error)) from error
        notes: dict[str, Any] = {}
        if options.seconds_budget is not None or options.cost == "latency":
            notes["determinism"] = "not reproducible: seconds or measured costs decide what is searched"
        source = options.questions if options.limit is None else f"{options.questions} (first {options.limit})"
        return RunInfo(settings, options.model, self.fingerprint, self.task.name, source, notes, len(self.questions))

    def _dtype(self) -> str:
        """The one asked for, else that of the run to go on with, else float32 on CPU and bfloat16 on CUDA."""
        if self.options.dtype:
            return self.options.dtype
        if self.directory.read_file("run.json") is not None:
            return self.directory.info().settings["dtype"]
        from .placement import default_dtype

        return default_dtype(self._find_device())

    def _find_device(self) -> str:
        from .placement import default_device

        self._device = self._device or default_device(self.options.address)
        return self._device

    def _check_chat(self) -> None:
        if self.options.chat:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)
            self.task.encode(self.questions[0], tokenizer, chat=True)

    def _given_prior(self) -> Prior | None:
        if self.options.prior is None:
            return None
        prior = load_prior(self.options.prior)
        prior.check_matches(self.fingerprint, self.task.name, self.num_layers, self.options.prior)
        return prior

    def _dry(self) -> Outcome:
        known = self.directory.read_file("run.json") is not None
        done, going = 0, 0
        if known:
            plan = self._scan(set_aside=False)
            done, going = len(plan.done), len(plan.resume)
        left = len(self.questions) - done
        self.tell(
            f"{len(self.questions)} questions: {done} done, {going} to continue, {left - going} to begin, "
            f"{self.options.search.simulations} simulations each; nothing was started"
        )
        summary = {"out": self.options.out, "questions": len(self.questions), "done_before": done, "to_search": left}
        return Outcome(summary, 0, [])

    def _scan(self, *, set_aside: bool = True) -> Plan:
        shas = {question.id: question.sha for question in self.questions}
        plan = self.directory.scan(shas, self.budgets, set_aside=set_aside)
        then = "moved to .quarantine, its questions are searched again" if set_aside else "a run would set it aside"
        for line in plan.quarantined:
            self.tell(f"warning: {line}; {then}")
        return plan

    def _jobs(self, plan: Plan) -> list[Job]:
        """The questions not done, in file order; failed ones again unless told otherwise."""
        left_alone = frozenset() if self.options.retry_failed else plan.failed.keys()
        return [
            Job(question, resume=tuple(plan.resume.get(question.id, ())), attempts=plan.failed.get(question.id, 0))
            for question in self.questions
            if question.id not in plan.done and question.id not in left_alone
        ]

    def _search(self, jobs: list[Job], done_before: int, token: str) -> dict[str, float]:
        """Start Ray and actors, calibrate if asked, search; totals of the work."""
        from cluster.session import connect

        from .placement import place_actors

        device = self._find_device()
        with connect(self.options.address) as session:
            self._check_disks(session)
            placement = place_actors(self.options, device, session, self.folder, len(jobs))
            from .fleet_run import FleetRun

            run = RunSettings(
                out=self.options.out,
                token=token,
                metadata=ShardMetadata.here(self.options.model, self.fingerprint, self.task.name),
                model=self.options.model,
                dtype=self.info.settings["dtype"],
                device=placement.device,
                devices_per_actor=placement.devices_per_actor,
                task=self.task.name,
                chat=self.options.chat,
                search=self.options.search,
                seconds_budget=self.options.seconds_budget,
                cost=CostModel.layers(self.num_layers),
                seed=self.options.seed,
                threads=placement.threads,
                in_flight=placement.in_flight,
            )
            run = replace(run, cost=self._cost(run, placement.resources))
            fleet = FleetRun(
                self.directory, run, session, placement, self.options, self.budgets, self.num_layers, self.stop
            )
            self._can_wind_up = True
            prior = self._prior(fleet)
            if not self.stop.is_set():
                fleet.search(fleet.with_stored(jobs) if self.options.calibrate else jobs, prior, done_before)
            self._can_wind_up = False
        return {**fleet.counters, "search_seconds": fleet.seconds, "actors": placement.num_actors}

    def _check_disks(self, session: Session) -> None:
        nodes = len(session.nodes())
        if is_local(self.directory.fs) and nodes > 1 and not self.options.shared_fs:
            raise InputError(
                f"--out {self.options.out} is a local folder and the cluster has {nodes} nodes, each of which would "
                "write its own disk; give an object store's URL, or --shared-fs if all nodes see this folder"
            )

    def _cost(self, run: RunSettings, resources: Mapping[str, float]) -> CostModel:
        """The chosen cost model; a measured one is measured once and kept in run.json."""
        from .measure import flops_cost, latency_cost

        if self.options.cost == "layers":
            return run.cost
        if stored := self.info.notes.get("cost"):
            return CostModel.from_json(stored)
        by_flops = self.options.cost == "flops"
        cost = flops_cost(self.folder, self.num_layers) if by_flops else latency_cost(run, resources)
        self.info = self.directory.begin(replace(self.info, notes=self.info.notes | {"cost": cost.to_json()}))
        return cost

    def _prior(self, fleet: Any) -> Prior | None:
        """The frozen prior: given, or measured by an earlier call of this run, or measured now."""
        path = f"{self.directory.root}/{PRIOR_NAME}"
        stored = self.directory.read_file(PRIOR_NAME)
        if stored is not None:
            return Prior.from_json(stored, path)
        prior = self.prior
        if prior is None and self.options.calibrate:
            prior = fleet.calibrate(self.questions[: self.options.calibrate])
        if prior is not None:
            put(self.directory.fs, path, prior.to_json().encode())
        return prior

    def _summary(
        self, rows: pl.DataFrame, done_before: int, work: Mapping[str, float], wall_s: float
    ) -> dict[str, Any]:
        found = summarize(rows)
        count = Counter(work)
        searched, seconds = int(count["searched"]), float(count["search_seconds"])
        return {
            "out": self.options.out,
            "questions": found["questions"],
            "done_before": done_before,
            "searched": searched,
            "continued": int(count["continued"]),
            **{name: found[name] for name in ("failed", "solved", "base_accuracy", "solved_rate", "mean_best_depth")},
            "num_layers": self.num_layers,
            **{name: int(count[name]) for name in ("simulations", "layer_executions", "layers_run", "token_layers")},
            "search_seconds": seconds,
            "wall_seconds": wall_s,
            "questions_per_second": searched / seconds if searched and seconds else None,
            "busy_seconds": float(count["busy_s"]),
            "actors": int(count["actors"]),
        }

    def _verdict(self, rows: pl.DataFrame) -> tuple[list[str], int]:
        if self.signal is not None:
            return [INTERRUPTED], 128 + self.signal
        asked = rows.filter(pl.col("question_id").is_in([question.id for question in self.questions]))
        failed = asked.filter(pl.col("status") == "failed")["question_id"].sort()
        if not len(failed):
            return [], 0
        some = ", ".join(failed.head(5)) + (", …" if len(failed) > 5 else "")
        remark = (
            f"{len(failed)} of {asked.height} questions failed ({some}); `pathgen show {self.options.out} ID` tells why"
        )
        return [remark], 3 if len(failed) > self.options.allow_failures * asked.height else 0

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Within the block, Ctrl-C and SIGTERM let actors commit what is finished; a second one ends the run at once.

        So does a first one while there is no actor that could commit anything.
        """

        def on_signal(number: int, frame: object) -> None:
            second = self.signal is not None
            self.signal = self.signal or number
            if second or not self._can_wind_up:
                raise KeyboardInterrupt
            self.stop.set()
            self.tell("stopping: committing what is finished (again to stop at once)")

        before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _card_rows(summary: Mapping[str, Any]) -> dict[str, object]:
    # The solved rate is chosen with gold, and says nothing without the placebo that `pathgen stats` sets beside it.
    names = ("questions", "failed", "base_accuracy", "mean_best_depth", "num_layers")
    return {name: summary[name] for name in names}
