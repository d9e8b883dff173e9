"""Searches, for each depth, the layers that can be skipped together at the least divergence."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..paths.layer_path import LayerAction, LayerPath

EXTENSIONS = 4
"""Candidates of a depth that skip one layer more than the best of the depth before."""
RUNS = 4
"""Best runs of adjacent layers of a depth that grow by a layer on either side: runs often go together better than the
sum of their layers predicts, and a good one nearly always holds a good one that is a layer shorter."""
SWAPS = 4
"""Exchanges of a skipped for an executed layer that one round of the local search measures."""
ROUNDS = 3
"""Of the local search at most; it ends where none of the exchanges improves."""
FINALISTS = 3
"""Best sets of a depth that are measured on all questions."""

Skips = frozenset[int]
"""The layers that a path skips."""
Measure = Callable[[Sequence[LayerPath], bool], np.ndarray]
"""Returns [P] divergences of paths; the bool is whether all questions are used, or only the raced ones."""


@dataclass(slots=True)
class SkipSearch:
    """One search; `measured` holds the divergence on the raced questions of every set measured so far.

    Layers of `pinned` are never skipped.

    The prior of a set is the divergence of the largest measured subset, plus that of each other layer skipped alone:
    divergences of layers skipped alone add up roughly. Ties are broken by the layers' numbers.
    """

    num_layers: int
    shallowest: int
    measure: Measure
    pinned: Collection[int] = ()
    measured: dict[Skips, float] = field(default_factory=dict)

    def run(self, on_depth: Callable[[int], object] = lambda depths: None) -> list[LayerPath]:
        """The chosen path of each depth from L − 1 down to `shallowest`; `on_depth` is called after each."""
        free = self._free()
        self._race(frozenset((layer,)) for layer in free)
        found: list[Skips] = []
        for count in range(1, min(len(free), self.num_layers - self.shallowest) + 1):
            self._race(self._candidates(count, found[-1] if found else frozenset()))
            for _ in range(ROUNDS):
                before = self._best(count)
                self._race(self._likeliest(_swapped(before, free), SWAPS))
                if self._best(count) == before:
                    break
            found.append(self._chosen(count))
            on_depth(1)
        return [self._path(skips) for skips in found]

    def _free(self) -> list[int]:
        return [layer for layer in range(self.num_layers) if layer not in self.pinned]

    def prior(self, skips: Skips) -> float:
        """The predicted divergence of a set that is not measured."""
        inside = [known for known in self.measured if known < skips]
        largest = max(map(len, inside))
        return min(self.measured[known] + self._alone(skips - known) for known in inside if len(known) == largest)

    def _candidates(self, count: int, best: Skips) -> list[Skips]:
        """The likeliest extensions of the best set before, the best runs before with a layer more, and the layers that
        are best alone.
        """
        layers = self._free()
        runs = [run for run in self._ranked(count - 1) if max(run) - min(run) == count - 2][:RUNS]
        grown = [run | {layer} for run in runs for layer in (min(run) - 1, max(run) + 1) if layer in layers]
        alone = sorted(layers, key=lambda layer: (self._alone((layer,)), layer))[:count]
        return [
            *self._likeliest((best | {layer} for layer in layers if layer not in best), EXTENSIONS),
            *grown,
            frozenset(alone),
        ]

    def _likeliest(self, sets: Iterable[Skips], count: int) -> list[Skips]:
        """Of the sets that are not measured, the ones with the least prior."""
        new = [skips for skips in dict.fromkeys(sets) if skips not in self.measured]
        return sorted(new, key=lambda skips: (self.prior(skips), sorted(skips)))[:count]

    def _alone(self, layers: Iterable[int]) -> float:
        return sum(self.measured[frozenset((layer,))] for layer in sorted(layers))

    def _race(self, sets: Iterable[Skips]) -> None:
        new = [skips for skips in dict.fromkeys(sets) if skips not in self.measured]
        if new:
            divergences = self.measure([self._path(skips) for skips in new], False)
            self.measured.update(zip(new, divergences.tolist(), strict=True))

    def _ranked(self, count: int) -> list[Skips]:
        """The measured sets of so many layers, the best first."""
        sets = [skips for skips in self.measured if len(skips) == count]
        return sorted(sets, key=lambda skips: (self.measured[skips], sorted(skips)))

    def _best(self, count: int) -> Skips:
        return self._ranked(count)[0]

    def _chosen(self, count: int) -> Skips:
        """The best of the finalists on all questions."""
        finalists = self._ranked(count)[:FINALISTS]
        divergences = self.measure([self._path(skips) for skips in finalists], True).tolist()
        ranked = zip(divergences, map(sorted, finalists), finalists, strict=True)
        return min(ranked, key=lambda entry: entry[:2])[2]

    def _path(self, skips: Skips) -> LayerPath:
        return LayerPath(
            LayerAction.SKIP if layer in skips else LayerAction.EXECUTE for layer in range(self.num_layers)
        )


def _swapped(skips: Skips, free: Sequence[int]) -> Iterable[Skips]:
    """The sets with one layer exchanged for one of `free` that is not in the set."""
    for out in sorted(skips):
        for layer in free:
            if layer not in skips:
                yield (skips - {out}) | {layer}
