"""What is chosen on development questions: found exactly, with a model that answers in closed form."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from path_runs import path

from router.dev.tuning import LARGEST_BIAS, choose_path, choose_scale, find_bias
from router.net.config import RouterConfig
from router.net.router import Router, path_logits

LAYERS = 4


def static_router(text, **changes):
    config = RouterConfig("m", "0123456789abcdef", LAYERS, 8, ("arc",), "gates", **{"head": "none", **changes})
    router = Router(config)
    router.static_logits.data = path_logits(path(text))
    return router


class StaticDev:
    """One question, routed without a model: the path of highest static logits under a policy's bias."""

    pinned_layers = ()

    def __init__(self):
        self.asked = 0

    def route(self, policy):
        self.asked += 1
        mask = torch.ones(1, 1)
        return [path("".join("-.2"[policy.actions(layer, torch.zeros(1, 1, 8), mask)] for layer in range(LAYERS)))]


def rows_of(text, logits):
    """A router whose layer n skips above bias logits[n]."""
    router = static_router(text, actions=("skip", "execute"))
    router.static_logits.data = torch.tensor([[0.0, value, 0.0] for value in logits])
    return router


def depth_at(router, bias):
    from router.net.policy import RouterPolicy

    (found,) = StaticDev().route(RouterPolicy(router, bias))
    return found.depth


@pytest.mark.parametrize("logits", [[0.5, 1.5, 2.5, 40.0], [0.25, 0.3, 7.0, 9.0]])
@pytest.mark.parametrize("target", [1, 2, 3])
def test_the_smallest_bias_within_the_target_is_found(logits, target):
    told = []
    router = rows_of("....", logits)
    bias = find_bias(router, StaticDev(), target, told.append)
    border = sorted(logits)[LAYERS - target - 1]  # above it so many layers are skipped
    assert depth_at(router, bias) == target
    assert border < bias <= border + max(1.0, 2 * abs(border)) * 2**-9
    assert len(told) == 1


def test_a_depth_that_no_bias_reaches_is_told():
    router = static_router("....", actions=("execute", "repeat"))
    told = []
    assert find_bias(router, StaticDev(), LAYERS - 1, told.append) == LARGEST_BIAS
    assert told == ["no bias brings mean depth to 3; the lowest is 4"]


@pytest.mark.parametrize("target", [2, LAYERS, LAYERS + 9])
def test_a_depth_that_is_kept_without_a_bias_takes_none(target):
    told = []
    assert find_bias(rows_of("....", [-3.0, -0.25, 0.25, 7.0]), StaticDev(), target, told.append) == 0
    assert told == [f"mean depth on development questions is 2 without a bias, within {target}"]


class ScaleDev:
    """Accuracy as a function of the router's scale."""

    pinned_layers = ()

    def __init__(self, accuracies):
        self.accuracies = accuracies

    def route(self, policy):
        return policy.router.config.scale

    def run(self, scale):
        return SimpleNamespace(accuracy=self.accuracies[scale])


@pytest.mark.parametrize(
    ("accuracies", "chosen"),
    [
        ({0.0: 0.5, 0.5: 0.5, 1.0: 0.5}, 0.0),
        ({0.0: 0.4, 0.5: 0.5, 1.0: 0.5}, 0.5),
        ({0.0: 0.4, 0.5: 0.3, 1.0: 0.5}, 1.0),
        ({0.0: 0.6, 0.5: 0.3, 1.0: 0.5}, 0.0),
    ],
)
def test_the_scale_is_the_smallest_of_the_best(accuracies, chosen):
    told = []
    router = choose_scale(static_router("...."), ScaleDev(accuracies), told.append)
    assert router.config.scale == chosen
    assert all(f"{scale:g}: {accuracy:.1%}" in told[0] for scale, accuracy in accuracies.items())


class QualityDev:
    """Qualities of paths by a table; the first `limit` rows come first."""

    def __init__(self, table):
        self.table, self.asked = table, []

    def quality(self, paths, limit):
        self.asked.append((len(paths), limit))
        return np.array([[row[found] for found in paths] for row in self.table[:limit]])


def test_the_path_is_best_on_all_questions_among_the_best_quarter_of_the_first():
    paths = [path(text) for text in ("....", "-...", ".-..", "..-.", "...-", "--..", ".--.", "..--")]
    lucky, good = paths[3], paths[5]
    first = dict.fromkeys(paths, 0.0) | {lucky: 1.0, good: 0.9}
    later = dict.fromkeys(paths, 5.0) | {lucky: 0.0, good: 0.9}  # what is thrown out does not come back
    dev = QualityDev([first, later])
    assert choose_path(paths, dev, 1) == good
    assert dev.asked == [(8, 1), (2, None)]
