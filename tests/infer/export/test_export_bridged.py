"""`infer export --bridges`: the fold is a least-squares solution, and the folder is the folded path."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from commands import write_questions
from exports import export, plain, save_family
from families import FAMILIES, of_family
from safetensors.torch import load_file

import infer.export.fold_text as texts
from infer.export.divergence import Divergence
from infer.export.fold_sums import FoldSums
from infer.export.folded_path import skipped_runs
from infer.export.output_matrix import output_matrix
from pathgen.bridges.folder import BridgesInfo, save_bridges
from pathgen.bridges.maps import Bridge, Bridges
from pathgen.bridges.sums import LayerSums
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.errors import InputError, PathgenError
from pathgen.fitting.states import add_texts
from pathgen.models.facts import fingerprint
from pathgen.paths.layer_path import LayerPath

WIDTH, LAYERS = 32, 4
PATH = "2-.-"
"""Two runs: one after a repeated layer, one at the end."""


@pytest.fixture(autouse=True)
def little_text(monkeypatch):
    monkeypatch.setattr(texts, "MOST_FITTED", 3000)
    monkeypatch.setattr(texts, "MEASURED_ROWS", 4)


def save(folder: Path, base: Path, bridges: Bridges) -> Path:
    info = BridgesInfo(str(base), fingerprint(base), LAYERS, WIDTH, None, 1e-3, ("x",), 10, (0.0,) * LAYERS, "")
    save_bridges(bridges, info, folder)
    return folder


def constants(size: float) -> Bridges:
    """Bridges that add a constant each."""
    random = torch.Generator().manual_seed(1)
    return Bridges(
        tuple(
            Bridge(torch.zeros(WIDTH, WIDTH), None, size * torch.randn(WIDTH, generator=random)) for _ in range(LAYERS)
        )
    )


def test_the_sums_solve_the_plain_least_squares_problem():
    random = torch.Generator().manual_seed(0)
    inner, wanted = (torch.randn(200, n, generator=random, dtype=torch.float64) for n in (12, 5))
    inner[3] *= 50  # a massive activation counts as a usual token
    scale = torch.ones(200, 1, dtype=torch.float64)
    scale[3] = inner.norm(dim=1).median() / inner[3].norm()
    ones = torch.ones(200, 1, dtype=torch.float64)
    weight = torch.randn(5, 12, generator=random, dtype=torch.float64)
    for bias in (False, True):
        sums = FoldSums.empty(12, 5, bias=bias)
        sums.add(inner, wanted)
        for basis in (None, weight):
            features = inner if basis is None else inner @ basis.T
            inputs = features.shape[1]
            features = (torch.cat([features, ones], 1) if bias else features) * scale
            ridge = 0.01 * features[:, :inputs].square().sum(0).mean()
            penalty = ridge.sqrt() * torch.eye(inputs, features.shape[1], dtype=torch.float64)
            stacked = torch.cat([features, penalty]), torch.cat([wanted * scale, torch.zeros(inputs, 5).double()])
            oracle = torch.linalg.lstsq(*stacked).solution
            found = sums.solve(0.01, basis)
            if basis is not None:
                oracle = torch.cat([basis.T @ oracle[:inputs], oracle[inputs:]])
            assert torch.allclose(found, oracle, atol=1e-4)
            missed = (torch.cat([inner, ones], 1) if bias else inner) * scale @ found - wanted * scale
            share = float(missed.square().sum() / (wanted * scale).square().sum())
            assert sums.error(found) == pytest.approx(share, abs=1e-4)
        change = sums.best_change(weight, sums)
        assert change.weight.shape == (5, 12)
        assert (change.bias is not None) == bias


def test_the_runs_of_a_path():
    runs = [(run.after, list(run.layers)) for run in skipped_runs(LayerPath.parse("-.--2.-"))]
    assert runs == [(-1, [0]), (1, [2, 3]), (5, [6])]


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "opt"])
def test_a_change_that_the_matrix_can_make_is_made(tmp_path, family, monkeypatch):
    """With a bias, constants are folded exactly: the exported model is the bridged path."""
    monkeypatch.setattr(Divergence, "check", lambda *_: None)  # these bridges do not imitate the layers
    base = save_family(tmp_path / "base", family)
    bridges = save(tmp_path / "bridges", base, constants(0.5))
    out = tmp_path / "out"
    answer = export("--path", PATH, "--model", base, "--bridges", bridges, "--out", out, "--json")
    assert answer.code == 0, answer.stderr
    found = answer.json["divergence"]
    assert found["from_bridged"] < 1e-6
    assert found["exported"] == pytest.approx(found["bridged"], abs=1e-4)
    assert answer.json["max_logit_gap"] <= 1e-4

    model, path = PathModel.from_pretrained(str(base)), LayerPath.parse(PATH)
    ids = torch.tensor([[5, 20, 30, 7, 41, 12]])
    with model.bridged(constants(0.5)), torch.inference_mode():
        wanted = model.logits(ids, policy=FixedPaths([path]))
        logits = plain(out)(input_ids=ids).logits
    assert float((logits - wanted).abs().max()) < 1e-3


def test_fitted_bridges_of_a_model_without_biases(tmp_path):
    base = save_family(tmp_path / "base", "llama")
    model = PathModel.from_pretrained(str(base))
    sums = [LayerSums.empty(WIDTH) for _ in range(LAYERS)]
    add_texts(model, [torch.randint(1, 97, (40, 60), generator=torch.Generator().manual_seed(0)).tolist()], sums)
    bridges = save(tmp_path / "bridges", base, Bridges(tuple(each.solve(None, 1e-2) for each in sums)))
    (tmp_path / "mine.txt").write_text("the cat sat on the mat and looked at the dog. " * 40)
    out = tmp_path / "out"
    words = ("--path", "..-.", "--model", base, "--bridges", bridges, "--out", out, "--text", tmp_path / "mine.txt")
    answer = export(*words, "--max-divergence-ratio", 100, "--json")
    assert answer.code == 0, answer.stderr
    found = answer.json["divergence"]
    assert sorted(found) == ["bridged", "exported", "from_bridged", "plain"]
    assert found["bridged"] < found["plain"]
    assert found["exported"] < found["plain"]
    before, after = load_file(base / "model.safetensors"), load_file(out / "model.safetensors")
    place = [0, 1, 3]
    moved = {name: re.sub(r"layers\.(\d)", lambda m: f"layers.{place[int(m[1])]}", name) for name in after}
    changed = [name for name in after if not torch.equal(after[name], before[moved[name]])]
    assert changed == ["model.layers.1.mlp.down_proj.weight"]
    assert after[changed[0]].dtype == before[changed[0]].dtype
    card = (out / "README.md").read_text()
    assert "folded into the output matrix" in card
    assert "| folded into layer 1 of the base model | `mlp.down_proj`, " in card
    assert str(tmp_path / "mine.txt") in card
    refused = export(*words[:-4], "--out", tmp_path / "no", "--max-divergence-ratio", 1)
    assert refused.code == 1
    assert "more than --max-divergence-ratio 1 (nats from full depth: plain skips" in refused.stderr
    assert not (tmp_path / "no").exists()
    first = export("--path", "-...", *words[2:-4], "--out", tmp_path / "no")
    assert (first.code, "the path skips its first layer" in first.error) == (2, True)
    nothing = export("--path", "....", *words[2:-4], "--out", tmp_path / "no")
    assert (nothing.code, "the path skips no layer" in nothing.error) == (2, True)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["base", "bridges", "mine.txt", "out"]


@pytest.mark.parametrize(
    ("family", "reason"),
    [("gemma2", "a norm after the MLP"), ("olmo2", "a norm after the MLP"), ("mixtral", "has experts")],
)
def test_a_model_whose_mlp_cannot_take_up_bridges_is_refused_by_name(family, reason):
    model = PathModel(of_family(*FAMILIES[family]))
    with pytest.raises(InputError, match=reason) as caught:
        output_matrix(model, 1)
    assert type(model.hf_model).__name__ in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", ["llama", "phi3", "gptj", "falcon", "cohere2", "granite"])
def test_the_matrix_of_other_families_is_found(family):
    matrix = output_matrix(PathModel(of_family(*FAMILIES[family])), 1)
    assert matrix.weight.shape[0] == WIDTH
    assert matrix.scale == pytest.approx(1, abs=1e-3)
    assert "mlp" in matrix.name


def test_divergence_bounds():
    Divergence(1.0, 0.2, 0.3, 0.1).check(1.6)
    with pytest.raises(PathgenError, match=r"1\.5 times as far"):
        Divergence(1.0, 0.2, 0.3, 0.1).check(1.4)
    for exported in (1.0, float("nan")):
        with pytest.raises(PathgenError, match="not be better than plain skips"):
            Divergence(1.0, 0.9, exported, 0.1).check(9)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--text", "x.txt"], "--text goes with --bridges"),
        (["--bridges", "./none", "--text", "none.txt"], "--text none.txt cannot be read"),
        (["--bridges", "./none"], "./none holds no bridges"),
    ],
)
def test_wrong_use(tiny_model, tmp_path, more, says):
    answer = export("--path", "..-...", "--model", tiny_model, *more, "--out", tmp_path / "out")
    assert answer.code == 2
    assert says in answer.error
    assert list(tmp_path.iterdir()) == []


def test_questions_without_a_right_answer_are_text_too(tmp_path):
    row = {"prompt": "Which floats?", "choices": ["cork", "lead"]}
    known, unknown = (write_questions(tmp_path / f"{len(more)}.jsonl", row | more) for more in ({"answer": "lead"}, {}))
    ((with_answer,), (without,)) = texts.read_sources([str(known), str(unknown)]).values()
    assert with_answer == f"{without} lead"
    assert without.startswith("Question: Which floats?")
