"""`pathgen bridge` on a tiny model: against plain loops, interrupted, along a path, and refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from commands import pathgen, question, write_questions
from safetensors.torch import load_file

from pathgen.bridges.folder import load_bridges, local_reader, read_info
from pathgen.bridges.sums import LayerSums
from pathgen.engine.path_model import PathModel
from pathgen.fitting import fit as fitting
from pathgen.fitting import states
from pathgen.fitting.along import refit
from pathgen.fitting.states import batches_of
from pathgen.fitting.text import draw
from pathgen.paths.layer_path import LayerPath

RIDGE = 1e-3


@pytest.fixture(scope="module")
def model(tiny_model) -> PathModel:
    return PathModel.from_pretrained(str(tiny_model))


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    file = tmp_path_factory.mktemp("text") / "a.txt"
    rng = np.random.default_rng(0)
    file.write_text("".join(rng.choice(list("abcdefgh .,\n"), 6000)))
    return file


def call(model, out, *more):
    return pathgen("bridge", "--model", model, "--out", out, "--threads", 1, "--quiet", *more)


def layer_states(model: PathModel, ids: list[int]) -> list[torch.Tensor]:
    """[T, H] before each layer and after the last, of the stock model."""
    found: list[torch.Tensor] = []
    hooks = [layer.register_forward_hook(lambda _, given, out: found.append(given[0][0])) for layer in model.layers]
    end = model.layers[-1].register_forward_hook(lambda _, given, out: found.append(out[0] if out.dim() == 3 else out))
    with torch.inference_mode():
        model.hf_model(input_ids=torch.tensor([ids]))
    for hook in (*hooks, end):
        hook.remove()
    return found


def plain_fit(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[np.ndarray, np.ndarray]:
    """Weight [H, H] and bias [H] of the ridge regression, by an augmented least-squares problem."""
    before = np.concatenate([one.double().numpy() for one, _ in pairs])
    change = np.concatenate([(after - one).double().numpy() for one, after in pairs])
    features = before / np.sqrt((before**2).mean(1, keepdims=True) + 1e-5)
    width = before.shape[1]
    penalty = np.sqrt(RIDGE * (features**2).sum(0).mean())
    inputs = np.concatenate([np.c_[features, np.ones(len(features))], np.c_[penalty * np.eye(width), np.zeros(width)]])
    solved = np.linalg.lstsq(inputs, np.concatenate([change, np.zeros((width, width))]), rcond=None)[0]
    return solved[:width], solved[width]


def test_whole_maps_are_the_ridge_regression_of_plain_loops(model, tiny_model, text, tmp_path, monkeypatch):
    monkeypatch.setattr("pathgen.bridges.sums.OUTLIER", 1e9)
    done = call(tiny_model, tmp_path / "b", "--text", text, "--rank", "full", "--tokens", 3000, "--json")
    assert done.code == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["num_layers"] == model.num_layers == len(shown["r2"])
    assert shown["tokens"] >= 3000
    assert all(0 < share <= 1 for share in shown["r2"])
    found = load_bridges(tmp_path / "b")
    assert model.tokenizer is not None
    ids = model.tokenizer(text.read_text())["input_ids"]
    pieces = [ids[start : start + 512] for start in range(0, len(ids), 512)]
    fitted = [piece for place, piece in enumerate(pieces[:7]) if place != 1]  # the second is held out
    assert sum(map(len, fitted)) == shown["tokens"]
    states = [layer_states(model, piece) for piece in fitted]
    for layer in (0, 3, 5):
        weight, bias = plain_fit([(each[layer], each[layer + 1]) for each in states])
        np.testing.assert_allclose(found.maps[layer].down.numpy().T, weight, atol=2e-3)
        np.testing.assert_allclose(found.maps[layer].bias.numpy(), bias, atol=2e-3)


def test_an_interrupted_fit_goes_on_bit_for_bit(tiny_model, text, tmp_path, monkeypatch):
    monkeypatch.setattr(states, "GROUP_TOKENS", 1000)
    whole = call(tiny_model, tmp_path / "whole", "--text", text, "--rank", 4, "--tokens", 4000)
    assert whole.code == 0, whole.stderr
    add, calls = fitting.add_texts, []

    def dies(*given):
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        add(*given)

    monkeypatch.setattr(fitting, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(fitting, "add_texts", dies)
    stopped = call(tiny_model, tmp_path / "b", "--text", text, "--rank", 4, "--tokens", 4000)
    assert stopped.code == 130
    assert not (tmp_path / "b").exists()
    resumed: list = []
    monkeypatch.setattr(fitting, "add_texts", lambda *given: (resumed.append(given), add(*given)))
    again = call(tiny_model, tmp_path / "b", "--text", text, "--rank", 4, "--tokens", 4000)
    assert again.code == 0, again.stderr
    assert len(resumed) == 3  # of four groups; the first was stored
    digests = [read_info(local_reader(tmp_path / name), name).digest for name in ("whole", "b")]
    assert digests[0] == digests[1]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["b", "whole"]


def test_maps_along_a_path_are_fitted_on_its_own_states(model, text):
    assert model.tokenizer is not None
    ids = model.tokenizer(text.read_text())["input_ids"][:1500]
    pieces = [tuple(ids[start : start + 100]) for start in range(0, 1500, 100)]
    path = LayerPath.parse(".-2--.")
    found = refit(model, batches_of(model, pieces), path, None, RIDGE)
    assert sorted(found) == [1, 3, 4]
    # The plain loop: the path's state by PathModel with the maps found so far, full depth's by hooks.
    for layer in (1, 3, 4):
        sums = LayerSums.empty(model.config.hidden_size)
        for batch in batches_of(model, pieces):
            along, full = [], []
            for piece in batch:
                whole = layer_states(model, list(piece))
                state, position = whole[0], torch.arange(len(piece))[None]
                rotary = model.hf_model.model.rotary_emb(state[None], position)
                mask = torch.full((len(piece), len(piece)), float("-inf")).triu(1)[None, None]
                for index, action in enumerate(path[:layer]):
                    if not action:
                        state = found[index].apply(state)
                    for _ in range(action):
                        with torch.inference_mode():
                            out = model.layers[index](state[None], attention_mask=mask, position_embeddings=rotary)
                        state = (out[0] if isinstance(out, tuple) else out).reshape(state.shape)
                along.append(state)
                full.append(whole[layer + 1])
            sums.add(torch.cat(along), torch.cat(full))
        wanted = sums.solve(None, RIDGE)
        torch.testing.assert_close(found[layer].down, wanted.down, atol=5e-3, rtol=5e-3)


def test_questions_give_prompts_and_choices_but_never_gold(tiny_model, tmp_path):
    rows = [question(f"q{number}", text=f"What is {number}?") for number in range(30)]
    file = write_questions(tmp_path / "q.jsonl", *rows)
    done = call(tiny_model, tmp_path / "b", "--text", file, "--rank", 1, "--tokens", 500, "--json")
    assert done.code == 0, done.stderr
    letters = call(tiny_model, tmp_path / "l", "--text", file, "--task", "arc-letter", "--rank", 1, "--tokens", 500)
    assert letters.code == 0, letters.stderr
    for row in rows:
        del row["answer"]
    blind = write_questions(tmp_path / "blind.jsonl", *rows)
    assert call(tiny_model, tmp_path / "n", "--text", blind, "--rank", 1, "--tokens", 500).code == 0
    known, unknown = (load_file(tmp_path / name / "bridges.safetensors") for name in ("b", "n"))
    for name, values in known.items():
        torch.testing.assert_close(unknown[name], values, rtol=0, atol=0)


def test_text_sampled_from_the_model_needs_nothing_else(tiny_model, tmp_path):
    done = call(tiny_model, tmp_path / "b", "--text", "self", "--rank", 2, "--tokens", 300)
    assert done.code == 0, done.stderr
    assert read_info(local_reader(tmp_path / "b"), "b").text == ("self",)


def test_sources_are_mixed_in_equal_shares_and_some_text_is_held_out():
    a, b, short = ([(n,) * 10 for _ in range(200)] for n in (1, 2, 3))
    texts = draw([iter(a), iter(b), iter(short[:2])], 900)
    counts = [sum(len(piece) for piece in texts.fit if piece[0] == n) for n in (1, 2, 3)]
    assert texts.tokens == 900
    assert abs(counts[0] - counts[1]) <= 100
    assert counts[2] <= 20
    assert len(texts.held_out) == 10


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (("--rank", 10_000), 2, "above the width"),
        (("--rank", "half"), 2, "--rank is a whole number"),
        (("--text", "none.txt"), 2, "none.txt: no such file"),
        (("--along", "...."), 2, "has 4 layers"),
        (("--along", "......"), 2, "skips no layer"),
        (("--along", "..x..."), 2, "a path is written with"),
        (("--depth", 3), 2, "--along"),
        (("--distill-steps", 5), 2, "give it with --along"),
        (("--along", "..-...", "--distill-steps", 0), 2, "--distill-steps"),
        (("--ridge", 2), 2, "--ridge"),
        (("--actors", 9999), 2, "--actors 9999: this machine has"),
        (("--actors", 0), 2, "actors"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tiny_model, text, tmp_path, more, code, words):
    given = [*(() if "--rank" in more else ("--rank", 4)), *(() if "--text" in more else ("--text", text)), *more]
    done = call(tiny_model, tmp_path / "b", *given)
    assert (done.code, done.stderr.count("\n")) == (code, 1)
    assert words in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_too_little_text_is_told_with_the_number_needed(tiny_model, tmp_path):
    (tmp_path / "short.txt").write_text("Water is wet. " * 5)
    done = call(tiny_model, tmp_path / "b", "--text", tmp_path / "short.txt", "--rank", "full")
    assert done.code == 2
    assert "rank 32 needs 128" in done.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["short.txt"]


def test_an_existing_folder_is_refused(tiny_model, tmp_path):
    done = call(tiny_model, tmp_path, "--text", "self")
    assert done.code == 2
    assert "exists" in done.stderr
