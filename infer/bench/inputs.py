"""The inputs of a benchmark, read and checked before the model loads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pathgen.bridges.folder import load_bridges
from pathgen.bridges.maps import Bridges
from pathgen.errors import ArtefactError, InputError
from pathgen.evaluation.evaluator import context_tokens
from pathgen.identity import difference_told, differences, shown
from pathgen.models.devices import default_device, default_dtype
from pathgen.models.facts import fingerprint, num_layers
from pathgen.models.reading import load_config, load_tokenizer
from pathgen.models.resolving import resolve_model
from pathgen.paths.records import PathRecord
from pathgen.questions.answer_options import AnswerOptions
from pathgen.questions.chat import Chat
from pathgen.questions.loading import load_questions
from pathgen.questions.question import Question
from pathgen.questions.tasks import Task
from pathgen.static.static_paths import AnyStaticPaths, load_static
from router.data.path_datasets import PathDatasets
from router.data.split import folded
from router.net.router import Router
from router.saved.loading import load_router, resolve_router, router_digest, seen_by

from .options import BRIDGED, GATES, BenchOptions

MAX_FIT_RECORDS = 1000
"""Most records that training-free systems are fitted on: the first ones."""


@dataclass(frozen=True, slots=True, eq=False)
class GivenRouter:
    """A router of the command line, on the CPU; `seen` has the shas of the questions it was trained or chosen on."""

    router: Router
    digest: str
    seen: frozenset[str]


@dataclass(frozen=True, slots=True, eq=False)
class BenchInputs:
    """The checked inputs of a benchmark.

    Attributes:
        questions: all given ones, also those that do not fit the model's context.
        fingerprint: of the model's weights.
        chat: whether prompts use the chat template, as for the routers and searches.
        routers: by system name.
        records: search records of the benchmark's questions, by question sha; only for the oracle.
        fit: records of questions with other texts, up to case and spaces.
        bridges: of --bridges.
        searched_bridges: those that the searches of --paths ran over.
    """

    task: Task
    questions: tuple[Question, ...]
    fingerprint: str
    num_layers: int
    chat: Chat
    dtype: str
    device: str
    routers: Mapping[str, GivenRouter]
    static: AnyStaticPaths | None
    records: Mapping[str, PathRecord]
    fit: Sequence[PathRecord]
    bridges: Bridges | None = None
    searched_bridges: Bridges | None = None

    @classmethod
    def load(cls, options: BenchOptions, tell: Callable[[str], object] = lambda line: None) -> BenchInputs:
        """Read everything but the model; `tell` is called with one line that says how the questions give gold.

        Raises:
            InputError: the task is unknown, a folder or file does not exist, questions cannot be used, or none fits
                the model's context.
            ArtefactError: a router, static path or folder of paths is damaged or of another model.
        """
        task = options.answers.task(options.task)
        questions = tuple(
            load_questions(options.questions, needs=task.needs, columns=options.columns, limit=options.limit, tell=tell)
        )
        folder = resolve_model(options.model)
        digest, layers = fingerprint(folder), num_layers(folder)
        routers = {name: _read_router(name, given, digest, layers) for name, given in options.routers.items()}
        bridges = load_bridges(options.bridges, digest) if options.bridges is not None else None
        static = None
        if options.static is not None:
            static = load_static(options.static)
            static.check_matches(digest, layers, options.static)
            static.check_bridges(bridges.digest if bridges else None, options.static)
        datasets = PathDatasets(options.paths) if options.paths else None
        if datasets and differences(datasets.fingerprint, digest):
            raise ArtefactError(
                f"--paths {options.paths[0]} is of {datasets.model_id} ({shown(datasets.fingerprint)}), "
                f"--model {options.model} has fingerprint {shown(digest)}: "
                + difference_told(datasets.fingerprint, digest, "that of the paths")
            )
        task = _asked_as(task, options, datasets)
        chat = _chat(routers, datasets, static)
        _check_context(folder, task, questions, chat=chat)
        records, fit = _split_records(datasets, task, questions)
        device = options.device or default_device()
        dtype = options.dtype or (datasets.dtype if datasets else default_dtype(device))
        return cls(
            task=task,
            questions=questions,
            fingerprint=digest,
            num_layers=layers,
            chat=chat,
            dtype=dtype,
            device=device,
            routers=routers,
            static=static,
            records=records,
            fit=fit,
            bridges=bridges,
            searched_bridges=datasets.load_bridges() if datasets else None,
        )

    def bridges_of(self, system: str) -> Bridges | None:
        """The bridges that run where a system's paths skip.

        A router has its own, shuffled those of its router, the oracle those of its search, and the path of --static
        those that it was found with.
        """
        if system == "oracle":
            return self.searched_bridges
        if system.endswith(BRIDGED) or (system == "static" and self.static and self.static.bridges):
            return self.bridges
        given = self.routers.get((self.reference or "") if system == "shuffled" else system)
        return given.router.bridges if given else None

    @property
    def reference(self) -> str | None:
        """The router whose paths or depth other systems use: the first that is not the gates."""
        return next((name for name in self.routers if name != GATES), None)

    @property
    def seen_in_training(self) -> int:
        """Number of questions that a router, or the path of --static, was trained or chosen on."""
        seen = set(self.static.chosen_on if self.static else ())
        seen.update(*(given.seen for given in self.routers.values()))
        return sum(question.sha in seen for question in self.questions)


def digest_of(*parts: object) -> str:
    """Hash of JSON values, 16 hex digits."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=8).hexdigest()


