"""The reader of runs: small columns of all questions at once, the records as a stream."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from ..errors import ArtefactError, InputError
from ..paths.records import SEARCHED, Evaluation, PathRecord
from ..questions.chat import Chat
from ..questions.question import Question
from ..questions.tasks import described_task
from .run_folder import RUN_NAME, RunDirectory
from .run_json import RunInfo
from .schema import QUESTION_COLUMNS, UnreadableShard, from_table, questions_of

LIGHT_COLUMNS = ["question_id", "question_sha", "status", "simulations", "num_layers"]


class RunReader:
    """An opened run's folder. The shards are read once for the questions, and once per pass over the records.

    Every pass reads the rows that existed when the folder was opened, even while a run continues.

    Attributes:
        out: the folder, as it was named.
        info: its run.json.
        task: of its questions.
        chat: whether prompts went through the chat template, and on which day if that counts.
        dtype: of the weights during the search.
        num_layers: L, of the model.
        searched: LIGHT_COLUMNS of the questions that did not fail, in the order of the shards; at least one.

    Raises:
        InputError: the folder holds no run, or none of its questions has been searched.
        ArtefactError: run.json or a shard is damaged, its task has changed, or its records differ in their number
            of layers.
    """

    def __init__(self, out: str):
        directory = RunDirectory(out)
        self.out = out
        self.info = directory.info()
        self.chat, self.dtype = _how_asked(self.info, out)
        self.task = self.info.asked_task
        self._committed = directory.committed
        self._light, self._places = directory.committed.placed([*LIGHT_COLUMNS, *list(QUESTION_COLUMNS)[1:]])
        light = pl.DataFrame(pl.from_arrow(self._light.select(LIGHT_COLUMNS)))
        self.searched = light.filter(pl.col("status").is_in(SEARCHED))
        if self.searched.is_empty():
            raise InputError(
                f"{out} holds no searched question; let `pathgen generate --out {out}` finish some, or give another"
            )
        self.num_layers, *others = self.searched["num_layers"].unique().sort().to_list()
        if others:
            layers = " and ".join(map(str, [self.num_layers, *others]))
            raise ArtefactError(f"{out} holds records of models of {layers} layers")

    def questions(self) -> Iterator[Question]:
        """The questions of all rows, failed ones included, in the order of the shards."""
        for part in self._light.to_batches(max_chunksize=1024):
            yield from questions_of(pa.Table.from_batches([part]))

    def records(self, ids: Collection[str]) -> Iterator[PathRecord]:
        """The records of some questions, in the order of the shards; few shards are in memory at a time.

        Raises:
            ArtefactError: a shard is unreadable, or a record is invalid; names folder and question.
        """
        places = self._places.filter(pl.col("question_id").is_in(ids))
        for shard in self._committed.batches(places=places):
            for record in self._decoded(shard):
                if fault := self._fault(record):
                    raise ArtefactError(f"{self.out}: question {record.question.id}: {fault}")
                yield record

    def check_askable(self, questions: Iterable[Question]) -> None:
        """Raise InputError if a question lacks what its task needs, as imported questions may."""
        asked, task = list(questions), self.task
        if lacking := sum(getattr(question, task.needs) is None for question in asked):
            needed, right = {
                "choices": ("choices", "`choices` and `gold`"),
                "reference": ("right answer", "the right answer"),
            }[task.needs]
            raise InputError(
                f"{self.out}: {lacking} of {len(asked)} questions were imported without {needed}, which task "
                f"{task.name} needs to ask them; give {right} of each in the file, and import it again"
            )

    def _decoded(self, shard: pa.Table) -> Iterator[PathRecord]:
        try:
            yield from from_table(shard)
        except UnreadableShard:
            # Row by row, so that the question is named.
            for row, question_id in enumerate(shard["question_id"].to_pylist()):
                try:
                    yield from from_table(shard.take([row]))
                except UnreadableShard as error:
                    raise ArtefactError(f"{self.out}: question {question_id}: {error}") from error

    def _fault(self, record: PathRecord) -> str | None:
        """What is invalid in a record, None if nothing."""
        if record.task != self.info.task:
            return f"it is of task {record.task}, the run of {self.info.task}"
        if not record.evaluations:
            return "no evaluations"
        paths = [*(evaluation.path for evaluation in record.evaluations), record.best_path]
        if wrong := [path for path in paths if path is not None and len(path) != self.num_layers]:
            return f"a path has {len(wrong[0])} actions, the model {self.num_layers} layers"
        margins = [record.base_margin, record.best_margin, *(evaluation.margin for evaluation in record.evaluations)]
        if bad := [margin for margin in margins if margin is not None and not math.isfinite(margin)]:
            return f"a margin is {bad[0]}; margins are finite or null"
        return None


@dataclass(frozen=True, slots=True, eq=False)
class SearchedRun:
    """Some questions of a run, with all their evaluations, in memory; other attributes as in `RunReader`.

    Attributes:
        questions: the taken ones of all that were searched, in the order of the shards.
        evaluations: by question sha, every path that was run on it; the full path is the first.
    """

    out: str
    info: RunInfo
    chat: Chat
    dtype: str
    num_layers: int
    questions: tuple[Question, ...]
    evaluations: dict[str, list[Evaluation]]

    @classmethod
    def load(cls, out: str, take: Callable[[list[tuple[str, str]]], Collection[str]] | None = None) -> SearchedRun:
        """Read the committed records of a run; a few shards are in memory at a time, and what is taken.

        Args:
            out: the folder.
            take: returns the ids of the questions to keep, given id and sha of every searched one; None keeps all.

        Raises:
            InputError: as in `RunReader`, or a taken question lacks what its task needs.
            ArtefactError: as in `RunReader` and `RunReader.records`.
        """
        run = RunReader(out)
        searched = list(run.searched.select("question_id", "question_sha").iter_rows())
        questions: list[Question] = []
        evaluations: dict[str, list[Evaluation]] = {}
        for record in run.records([name for name, _ in searched] if take is None else take(searched)):
            questions.append(record.question)
            evaluations.setdefault(record.question_sha, []).extend(record.evaluations)
        run.check_askable(questions)
        return cls(out, run.info, run.chat, run.dtype, run.num_layers, tuple(questions), evaluations)


def _how_asked(info: RunInfo, out: str) -> tuple[Chat, str]:
    """Whether a run's prompts went through the chat template, and the dtype of its search.

    Raises:
        InputError: the task does not exist here.
        ArtefactError: run.json lacks a setting, or its task asks or grades differently now, so that new evaluations
            would not be comparable.
    """
    try:
        stored, chat, dtype = info.settings["task"], info.settings["task"]["chat"], info.settings["dtype"]
    except (KeyError, TypeError) as error:
        raise ArtefactError(f"{out}/{RUN_NAME} lacks the setting {error}; restore it") from error
    try:
        now = described_task({**stored, "name": info.task}).describe(chat)
    except KeyError as error:
        raise ArtefactError(f"{out}/{RUN_NAME} lacks the setting task.{error.args[0]}; restore it") from error
    if "grading" not in stored:  # graded by the rules of version 1, which agree on plain numbers
        now.pop("grading", None)
    if changed := [name for name in {**now, **stored} if now.get(name) != stored.get(name)]:
        raise ArtefactError(
            f"{out} was searched when task {info.task} had another {changed[0]} ({stored.get(changed[0])!r}, now "
            f"{now.get(changed[0])!r}); restore the task, or search again into a new folder"
        )
    return chat if isinstance(chat, str) else bool(chat), str(dtype)
