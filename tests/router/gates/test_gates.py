"""Gates through the frozen model: exact where they are whole, right slopes, and training that finds a planted harm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from families import LAYERS, random_tokens, tiny

from pathgen.engine.executor import Executor
from pathgen.engine.path_model import PathModel
from pathgen.engine.token_rows import packed_row, plain_rows
from pathgen.errors import PathgenError
from pathgen.evaluation.evaluator import Evaluator, Prepared
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.question import Question
from pathgen.questions.tasks import find_task
from router.gates import forward as gated_forward
from router.gates.forward import Gate, GatedModel
from router.gates.gates import SoftGates, TrainedGates, train_gates
from router.gates.settings import GateSettings
from router.net.pooling import Pooling

HARMFUL = 2
"""The layer that is noise in the planted task."""


def question(
    gated: GatedModel,
    seed: int,
    *choice_tokens: int,
    gold: int | None = 0,
    prompt_tokens: int = 11,
    packed: bool = True,
) -> Prepared:
    """A made-up question in tokens, packed where the family takes it."""
    prompt = random_tokens(prompt_tokens, seed)
    choices = [random_tokens(count, 100 * seed + c) for c, count in enumerate(choice_tokens)]
    name = f"q{seed}"
    rows = [packed_row(name, prompt, choices)] if packed and gated.masks else plain_rows(name, prompt, choices)
    texts = tuple(f"choice {c}" for c in range(len(choices)))
    asked = Question(name, "?", texts, gold) if gold is not None else Question(name, "?", reference="choice 0")
    return Prepared(asked, prompt, rows)


def gated_tiny(family: str, packed: bool) -> GatedModel:
    """A tiny model with gates; every family here takes packed rows, and without them rows are plain."""
    gated = GatedModel(PathModel(tiny(family)))
    assert gated.masks is not None
    gated.masks = gated.masks if packed else None
    return gated


def several(gated: GatedModel) -> list[Prepared]:
    """Of unequal length, with two to four choices, and one to generate."""
    return [
        question(gated, 1, 3, 1, 4, 2, gold=2),
        question(gated, 2, 2, 5, gold=1, prompt_tokens=14),
        question(gated, 3, 4, gold=None, prompt_tokens=9),
    ]


def fixed(values: Sequence[float]) -> Gate:
    """The same gates for every row."""
    return lambda layer, hidden, prompt_mask: torch.full((len(hidden),), values[layer])


def along(gated: GatedModel, questions: list[Prepared], path: LayerPath) -> list[list[float]]:
    """What the engine of paths makes of the same questions: summed log-likelihoods by continuation."""
    found = []
    executor = Executor(gated.model, gated.masks, keep_bytes=0)
    for prepared in questions:
        logprobs = executor.token_logprobs([(row, path) for row in prepared.rows])
        owners = np.concatenate([row.owners for row in prepared.rows])
        found.append(np.bincount(owners, weights=np.concatenate(logprobs)).tolist())
    return found


@pytest.fixture(scope="module")
def gated() -> GatedModel:
    return GatedModel(PathModel(tiny("llama")))


# Forward.


@pytest.mark.parametrize("family", ["llama", "qwen2_sliding", "gemma2", "gpt2", "gpt_neox", "gpt_oss", "granite"])
@pytest.mark.parametrize("path", [(1, 1, 1, 1), (1, 0, 1, 1), (0, 1, 1, 0)])
@pytest.mark.parametrize("packed", [True, False])
def test_whole_gates_score_as_the_path_does(family, path, packed):
    gated = gated_tiny(family, packed)
    questions = several(gated)
    with torch.no_grad():
        scores = gated.scores(questions, fixed(path))
    for found, wanted in zip(scores, along(gated, questions, LayerPath(path)), strict=True):
        assert found.tolist() == pytest.approx(wanted, abs=1e-4)


def test_full_gates_score_as_the_evaluator_does(tiny_model):
    model = PathModel.from_pretrained(str(tiny_model))
    evaluator = Evaluator(model, find_task("arc"))
    prepared = evaluator.prepare(Question("b", "One plus one is", choices=("two", "three", "a rose"), gold=0))
    (evaluation,) = evaluator.evaluate([(prepared, LayerPath.full(model.num_layers))])
    (scores,) = GatedModel(model).scores([prepared], fixed([1.0] * model.num_layers))
    assert scores.tolist() == pytest.approx(evaluation.choice_scores, abs=1e-4)


def test_a_gate_above_one_goes_beyond_the_layer(gated):
    """With all other layers skipped, the states the head gets are h + 1.5·(f(h) − h) of the embeddings h."""
    prepared = question(gated, 5, 3, 2)
    (scores,) = gated.scores([prepared], fixed([1.5, 0.0, 0.0, 0.0]))
    model, row = gated.model, prepared.rows[0]
    states: list[torch.Tensor] = []

    def by_hand(index: int, hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if index == 0:
            hidden = hidden + 1.5 * (model.run_layer(0, hidden, args, kwargs) - hidden)
        states.append(hidden)
        return model.as_returned(index, hidden)

    ids, positions = torch.from_numpy(row.ids)[None], torch.from_numpy(row.positions)[None]
    mask = gated.masks.build([row], len(row), torch.float32, model.device)
    with model.mode(by_hand), torch.no_grad():
        logits = model.hf_model(input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False).logits[0]
    logprobs = logits.log_softmax(-1)[row.scored[row.predicts], row.targets].numpy()
    assert scores.tolist() == pytest.approx(np.bincount(row.owners, weights=logprobs), abs=1e-4)


def test_batches_hold_each_question_once_and_few_tokens(gated, monkeypatch):
    monkeypatch.setitem(gated_forward.BATCH_TOKENS, "cpu", 64)
    questions = [question(gated, seed, 3, 3, prompt_tokens=10 + seed % 7) for seed in range(12)]
    batches = list(gated.batches(questions))
    assert sorted(index for batch in batches for index in batch) == list(range(12))
    assert all(max(questions[i].tokens for i in batch) * len(batch) <= 64 for batch in batches)
    assert max(map(len, batches)) > 1


# Slopes.


def margin(gated: GatedModel, prepared: Prepared, gates: list[float]) -> float:
    scores = gated.scores([prepared], fixed(gates))[0].tolist()
    gold = prepared.question.gold
    if gold is None:
        return scores[0] / len(prepared.rows[0].targets)
    return scores[gold] - max(score for index, score in enumerate(scores) if index != gold)


def test_a_choice_with_gold_s_own_text_is_no_rival(gated):
    twice = question(gated, 6, 3, 3, 2)
    alone = replace(twice, question=Question("q6", "?", ("same", "same", "other"), 0))
    scores = gated.scores([twice], fixed([1.0] * LAYERS))[0]
    trained = train_gates(gated.model, [alone], GateSettings(epochs=1))
    pair = scores[[0, 2]]
    assert trained.history[0].loss == pytest.approx(float(pair.logsumexp(0) - pair[0]), abs=1e-4)


# Training.


@pytest.fixture(scope="module")
def planted() -> tuple[GatedModel, list[Prepared]]:
    """A model in which one layer's output is noise, and questions labelled as the model is without that layer."""
    hf_model = tiny("llama")
    generator = torch.Generator().manual_seed(3)
    layer = hf_model.model.layers[HARMFUL]
    for linear in (layer.self_attn.o_proj, layer.mlp.down_proj):
        linear.weight.add_(2.0 * torch.randn(linear.weight.shape, generator=generator))
    gated = GatedModel(PathModel(hf_model))
    asked = [question(gated, seed, 3, 3, 3, 3) for seed in range(40)]
    without = LayerPath([int(index != HARMFUL) for index in range(LAYERS)])
    golds = [int(np.argmax(scores)) for scores in along(gated, asked, without)]
    labelled = [
        replace(prepared, question=replace(prepared.question, gold=gold))
        for prepared, gold in zip(asked, golds, strict=True)
    ]
    return gated, labelled


