"""Statistics of a run, from its committed shards alone: no Ray, no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from cluster.program.json_codec import SPLICED

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
    "cut",
]
LIGHT_COLUMNS = [name for name in COLUMNS if name not in ("best_path", "gold")]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordStats:
    """Counts, accuracies and depth over a run's records; only `failed` counts the failed ones.

    Rates, depths and margins are None if nothing was searched or solved. Depths are in layer executions and margins
    in nats; those of the best paths are over the solved questions. `seconds` is the sum of all searches.
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
    cut: int | None
    """Questions whose answer at full depth ended only at the most tokens; None without generated answers."""

    @classmethod
    def of(cls, rows: pl.DataFrame) -> RecordStats:
        """The statistics of records: one row a question, with LIGHT_COLUMNS."""
        searched = rows.filter(pl.col("status") != "failed")
        solved = searched.filter(pl.col("status") != "unsolved")
        statuses = ("improved", "kept", "unsolved", "failed")
        return cls(
            questions=searched.height,
            **{status: int((rows["status"] == status).sum()) for status in statuses},
            base_accuracy=_reduced(np.mean, searched["base_correct"]),
            solved=solved.height,
            solved_rate=solved.height / searched.height if searched.height else None,
            mean_best_depth=_reduced(np.mean, solved["best_depth"]),
            num_layers=next(iter(searched["num_layers"]), None),
            median_base_margin=_reduced(np.median, searched["base_margin"]),
            median_best_margin=_reduced(np.median, solved["best_margin"]),
            layer_executions=int(searched["layer_executions"].sum()),
            layers_run=int(searched["layers_run"].sum()),
            seconds=float(searched["seconds"].sum()),
            cut=_cut_at_full_depth(searched["cut"].drop_nulls()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStats:
    """What `pathgen stats` reports.

    Attributes:
        total: questions to search.
        done: questions searched up to the run's budgets.
        action_counts: [L][3] best paths that skip, execute and repeat each layer.
        headroom: None for records without choice scores.
        under_way: whether a process is working in the folder.
        bridges: digest of the bridges that ran where paths skip; None without.
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
    bridges: str | None


def run_stats(out: str) -> RunStats:
    """The statistics of a run, also while it is under way.

    Raises:
        InputError: the folder holds no run.
        ArtefactError: a shard is unreadable.
    """
    directory = RunDirectory(out)
    info = directory.info()
    tally = HeadroomTally()
    parts = [pl.DataFrame(pl.from_arrow(SCHEMA.empty_table().select(COLUMNS)))]
    for table in directory.committed.batches([*COLUMNS, "evaluations"]):
        part = pl.DataFrame(pl.from_arrow(table))
        tally.add(part)
        parts.append(part.select(COLUMNS))  # the evaluations of a whole run may not fit into memory
    rows = pl.concat(parts)
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
        bridges=info.bridges,
    )


def action_counts(paths: Sequence[Sequence[int]]) -> list[list[int]]:
    """[num_layers][3] number of paths that skip, execute and repeat each layer."""
    if not paths:
        return []
    return np.stack([(np.array(paths) == action).sum(axis=0) for action in (0, 1, 2)], axis=1).tolist()


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


def _is_held(directory: RunDirectory) -> bool:
    """Whether a process holds the folder's lock, as seen from this machine."""
    lease = directory.read_file(LEASE_NAME)
    holder = Holder.parse(lease) if lease is not None else None
    return holder is not None and not holder.is_dead_here()


def _cut_at_full_depth(cut: pl.Series) -> int | None:
    """How many records have a cut answer at the first place, which is full depth's."""
    return int(cut.list.contains(0).sum()) if len(cut) else None


def _reduced(reduce: Callable[[np.ndarray], Any], column: pl.Series) -> float | None:
    values = column.drop_nulls().cast(pl.Float64).to_numpy()
    return float(reduce(values)) if len(values) else None
