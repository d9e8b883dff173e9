"""The questions of a finished or interrupted run, and all that its search has evaluated on them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from ..errors import ArtefactError, InputError
from ..paths.records import Evaluation
from ..questions.question import Question
from ..questions.tasks import Task, find_task
from .run_folder import RUN_NAME, RunDirectory
from .run_json import RunInfo
from .shards import UnreadableShard, from_table

LIGHT_COLUMNS = ["question_id", "question_sha", "status", "num_layers"]


@dataclass(frozen=True, slots=True, eq=False)
class SearchedRun:
    """A run's folder, read.

    Attributes:
        out: the folder, as it was named.
        info: what it is a run of.
        chat: whether its prompts went through the chat template.
        dtype: in which it was searched.
        num_layers: L, of the model.
        questions: those taken of all that have a record and did not fail, in the order of the shards.
        evaluations: by question sha, every path that was run on it; the full path is the first.
    """

    out: str
    info: RunInfo
    chat: bool
    dtype: str
    num_layers: int
    questions: tuple[Question, ...]
    evaluations: dict[str, list[Evaluation]]

    @classmethod
    def load(cls, out: str, take: Callable[[list[tuple[str, str]]], Collection[str]] | None = None) -> SearchedRun:
        """Read the committed records of a run, a few shards in memory at a time beside what is taken.

        Args:
            out: the folder.
            take: told id and sha of every searched question, gives the ids of those to keep; None: all.

        Raises:
            InputError: the folder holds no run, or no question of it has been searched.
            ArtefactError: run.json or a shard is damaged, or as `how_asked`.
        """
        directory = RunDirectory(out)
        info = directory.info()
        chat, dtype = how_asked(info, out)
        light = directory.committed.table(LIGHT_COLUMNS)
        light = light.filter(pc.not_equal(light["status"], "failed"))
        if not light.num_rows:
            raise InputError(f"{out} holds no searched question yet; let its `pathgen generate` go on first")
        ids, shas = (light[name].to_pylist() for name in ("question_id", "question_sha"))
        taken = pa.array(ids if take is None else take(list(zip(ids, shas, strict=True))), pa.string())
        questions: list[Question] = []
        evaluations: dict[str, list[Evaluation]] = {}
        try:
            for shard in directory.committed.batches():
                for record in from_table(shard.filter(pc.is_in(shard["question_id"], taken))):
                    questions.append(record.question)
                    evaluations.setdefault(record.question_sha, []).extend(record.evaluations)
        except UnreadableShard as error:
            raise ArtefactError(f"{out}: {error}") from error
        return cls(out, info, chat, dtype, light["num_layers"][0].as_py(), tuple(questions), evaluations)


def how_asked(info: RunInfo, out: str) -> tuple[bool, str]:
    """Whether a run's prompts went through the chat template, and the dtype it was searched in.

    Raises:
        InputError: there is no such task here.
        ArtefactError: run.json lacks a setting, or its task asks or grades otherwise by now, so that new evaluations
            could not stand beside the run's.
    """
    try:
        stored, chat, dtype = info.settings["task"], info.settings["task"]["chat"], info.settings["dtype"]
    except (KeyError, TypeError) as error:
        raise ArtefactError(f"{out}/{RUN_NAME} does not tell the setting {error}; restore it") from error
    now = find_task(info.task).describe(bool(chat))
    if changed := [name for name in {**now, **stored} if now.get(name) != stored.get(name)]:
        raise ArtefactError(
            f"{out} was searched when task {info.task} had another {changed[0]} ({stored.get(changed[0])!r}, now "
            f"{now.get(changed[0])!r}); restore the task, or search again into a new folder"
        )
    return bool(chat), str(dtype)


def check_askable(questions: Iterable[Question], task: Task, out: str) -> None:
    """See that the questions of a run hold what its task asks for: another program's file may lack it.

    Raises:
        InputError: one does not.
    """
    asked = list(questions)
    if lacking := sum(getattr(question, task.needs) is None for question in asked):
        needed, right = {
            "choices": ("choices", "`choices` and `gold`"),
            "reference": ("right answer", "the right answer"),
        }[task.needs]
        raise InputError(
            f"{out}: {lacking} of {len(asked)} questions were imported without {needed}, which task {task.name} needs "
            f"to ask them; give {right} of each in the file, and import it again"
        )
