"""How a generation run ended: its figures, the exit code, and lines for the user."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from ..errors import some
from ..report.enough import few_questions
from ..report.figures import count_text
from ..report.stats import RecordStats


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """What the folder holds now (`questions`, `failed` to `mean_best_depth`), and the work of this call.

    Attributes:
        cut: questions whose answer at full depth was cut by the most tokens; None without generated answers.
        done_before: questions that were done when the call began.
        continued: of the searched, those searched before, in part or under a smaller budget.
        search_seconds: from the first ready actor to the last commit.
        questions_per_second: None if nothing was searched.
        busy_seconds: over all actors.
    """

    out: str
    questions: int
    done_before: int
    searched: int
    continued: int
    failed: int
    solved: int
    base_accuracy: float | None
    solved_rate: float | None
    mean_best_depth: float | None
    num_layers: int
    cut: int | None
    simulations: int
    layer_executions: int
    layers_run: int
    token_layers: int
    search_seconds: float
    questions_per_second: float | None
    busy_seconds: float
    actors: int
    wall_seconds: float

    @classmethod
    def of(
        cls,
        out: str,
        rows: pl.DataFrame,
        work: Mapping[str, float],
        done_before: int,
        num_layers: int,
        wall_seconds: float,
    ) -> RunSummary:
        """Sum up the committed records (their light columns) and `SearchFleet.totals` (empty without any work)."""
        found, count = RecordStats.of(rows), Counter(work)
        searched, seconds = int(count["searched"]), float(count["search_seconds"])
        of_records = ("questions", "failed", "solved", "base_accuracy", "solved_rate", "mean_best_depth", "cut")
        of_work = ("continued", "simulations", "layer_executions", "layers_run", "token_layers", "actors")
        return cls(
            out=out,
            done_before=done_before,
            searched=searched,
            num_layers=num_layers,
            search_seconds=seconds,
            questions_per_second=searched / seconds if searched and seconds else None,
            busy_seconds=float(count["busy_s"]),
            wall_seconds=wall_seconds,
            **{name: getattr(found, name) for name in of_records},
            **{name: int(count[name]) for name in of_work},
        )

    def card_rows(self) -> dict[str, object]:
        """Figures for the folder's README.

        It leaves out the solved rate: that is chosen with gold, and means nothing without the placebo of
        `pathgen stats`.
        """
        names = ("questions", "failed", "base_accuracy", "mean_best_depth", "num_layers")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class DrySummary:
    """What a call would do."""

    out: str
    questions: int
    done_before: int
    to_search: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The figures that `--json` prints, the exit code, and lines for the user."""

    summary: RunSummary | DrySummary
    exit_code: int
    remarks: list[str]


def summary_text(summary: RunSummary) -> str:
    """What `pathgen generate` prints at its end, with the next command."""
    failed = f", {summary.failed} failed" if summary.failed else ""
    lines = [f"{count_text(summary.questions, 'question')} in {summary.out}{failed}"]
    if summary.solved_rate is not None:
        lines.append(
            f"full depth is right on {summary.base_accuracy:.1%}, some path on {summary.solved_rate:.1%} "
            "(chosen by the answer; `pathgen stats` tells how much of it is luck: the placebo)"
        )
    if summary.cut:
        lines.append(f"{count_text(summary.cut, 'answer')} at full depth cut by the most tokens; see --max-new-tokens")
    if summary.mean_best_depth is not None:
        saved = summary.num_layers - summary.mean_best_depth
        lines.append(f"best paths run {summary.mean_best_depth:.1f} of {summary.num_layers} layers ({saved:.1f} saved)")
    if summary.questions_per_second:
        lines.append(
            f"searched {summary.searched} in {summary.search_seconds:.1f} s "
            f"({summary.questions_per_second:.2f} questions a second, {count_text(summary.actors, 'actor')})"
        )
    if few := few_questions(summary.questions, summary.out):
        lines.append(few)
    lines.append(f"next: pathgen stats {shlex.quote(summary.out)}")
    return "\n".join(lines)


def verdict(rows: pl.DataFrame, asked: Sequence[str], allow_failures: float, out: str) -> tuple[list[str], int]:
    """Remarks and exit code of a run that was not interrupted, from its records and the ids of its questions."""
    mine = rows.filter(pl.col("question_id").is_in(asked))
    missing = sorted(set(asked) - set(mine["question_id"]))
    if missing:
        return [f"{len(missing)} questions have no record ({some(missing)}); the same command resumes"], 1
    failed = mine.filter(pl.col("status") == "failed")["question_id"].sort().to_list()
    if not failed:
        return [], 0
    remark = f"{len(failed)} of {mine.height} questions failed ({some(failed)}); `pathgen show {out} ID` tells why"
    return [remark], 3 if len(failed) > allow_failures * mine.height else 0
