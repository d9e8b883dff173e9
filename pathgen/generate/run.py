"""The generation run: from questions to committed path records; a later call resumes it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import polars as pl

from cluster.connection.probe import Probe
from cluster.program.errors import Interrupted
from cluster.program.json_codec import decoded, encoded
from cluster.program.options import flags_named

from ..actors.fleet_run import fleet_run
from ..actors.model_spec import ModelSpec
from ..actors.placement import check_disks
from ..bridges.folder import FILES, folder_info, local_reader
from ..bridges.info import BridgesInfo
from ..identity import used_by
from ..models.devices import check_device, default_device, default_dtype
from ..models.facts import fingerprint, num_layers
from ..models.resolving import resolve_model
from ..paths.cost import CostModel
from ..questions.chat import Chat, settled
from ..questions.loading import load_questions
from ..report.stats import LIGHT_COLUMNS
from ..store.compaction import compact
from ..store.dataset_card import write_card
from ..store.files import full_name, put
from ..store.folder_lock import RunLease
from ..store.index import Budgets
from ..store.provenance import ShardMetadata
from ..store.run_folder import ResumePlan, RunDirectory
from ..store.run_json import GROWABLE, RunInfo
from .fleet import SearchFleet
from .jobs import Job, RunSettings
from .layer_costs import flops_cost, latency_cost
from .low_accuracy import Asked, has_chat_template, low_accuracy
from .options import GenerateOptions
from .outcome import DrySummary, Outcome, RunSummary, verdict
from .stopping import INTERRUPTED, Stopping


class GenerationRun:
    """One call of `pathgen generate`; `tell` shows one line to the user.

    The constructor checks everything that needs no shards and no loaded model.

    Raises:
        InputError: bad questions, model, task, folder or budgets.
        ArtefactError: the folder holds a run of other settings.
    """

    def __init__(self, options: GenerateOptions, tell: Callable[[str], None]):
        self.options = options
        self.tell = tell
        self.directory = RunDirectory(options.out)
        self.directory.check_usable()
        self.cluster = Probe(options.address) if options.address else None
        self.task = options.answers.task(options.task)
        told = self._told = list[str]()
        self.questions = load_questions(
            options.questions, columns=options.columns, limit=options.limit, needs=self.task.needs, tell=told.append
        )
        self.folder = resolve_model(options.model)
        used = {"chat": options.chat, "generates": self.task.generates}
        self.fingerprint = used_by(fingerprint(self.folder), **used)
        self.num_layers = num_layers(self.folder)
        check_device(options.device, self.cluster)
        self.chat: Chat = options.chat
        if options.chat:
            from ..models.reading import load_tokenizer

            tokenizer = load_tokenizer(self.folder)
            self.task.encode(self.questions[0], tokenizer, chat=True)
            self.chat = settled(tokenizer, recorded=self._recorded_chat())
        self.info = self.directory.check_settings(self._info())
        self._keep_larger_budgets()
        self.budgets = Budgets.of(self.info.settings, self.num_layers)
        self.stopping = Stopping(tell)
        self.lease = RunLease(self.directory.fs, self.directory.root, on_wait=tell, on_lost=self.stopping.wind_up)

    def run(self) -> Outcome:
        """Search the questions that are not done, under the folder's lease.

        Raises:
            PathgenError, ClusterError: the exit code is in the class.
        """
        if self.options.dry_run:
            return self._dry()
        started = time.perf_counter()
        self.directory.create()
        fs, root = self.directory.fs, self.directory.root
        with self.lease, self.stopping.handling():
            expects_work = self.directory.expects_work(self.info)
            self._begin(self.info)
            self._keep_bridges()
            write_card(fs, root, self.info, {}, self.lease.check)
            plan, work = self._work(expects_work)
            if self.stopping.number == signal.SIGTERM:
                raise Interrupted(INTERRUPTED, signal.SIGTERM)  # reading all records may take minutes
            if self.stopping.number is None:
                if work or expects_work or plan.superseded:  # else the last call has tidied up
                    compact(fs, root, self.lease.check)
                self._begin(replace(self.info, finished=True))
            rows = pl.DataFrame(pl.from_arrow(self.directory.committed.table(LIGHT_COLUMNS)))
            seconds = time.perf_counter() - started
            summary = RunSummary.of(self.options.out, rows, work, len(plan.done), self.num_layers, seconds)
            write_card(fs, root, self.info, summary.card_rows(), self.lease.check)
        if self.stopping.number is not None:
            return Outcome(summary, 128 + self.stopping.number, [INTERRUPTED])
        asked = [question.id for question in self.questions]
        remarks, exit_code = verdict(rows, asked, self.options.allow_failures, self.options.out)
        how = Asked(self.task, self.questions, self.options.chat, has_chat_template(self.folder))
        remarks += low_accuracy(summary.base_accuracy, summary.questions, summary.cut, how)
        return Outcome(summary, exit_code, remarks)

    def _begin(self, info: RunInfo) -> None:
        self.info = self.directory.begin(info, self.lease.check)

    def _keep_bridges(self) -> None:
        """Copy the bridges into the run's folder, from where actors and later commands read them."""
        if self.options.bridges is None or self.directory.read_file(FILES[-1]) is not None:
            return
        read = local_reader(self.options.bridges)
        for name in FILES:
            put(self.directory.fs, f"{self.directory.root}/{name}", read(name) or b"")

    @cached_property
    def _bridges(self) -> BridgesInfo | None:
        """What the bridges of --bridges are."""
        given = self.options.bridges
        return None if given is None else folder_info(given, self.fingerprint)

    def _info(self) -> RunInfo:
        options = self.options
        bridges = self._bridges.digest if self._bridges else None
        with flags_named():
            options.search.check_budget(self.num_layers)
            settings = options.settings(self.task, self.num_layers, self._dtype(), bridges)
        settings["task"] = self.task.describe(self.chat)
        notes: dict[str, Any] = {}
        if options.seconds_budget is not None or options.cost == "latency":
            notes["determinism"] = "not reproducible: seconds or measured costs decide what is searched"
        source = options.questions if options.limit is None else f"{options.questions} (first {options.limit})"
        model, task = (options.model, self.fingerprint), self.task.name
        return RunInfo(settings, *model, task, source, notes, len(self.questions), options=options.others())

    def _recorded_chat(self) -> Any:
        """How the folder's run asks; None without a run."""
        task = self.directory.info().settings.get("task") if self.directory.holds_run else None
        return task.get("chat") if isinstance(task, dict) else None

    def _keep_larger_budgets(self) -> None:
        """Keep the folder's budgets where they are larger: all its questions have the same."""
        settings = self.info.settings
        wanted, self.options = self.options, self.options.with_budgets(settings)
        if self.options != wanted:
            values = ", ".join(f"{name} {settings[name] or 'unlimited'}" for name in GROWABLE)
            self.tell(f"{self.options.out} has larger budgets, which stay: {values}")

    def _dtype(self) -> str:
        """That of the options, else of the stored run, else the device's default."""
        if self.options.dtype:
            return self.options.dtype
        if self.directory.holds_run:
            return self.directory.info().settings["dtype"]
        return default_dtype(self._device)

    @cached_property
    def _device(self) -> str:
        return self.options.device or default_device(self.cluster)

    def _dry(self) -> Outcome:
        plan = self._scan(None) if self.directory.holds_run else ResumePlan(frozenset(), {}, {}, [], 0)
        jobs = self._jobs(plan)
        if self.cluster is not None:
            out, shared_fs = f"--out {self.options.out}", self.options.shared_fs
            check_disks(out, self.directory.fs, len(self.cluster.nodes()), shared_fs=shared_fs)
        going, asked = sum(bool(job.resume) for job in jobs), len(self.questions)
        failed = asked - len(plan.done) - len(jobs)
        for line in self._told:
            self.tell(line)
        self.tell(
            f"{asked} questions: {len(plan.done)} done, {going} to continue, {len(jobs) - going} to begin, "
            f"{f'{failed} failed and left alone, ' if failed else ''}"
            f"{self.options.search.simulations} simulations each; nothing was started"
        )
        return Outcome(DrySummary(self.options.out, asked, len(plan.done), len(jobs)), 0, [])

    def _scan(self, guard: Callable[[], object] | None) -> ResumePlan:
        shas = {question.id: question.sha for question in self.questions}
        plan = self.directory.scan(shas, self.budgets, guard=guard)
        for line in plan.quarantined:
            self.tell(f"warning: {line}")
        return plan

    def _jobs(self, plan: ResumePlan) -> list[Job]:
        """The questions not done, in file order; failed ones again, except with `--no-retry-failed`."""
        left_alone = frozenset() if self.options.retry_failed else plan.failed.keys()
        return [
            Job(question, resume=tuple(plan.resume.get(question.id, ())), attempts=plan.failed.get(question.id, 0))
            for question in self.questions
            if question.id not in plan.done and question.id not in left_alone
        ]

    def _work(self, expects_work: bool) -> tuple[ResumePlan, Mapping[str, float]]:
        """Search what is left; return what was there before, and totals of the work (empty without any).

        If work is expected, Ray and actors start first, so that models load while the folder is read.
        """
        with ExitStack() as stack:
            fleet = stack.enter_context(self._fleet(len(self.questions))) if expects_work else None
            plan = self._scan(self.lease.check)
            jobs = self._jobs(plan)
            if not jobs:
                return plan, {}
            fleet = fleet or stack.enter_context(self._fleet(len(jobs)))
            for line in self._told:
                self.tell(line)
            self.stopping.can_wind_up = True
            if not self.stopping.event.is_set():
                fleet.search(jobs, len(plan.done))
            self.stopping.can_wind_up = False
            return plan, fleet.totals()

    @contextmanager
    def _fleet(self, most: int) -> Iterator[SearchFleet]:
        """A fleet for at most `most` questions; its actors start at once."""
        options, directory = self.options, self.directory
        where = f"--out {options.out}"
        with fleet_run(options, self.cluster, self._device, self.folder, directory.fs, where, most) as actors:
            placement = actors.placement
            out = full_name(directory.fs, directory.root)  # actors may have been started in another folder
            dtype, bridged = self.info.settings["dtype"], options.bridges is not None
            model = placement.model_spec(options.model, self.fingerprint, dtype, bridged=bridged)
            run = RunSettings(
                out=out,
                token=self.lease.token,
                metadata=ShardMetadata.here(options.model, self.fingerprint, self.task.name),
                model=model,
                options=options,
                cost=self._cost(model, out, placement.resources),
                in_flight=placement.in_flight,
                chat=self.chat,
            )
            fleet = SearchFleet(actors, directory, run, self.budgets, self.stopping)
            # Only as many as have room now: the number needed is known once the folder is read.
            fleet.start(min(most, placement.fitting(actors.session.nodes())))
            yield fleet

    def _cost(self, model: ModelSpec, out: str, resources: Mapping[str, float]) -> CostModel:
        """The chosen cost model; run.json keeps a measured one, for later calls."""
        if self.options.cost == "layers":
            return CostModel.layers(self.num_layers)
        if stored := self.info.notes.get("cost"):
            return decoded(CostModel, stored)
        if self.options.cost == "flops":
            cost = flops_cost(self.folder, self.num_layers, self._bridges)
        else:
            cost = latency_cost(model, out, resources, self.options.start_timeout_s)
        self._begin(replace(self.info, notes=self.info.notes | {"cost": encoded(cost)}))
        return cost