def test_training_closes_the_gate_of_a_harmful_layer(planted):
    gated, questions = planted
    seen = []
    settings = GateSettings(epochs=10, learning_rate=0.1)
    trained = train_gates(gated.model, questions, settings, on_epoch=seen.append)
    assert trained.gates[HARMFUL] < 0.1
    assert np.delete(trained.gates, HARMFUL).min() > 0.5
    assert trained.heads is None
    assert list(trained.history) == seen
    assert [epoch.epoch for epoch in seen] == list(range(1, 11))
    assert seen[-1].mean_gate == pytest.approx(trained.gates.mean())
    assert seen[-1].loss < 0.5 * seen[0].loss


def test_training_is_the_same_for_the_same_seed_and_leaves_the_model_as_it_was(planted):
    gated, questions = planted
    before = {name: value.clone() for name, value in gated.model.hf_model.state_dict().items()}
    torch.manual_seed(1)
    first = train_gates(gated.model, questions[:12], GateSettings(epochs=1, rank=2))
    torch.manual_seed(2)
    again = train_gates(gated.model, questions[:12], GateSettings(epochs=1, rank=2))
    other = train_gates(gated.model, questions[:12], GateSettings(epochs=1, rank=2, seed=1))
    np.testing.assert_array_equal(first.gates, again.gates)
    assert first.heads.keys() == again.heads.keys()
    assert all(torch.equal(first.heads[name], again.heads[name]) for name in first.heads)
    assert not np.array_equal(first.gates, other.gates)
    for name, value in gated.model.hf_model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in gated.model.hf_model.parameters())


