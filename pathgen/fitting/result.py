"""What `pathgen bridge` made, and how it is told."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from ..bridges.info import Distillation
from ..questions.written import is_written
from .options import BridgeOptions


@dataclass(frozen=True, slots=True)
class BridgeResult:
    """Bridges that were fitted.

    Attributes:
        rank: of the maps; None: whole maps.
        r2: [L] share of each layer's changes that its bridge explains, on held-out text.
        parameter_share: stored values of the maps relative to the model's parameters.
        distilled: how the maps along the path were trained further; None: they were not.
        actors: that the pass was shared by; 1: it ran in the calling process.
        tokens_per_second: of the pass over the text to fit on, models loaded and text drawn; None if all its sums were
            stored before.
    """

    out: str
    model: str
    num_layers: int
    tokens: int
    rank: int | None
    r2: tuple[float, ...]
    seconds: float
    parameters: int
    parameter_share: float
    distilled: Distillation | None
    actors: int
    tokens_per_second: float | None


def bridge_text(done: BridgeResult, options: BridgeOptions) -> str:
    """The result for a reader, with the next command, which asks questions as the fit did, or takes other answers."""
    marks = "▁▂▃▄▅▆▇█"
    bars = "".join(marks[min(7, max(0, int(8 * share)))] for share in done.r2)
    rank = "whole maps" if done.rank is None else f"rank {done.rank}"
    rate = "" if done.tokens_per_second is None else f" ({done.tokens_per_second:,.0f} tokens/s of the pass)"
    further = []
    if (training := done.distilled) is not None:
        change = f"{training.before:.3f} → {training.after:.3f}"
        further = [f"held-out divergence along the path: {change} nats in {training.steps} steps"]
    if any(map(is_written, options.sources)):
        text = "--text OTHER_ANSWERS.jsonl"
    else:
        text = f"--text QUESTIONS --task {options.task}{' --chat' * options.chat}"
    return "\n".join(
        [
            f"{done.out}: {rank}, {done.tokens:,} tokens, {done.seconds:.0f} s{rate}, {done.parameters:,} values "
            f"({done.parameter_share:.1%} of the model)",
            f"changes explained on held-out text, by layer: {bars}  {min(done.r2):.2f} to {max(done.r2):.2f}",
            *further,
            f"next: pathgen static --target divergence --model {shlex.quote(done.model)} "
            f"--bridges {shlex.quote(done.out)} {text} --out static.json",
        ]
    )
