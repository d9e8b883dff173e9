"""What a run has found so far, from its committed shards alone: no Ray, no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from .errors import ArtefactError
from .index import progress_files
from .rundir import RunDirectory

COLUMNS = [
    "question_id",
    "status",
    "choices",
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
LIGHT_COLUMNS = [name for name in COLUMNS if name not in ("best_path", "choices", "gold")]


def summarize(rows: pl.DataFrame) -> dict[str, Any]:
    """Counts, accuracies and depth over a run's records; rates leave the failed out.

    Args:
        rows: one row a question, with LIGHT_COLUMNS.

    Returns:
        A JSON object; rates are None where nothing was searched.
    """
    searched = rows.filter(pl.col("status") != "failed")
    solved = searched.filter(pl.col("status") != "unsolved")
    counts = {status: int((rows["status"] == status).sum()) for status in ("improved", "kept", "unsolved", "failed")}
    return {
        "questions": searched.height,
        **counts,
        "base_accuracy": _mean(searched["base_correct"]),
        "solved": solved.height,
        "solved_rate": solved.height / searched.height if searched.height else None,
        "mean_best_depth": _mean(solved["best_depth"]),
        "num_layers": _first(searched["num_layers"]),
        "median_base_margin": _median(searched["base_margin"]),
        "median_best_margin": _median(solved["best_margin"]),
        "layer_executions": int(searched["layer_executions"].sum()),
        "layers_run": int(searched["layers_run"].sum()),
        "seconds": float(searched["seconds"].sum()),
    }


def run_stats(out: str) -> dict[str, Any]:
    """Everything `pathgen stats` shows.

    Raises:
        InputError: the folder holds no run.
        ArtefactError: a shard is unreadable.
    """
    directory = RunDirectory(out)
    info = directory.info()
    rows = pl.DataFrame(pl.from_arrow(directory.table([*COLUMNS, "evaluations"])))
    total = info.notes.get("questions")
    summary = summarize(rows)
    return {
        "out": out,
        "model": info.model_id,
        "task": info.task,
        "total": max(int(total or 0), rows.height),
        "done": rows.height - summary["failed"],
        **summary,
        "action_counts": action_counts(rows["best_path"].drop_nulls().to_list()),
        "headroom": headroom(rows),
        "under_way": len(progress_files(directory.fs, directory.root)) > 0,
    }


def action_counts(paths: Sequence[Sequence[int]]) -> list[list[int]]:
    """Per layer, how many paths skip, execute and repeat it: [num_layers][3]."""
    if not paths:
        return []
    table = np.array(paths)
    return [[int((table[:, layer] == action).sum()) for action in (0, 1, 2)] for layer in range(table.shape[1])]


def headroom(rows: pl.DataFrame) -> dict[str, Any] | None:
    """How much of what the search mends is more than luck.

    Over the questions that full depth answers wrong: `gold`, the share for which some evaluated path reaches
    the right choice; `placebo`, the share for which some path reaches a wrong choice that full depth ranked
    like gold, weighted to gold's ranks; `excess`, their difference. `breaks` is the share of right answers
    that some path breaks. None for tasks without choices.
    """
    gold_hits: dict[int, list[bool]] = {}
    placebo_hits: dict[int, list[bool]] = {}
    broken: list[bool] = []
    for row in rows.filter(pl.col("status") != "failed").iter_rows(named=True):
        scores = [e["choice_scores"] for e in row["evaluations"] if e["choice_scores"]]
        if row["gold"] is None or not scores:
            continue
        base, gold = np.array(scores[0]), row["gold"]
        reached = {int(np.argmax(s)) for s in scores[1:]}
        if row["base_correct"]:
            broken.append(bool(reached - {gold}))
            continue
        ranks = {int(choice): rank for rank, choice in enumerate(np.argsort(-base, kind="stable"))}
        for choice, rank in ranks.items():
            if rank:  # rank 0 is what full depth answers
                (gold_hits if choice == gold else placebo_hits).setdefault(rank, []).append(choice in reached)
    weights = {rank: len(hits) for rank, hits in gold_hits.items() if rank in placebo_hits}
    count = sum(len(hits) for hits in gold_hits.values())
    if not count and not broken:
        return None
    gold_share = _ratio(sum(sum(hits) for hits in gold_hits.values()), count)
    placebo = _ratio(
        sum(weight * float(np.mean(placebo_hits[rank])) for rank, weight in weights.items()), sum(weights.values())
    )
    return {
        "questions": count,
        "gold": gold_share,
        "placebo": placebo,
        "excess": gold_share - placebo if gold_share is not None and placebo is not None else None,
        "breaks": _ratio(sum(broken), len(broken)),
    }


def find_record(out: str, question_id: str) -> dict[str, Any]:
    """One committed record, as a dict of its columns.

    Raises:
        InputError: the folder holds no run.
        ArtefactError: a shard is unreadable, or no record has this id.
    """
    directory = RunDirectory(out)
    directory.info()
    rows = pl.DataFrame(pl.from_arrow(directory.table()))
    found = rows.filter(pl.col("question_id") == question_id)
    if not found.height:
        some = ", ".join(rows["question_id"].head(3)) or "none yet"
        raise ArtefactError(f"{out} holds no record of question {question_id!r}; it has {rows.height}: {some} …")
    return found.row(0, named=True)


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _mean(column: pl.Series) -> float | None:
    values = column.drop_nulls().cast(pl.Float64)
    return float(values.to_numpy().mean()) if len(values) else None


def _median(column: pl.Series) -> float | None:
    values = column.drop_nulls().cast(pl.Float64)
    return float(np.median(values.to_numpy())) if len(values) else None


def _first(column: pl.Series) -> int | None:
    return int(column[0]) if len(column) else None
