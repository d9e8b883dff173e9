"""What a path costs."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.program.json_codec import decoded, from_json, to_json
from pathgen.paths.cost import CostModel
from pathgen.paths.layer_path import LayerPath

MEASURES = st.lists(st.floats(0, 1e6), min_size=1, max_size=40).filter(lambda measures: sum(measures) > 1e-3)


def test_layer_cost_is_depth():
    assert CostModel.layers(4).cost(LayerPath([0, 1, 2, 1])) == 4
    assert CostModel.layers(4).cost(LayerPath([0, 0, 0, 1])) == 1


def test_cost_by_hand():
    model = CostModel.from_measures("latency", [1.0, 2.0, 3.0])
    assert model.weights == (0.5, 1.0, 1.5)
    assert model.cost(LayerPath([0, 1, 2])) == 1.0 + 2 * 1.5


def test_a_skip_costs_what_its_bridge_does():
    model = CostModel.from_measures("flops", [10.0, 20.0, 30.0], [1.0, 2.0, 5.0])  # 20 are one layer
    assert model.cost(LayerPath([0, 1, 2])) == pytest.approx((1 + 20 + 60) / 20)
    assert model.cost(LayerPath([0, 0, 0])) == pytest.approx((1 + 2 + 5) / 20)
    assert model.cost(LayerPath.full(3)) == 3
    with pytest.raises(ValueError, match="costs of 2 skips, and 3 layers"):
        CostModel.from_measures("flops", [10.0, 20.0, 30.0], [1.0, 2.0])


@given(MEASURES)
def test_the_full_path_costs_its_number_of_layers(measures):
    model = CostModel.from_measures("flops", measures)
    assert model.cost(LayerPath.full(len(measures))) == pytest.approx(len(measures), rel=1e-12)


@given(MEASURES)
def test_json_is_exact(measures):
    model = CostModel.from_measures("latency", measures)
    assert from_json(CostModel, to_json(model)) == model


def test_equally_dear_paths_tie_exactly():
    """With plain summation 0.1 + 0.2 + 0.3 depends on the order; a tie must not."""
    model = CostModel.from_measures("flops", [0.1] * 3 + [0.2] * 3 + [0.3] * 3)
    costs = {model.cost(LayerPath([1 if layer in kept else 0 for layer in range(9)])) for kept in
             ({0, 3, 6}, {1, 4, 7}, {2, 5, 8}, {0, 5, 7})}  # fmt: skip
    assert len(costs) == 1


@pytest.mark.parametrize(
    ("measures", "message"),
    [
        ([], "at least one layer"),
        ([1.0, -1.0], "finite number >= 0; got -1"),
        ([-1.0, -1.0], "finite number >= 0; got -1"),
        ([1.0, math.nan], "got nan"),
        ([1.0, math.inf], "got inf"),
        ([0.0, 0.0], "all 2 latency measures are zero"),
    ],
)
def test_measures_that_cannot_be(measures, message):
    with pytest.raises(ValueError, match=message):
        CostModel.from_measures("latency", measures)


def test_weights_that_were_not_scaled():
    with pytest.raises(ValueError, match="must have mean 1; got 2"):
        CostModel("latency", (1.0, 3.0))


def test_unknown_name():
    with pytest.raises(ValueError, match="one of layers, flops, latency; got 'watts'"):
        decoded(CostModel, {"name": "watts", "weights": [1.0]})


def test_a_path_of_another_model():
    with pytest.raises(ValueError, match="longer"):
        CostModel.layers(3).cost(LayerPath.full(2))
