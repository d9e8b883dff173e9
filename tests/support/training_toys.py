"""Small trainings: questions whose right actions are a known function of their states, read from memory."""

from __future__ import annotations

import numpy as np
import torch

from router.data.examples import Examples
from router.net.config import RouterConfig
from router.net.pooling import Pooling

LAYERS, WINDOWS, HIDDEN = 3, 2, 6


def toy_config(**changes) -> RouterConfig:
    given = {"num_layers": LAYERS, "hidden_size": HIDDEN, "width": 8, "pooling": Pooling(windows=WINDOWS), **changes}
    return RouterConfig("toy", "0123456789abcdef", tasks=("arc",), method="imitate", **given)


class MemoryRows:
    """Features in memory; `before` is called with the number of each reading, from 0, before it is answered."""

    def __init__(self, values, before=lambda reading: None):
        self.values, self._before, self._readings = values, before, 0

    def rows(self, indices):
        self._before(self._readings)
        self._readings += 1
        return self.values[list(indices)]


def toy_examples(count: int, seed: int, before=lambda reading: None, **changes) -> Examples:
    """At each layer, the action is told by which of the first three numbers is largest."""
    values = torch.randn(count, LAYERS, WINDOWS, HIDDEN, generator=torch.Generator().manual_seed(seed))
    actions = values.mean(2)[..., :3].argmax(-1)
    given = {
        "targets": torch.nn.functional.one_hot(actions, 3).float().numpy(),
        "weights": np.ones(count, dtype=np.float32),
        "groups": np.zeros(count, dtype=np.int64),
        "ids": tuple(f"q{index}" for index in range(count)),
        **changes,
    }
    return Examples(MemoryRows(values, before), **given)


def same_weights(first, second) -> bool:
    """Whether two routers have the same weights, bit for bit."""
    one, other = first.state_dict(), second.state_dict()
    return all(torch.equal(one[name], other[name]) for name in one)
