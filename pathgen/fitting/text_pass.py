"""The pass over the text to fit on: shared by actors or in this process, with its progress and its speed."""

from __future__ import annotations

import time
from collections.abc import Sequence

from cluster.program.progress import ProgressView

from ..actors.options import ActorOptions
from ..bridges.sums import LayerSums
from ..engine.path_model import PathModel
from .fit import PartialFit, summed
from .shares import FoundModel, sum_on_actors
from .states import Group, tokens_of


def sum_text(
    model: PathModel, groups: Sequence[Group], partial: PartialFit, actors: ActorOptions, found: FoundModel
) -> tuple[list[LayerSums], float | None]:
    """The sums of all layers over the groups, and the tokens per second of those that ran now; None if none did.

    Args:
        model: runs the groups that no actor does.
        groups: of the whole text.
        partial: the fit that the groups belong to; what is stored there does not run again.
        actors: more than one share the pass.
        found: the model that actors load.

    Raises:
        PathgenError, InputError, ClusterError: as `add_texts` and `sum_on_actors`.
    """
    total = sum(map(tokens_of, groups))
    before = sum(tokens_of(groups[number]) for held in partial.files().values() for number in held)
    with ProgressView("fitting", total, before, words="starting", quiet=actors.quiet) as view:

        def show(tokens: int, seconds: float) -> None:
            rate = tokens / max(seconds, 1e-9)
            view.show(tokens, f"{rate:,.0f} tokens/s  ETA {view.eta(tokens, rate)}" if tokens else "starting actors")

        ran, seconds = 0, 0.0
        if (actors.actors or 1) > 1:
            ran, seconds = sum_on_actors(actors, found, model.device.type, groups, partial, show)
        started = time.perf_counter() - seconds

        def on_tokens(tokens: int) -> None:
            nonlocal ran, seconds
            ran, seconds = ran + tokens, time.perf_counter() - started
            show(ran, seconds)

        sums = summed(model, groups, partial, on_tokens)
    return sums, ran / seconds if ran else None
