"""Paths evaluated on every question of a run, kept in its folder: what is evaluated once is never run again."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..paths.layer_path import LayerPath
from ..paths.records import Evaluation
from ..paths.reward import path_quality
from ..questions.question import Question
from ..questions.tasks import find_task
from ..store.files import open_folder, put
from ..store.run_reader import SearchedRun

if TYPE_CHECKING:
    from ..evaluation.evaluator import Evaluator

logger = logging.getLogger(__name__)

TABLE_FOLDER = "static"
FORMAT_VERSION = 1
FLUSH_EVERY_S = 30.0
QUESTIONS_TOGETHER = {"cpu": 1, "cuda": 16}
"""Questions whose paths run in one batch, by device type; the paths of a single one fill a CPU."""

SCHEMA = pa.schema(
    [
        pa.field("question_sha", pa.string(), nullable=False),
        pa.field("path", pa.list_(pa.field("element", pa.uint8())), nullable=False),
        pa.field("correct", pa.bool_(), nullable=False),
        pa.field("margin", pa.float32()),
        pa.field("choice_scores", pa.list_(pa.field("element", pa.float32()))),
    ]
)
"""One row an evaluation; margins and scores in nats."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What P paths did on Q questions.

    Attributes:
        correct: [Q, P] bool; False where a path was not evaluated.
        margin: [Q, P] nats; NaN where a path was not evaluated or the model gave no finite score.
        quality: [Q, P] `½·correct + ½·σ(margin)`, the margin relative to the full path's where answers are generated;
            NaN where a path was not evaluated.
    """

    correct: np.ndarray
    margin: np.ndarray
    quality: np.ndarray

    def of(self, questions: np.ndarray) -> Scores:
        """Those of some of the questions: [Q] bool, or their indices in the order wanted."""
        return Scores(*(getattr(self, name)[questions] for name in self.__slots__))

    @classmethod
    def stack(cls, parts: Sequence[Scores]) -> Scores:
        """The same paths on the questions of all parts, one part after the other."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__))


