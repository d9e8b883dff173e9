"""Datasets of paths: the records of one or several run folders of one model, as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from pathgen.bridges.maps import Bridges
from pathgen.errors import ArtefactError, InputError
from pathgen.identity import difference_told, differences, shown
from pathgen.paths.records import PathRecord
from pathgen.questions.question import Question
from pathgen.questions.tasks import Task
from pathgen.store.run_folder import RunDirectory
from pathgen.store.run_reader import RunReader


class PathDatasets:
    """The searched questions of run folders (paths or URLs) of one model, for one or several tasks.

    If several records are of one question (the same task, prompt, choices and answer, under any id), one counts: the
    one with most simulations, then the one of the first folder. Every pass reads the rows that were there when the
    folders were opened, also while a run continues.

    Attributes:
        model_id: alias, hub id or folder of the model, as in the first folder.
        dtype: of the weights during the search.
        asked_as: the tasks by name, in the order of the folders.
        tasks: their names.
        settings: of each run, by folder.
        bridges: digest of the bridges that ran where paths skip; None without.

    Raises:
        InputError: no folder is given, one holds no run, or one holds no searched question.
        ArtefactError: a folder is damaged, its task has changed, or two folders differ in the model, its dtype or the
            chat template or the bridges.
    """

    def __init__(self, outs: Sequence[str]):
        runs = [RunReader(out) for out in dict.fromkeys(outs)]
        if not runs:
            raise InputError("no folder of paths is given; give the --out of a `pathgen generate`")
        first, *others = runs
        for other in others:
            _refuse_difference(first, other)
        self._counted = list(zip(runs, _counted_ids(runs), strict=True))
        self.model_id = first.info.model_id
        self.fingerprint = first.info.fingerprint
        self.num_layers = first.num_layers
        self.chat = first.chat
        self.dtype = first.dtype
        self.asked_as = _tasks(runs)
        self.tasks = tuple(self.asked_as)
        self.bridges = first.info.bridges
        self.settings: dict[str, dict[str, Any]] = {run.out: run.info.settings for run in runs}

    def __len__(self) -> int:
        return sum(len(ids) for _, ids in self._counted)

    def load_bridges(self) -> Bridges | None:
        """The bridges that ran where paths skip; None without. Errors as `read_bridges`."""
        run, _ = self._counted[0]
        return RunDirectory(run.out).bridges(run.info)

    def records(self) -> Iterator[tuple[str, PathRecord]]:
        """Folder and record of each question, in the order of folders and rows; each call reads the shards once.

        Raises:
            ArtefactError: a shard is unreadable, or a record is invalid; names folder and question.
        """
        for run, ids in self._counted:
            yield from ((run.out, record) for record in run.records(ids))

    def asked(self) -> Iterator[tuple[RunReader, Question]]:
        """Run and question of each record, in the order of `records`; reads no shards."""
        for run, ids in self._counted:
            yield from ((run, question) for question in run.questions() if question.id in ids)

    def questions(self) -> Iterator[Question]:
        """The questions in the order of `records`; reads no shards."""
        return (question for _, question in self.asked())

    def rows(self) -> Iterator[tuple[Question, bool]]:
        """The questions of all rows, failed ones included, and whether the row counts."""
        for run, ids in self._counted:
            yield from ((question, question.id in ids) for question in run.questions())

    def check_askable(self) -> None:
        """Check that each question has what its task needs to ask it; labels alone do not need this.

        Raises:
            InputError: some were imported without choices, or without a right answer.
        """
        for run, ids in self._counted:
            run.check_askable(question for question in run.questions() if question.id in ids)


def _refuse_difference(first: RunReader, other: RunReader) -> None:
    mine, its = first.info.fingerprint, other.info.fingerprint
    if differences(mine, its):
        raise ArtefactError(
            f"{first.out} and {other.out} do not belong together: their model fingerprint is {shown(mine)} and "
            f"{shown(its)}, {difference_told(its, mine, 'that of the first')}; give folders of one model and the same "
            "settings"
        )
    for name, a, b in (
        ("number of layers", first.num_layers, other.num_layers),
        ("dtype", first.dtype, other.dtype),
        ("chat setting", bool(first.chat), bool(other.chat)),
        ("bridges", first.info.bridges, other.info.bridges),
    ):
        if a != b:
            raise ArtefactError(
                f"{first.out} and {other.out} do not belong together: "
                f"their {name} is {a} and {b}; give folders of one model and the same settings"
            )


def _tasks(runs: Sequence[RunReader]) -> dict[str, Task]:
    found: dict[str, RunReader] = {}
    for run in runs:
        first = found.setdefault(run.task.name, run)
        if run.task != first.task:
            lengths, stops = (
                f"{getattr(first.task, name)} and {getattr(run.task, name)}" for name in ("max_new_tokens", "stop")
            )
            raise ArtefactError(
                f"{first.out} and {run.out} do not belong together: their answers of task {run.task.name} have at most "
                f"{lengths} tokens and end at {stops}; give folders of one length and the same stop texts"
            )
    return {name: run.task for name, run in found.items()}


def _counted_ids(runs: Sequence[RunReader]) -> list[set[str]]:
    """Per run, the ids of the questions that count from it."""
    rows = pl.concat(
        [run.searched.with_columns(run=pl.lit(place), task=pl.lit(run.info.task)) for place, run in enumerate(runs)]
    )
    counted = rows.sort("simulations", descending=True, maintain_order=True, nulls_last=True).unique(
        ["task", "question_sha"], keep="first", maintain_order=True
    )
    return [set(counted.filter(pl.col("run") == place)["question_id"]) for place in range(len(runs))]
