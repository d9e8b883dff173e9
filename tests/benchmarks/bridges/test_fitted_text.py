"""Which text carries bridges furthest: divergences against the model's own logits, and mixtures of sums."""

import json

import numpy as np
import torch

from benchmarks.bridges import fitted_text
from pathgen.bridges.maps import Bridge
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.paths.layer_path import LayerPath


def test_divergences_are_those_of_the_models_logits(tiny_model):
    model = PathModel.from_pretrained(str(tiny_model))
    paths, texts = [LayerPath.parse("..-..."), LayerPath.parse("...--.")], [(5, 6, 7, 8), (9, 3, 2)]
    width = model.config.hidden_size
    nothing = [Bridge(torch.zeros(1, width), torch.zeros(width, 1), torch.zeros(width))] * 6
    found = fitted_text.divergences(model, texts, paths, [None, nothing])
    for row, path in zip(found[0], paths, strict=True):
        for nats, ids in zip(row, texts, strict=True):
            full, other = (
                model.logits(torch.tensor([ids]), policy=FixedPaths([each])).log_softmax(-1)
                for each in (LayerPath.full(6), path)
            )
            wanted = (full.exp() * (full - other)).sum(-1).mean()
            np.testing.assert_allclose(nats, float(wanted), rtol=1e-3)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4)


def test_the_command_compares_mixtures_of_equal_size(tiny_model, tmp_path, capsys):
    for name, letters in {"a": "abcd ", "b": "wxyz "}.items():
        (tmp_path / f"{name}.txt").write_text("".join(np.random.default_rng(0).choice(list(letters), 1500)))
    fitted_text.main(
        model=str(tiny_model),
        text=[f"a={tmp_path}/a.txt", f"b={tmp_path}/b.txt"],
        held_out=[f"b={tmp_path}/b.txt"],
        path=["4=..--.."],
        mix=["a+b"],
        out=tmp_path / "t.json",
        tokens=1024,
        test_tokens=100,
        rank=8,
    )
    shown = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert shown == json.loads((tmp_path / "t.json").read_text())
    nats = {row["text"]: row["nats"] for row in shown["rows"]}
    assert list(nats) == ["plain skips", "a+b", "a", "b"]
    assert nats["b"] < nats["a+b"] < nats["a"]
    assert shown["rows"][1]["ratio"]["value"] == 1