class PathTable:
    """Evaluations by question and path: those of a run's search, and more as they are asked for.

    Args:
        run: whose questions.
        dtype: in which paths are evaluated; what the run's search evaluated in another is not used.
        evaluator: gives the run's evaluator; called only when something has to be evaluated.

    Attributes:
        path: of the Parquet file that keeps what was evaluated beyond the search.
    """

    def __init__(self, run: SearchedRun, dtype: str, evaluator: Callable[[], Evaluator]):
        self._num_layers = run.num_layers
        self._relative = find_task(run.info.task).generates
        self._evaluator = evaluator
        self._fs, root = open_folder(run.out)
        origin = [FORMAT_VERSION, run.info.fingerprint, run.info.settings["task"], dtype]
        digest = hashlib.blake2b(json.dumps(origin, sort_keys=True).encode(), digest_size=8).hexdigest()
        self.path = f"{root}/{TABLE_FOLDER}/{digest}.parquet"
        self._own = self._read()
        self._unsaved = False
        self._saved_at = time.monotonic()
        self._known: dict[str, dict[LayerPath, Evaluation]] = {question.sha: {} for question in run.questions}
        for sha, evaluation in self._own:
            self._known.setdefault(sha, {})[evaluation.path] = evaluation
        if dtype == run.dtype:
            imported = "imported" in run.info.settings
            for sha, evaluations in run.evaluations.items():
                # Of another program there may be a verdict alone: without a margin it is no quality, so it is run here.
                usable = (one for one in evaluations if one.margin is not None or not imported)
                self._known[sha].update({evaluation.path: evaluation for evaluation in usable})

    def evaluate(
        self,
        questions: Sequence[Question],
        paths: Sequence[LayerPath],
        on_progress: Callable[[int, int], object] = lambda questions, evaluations: None,
    ) -> None:
        """See to it that every path, and the full one, has been evaluated on every question.

        What is new is saved every FLUSH_EVERY_S and at the end, also at one by an exception.

        Args:
            questions: of this run.
            paths: of the run's model.
            on_progress: told how many questions are done since it was last called, and the new evaluations made.

        Raises:
            QuestionError: a question does not fit the model.
            PathgenError: the table cannot be written.
        """
        wanted = list(dict.fromkeys([LayerPath.full(self._num_layers), *paths]))
        missing = [(question, [p for p in wanted if p not in self._known[question.sha]]) for question in questions]
        complete = sum(not lacking for _, lacking in missing)
        if complete:
            on_progress(complete, 0)
        todo = [pair for pair in missing if pair[1]]
        try:
            while todo:
                evaluator = self._evaluator()
                together = QUESTIONS_TOGETHER.get(evaluator.model.device.type, QUESTIONS_TOGETHER["cuda"])
                group, todo = todo[:together], todo[together:]
                on_progress(len(group), self._run(evaluator, group))
                if time.monotonic() - self._saved_at >= FLUSH_EVERY_S:
                    self.save()
        finally:
            self.save()

    def scores(self, questions: Sequence[Question], paths: Sequence[LayerPath]) -> Scores:
        """What is known of these paths on these questions, as arrays [Q, P]."""
        shape = (len(questions), len(paths))
        correct = np.zeros(shape, dtype=bool)
        margin, quality = np.full(shape, np.nan), np.full(shape, np.nan)
        full = LayerPath.full(self._num_layers)
        for row, question in enumerate(questions):
            known = self._known[question.sha]
            base = (known[full].margin or 0.0) if self._relative and full in known else 0.0
            for column, path in enumerate(paths):
                if evaluation := known.get(path):
                    correct[row, column] = evaluation.correct
                    margin[row, column] = np.nan if evaluation.margin is None else evaluation.margin
                    quality[row, column] = path_quality(evaluation, base)
        return Scores(correct, margin, quality)

    def save(self) -> None:
        """Write the table, if there is anything new in it.

        Raises:
            PathgenError: the file system refuses.
        """
        self._saved_at = time.monotonic()
        if self._unsaved:
            put(self._fs, self.path, _to_parquet(self._own))
            self._unsaved = False

    def _run(self, evaluator: Evaluator, group: Sequence[tuple[Question, list[LayerPath]]]) -> int:
        """Evaluate the lacking paths of some questions in one batch, so that their beginnings are shared."""
        asked = [
            (prepared, path)
            for prepared, lacking in ((evaluator.prepare(question), lacking) for question, lacking in group)
            for path in lacking
        ]
        for (prepared, path), evaluation in zip(asked, evaluator.evaluate(asked), strict=True):
            sha, kept = prepared.question.sha, _as_stored(evaluation)
            self._known[sha][path] = kept
            self._own.append((sha, kept))
        for prepared in {id(prepared): prepared for prepared, _ in asked}.values():
            evaluator.forget(prepared)
        self._unsaved = True
        return len(asked)

    def _read(self) -> list[tuple[str, Evaluation]]:
        try:
            data = self._fs.cat_file(self.path)
        except FileNotFoundError:
            return []
        try:
            return _from_parquet(data, self._num_layers)
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = (str(error).splitlines() or [repr(error)])[0]
            logger.warning("%s cannot be read (%s); its paths are evaluated again", self.path, reason)
            return []


def _as_stored(evaluation: Evaluation) -> Evaluation:
    """With the margin in float32, so that a call that reads it back finds the very same."""
    margin = evaluation.margin
    return evaluation if margin is None else replace(evaluation, margin=float(np.float32(margin)))


def _to_parquet(rows: Sequence[tuple[str, Evaluation]]) -> bytes:
    columns = [
        [sha for sha, _ in rows],
        *([getattr(evaluation, name) for _, evaluation in rows] for name in SCHEMA.names[1:]),
    ]
    arrays = [pa.array(values, type=field.type) for values, field in zip(columns, SCHEMA, strict=True)]
    buffer = io.BytesIO()
    table = pa.Table.from_arrays(arrays, schema=SCHEMA)
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True, store_schema=False)
    return buffer.getvalue()


def _from_parquet(data: bytes, num_layers: int) -> list[tuple[str, Evaluation]]:
    """The rows of a table.

    Raises:
        ValueError, OSError, ArrowException: anything is wrong with the file.
    """
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    if not file.schema_arrow.equals(SCHEMA):
        raise ValueError("it has other columns")
    rows = []
    for row in file.read(use_threads=False).to_pylist():
        path = LayerPath(row["path"])
        if len(path) != num_layers:
            raise ValueError(f"a path has {len(path)} layers, the model {num_layers}")
        scores = None if row["choice_scores"] is None else tuple(row["choice_scores"])
        rows.append((row["question_sha"], Evaluation(path, row["correct"], row["margin"], scores)))
    return rows
