"""Divergence and agreement against a plain computation: stock models, one row at a time, the whole vocabulary."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from families import LAYERS, tiny
from oracle import Oracle

from pathgen.bridges.maps import Bridge, Bridges
from pathgen.engine.executor import Executor
from pathgen.engine.mask_probe import find_mask_form
from pathgen.engine.path_model import PathModel
from pathgen.engine.token_rows import packed_row, plain_rows
from pathgen.evaluation import divergence as measured
from pathgen.evaluation.divergence import DivergenceMeter
from pathgen.evaluation.evaluator import Prepared, QuestionError
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.question import Question

PATHS = [LayerPath(path) for path in ((1, 1, 1, 1), (1, 0, 1, 1), (0, 1, 0, 1), (1, 0, 0, 2))]
PROMPTS = [[5, 9, 3, 44, 7, 21, 8], [2, 60, 31], [9, 9, 1, 17, 80]]
CHOICES = [[[3, 4, 5], [6], [7, 8]], [[11, 12], [13, 14]], [[50], [51], [52], [50]]]


def bridges(rank: int | None) -> Bridges:
    made = torch.Generator().manual_seed(3)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=made) * 0.2

    width = 32
    return Bridges(
        tuple(
            Bridge(random(rank or width, width), random(width, rank) if rank else None, random(width))
            for _ in range(LAYERS)
        )
    )


def plain_model(hf_model, path, maps):
    """The stock model as a function from ids to [T, V] logits; bridges are plain arithmetic in place of layers."""
    oracle = Oracle(hf_model)
    if maps is None:
        return lambda ids: oracle.logits(ids, path)
    for layer in (index for index, action in enumerate(path) if not action):
        bridge, stock = maps.maps[layer], oracle.layers[layer].forward

        def forward(hidden, *args, bridge=bridge, stock=stock, **kwargs):
            normed = hidden / (hidden.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
            change = normed @ bridge.down.T
            change = change if bridge.up is None else change @ bridge.up.T
            out = stock(hidden, *args, **kwargs)
            new = hidden + change + bridge.bias
            return (new, *out[1:]) if isinstance(out, tuple) else new

        oracle.layers[layer].forward = forward
    return lambda ids: oracle.logits(ids, [action or 1 for action in path])


def plain(models, prompt, choices, path, gold):
    """Divergence, agreement, verdict and scores by loops over choices and positions."""
    full = LayerPath.full(LAYERS)
    kl: dict[tuple, float] = {}
    scores: dict[LayerPath, list[float]] = {path: [], full: []}
    for choice, tokens in enumerate(choices):
        logprobs = {p: models[p]([*prompt, *tokens]).double().log_softmax(-1) for p in scores}
        for place in range(len(prompt) - 1, len(prompt) + len(tokens) - 1):
            base, other = logprobs[full][place], logprobs[path][place]
            where = ("prompt",) if place == len(prompt) - 1 else (choice, place)
            kl[where] = float((base.exp() * (base - other)).sum())
        for p, found in scores.items():
            found.append(sum(float(logprobs[p][len(prompt) - 1 + i, token]) for i, token in enumerate(tokens)))
    best = {p: int(np.argmax(found)) for p, found in scores.items()}
    return np.mean(list(kl.values())), float(best[path] == best[full]), best[path] == gold, scores[path]


def prepared(packed: bool) -> list[Prepared]:
    found = []
    for number, (prompt, choices) in enumerate(zip(PROMPTS, CHOICES, strict=True)):
        question = Question(f"q{number}", str(prompt), tuple(map(str, choices)), gold=0)
        rows = [packed_row(number, prompt, choices)] if packed else plain_rows(number, prompt, choices)
        found.append(Prepared(question, prompt, rows))
    return found


def meter_of(model: PathModel, *, packed: bool) -> DivergenceMeter:
    executor = Executor(model, find_mask_form(model) if packed else None)
    evaluator = SimpleNamespace(model=model, executor=executor, forget=lambda question: None)
    return DivergenceMeter(evaluator)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("family", "packed", "rank"), [("llama", True, 4), ("gemma2", True, "none"), ("gpt2", False, None)]
)
def test_it_is_the_plain_divergence(family, packed, rank, monkeypatch):
    monkeypatch.setattr(measured, "HEAD_ROWS", 3)  # blocks of positions and of paths
    maps = None if rank == "none" else bridges(rank)
    models = {path: plain_model(tiny(family), path, maps) for path in PATHS}
    model = PathModel(tiny(family))
    model.use_bridges(maps)
    questions = prepared(packed)
    found = meter_of(model, packed=packed).measure(questions, PATHS)
    for question, prompt, choices, row in zip(questions, PROMPTS, CHOICES, found, strict=True):
        for path, difference in zip(PATHS, row, strict=True):
            wanted = plain(models, prompt, choices, path, question.question.gold)
            assert difference.divergence == pytest.approx(wanted[0], rel=1e-3, abs=2e-6)
            assert (difference.agreement, difference.correct) == wanted[1:3]
            assert difference.scores == pytest.approx(wanted[3], rel=1e-4, abs=1e-4)
    assert [row[0].divergence for row in found] == pytest.approx([0, 0, 0], abs=1e-6)
    assert found[0][1].divergence > 0.01


def test_what_is_known_does_not_run_again_and_full_depth_runs_once():
    model = PathModel(tiny("llama"))
    meter, questions = meter_of(model, packed=True), prepared(packed=True)
    ran: list[tuple] = []
    scored_states = meter.evaluator.executor.scored_states

    def counted(asked):
        ran.extend((row.key, path) for row, path in asked)
        return scored_states(asked)

    meter.evaluator.executor.scored_states = counted  # type: ignore[method-assign]
    one = meter.measure(questions, PATHS[1:3])
    two = meter.measure(questions, PATHS[1:])
    assert [row[:2] for row in two] == one
    assert len(ran) == len(set(ran)) == 3 * 4
    with_other_company = meter_of(model, packed=True).measure(questions[1:2], PATHS[2:3])
    assert with_other_company[0][0].divergence == pytest.approx(one[1][1].divergence, rel=1e-3)


def test_without_choices_agreement_is_the_share_of_positions_with_the_same_best_token_and_nothing_is_correct():
    hf_model, model = tiny("llama"), PathModel(tiny("llama"))
    prompt, reference = PROMPTS[0], [3, 4, 5, 6, 7, 8]
    question = Prepared(Question("r", "r", reference="r"), prompt, plain_rows(0, prompt, [reference]))
    ((found,),) = meter_of(model, packed=False).measure([question], PATHS[2:3])
    at = slice(len(prompt) - 1, -1)
    full, other = (Oracle(hf_model).logits([*prompt, *reference], path)[at] for path in (PATHS[0], PATHS[2]))
    assert found.agreement == pytest.approx(float((full.argmax(-1) == other.argmax(-1)).float().mean()))
    assert found.correct is None


def test_gold_is_not_needed():
    model = PathModel(tiny("llama"))
    labelled = prepared(packed=True)[0]
    question = Question("q", "q", labelled.question.choices)
    ((found,),) = meter_of(model, packed=True).measure(
        [Prepared(question, labelled.prompt_ids, labelled.rows)], PATHS[1:2]
    )
    assert found.correct is None
    assert found.divergence > 0


def test_a_path_without_finite_scores_diverges_without_end_and_full_depth_must_have_them():
    model = PathModel(tiny("llama"))
    broken = bridges(4)
    first, second, *others = broken.maps
    broken = Bridges((first, Bridge(second.down, second.up, torch.full((32,), float("nan"))), *others))
    model.use_bridges(broken)
    question = prepared(packed=True)[0]
    ((bad, good),) = meter_of(model, packed=True).measure([question], [PATHS[1], LayerPath((1, 1, 1, 0))])
    assert (bad.divergence, bad.agreement, bad.correct) == (float("inf"), 0.0, False)
    assert np.isfinite(good.divergence)
    model.hf_model.get_output_embeddings().weight[:] = float("nan")
    with pytest.raises(QuestionError, match="question q0: full depth gives no finite scores"):
        meter_of(model, packed=True).measure([question], PATHS[1:2])
