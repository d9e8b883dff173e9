"""Bridges of a path trained on divergence from full depth, on a tiny model: against the model's own logits."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from commands import pathgen

from pathgen.bridges.folder import load_bridges
from pathgen.bridges.maps import Bridge, Bridges
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.fitting import distill as training
from pathgen.fitting.along import refit
from pathgen.fitting.distill import distill
from pathgen.fitting.states import batches_of
from pathgen.fitting.text import Texts
from pathgen.paths.layer_path import LayerPath

PATH = LayerPath.parse(".2--.-")
STEPS = 25


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    """A rate for maps of 32 values in few steps."""
    monkeypatch.setattr(training, "LEARNING_RATE", 0.02)


@pytest.fixture(scope="module")
def model(tiny_model) -> PathModel:
    return PathModel.from_pretrained(str(tiny_model))


@pytest.fixture(scope="module")
def texts(model) -> Texts:
    rng = np.random.default_rng(0)
    lengths = rng.integers(20, 60, size=40)
    pieces = [tuple(rng.integers(3, model.config.vocab_size, size=length).tolist()) for length in lengths]
    return Texts(tuple(pieces[:34]), tuple(pieces[34:]))


@pytest.fixture(scope="module")
def start(model, texts) -> dict[int, Bridge]:
    return refit(model, batches_of(model, texts.fit), PATH, 4, 1e-3)


def divergence(model: PathModel, texts: Texts, found: dict[int, Bridge]) -> float:
    """Mean KL(full ‖ path) over the held-out tokens, text by text, from whole forwards."""
    width = model.config.hidden_size
    none = Bridge(torch.zeros(1, width), torch.zeros(width, 1), torch.zeros(width))
    maps = Bridges(tuple(found.get(layer, none) for layer in range(model.num_layers)))
    parts = []
    with model.bridged(maps):
        for piece in texts.held_out:
            ids = torch.tensor([piece])
            full, along = (
                model.logits(ids, policy=FixedPaths([path])).double().log_softmax(-1)
                for path in (LayerPath.full(model.num_layers), PATH)
            )
            parts.append((full.exp() * (full - along)).sum(-1).flatten())
    return float(torch.cat(parts).mean())


def values(found: dict[int, Bridge]) -> list[torch.Tensor]:
    return [part for bridge in found.values() for part in (bridge.down, bridge.up, bridge.bias) if part is not None]


def test_divergence_on_held_out_text_falls_and_nothing_else_changes(model, texts, start):
    weights = {name: weight.clone() for name, weight in model.hf_model.state_dict().items()}
    given = [part.clone() for part in values(start)]
    found, told = distill(model, texts, PATH, start, STEPS, seed=0)
    assert sorted(found) == [2, 3, 5]
    assert told.before == pytest.approx(divergence(model, texts, start), rel=1e-3)
    assert told.after == pytest.approx(divergence(model, texts, found), rel=1e-3)
    assert told.after < 0.97 * told.before
    assert told.steps == STEPS
    assert all(torch.equal(weight, weights[name]) for name, weight in model.hf_model.state_dict().items())
    assert all(map(torch.equal, values(start), given))


def test_a_seed_decides_the_maps(model, texts, start):
    first, again, other = (distill(model, texts, PATH, start, 8, seed)[0] for seed in (0, 0, 1))
    assert all(map(torch.equal, values(first), values(again)))
    assert not any(map(torch.equal, values(first), values(other)))


def test_training_that_does_harm_leaves_the_maps_and_ends_early(model, texts, start, monkeypatch):
    monkeypatch.setattr(training, "LEARNING_RATE", 100.0)
    monkeypatch.setattr(training, "CHECK_EVERY", 1)
    ran = []
    monkeypatch.setattr(training.torch.nn.utils, "clip_grad_norm_", lambda *given: ran.append(given))
    found, told = distill(model, texts, PATH, start, 50, seed=0)
    assert (told.steps, told.after) == (0, told.before)
    assert found == start
    assert len(ran) == training.PATIENCE


def test_the_command_records_the_training(model, tiny_model, tmp_path):
    (tmp_path / "a.txt").write_text("Water is wet, and the sea is deep. " * 150)
    given = ("--model", tiny_model, "--text", tmp_path / "a.txt", "--rank", 2, "--tokens", 2000, "--threads", 1)
    done = pathgen("bridge", "--out", tmp_path / "b", *given, "--along", PATH, "--distill-steps", 2, "--json")
    assert done.code == 0, done.stderr
    told = json.loads(done.stdout)["distilled"]
    info = load_bridges(tmp_path / "b").info
    assert told == json.loads((tmp_path / "b" / "bridges.json").read_text())["distilled"]
    assert info.distilled.before == told["before"] >= told["after"] > 0


def test_one_text_leaves_none_to_judge_by(tiny_model, tmp_path):
    (tmp_path / "a.txt").write_text("Water is wet. " * 20)
    given = ("--model", tiny_model, "--text", tmp_path / "a.txt", "--rank", 2, "--tokens", 50)
    done = pathgen("bridge", "--out", tmp_path / "b", *given, "--along", PATH, "--distill-steps", 2, "--quiet")
    assert done.code == 2
    assert "no text is left to judge training by" in done.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]
