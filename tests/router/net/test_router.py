"""Router modules against plain loops and their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from training_toys import HIDDEN, LAYERS, WINDOWS, toy_config

from pathgen.paths.layer_path import LayerPath
from router.net.router import LayerRouter, LowRankGate, Router, gate_logits, path_logits

gates = st.lists(st.floats(-1, 3), min_size=1, max_size=6)


def pooled_states(batch: int, seed: int = 0):
    return torch.randn(batch, WINDOWS, HIDDEN, generator=torch.Generator().manual_seed(seed))


def test_layer_router_is_its_formula_number_by_number():
    head, pooled = LayerRouter(HIDDEN, 4), pooled_states(3)
    for linear in (head.down, head.up):
        torch.nn.init.normal_(linear.bias)
    down, up = head.down, head.up
    for row in range(3):
        for action in range(3):
            windows = []
            for window in range(WINDOWS):
                total = up.bias[action].item()
                for unit in range(4):
                    inner = down.bias[unit].item()
                    inner += sum(down.weight[unit, i].item() * pooled[row, window, i].item() for i in range(HIDDEN))
                    total += up.weight[action, unit].item() * 0.5 * inner * (1 + math.erf(inner / math.sqrt(2)))
                windows.append(total)
            assert head(pooled)[row, action].item() == pytest.approx(sum(windows) / WINDOWS, abs=1e-5)


def test_low_rank_gate_is_its_formula():
    head, pooled = LowRankGate(HIDDEN, 2), pooled_states(3)
    torch.testing.assert_close(head(pooled), torch.zeros(3, 3))
    torch.nn.init.normal_(head.up.weight)
    for row in range(3):
        mean = pooled[row].mean(0)
        shift = (head.up.weight @ head.down.weight @ (mean / mean.pow(2).mean().sqrt())).item()
        assert head.shift(pooled)[row].item() == pytest.approx(shift, abs=1e-4)
        assert head(pooled)[row].tolist() == pytest.approx([0, 2 * shift, 4 * shift], abs=1e-4)


@given(gates=gates, shift=st.floats(-2, 2))
def test_gate_logits_round_the_shifted_gate(gates, shift):
    moved = [gate + shift for gate in gates]
    assume(all(abs(gate - half) > 1e-4 for gate in moved for half in (0.5, 1.5)))
    logits = gate_logits(torch.tensor(gates)) + torch.tensor([0, 2 * shift, 4 * shift])
    assert logits.argmax(-1).tolist() == [min(max(math.floor(gate + 0.5), 0), 2) for gate in moved]


@given(st.lists(st.integers(0, 2), min_size=1, max_size=8))
def test_path_logits_choose_the_path(actions):
    path = LayerPath(actions)
    assert LayerPath(path_logits(path).argmax(-1).tolist()) == path


@pytest.mark.parametrize("head", ["bottleneck", "low_rank"])
def test_a_routers_logits_are_static_plus_scaled_head(head):
    router, pooled = Router(toy_config(head=head, scale=0.25)), pooled_states(4)
    router.static_logits.data.normal_()
    for layer in range(LAYERS):
        for parameter in router.heads[layer].parameters():
            torch.nn.init.normal_(parameter)
        expected = router.static_logits[layer] + 0.25 * router.heads[layer](pooled)
        torch.testing.assert_close(router.logits(layer, pooled), expected)


@pytest.mark.parametrize("config", [{"head": "none"}, {"scale": 0.0}])
def test_a_static_router_ignores_the_prompt(config):
    router = Router(toy_config(**config))
    router.static_logits.data.normal_()
    for layer in range(LAYERS):
        expected = router.static_logits[layer].expand(4, 3)
        torch.testing.assert_close(router.logits(layer, pooled_states(4)), expected)


def test_states_of_low_precision_are_read_in_float32():
    router, pooled = Router(toy_config()), pooled_states(4).bfloat16()
    logits = router.logits(0, pooled)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, router.logits(0, pooled.float()))


@pytest.mark.parametrize("actions", [("execute",), ("skip", "execute"), ("execute", "repeat")])
def test_other_actions_have_no_chance(actions):
    router = Router(toy_config(actions=actions))
    router.static_logits.data.normal_(std=100)
    for layer in range(LAYERS):
        probabilities = router.logits(layer, pooled_states(20)).softmax(-1)
        banned = [index for index, name in enumerate(("skip", "execute", "repeat")) if name not in actions]
        assert (probabilities[:, banned] == 0).all()
        torch.testing.assert_close(probabilities.sum(-1), torch.ones(20))