def test_small_batches_accumulate_to_the_same_step(planted, monkeypatch):
    gated, questions = planted
    settings = GateSettings(epochs=1, batch_questions=6, compute_penalty=0.5, rank=1)
    whole = train_gates(gated.model, questions[:12], settings)
    monkeypatch.setitem(gated_forward.BATCH_TOKENS, "cpu", 1)  # a question at a time
    parts = train_gates(gated.model, questions[:12], settings)
    assert parts.gates == pytest.approx(whole.gates, abs=1e-4)
    assert parts.history[0].loss == pytest.approx(whole.history[0].loss, abs=1e-4)


def test_the_conditional_part_learns_and_decays(planted):
    gated, questions = planted
    settings = GateSettings(epochs=2, rank=2, map_learning_rate=0.01, map_decay=0.0)
    free = train_gates(gated.model, questions[:16], settings)
    held = train_gates(gated.model, questions[:16], replace(settings, map_decay=90.0))
    ups = [name for name in free.heads if "up" in name]
    assert len(ups) == LAYERS

    def size(trained: TrainedGates) -> float:
        return sum(float(trained.heads[name].square().sum()) for name in ups)

    assert size(free) > 4 * size(held) > 0


def test_the_penalty_saves_depth_and_the_pull_holds_the_gates(planted):
    gated, questions = planted
    free, held, saving = (
        train_gates(gated.model, questions[:8], replace(GateSettings(epochs=4, learning_rate=0.05), **change)).gates
        for change in ({"pull": 0.0}, {"pull": 1000.0}, {"compute_penalty": 1000.0})
    )
    assert np.abs(held - 1).max() < np.abs(free - 1).max()
    assert saving.max() < free.max()
    assert (saving < 0.95).all()


def test_gates_stay_within_their_range(planted):
    gated, questions = planted
    wild = GateSettings(epochs=3, learning_rate=2.0, pull=0.0)
    repeats = train_gates(gated.model, questions[:8], wild).gates
    plain = train_gates(gated.model, questions[:8], replace(wild, allow_repeat=False)).gates
    assert repeats.min() == 0.0
    assert 1.0 < repeats.max() <= 2.0
    assert plain.min() >= 0.0
    assert plain.max() <= 1.0


def test_a_shift_is_clamped_to_the_range_and_reads_the_prompt_only():
    settings = GateSettings(rank=1, allow_repeat=False, pooling=Pooling(windows=2))
    gates = SoftGates(2, 4, settings)
    with torch.no_grad():
        gates.static.copy_(torch.tensor([0.5, 1.0]))
        gates.heads[0].down.weight.fill_(0.5)
        gates.heads[0].up.weight.fill_(0.125)
    hidden = torch.tensor([[[3.0] * 4, [1.0] * 4, [99.0, -99.0, 0.0, 7.0]], [[-1.0] * 4, [-1.0] * 4, [5.0] * 4]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 0]])
    # Scaled to unit root mean square the states are ±1: the shift is 0.125 · 4 · 0.5 · ±1 = ±0.25.
    assert gates(0, hidden, mask).tolist() == pytest.approx([0.75, 0.25])
    with torch.no_grad():
        gates.heads[0].up.weight.fill_(1.0)
    assert gates(0, hidden, mask).tolist() == [1.0, 0.0]
    assert gates(1, hidden, mask).tolist() == [1.0, 1.0]


def test_generation_trains_on_the_reference(gated):
    asked = question(gated, 8, 4, gold=None)
    trained = train_gates(gated.model, [asked], GateSettings(epochs=8, learning_rate=0.05, pull=0.0))
    assert trained.history[0].loss == pytest.approx(-margin(gated, asked, [1.0] * LAYERS), abs=1e-4)
    assert trained.history[-1].loss < trained.history[0].loss


def test_a_loss_that_is_no_number_names_its_question():
    broken = PathModel(tiny("llama"))
    gated = GatedModel(broken)
    asked = question(gated, 4, 2, 2)
    broken.hf_model.model.norm.weight.fill_(math.nan)
    with pytest.raises(PathgenError, match="question q4: its loss under the gates is nan"):
        train_gates(broken, [asked], GateSettings())


def test_impossible_settings_are_refused(gated):
    for name, value in {
        "epochs": 0,
        "batch_questions": 0,
        "learning_rate": 0.0,
        "map_learning_rate": math.inf,
        "map_decay": -1.0,
        "pull": math.nan,
        "compute_penalty": -0.1,
        "rank": -1,
    }.items():
        with pytest.raises(ValueError, match=name):
            GateSettings(**{name: value})
    with pytest.raises(ValueError, match="at least one question"):
        train_gates(gated.model, [], GateSettings())
