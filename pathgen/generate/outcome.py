"""How a generation run ended: the JSON of `--json`, the exit code, and lines for the person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from ..errors import some
from ..report.stats import summarize


@dataclass(frozen=True, slots=True)
class Outcome:
    """The JSON that `--json` prints, the exit code, and lines for the person."""

    summary: dict[str, Any]
    exit_code: int
    remarks: list[str]


def run_summary(rows: pl.DataFrame, work: Mapping[str, float], done_before: int, num_layers: int) -> dict[str, Any]:
    """What the folder holds by now, and what this call did for it.

    Args:
        rows: the light columns of the committed records.
        work: counters of the fleet, `search_seconds` and `actors` among them; empty if there was nothing to do.
        done_before: questions that were done when the call began.
        num_layers: of the model.
    """
    found = summarize(rows)
    count = Counter(work)
    searched, seconds = int(count["searched"]), float(count["search_seconds"])
    return {
        "questions": found["questions"],
        "done_before": done_before,
        "searched": searched,
        "continued": int(count["continued"]),
        **{name: found[name] for name in ("failed", "solved", "base_accuracy", "solved_rate", "mean_best_depth")},
        "num_layers": num_layers,
        **{name: int(count[name]) for name in ("simulations", "layer_executions", "layers_run", "token_layers")},
        "search_seconds": seconds,
        "questions_per_second": searched / seconds if searched and seconds else None,
        "busy_seconds": float(count["busy_s"]),
        "actors": int(count["actors"]),
    }


def verdict(rows: pl.DataFrame, asked: Sequence[str], allow_failures: float, out: str) -> tuple[list[str], int]:
    """Remarks and exit code of a run that came to its end.

    Args:
        rows: as for `run_summary`.
        asked: ids of the questions asked for.
        allow_failures: the share of them that may have failed.
        out: the folder, as the person named it.
    """
    mine = rows.filter(pl.col("question_id").is_in(asked))
    missing = sorted(set(asked) - set(mine["question_id"]))
    if missing:
        return [f"{len(missing)} questions have no record ({some(missing)}); the same command goes on"], 1
    failed = mine.filter(pl.col("status") == "failed")["question_id"].sort().to_list()
    if not failed:
        return [], 0
    remark = f"{len(failed)} of {mine.height} questions failed ({some(failed)}); `pathgen show {out} ID` tells why"
    return [remark], 3 if len(failed) > allow_failures * mine.height else 0


def card_rows(summary: Mapping[str, Any]) -> dict[str, object]:
    """What the folder's README says of a run."""
    # The solved rate is chosen with gold, and says nothing without the placebo that `pathgen stats` sets beside it.
    names = ("questions", "failed", "base_accuracy", "mean_best_depth", "num_layers")
    return {name: summary[name] for name in names}
