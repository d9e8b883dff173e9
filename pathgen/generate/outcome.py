"""How a generation run ended: its figures, the exit code, and lines for the person."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from ..errors import some
from ..report.figures import count_text
from ..report.stats import RecordStats


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """What the folder holds by now (`questions`, `failed` to `mean_best_depth`), and what this call did for it.

    Attributes:
        done_before: questions that were done when the call began.
        continued: of the searched, questions that had been searched before, in part or under a smaller budget.
        search_seconds: from the first forward to the last commit.
        questions_per_second: None where nothing was searched.
        busy_seconds: of all actors together.
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
        """From what was committed and counted.

        Args:
            out: the folder, as the person named it.
            rows: the light columns of the committed records.
            work: counters of the fleet, `search_seconds` and `actors` among them; empty if there was nothing to do.
            done_before: questions that were done when the call began.
            num_layers: of the model.
            wall_seconds: of the call.
        """
        found, count = RecordStats.of(rows), Counter(work)
        searched, seconds = int(count["searched"]), float(count["search_seconds"])
        return cls(
            out=out,
            questions=found.questions,
            done_before=done_before,
            searched=searched,
            continued=int(count["continued"]),
            failed=found.failed,
            solved=found.solved,
            base_accuracy=found.base_accuracy,
            solved_rate=found.solved_rate,
            mean_best_depth=found.mean_best_depth,
            num_layers=num_layers,
            simulations=int(count["simulations"]),
            layer_executions=int(count["layer_executions"]),
            layers_run=int(count["layers_run"]),
            token_layers=int(count["token_layers"]),
            search_seconds=seconds,
            questions_per_second=searched / seconds if searched and seconds else None,
            busy_seconds=float(count["busy_s"]),
            actors=int(count["actors"]),
            wall_seconds=wall_seconds,
        )

    def card_rows(self) -> dict[str, object]:
        """What the folder's README says of the run.

        The solved rate is chosen with gold, and says nothing without the placebo that `pathgen stats` sets beside it.
        """
        return {
            "questions": self.questions,
            "failed": self.failed,
            "base_accuracy": self.base_accuracy,
            "mean_best_depth": self.mean_best_depth,
            "num_layers": self.num_layers,
        }


@dataclass(frozen=True, slots=True)
class DrySummary:
    """What a call would do."""

    out: str
    questions: int
    done_before: int
    to_search: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The figures that `--json` prints, the exit code, and lines for the person."""

    summary: RunSummary | DrySummary
    exit_code: int
    remarks: list[str]


def summary_text(summary: RunSummary) -> str:
    """What `pathgen generate` prints at its end, the next command included."""
    failed = f", {summary.failed} failed" if summary.failed else ""
    lines = [f"{count_text(summary.questions, 'question')} in {summary.out}{failed}"]
    if summary.solved_rate is not None:
        lines.append(
            f"full depth is right on {summary.base_accuracy:.1%}, some path on {summary.solved_rate:.1%} "
            "(chosen with gold; `pathgen stats` sets a placebo beside it)"
        )
    if summary.mean_best_depth is not None:
        saved = summary.num_layers - summary.mean_best_depth
        lines.append(f"best paths run {summary.mean_best_depth:.1f} of {summary.num_layers} layers ({saved:.1f} saved)")
    if summary.questions_per_second:
        lines.append(
            f"searched {summary.searched} in {summary.search_seconds:.1f} s "
            f"({summary.questions_per_second:.2f} questions a second, {count_text(summary.actors, 'actor')})"
        )
    lines.append(f"next: pathgen stats {shlex.quote(summary.out)}")
    return "\n".join(lines)


def verdict(rows: pl.DataFrame, asked: Sequence[str], allow_failures: float, out: str) -> tuple[list[str], int]:
    """Remarks and exit code of a run that came to its end.

    Args:
        rows: as for `RunSummary.of`.
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
