"""What a run has found so far, from its committed shards alone: no Ray, no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from cluster.program.plain import SPLICED

from ..errors import InputError
from ..store.folder_lock import LEASE_NAME, Holder
from ..store.index import Budgets
from ..store.run_folder import RunDirectory
from ..store.schema import SCHEMA
from .headroom import Headroom, HeadroomTally

COLUMNS = [
    "question_id",
    "status",
    "stop_reason",
    "gold",
    "num_layers",
    "base_correct",
    "base_margin",
    "best_path",
    "best_depth",
    "best_margin",
    "simulations",
    "layer_executions",
    "layers_run",
    "seconds",
]
LIGHT_COLUMNS = [name for name in COLUMNS if name not in ("best_path", "gold")]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordStats:
    """Counts, accuracies and depth over a run's records. All but `failed` leave the failed out.

    Rates, depths and margins are None where nothing was searched or solved.

    Attributes:
        questions: that were searched.
        solved: of these, questions that some path answers right.
        mean_best_depth: over the solved, in layer executions.
        median_base_margin: nats.
        median_best_margin: nats, over the solved.
        seconds: of all searches together.
    """

    questions: int
    improved: int
    kept: int
    unsolved: int
    failed: int
    base_accuracy: float | None
    solved: int
    solved_rate: float | None
    mean_best_depth: float | None
    num_layers: int | None
    median_base_margin: float | None
    median_best_margin: float | None
    layer_executions: int
    layers_run: int
    seconds: float

    @classmethod
    def of(cls, rows: pl.DataFrame) -> RecordStats:
        """Count records.

        Args:
            rows: one row a question, with LIGHT_COLUMNS.
        """
        searched = rows.filter(pl.col("status") != "failed")
        solved = searched.filter(pl.col("status") != "unsolved")
        improved, kept, unsolved, failed = (
            int((rows["status"] == status).sum()) for status in ("improved", "kept", "unsolved", "failed")
        )
        return cls(
            questions=searched.height,
            improved=improved,
            kept=kept,
            unsolved=unsolved,
            failed=failed,
            base_accuracy=_mean(searched["base_correct"]),
            solved=solved.height,
            solved_rate=solved.height / searched.height if searched.height else None,
            mean_best_depth=_mean(solved["best_depth"]),
            num_layers=_first(searched["num_layers"]),
            median_base_margin=_median(searched["base_margin"]),
            median_best_margin=_median(solved["best_margin"]),
            layer_executions=int(searched["layer_executions"].sum()),
            layers_run=int(searched["layers_run"].sum()),
            seconds=float(searched["seconds"].sum()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStats:
    """What a run holds, as `pathgen stats` shows it.

    Attributes:
        total: questions asked for.
        done: questions searched within the run's budgets.
        action_counts: per layer, how many best paths skip, execute and repeat it.
        headroom: None for records without choice scores.
        under_way: whether a run is at work in the folder.
    """

    out: str
    model: str
    task: str
    total: int
    done: int
    records: RecordStats = field(metadata=SPLICED)
    action_counts: list[list[int]]
    headroom: Headroom | None
    under_way: bool


def run_stats(out: str) -> RunStats:
    """What a run has found so far.

    Raises:
        InputError: the folder holds no run.
        ArtefactError: a shard is unreadable.
    """
    directory = RunDirectory(out)
    info = directory.info()
    rows, tally = _read_once(directory)
    records = RecordStats.of(rows)
    num_layers = records.num_layers
    return RunStats(
        out=out,
        model=info.model_id,
        task=info.task,
        total=max(info.questions, rows.height),
        done=rows.filter(Budgets.of(info.settings, num_layers).reached()).height if num_layers else 0,
        records=records,
        action_counts=action_counts(rows["best_path"].drop_nulls().to_list()),
        headroom=tally.result(),
        under_way=_is_held(directory),
    )


def action_counts(paths: Sequence[Sequence[int]]) -> list[list[int]]:
    """Per layer, how many paths skip, execute and repeat it: [num_layers][3]."""
    if not paths:
        return []
    table = np.array(paths)
    return [[int((table[:, layer] == action).sum()) for action in (0, 1, 2)] for layer in range(table.shape[1])]


def find_record(out: str, question_id: str) -> dict[str, Any]:
    """One committed record, as a dict of its columns.

    Raises:
        InputError: the folder holds no run, or no record has this id.
        ArtefactError: a shard is unreadable.
    """
    directory = RunDirectory(out)
    directory.info()
    record = directory.committed.find(question_id)
    if record is None:
        table = directory.committed.table(["question_id"])
        some = ", ".join(table["question_id"][:3].to_pylist())
        held = f"it has {table.num_rows}, for example {some}" if some else "it has none yet"
        raise InputError(f"{out} holds no record of question {question_id!r}; {held}")
    return record


def _read_once(directory: RunDirectory) -> tuple[pl.DataFrame, HeadroomTally]:
    """The light columns of all records, and what counts of their evaluations, which are not kept."""
    tally = HeadroomTally()
    light = [pl.DataFrame(pl.from_arrow(SCHEMA.empty_table().select(COLUMNS)))]
    for table in directory.committed.batches([*COLUMNS, "evaluations"]):
        rows = pl.DataFrame(pl.from_arrow(table))
        tally.add(rows)
        light.append(rows.select(COLUMNS))
    return pl.concat(light), tally


def _is_held(directory: RunDirectory) -> bool:
    """Whether a run is at work in the folder, as far as its lease tells from here."""
    lease = directory.read_file(LEASE_NAME)
    holder = Holder.parse(lease) if lease is not None else None
    return holder is not None and not holder.is_dead_here()


def _mean(column: pl.Series) -> float | None:
    values = column.drop_nulls().cast(pl.Float64)
    return float(values.to_numpy().mean()) if len(values) else None


def _median(column: pl.Series) -> float | None:
    values = column.drop_nulls().cast(pl.Float64)
    return float(np.median(values.to_numpy())) if len(values) else None


def _first(column: pl.Series) -> int | None:
    return int(column[0]) if len(column) else None
