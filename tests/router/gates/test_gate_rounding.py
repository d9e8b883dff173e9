"""Gates rounded to paths, by hand; and routers whose argmax is that rounding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from families import LAYERS, PROMPTS, tiny

from pathgen.engine.path_model import PathModel
from pathgen.evaluation.decided_paths import decide_paths
from pathgen.paths.layer_path import LayerPath
from router.gates.gates import SoftGates, TrainedGates
from router.gates.rounding import gates_router, round_gates
from router.gates.settings import GateSettings
from router.net.config import RouterConfig
from router.net.policy import RouterPolicy
from router.net.pooling import Pooling

CONFIG = RouterConfig("tiny", "0", LAYERS, 32, ("arc",), "gates", head="none", pooling=Pooling(windows=2))
STATIC = TrainedGates(np.array([0.4, 1.0, 1.6, 0.9], np.float32), None, GateSettings(), ())


def drawn(gates: list[float]) -> list[str]:
    return [str(path) for path in round_gates(np.array(gates))]


def conditional(up: float) -> tuple[RouterConfig, TrainedGates]:
    """Gates of rank 1 whose map has `up` in place of the zeros that training starts from."""
    settings = GateSettings(rank=1, pooling=CONFIG.pooling)
    gates = SoftGates(LAYERS, CONFIG.hidden_size, settings)
    heads = {
        name: torch.full_like(value, up) if "up" in name else value for name, value in gates.heads.state_dict().items()
    }
    return replace(CONFIG, head="low_rank", width=1), TrainedGates(STATIC.gates, heads, settings, ())


def test_the_smallest_are_skipped_and_the_largest_repeated():
    assert drawn([0.9, 1.0, 0.2, 1.3, 1.04, 1.2]) == [
        "......",
        "...2..",
        "...2.2",
        "..-...",
        "..-2..",
        "..-2.2",
        "-.-...",
        "-.-2..",
        "-.-2.2",
    ]


def test_at_most_a_third_is_skipped_and_three_repeated():
    paths = round_gates(np.linspace(0.0, 2.0, 11))
    assert {path.count(0) for path in paths} == {0, 1, 2, 3}
    assert {path.count(2) for path in paths} == {0, 1, 2, 3}
    assert len(set(paths)) == len(paths) == 16
    assert paths[0] == LayerPath.full(11)
    assert str(paths[-1]) == "---.....222"


def test_ties_go_to_the_neighbours_of_a_skipped_layer():
    assert drawn([0.501, 1.0, 1.0, 0.5, 0.505, 1.0, 1.0, 1.0, 1.0]) == [
        ".........",
        "...-.....",
        "...--....",  # 0.505 beside layer 3 before 0.501 away from it
        "-..--....",
    ]


def test_pinned_layers_always_execute_once():
    gates = np.array([0.9, 1.0, 0.2, 1.3, 1.04, 1.2])
    found = [str(path) for path in round_gates(gates, pinned={2, 3})]
    assert found == ["......", ".....2", "-.....", "-....2", "--....", "--...2"]
    assert round_gates(np.zeros(3), pinned={0, 1, 2}) == [LayerPath.full(3)]


def test_a_skipped_layer_is_not_repeated():
    assert drawn([1.1, 1.2, 1.3]) == ["...", "..2", ".22", "222", "-..", "-.2", "-22"]


def test_gates_round_to_the_router_s_path():
    model = PathModel(tiny("llama"))
    policy = RouterPolicy(gates_router(CONFIG, STATIC))
    assert decide_paths(model, policy, PROMPTS[:3]) == [LayerPath((0, 1, 2, 1))] * 3


@pytest.mark.parametrize("path", [(0, 1, 2, 1), (2, 0, 1, 0), (1, 2, 0, 2)])
def test_a_chosen_path_moves_the_gates_no_further_than_it_takes(path):
    router = gates_router(CONFIG, STATIC, LayerPath(path))
    assert router.static_logits.argmax(-1).tolist() == list(path)
    moved = (router.static_logits[:, 1] - router.static_logits[:, 0] + 1) / 2  # 2g − 1 is how far EXECUTE is ahead
    rounds = {0: (0.0, 0.45), 1: (0.55, 1.45), 2: (1.55, 2.0)}
    wanted = [
        min(max(gate, rounds[action][0]), rounds[action][1]) for gate, action in zip(STATIC.gates, path, strict=True)
    ]
    assert moved.tolist() == pytest.approx(wanted, abs=1e-6)


def test_the_conditional_part_works_around_the_path():
    model = PathModel(tiny("llama"))
    path = LayerPath((0, 1, 2, 1))
    silent = gates_router(*conditional(0.0), path)
    assert decide_paths(model, RouterPolicy(silent), PROMPTS) == [path] * len(PROMPTS)
    config, trained = conditional(0.3)
    speaking = gates_router(config, trained, path)
    taken = decide_paths(model, RouterPolicy(speaking), PROMPTS)
    assert len(set(taken)) > 1
    pooled = torch.randn(64, 2, CONFIG.hidden_size, generator=torch.Generator().manual_seed(0))
    gates = SoftGates(LAYERS, CONFIG.hidden_size, trained.settings)
    gates.heads.load_state_dict(trained.heads)
    for layer, gate in enumerate(STATIC.gates):  # two tokens are two windows of one token each
        wanted = (gate + gates.heads[layer].shift(pooled)).clamp(0, 2).round().long()
        plain = gates_router(config, trained)
        assert torch.equal(plain.logits(layer, pooled).argmax(-1), wanted)
    assert not any(parameter.requires_grad for parameter in speaking.parameters())


def test_what_does_not_fit_is_refused():
    config, trained = conditional(0.0)
    with pytest.raises(ValueError, match="rank 1 need the head low_rank; got none"):
        gates_router(CONFIG, trained)
    with pytest.raises(ValueError, match="rank 0 need the head none; got low_rank"):
        gates_router(config, STATIC)
    for change in ({"width": 2}, {"pooling": Pooling(windows=3)}):
        with pytest.raises(ValueError, match="width and pooling must be the gates'"):
            gates_router(replace(config, **change), trained)
    never = replace(trained, settings=replace(trained.settings, allow_repeat=False))
    with pytest.raises(ValueError, match="trained without repeats"):
        gates_router(config, never)
    assert len(gates_router(replace(config, actions=("skip", "execute")), never).heads) == LAYERS
    with pytest.raises(ValueError, match="the gates are of 4 layers"):
        gates_router(replace(CONFIG, num_layers=5), STATIC)
    with pytest.raises(ValueError, match="the gates are of 4 layers"):
        gates_router(CONFIG, STATIC, LayerPath.full(3))
    with pytest.raises(ValueError, match=r"path \.\.2\. has actions that the config leaves out"):
        gates_router(replace(CONFIG, actions=("skip", "execute")), STATIC, LayerPath((1, 1, 2, 1)))
