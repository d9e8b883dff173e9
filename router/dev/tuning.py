"""Choices after training, on development questions: the scale of the heads, the bias, and the path of gates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from pathgen.paths.layer_path import LayerPath

from ..net.policy import RouterPolicy
from ..net.router import Router
from .dev_set import DevSet

SCALES = (0.0, 0.5, 1.0)
"""Values of α to try; if several are equally good, the smallest is chosen."""
BISECTIONS = 10
LARGEST_BIAS = 2.0**10
BIAS_STEPS = 16
"""`rising_biases` goes in so many steps from full depth to the router without a bias."""


def choose_scale(router: Router, dev: DevSet, tell: Callable[[str], None]) -> Router:
    """The router at the scale of highest accuracy on development questions; 0 is static only.

    On these questions it is never worse than its static part. On other questions it may be.
    """
    accuracies = {}
    for scale in SCALES:
        router.config = replace(router.config, scale=scale)
        accuracies[scale] = dev.run(dev.route(RouterPolicy(router, pinned=dev.pinned_layers))).accuracy
    best = max(SCALES, key=lambda scale: (accuracies[scale], -scale))
    shown = ", ".join(f"{scale:g}: {accuracy:.1%}" for scale, accuracy in accuracies.items())
    tell(f"development accuracy by scale of the part that reads the question: {shown}")
    router.config = replace(router.config, scale=best)
    return router


def find_bias(router: Router, dev: DevSet, target_depth: float, tell: Callable[[str], None]) -> float:
    """The smallest bias from 0 up with a mean depth on development questions within the target, by bisection.

    The router has no bias of its own yet. The bias is never negative, so a router is never made deeper. If no bias
    reaches the target, the largest one tried is returned.
    """

    def depth(bias: float) -> float:
        return _mean_depth(router, dev, bias)

    if (reached := depth(0.0)) <= target_depth:
        tell(f"mean depth on development questions is {reached:g} without a bias, within {target_depth:g}")
        return 0.0
    low, high = 0.0, 1.0
    while (reached := depth(high)) > target_depth:
        if high >= LARGEST_BIAS:
            tell(f"no bias brings mean depth to {target_depth:g}; the lowest is {reached:g}")
            return high
        low, high = high, 2 * high
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if depth(middle) <= target_depth else (middle, high)
    tell(f"bias for a mean depth of {target_depth:g} on development questions: {high:g}")
    return high


def rising_biases(router: Router, dev: DevSet) -> Iterator[float]:
    """Biases in even steps, from near full depth to as far above 0, for a router that repeats no layer.

    Below the first one every development question takes the full path, or the bias is -LARGEST_BIAS.
    """
    low = -1.0
    while low > -LARGEST_BIAS and _mean_depth(router, dev, low) < router.config.num_layers:
        low *= 2
    for step in range(1, 2 * BIAS_STEPS + 1):
        yield low * (1 - step / BIAS_STEPS)


def _mean_depth(router: Router, dev: DevSet, bias: float) -> float:
    return float(np.mean([path.depth for path in dev.route(RouterPolicy(router, bias, dev.pinned_layers))]))


def choose_path(paths: Sequence[LayerPath], dev: DevSet, limit: int) -> LayerPath:
    """The path of best mean quality: all paths run on the first `limit` questions, the best quarter of them on all."""
    first = dev.quality(paths, limit).mean(0)
    kept = [paths[index] for index in np.argsort(-first, kind="stable")[: max(1, len(paths) // 4)]]
    return kept[int(dev.quality(kept, None).mean(0).argmax())]
