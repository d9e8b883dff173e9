"""Datasets of paths: the records of one or several run folders, checked to belong together, as a stream."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from pathgen.errors import ArtefactError, InputError
from pathgen.paths.records import PathRecord
from pathgen.questions.question import Question
from pathgen.questions.tasks import find_task
from pathgen.store.run_folder import RunDirectory
from pathgen.store.run_json import RunInfo
from pathgen.store.schema import QUESTION_COLUMNS, questions_of
from pathgen.store.searched_run import check_askable, how_asked
from pathgen.store.shards import UnreadableShard, from_table

SEARCHED = ("improved", "kept", "unsolved")
"""Statuses of the records that say something about a question."""
LIGHT_COLUMNS = ["question_id", "question_sha", "task", "status", "simulations", "num_layers"]


@dataclass(frozen=True, slots=True)
class _Folder:
    """One run's folder, opened.

    Attributes:
        directory: the folder.
        info: its run.json.
        chat: whether prompts went through the chat template.
        dtype: of the weights it was searched with.
        num_layers: of the model.
        searched: LIGHT_COLUMNS of its searched questions; at least one.
    """

    directory: RunDirectory
    info: RunInfo
    chat: bool
    dtype: str
    num_layers: int
    searched: pl.DataFrame

    @classmethod
    def open(cls, out: str) -> _Folder:
        """Read what is light of it.

        Raises:
            InputError: it is no run, or nothing is searched in it yet.
            ArtefactError: it is damaged, its task asks otherwise now, or its records differ in their number of layers.
        """
        directory = RunDirectory(out)
        info = directory.info()
        chat, dtype = how_asked(info, out)
        rows = pl.DataFrame(pl.from_arrow(directory.committed.table(LIGHT_COLUMNS)))
        searched = rows.filter(pl.col("status").is_in(SEARCHED))
        if searched.is_empty():
            raise InputError(
                f"{out} holds no searched question; let `pathgen generate --out {out}` finish some, or give another"
            )
        layers = searched["num_layers"].unique().sort().to_list()
        if len(layers) > 1:
            raise ArtefactError(f"{out} holds records of models of {' and '.join(map(str, layers))} layers")
        return cls(directory, info, chat, dtype, layers[0], searched)

    def rows(self, ids: pa.Array) -> Iterator[tuple[Question, bool]]:
        """The questions of all its rows, and whether each is one of these ids."""
        for shard in self.directory.committed.batches(list(QUESTION_COLUMNS)):
            yield from zip(questions_of(shard), pc.is_in(shard["question_id"], ids).to_pylist(), strict=True)


class PathDatasets:
    """The searched questions of run folders of one model, for one or several tasks.

    A question that several records tell of, in one folder or in two (the same task, prompt, choices and answer,
    whatever its id), counts once: the record of most simulations, then the first folder's. What is there when
    the folders are opened is what every later pass reads, also while a run goes on.

    Args:
        outs: run folders, paths or URLs.

    Attributes:
        model_id: alias, hub id or folder of the model, as the first folder has it.
        fingerprint: of its weights.
        num_layers: L, of the model.
        chat: whether prompts go through the chat template.
        dtype: of the weights during the search.
        tasks: names, in the order of the folders.
        settings: by folder, the settings of its run.

    Raises:
        InputError: no folder is given, one is no run, or nothing is searched in one yet.
        ArtefactError: a folder is damaged or its task asks otherwise now, or two differ in the model, its dtype or
            the chat template.
    """

    def __init__(self, outs: Sequence[str]):
        folders = [_Folder.open(out) for out in dict.fromkeys(outs)]
        if not folders:
            raise InputError("no folder of paths is given; give the --out of a `pathgen generate`")
        for other in folders[1:]:
            _refuse_difference(folders[0], other)
        self._folders = folders
        self._ids = _counted_ids(folders)
        first = folders[0]
        self.model_id = first.info.model_id
        self.fingerprint = first.info.fingerprint
        self.num_layers = first.num_layers
        self.chat = first.chat
        self.dtype = first.dtype
        self.tasks = tuple(dict.fromkeys(folder.info.task for folder in folders))
        self.settings: dict[str, dict[str, Any]] = {folder.directory.out: folder.info.settings for folder in folders}

    def __len__(self) -> int:
        """How many questions there are."""
        return sum(len(ids) for ids in self._ids)

    def records(self) -> Iterator[tuple[str, PathRecord]]:
        """Folder and record of each question, in the order of folders and rows; a shard in memory at a time.

        Raises:
            ArtefactError: a shard is unreadable, or a record says what cannot be; names folder and question.
        """
        for folder, ids in zip(self._folders, self._ids, strict=True):
            out = folder.directory.out
            for whole in folder.directory.committed.batches():
                shard = whole.filter(pc.is_in(whole["question_id"], ids))
                for row in range(shard.num_rows):
                    # Row by row, so that whatever is wrong with one is told of its question.
                    (question_id,) = shard["question_id"][row : row + 1].to_pylist()
                    try:
                        (record,) = from_table(shard.take([row]))
                        if fault := _fault(record, folder):
                            raise UnreadableShard(fault)
                    except UnreadableShard as error:
                        raise ArtefactError(f"{out}: question {question_id}: {error}") from error
                    yield out, record

    def questions(self) -> Iterator[Question]:
        """The questions in the order of `records`, without what the search learned.

        Raises:
            ArtefactError: a shard is unreadable.
        """
        return (question for question, counts in self.rows() if counts)

    def rows(self) -> Iterator[tuple[Question, bool]]:
        """The questions of all rows, failed ones included, and whether the row counts.

        What another folder or another id holds a second time does not.

        Raises:
            ArtefactError: a shard is unreadable.
        """
        for folder, ids in zip(self._folders, self._ids, strict=True):
            yield from folder.rows(ids)

    def check_askable(self) -> None:
        """See that the model can be asked every question; for labels alone it need not be.

        Raises:
            InputError: some were imported without choices, or a right answer.
            ArtefactError: a shard is unreadable.
        """
        for folder, ids in zip(self._folders, self._ids, strict=True):
            counted = (question for question, counts in folder.rows(ids) if counts)
            check_askable(counted, find_task(folder.info.task), folder.directory.out)


def _refuse_difference(first: _Folder, other: _Folder) -> None:
    for name, a, b in (
        ("model fingerprint", first.info.fingerprint, other.info.fingerprint),
        ("number of layers", first.num_layers, other.num_layers),
        ("dtype", first.dtype, other.dtype),
        ("chat setting", first.chat, other.chat),
    ):
        if a != b:
            raise ArtefactError(
                f"{first.directory.out} and {other.directory.out} do not belong together: "
                f"their {name} is {a} and {b}; give folders of one model, searched alike"
            )


def _counted_ids(folders: Sequence[_Folder]) -> list[pa.Array]:
    """Per folder, the ids of the questions that count from it."""
    rows = pl.concat([folder.searched.with_columns(folder=pl.lit(place)) for place, folder in enumerate(folders)])
    counted = rows.sort("simulations", descending=True, maintain_order=True, nulls_last=True).unique(
        ["task", "question_sha"], keep="first", maintain_order=True
    )
    ids = (counted.filter(pl.col("folder") == place)["question_id"].to_list() for place in range(len(folders)))
    return [pa.array(sorted(found), pa.string()) for found in ids]


def _fault(record: PathRecord, folder: _Folder) -> str | None:
    """What a record says that cannot be, None if nothing."""
    paths = [evaluation.path for evaluation in record.evaluations]
    paths += [record.best_path] if record.best_path is not None else []
    if record.task != folder.info.task:
        return f"it is of task {record.task}, the run of {folder.info.task}"
    if not record.evaluations:
        return "no evaluations"
    if wrong := [path for path in paths if len(path) != folder.num_layers]:
        return f"a path has {len(wrong[0])} actions, the model {folder.num_layers} layers"
    margins = [record.base_margin, record.best_margin, *(evaluation.margin for evaluation in record.evaluations)]
    if bad := [margin for margin in margins if margin is not None and not math.isfinite(margin)]:
        return f"a margin is {bad[0]}; margins are finite or null"
    return None
