"""All that a benchmark rests on, read and checked before the model loads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pathgen.errors import ArtefactError, InputError
from pathgen.evaluation.evaluator import context_tokens
from pathgen.models.devices import default_device, default_dtype
from pathgen.models.facts import fingerprint, num_layers
from pathgen.models.reading import load_config, load_tokenizer
from pathgen.models.resolving import resolve_model
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import PathRecord
from pathgen.questions.loading import load_questions
from pathgen.questions.question import Question
from pathgen.questions.tasks import Task, find_task
from pathgen.static.static_paths import StaticPaths, load_static
from router.data.path_datasets import PathDatasets
from router.data.split import folded
from router.net.router import Router
from router.saved.layout import CONFIG_NAME, WEIGHTS_NAME
from router.saved.loading import load_router, resolve_router, seen_by

from .options import GATES, BenchOptions

MAX_FIT_RECORDS = 1000
"""Records that training-free systems are fitted on; of more the first ones."""


@dataclass(frozen=True, slots=True, eq=False)
class GivenRouter:
    """A router of the command line.

    Attributes:
        router: on the CPU.
        digest: of its weights and settings.
        seen: shas of the questions that it was trained or chosen on, as far as its folder tells.
    """

    router: Router
    digest: str
    seen: frozenset[str]


@dataclass(frozen=True, slots=True, eq=False)
class BenchInputs:
    """What is benchmarked, on what.

    Attributes:
        task: of the questions.
        questions: all of them, also those that will not fit the model's context.
        fingerprint: of the model's weights.
        num_layers: L, of the model.
        chat: whether prompts go through the chat template, as the routers and searches had them.
        dtype: of the weights.
        device: a torch device.
        routers: by system name.
        static: the path of --static.
        static_seen: shas of the questions that it was chosen on.
        records: by question sha, what searches know of the benchmark's own questions; the oracle's alone.
        fit: records of other questions, which ask something else, case and spaces aside.
    """

    task: Task
    questions: tuple[Question, ...]
    fingerprint: str
    num_layers: int
    chat: bool
    dtype: str
    device: str
    routers: Mapping[str, GivenRouter]
    static: LayerPath | None
    static_seen: frozenset[str]
    records: Mapping[str, PathRecord]
    fit: Sequence[PathRecord]

    @classmethod
    def load(cls, options: BenchOptions) -> BenchInputs:
        """Read everything but the model.

        Raises:
            InputError: an unknown task, questions that cannot be used or of which none fits the model's context, or a
                folder or file that is not there.
            ArtefactError: a router, static path or folder of paths of another model, or a damaged one.
        """
        task = find_task(options.task)
        questions = tuple(load_questions(options.questions, needs=task.needs, limit=options.limit))
        folder = resolve_model(options.model)
        digest, layers = fingerprint(folder), num_layers(folder)
        routers = {name: _read_router(name, given, digest, layers) for name, given in options.routers.items()}
        static = None
        if options.static is not None:
            static = load_static(options.static)
            static.check_matches(digest, layers, options.static)
        datasets = PathDatasets(options.paths) if options.paths else None
        if datasets and datasets.fingerprint != digest:
            raise ArtefactError(
                f"--paths {options.paths[0]} is of {datasets.model_id} ({datasets.fingerprint}), "
                f"--model {options.model} has fingerprint {digest}"
            )
        chat = _chat(routers, datasets, static)
        _check_context(folder, task, questions, chat=chat)
        records, fit = _split_records(datasets, task, questions)
        device = options.device or default_device()
        stored_dtype = datasets.dtype if datasets else default_dtype(device)
        return cls(
            task,
            questions,
            digest,
            layers,
            chat,
            options.dtype or stored_dtype,
            device,
            routers,
            static.best.path if static else None,
            frozenset(static.chosen_on if static else ()),
            records,
            fit,
        )

    @property
    def reference(self) -> str | None:
        """The router whose paths other systems borrow or match in depth: the first that is not the gates."""
        return next((name for name in self.routers if name != GATES), None)

    @property
    def seen_in_training(self) -> int:
        """How many of the questions some router, or the path of --static, was trained or chosen on."""
        seen = self.static_seen.union(*(given.seen for given in self.routers.values()))
        return sum(question.sha in seen for question in self.questions)

    @property
    def fit_digest(self) -> str:
        """Of what static paths and influence are fitted on."""
        static = list(self.static) if self.static else None
        return digest_of(static, _searched(self.fit))

    @property
    def records_digest(self) -> str:
        """Of what is known of the benchmark's own questions."""
        return digest_of(_searched(self.records.values()))


def digest_of(*parts: object) -> str:
    """16 hex digits over JSON values."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=8).hexdigest()


def _searched(records: Iterable[PathRecord]) -> list[list[object]]:
    return [[record.question_sha, record.simulations, list(record.best_path or ())] for record in records]


def _read_router(name: str, given: str, digest: str, layers: int) -> GivenRouter:
    folder = resolve_router(given)
    router = load_router(folder, fingerprint=digest, num_layers=layers)
    if name == GATES and "repeat" in router.config.actions:
        raise InputError(
            f"--router {GATES}={given} may repeat layers; train it with --method gates --actions skip,execute"
        )
    content = b"".join((folder / file).read_bytes() for file in (CONFIG_NAME, WEIGHTS_NAME))
    return GivenRouter(router, digest_of(content.hex()), seen_by(folder))


def _check_context(folder: Path, task: Task, questions: Sequence[Question], *, chat: bool) -> None:
    """See that some question fits the model in `folder`, by its tokenizer and config alone.

    Raises:
        InputError: none does.
    """
    tokenizer, limit = load_tokenizer(folder), context_tokens(load_config(folder).get_text_config())
    for question in questions:
        if task.longest(*task.encode(question, tokenizer, chat)) <= limit:
            return
    raise InputError(f"none of the {len(questions)} questions fits the model's context of {limit} tokens")


def _split_records(
    datasets: PathDatasets | None, task: Task, questions: Sequence[Question]
) -> tuple[dict[str, PathRecord], list[PathRecord]]:
    """The records of the benchmark's questions by sha, and those of questions that ask something else."""
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


def _chat(routers: Mapping[str, GivenRouter], datasets: PathDatasets | None, static: StaticPaths | None) -> bool:
    """How prompts were asked before.

    Raises:
        ArtefactError: some through the chat template, some not.
    """
    found = {f"router {name}": given.router.config.chat for name, given in routers.items()}
    if datasets:
        found["--paths"] = datasets.chat
    if static:
        found["--static"] = static.chat
    if len(set(found.values())) > 1:
        with_chat = ", ".join(name for name, chat in found.items() if chat)
        raise ArtefactError(f"{with_chat} went through the chat template, the others not; bench them apart")
    return any(found.values())