def _read_router(name: str, given: str, digest: str, layers: int) -> GivenRouter:
    folder = resolve_router(given)
    router = load_router(folder, fingerprint=digest, num_layers=layers)
    if name == GATES and "repeat" in router.config.actions:
        raise InputError(
            f"--router {GATES}={given} may repeat layers; train it with --method gates --actions skip,execute"
        )
    return GivenRouter(router, router_digest(folder), seen_by(folder))


def _check_context(folder: Path, task: Task, questions: Sequence[Question], *, chat: Chat) -> None:
    """Check that at least one question fits the model in `folder`, with its tokenizer and config only."""
    tokenizer, limit = load_tokenizer(folder), context_tokens(load_config(folder).get_text_config())
    if not any(task.longest(*task.encode(question, tokenizer, chat)) <= limit for question in questions):
        raise InputError(f"none of the {len(questions)} questions fits the model's context of {limit} tokens")


def _asked_as(task: Task, options: BenchOptions, datasets: PathDatasets | None) -> Task:
    """The task with the length and stop texts of --paths, unless the user gives them; then they must agree."""
    searched = datasets.asked_as.get(task.name, task) if datasets else task
    if searched != task and options.answers != AnswerOptions():
        raise ArtefactError(
            f"--paths {options.paths[0]}: its answers have at most {searched.max_new_tokens} tokens and end at "
            f"{list(searched.stop)}, which differs from --max-new-tokens {task.max_new_tokens} or --stop-text; leave "
            "both out, or search with them"
        )
    return searched


def _split_records(
    datasets: PathDatasets | None, task: Task, questions: Sequence[Question]
) -> tuple[dict[str, PathRecord], list[PathRecord]]:
    """Records of the benchmark's questions by sha, and records of questions with other texts."""
    shas, texts = {question.sha for question in questions}, {folded(question.prompt) for question in questions}
    own: dict[str, PathRecord] = {}
    others: list[PathRecord] = []
    for _, record in datasets.records() if datasets else ():
        if record.task != task.name:
            continue
        if record.question_sha in shas:
            own[record.question_sha] = record
        elif folded(record.question.prompt) not in texts and len(others) < MAX_FIT_RECORDS:
            others.append(record)
    return own, others


def _chat(routers: Mapping[str, GivenRouter], datasets: PathDatasets | None, static: AnyStaticPaths | None) -> Chat:
    """Whether routers, searches and the static path used the chat template, in which they must agree; the first day."""
    found: dict[str, Chat] = {f"router {name}": given.router.config.chat for name, given in routers.items()}
    if datasets:
        found["--paths"] = datasets.chat
    if static:
        found["--static"] = static.chat
    if len({bool(chat) for chat in found.values()}) > 1:
        with_chat = ", ".join(name for name, chat in found.items() if chat)
        raise ArtefactError(f"{with_chat} went through the chat template, the others not; benchmark them separately")
    return next((chat for chat in found.values() if isinstance(chat, str)), any(found.values()))
