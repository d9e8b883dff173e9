import json

import pytest
import torch
from safetensors.torch import save_file

from pathgen.actors.model_spec import ModelSpec
from pathgen.bridges.info import BridgesInfo
from pathgen.bridges.maps import Bridge, Bridges
from pathgen.engine.path_model import PathModel
from pathgen.errors import InputError
from pathgen.generate.layer_costs import flops_cost, layer_milliseconds
from pathgen.models.facts import fingerprint
from pathgen.paths.cost import CostModel


def save(folder, tensors, **config):
    save_file({name: torch.zeros(shape) for name, shape in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))


def test_flops_follow_the_weights_that_a_token_meets(tmp_path):
    tensors = {
        "model.embed_tokens.weight": (100, 8),  # no layer's
        "model.layers.0.self_attn.q_proj.weight": (8, 8),
        "model.layers.0.mlp.up_proj.weight": (4, 8),
        "model.layers.1.self_attn.q_proj.weight": (8, 8),
        "model.layers.1.mlp.gate.weight": (4, 8),
        "model.layers.1.mlp.experts.gate_up_proj": (4, 8, 16),  # four experts, one a token
        "model.layers.2.self_attn.q_proj.weight": (8, 8),  # a layer of a head that predicts further: none of ours
    }
    save(tmp_path, tensors, num_hidden_layers=2, num_local_experts=4, num_experts_per_tok=1)
    first, second = 64 + 32, 64 + 32 + 128
    cost = flops_cost(tmp_path, 2)
    assert cost.name == "flops"
    assert cost.weights == pytest.approx((2 * first / (first + second), 2 * second / (first + second)))
    assert cost.skips == ()
    narrow, whole = (
        BridgesInfo("m", "f", num_layers=2, width=8, rank=rank, ridge=0.1, text=(), tokens=9, r2=(), digest="d")
        for rank in (2, None)
    )
    for bridges, weights in ((narrow, 2 * 2 * 8 + 8), (whole, 8 * 8 + 8)):
        over = flops_cost(tmp_path, 2, bridges)
        assert over.weights == cost.weights
        assert over.skips == pytest.approx([2 * weights / (first + second)] * 2)
        assert bridges.parameters == weights


def test_flops_of_equal_layers_are_layers(tiny_model):
    assert flops_cost(tiny_model, 6).weights == CostModel.layers(6).weights


def test_names_that_do_not_tell_the_layers_apart_are_refused(tmp_path):
    save(tmp_path, {"model.layers.0.w": (2, 2), "somewhere.else.w": (2, 2)}, num_hidden_layers=2)
    with pytest.raises(InputError, match="use --cost layers or latency"):
        flops_cost(tmp_path, 2)


def test_the_stopwatch_stands_around_each_layer(tiny_model, monkeypatch):
    """With a clock that only layers and bridges move, the time of each is what it was made to take."""
    clock = [0.0]
    monkeypatch.setattr("pathgen.generate.layer_costs.time.perf_counter", lambda: clock[0])
    stock = PathModel.run_layer

    def slow(self, index, hidden, args, kwargs):
        clock[0] += (index + 1) / 1000
        return stock(self, index, hidden, args, kwargs)

    monkeypatch.setattr(PathModel, "run_layer", slow)
    flat = Bridge(torch.zeros(1, 32), torch.zeros(32, 1), torch.zeros(32))
    apply = Bridge.apply

    def slow_bridge(self, hidden):
        clock[0] += 0.25 / 1000
        return apply(self, hidden)

    monkeypatch.setattr(Bridge, "apply", slow_bridge)
    threads = torch.get_num_threads()
    spec = ModelSpec(str(tiny_model), fingerprint(tiny_model), dtype="float32", device="cpu", threads=threads)
    layers, bridges = layer_milliseconds(spec, "runs/paths")
    assert layers == pytest.approx([1, 2, 3, 4, 5, 6])
    assert bridges == []
    bridged = spec.load("runs/paths")
    bridged.use_bridges(Bridges((flat,) * 6))
    monkeypatch.setattr(ModelSpec, "load", lambda self, out: bridged)
    layers, bridges = layer_milliseconds(spec, "runs/paths")
    assert layers == pytest.approx([1, 2, 3, 4, 5, 6])
    assert bridges == pytest.approx([0.25] * 6)
