"""Rivals of static paths by divergence: each against plain loops, and the whole comparison on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.published import given_rivals, rival_maps, rival_paths, static_rivals
from pathgen.bridges.folder import save_bridges
from pathgen.bridges.info import BridgesInfo
from pathgen.bridges.maps import Bridge, Bridges
from pathgen.bridges.sums import LayerSums
from pathgen.evaluation.evaluator import Evaluator
from pathgen.fitting.along import refit
from pathgen.fitting.states import add_texts, batches_of
from pathgen.fitting.text import draw, open_source
from pathgen.models.facts import fingerprint
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.loading import load_questions
from pathgen.questions.tasks import find_task

PIECES = [[(5, 9, 3, 17, 60, 2, 8), (4, 4, 30)], [(7, 1, 90, 22, 3)]]


@pytest.fixture(scope="module")
def evaluator(model):
    return Evaluator(model, find_task("arc"))


def test_greedy_removal_takes_the_most_accurate_path_and_spends_its_tokens(evaluator):
    questions = [evaluator.prepare(question) for question in load_questions("builtin", needs="choices", limit=6)]
    full = LayerPath.full(evaluator.model.num_layers)
    steps = list(rival_paths.greedy_removals(evaluator, questions, full, 2, tokens=1e9))
    before = full
    for step in steps:
        scored = {}
        for layer in np.flatnonzero(before):
            path = LayerPath(action * (place != layer) for place, action in enumerate(before))
            found = [evaluator.evaluate([(prepared, path)])[0] for prepared in questions]
            scored[path] = (sum(one.correct for one in found), sum(one.margin for one in found))
        assert scored[step.path] == pytest.approx(max(scored.values()), abs=1e-3)
        assert (step.questions, step.path.depth) == (6, before.depth - 1)
        before = step.path
    (short,) = rival_paths.greedy_removals(Evaluator(evaluator.model, evaluator.task), questions, full, 1, tokens=100)
    assert short.questions < 6
    assert short.forward_tokens >= 100


def test_the_run_that_changes_least_and_its_map(model):
    prompts = [piece for batch in PIECES for piece in batch]
    states = [
        torch.stack(model.hf_model(torch.tensor([prompt]), output_hidden_states=True).hidden_states)[:, 0].detach()
        for prompt in prompts
    ]
    last = model.num_layers  # the last of Hugging Face's states has passed the final norm
    for length, run in zip((1, 3), rival_paths.least_changing_runs(model, prompts, (1, 3)), strict=True):
        cosines = [
            torch.cat([torch.cosine_similarity(one[first], one[first + length], dim=-1) for one in states]).mean()
            for first in range(last - length)
        ]
        if run.stop < last:
            assert run == range(int(np.argmax(cosines)), int(np.argmax(cosines)) + length)
        else:
            assert length == len(run)
    runs = (range(2, 3), range(1, 4))
    one, three = rival_maps.fit_runs(model, PIECES, runs, 0.01)
    sums = [LayerSums.empty(model.config.hidden_size) for _ in range(last)]
    for batch in PIECES:
        add_texts(model, [batch], sums)
    torch.testing.assert_close(one.down, sums[2].solve(None, 0.01).down, rtol=1e-3, atol=1e-4)
    whole = LayerSums.empty(model.config.hidden_size)
    for batch in ([0, 1], [2]):
        whole.add(*(torch.cat([states[index][place] for index in batch]) for place in (1, 4)))
    torch.testing.assert_close(three.down, whole.solve(None, 0.01).down, rtol=1e-2, atol=1e-3)
    hidden = states[0][1]
    for layer in runs[1]:
        hidden = rival_maps.in_place_of(runs[1], three, last).maps[layer].apply(hidden)
    torch.testing.assert_close(hidden, three.apply(states[0][1]))
    assert str(rival_paths.run_path(last, runs[1])) == ".---.."


def test_the_comparison_goes_on_where_it_stopped(folder, model, tmp_path, capsys):
    layers, width = model.num_layers, model.config.hidden_size
    drawn = torch.Generator().manual_seed(3)
    maps = tuple(
        Bridge(torch.randn(width, width, generator=drawn) / 50, None, torch.zeros(width)) for _ in range(layers)
    )
    info = BridgesInfo(folder, fingerprint(Path(folder)), layers, width, None, 0.0, ("t",), 9, (0.0,) * layers, "")
    save_bridges(Bridges(maps), info, tmp_path / "bridges")
    asked = {
        "model": folder, "search": "builtin", "questions": "builtin:test", "bridges": tmp_path / "bridges",
        "text": ["builtin"], "out": tmp_path / "out", "search_limit": 8, "limit": 3, "times": 1, "sets": 2,
        "tokens": 600,
    }  # fmt: skip
    static_rivals.main(**asked)
    first = json.loads(capsys.readouterr().out)
    assert list(first["depths"]) == ["5", "4"]
    assert set(first["depths"]["4"]) == {"ours", "ours+bridges", "greedy", "shortgpt", "one map", "random"}
    assert first["forward_tokens"]["greedy"] >= first["forward_tokens"]["ours"]
    row = first["depths"]["4"]["random"]
    assert row["ours minus this"]["divergence"]["value"] == pytest.approx(
        first["depths"]["4"]["ours"]["divergence"] - row["divergence"]
    )
    assert first["depths"]["4"]["ours"]["ours minus this"]["agreement"]["value"] == 0
    for depth in ("4", "5"):  # refitted along its path: the same as `pathgen bridge --along` gives
        path = LayerPath.parse(first["paths"][f"ours+bridges|{depth}"])
        texts = draw([open_source("builtin", find_task("arc"), chat=False, seed=0)(model)], 600)
        fitted = refit(model, batches_of(model, texts.fit), path, None, 1e-3)
        stored = rival_maps.refitted(model, Bridges(maps), path, lambda: (), tmp_path / "out")
        for layer, action in enumerate(path):
            expected = maps[layer] if action else fitted[layer]
            torch.testing.assert_close(stored.maps[layer].down, expected.down)
    assert first["flops_ratios"]["one map|4"] < first["flops_ratios"]["ours+bridges|4"] < 1
    static_rivals.main(**asked | {"limit": 4, "unbridged": False, "sets": 0})
    again = json.loads(capsys.readouterr().out)
    assert again["questions"]["count"] == 4
    kept = ("ours+bridges", "greedy", "shortgpt", "one map")
    assert again["paths"] == {name: path for name, path in first["paths"].items() if name.startswith(kept)}
    assert len((tmp_path / "out" / "greedy.jsonl").read_text().splitlines()) == 2

    shortgpt = first["paths"]["shortgpt|4"]
    given = {key: asked[key] for key in ("model", "questions", "bridges", "text", "limit", "tokens")}
    given_rivals.main(**given, prompts="builtin", prompt_limit=64, path=[shortgpt], out=tmp_path / "given")
    rows = json.loads(capsys.readouterr().out)["depths"]["4"]
    assert rows["ours"]["divergence"] == pytest.approx(rows["shortgpt"]["divergence"])  # it is that path
    assert rows["ours+bridges"]["divergence"] == pytest.approx(rows["shortgpt+bridges"]["divergence"])
    assert rows["ours"]["divergence"] != pytest.approx(rows["ours+bridges"]["divergence"])
