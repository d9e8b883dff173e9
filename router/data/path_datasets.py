"""Datasets of paths: the records of one or several run folders, checked to belong together, as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from pathgen.errors import ArtefactError, InputError
from pathgen.paths.records import PathRecord
from pathgen.questions.question import Question
from pathgen.store.run_reader import RunReader


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
        self._runs = [RunReader(out) for out in dict.fromkeys(outs)]
        if not self._runs:
            raise InputError("no folder of paths is given; give the --out of a `pathgen generate`")
        first, *others = self._runs
        for other in others:
            _refuse_difference(first, other)
        self._ids = _counted_ids(self._runs)
        self.model_id = first.info.model_id
        self.fingerprint = first.info.fingerprint
        self.num_layers = first.num_layers
        self.chat = first.chat
        self.dtype = first.dtype
        self.tasks = tuple(dict.fromkeys(run.info.task for run in self._runs))
        self.settings: dict[str, dict[str, Any]] = {run.out: run.info.settings for run in self._runs}

    def __len__(self) -> int:
        """How many questions there are."""
        return sum(len(ids) for ids in self._ids)

    def records(self) -> Iterator[tuple[str, PathRecord]]:
        """Folder and record of each question, in the order of folders and rows; each call reads the shards once.

        Raises:
            ArtefactError: a shard is unreadable, or a record says what cannot be; names folder and question.
        """
        for run, ids in zip(self._runs, self._ids, strict=True):
            for record in run.records(ids):
                yield run.out, record

    def asked(self) -> Iterator[tuple[RunReader, Question]]:
        """Run and question of each record, in the order of `records`; nothing is read again."""
        for run, ids in zip(self._runs, self._ids, strict=True):
            yield from ((run, question) for question in run.questions() if question.id in ids)

    def questions(self) -> Iterator[Question]:
        """The questions in the order of `records`, without what the search learned."""
        return (question for _, question in self.asked())

    def rows(self) -> Iterator[tuple[Question, bool]]:
        """The questions of all rows, failed ones included, and whether the row counts.

        What another folder or another id holds a second time does not.
        """
        for run, ids in zip(self._runs, self._ids, strict=True):
            yield from ((question, question.id in ids) for question in run.questions())

    def check_askable(self) -> None:
        """See that the model can be asked every question; for labels alone it need not be.

        Raises:
            InputError: some were imported without choices, or a right answer.
        """
        for run, ids in zip(self._runs, self._ids, strict=True):
            run.check_askable(question for question in run.questions() if question.id in ids)


def _refuse_difference(first: RunReader, other: RunReader) -> None:
    for name, a, b in (
        ("model fingerprint", first.info.fingerprint, other.info.fingerprint),
        ("number of layers", first.num_layers, other.num_layers),
        ("dtype", first.dtype, other.dtype),
        ("chat setting", first.chat, other.chat),
    ):
        if a != b:
            raise ArtefactError(
                f"{first.out} and {other.out} do not belong together: "
                f"their {name} is {a} and {b}; give folders of one model, searched alike"
            )


def _counted_ids(runs: Sequence[RunReader]) -> list[set[str]]:
    """Per run, the ids of the questions that count from it."""
    rows = pl.concat(
        [run.searched.with_columns(run=pl.lit(place), task=pl.lit(run.info.task)) for place, run in enumerate(runs)]
    )
    counted = rows.sort("simulations", descending=True, maintain_order=True, nulls_last=True).unique(
        ["task", "question_sha"], keep="first", maintain_order=True
    )
    return [set(counted.filter(pl.col("run") == place)["question_id"]) for place in range(len(runs))]
