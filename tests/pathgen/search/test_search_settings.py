"""Settings that cannot be are refused by name, bound and value."""

from __future__ import annotations

import math

import pytest
from search_toys import layer_search

from pathgen.search.path_search import SearchSettings


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"simulations": -1}, "simulations must be a finite number >= 0; got -1"),
        ({"layer_budget": 0}, "layer_budget must be a finite number >= 1; got 0"),
        ({"max_depth": 0}, "max_depth must be a finite number >= 1; got 0"),
        ({"max_edits": -1}, "max_edits must be a finite number >= 0; got -1"),
        ({"parallel_leaves": 0}, "parallel_leaves must be a finite number >= 1; got 0"),
        ({"exploration": -0.1}, "exploration must be a finite number >= 0; got -0.1"),
        ({"exploration": math.nan}, "exploration must be a finite number >= 0; got nan"),
        ({"widening_k": math.inf}, "widening_k must be a finite number >= 0; got inf"),
        ({"widening_alpha": 1.5}, "widening_alpha must be between 0 and 1; got 1.5"),
        ({"length_weight": -1}, "length_weight must be a finite number >= 0; got -1"),
        ({"stop": "never"}, "stop must be budget or published; got 'never'"),
    ],
)
def test_settings_that_cannot_be(setting, message):
    with pytest.raises(ValueError, match=message):
        SearchSettings(**setting)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"layer_budget": 3}, "layer_budget must be at least 4, the full path's; got 3"),
        ({"max_depth": 3}, "max_depth must be at least 4, the depth of the full path; got 3"),
    ],
)
def test_settings_that_leave_no_room_for_the_full_path(setting, message):
    with pytest.raises(ValueError, match=message):
        layer_search(4, **setting)


def test_max_depth_follows_the_model():
    assert SearchSettings().depth_cap(30) == 34
    assert SearchSettings(max_depth=30).depth_cap(30) == 30
