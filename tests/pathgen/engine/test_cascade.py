"""A cascade gives each row what a plain loop gives it along one path: the cheap one, or full depth where unsure."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from families import LAYERS, MECHANISMS, PROMPTS, padded, tiny
from oracle import LoopOracle, Oracle

from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import Cascade, FixedPaths, RecordedPolicy, next_token_gaps
from pathgen.engine.supported import PinnedLayerError
from pathgen.paths.layer_path import LayerPath

FAMILIES = ("llama", "gpt2", "gemma3", "mixtral", "gpt_neox")
ATOL = {**dict.fromkeys(FAMILIES, 1e-4), **dict.fromkeys(MECHANISMS, 3e-3)}
CHEAP = [LayerPath(path) for path in ([1, 1, 0, 1], [1, 0, 0, 2], [0, 1, 2, 1], [1, 2, 1, 0], [0, 0, 0, 0])]
"""They leave full depth at each layer, by a skip or a repeat, and run layers after that or none."""
FULL = LayerPath.full(LAYERS)
ROWS = PROMPTS[:9]
STEPS = 5


@cache
def lab(family: str) -> tuple[PathModel, Any]:
    hf_model = tiny(family)
    oracle = LoopOracle(hf_model) if family in MECHANISMS else Oracle(hf_model)
    return PathModel(hf_model), oracle


def cascade(oracle: Any, path: LayerPath) -> tuple[Cascade, list[LayerPath]]:
    """One in which half of the rows fall back, and the path that each row should take; by the oracle alone."""
    gaps = torch.stack([next_token_gaps(oracle.logits(prompt, path)[-1:])[0] for prompt in ROWS])
    middle = gaps.sort().values
    threshold = float(middle[len(ROWS) // 2 - 1 : len(ROWS) // 2 + 1].mean())
    return Cascade(path, threshold), [path if gap >= threshold else FULL for gap in gaps]


@pytest.mark.parametrize("path", CHEAP, ids=str)
@pytest.mark.parametrize("family", [*FAMILIES, *MECHANISMS])
def test_forward(family: str, path: LayerPath) -> None:
    model, oracle = lab(family)
    policy, paths = cascade(oracle, path)
    assert set(paths) == {path, FULL}
    for side in ("left", "right"):
        ids, mask = padded(ROWS, side)
        recorded = RecordedPolicy(policy)
        logits = model.logits(ids, mask, policy=recorded)
        assert recorded.paths() == paths
        for row, prompt in enumerate(ROWS):
            wanted = oracle.logits(prompt, paths[row])
            torch.testing.assert_close(logits[row, mask[row] == 1], wanted, atol=ATOL[family], rtol=0)


@pytest.mark.parametrize("path", CHEAP[:4], ids=str)
@pytest.mark.parametrize("family", [*FAMILIES, *MECHANISMS])
def test_cached_decode(family: str, path: LayerPath) -> None:
    model, oracle = lab(family)
    policy, paths = cascade(oracle, path)
    ids, mask = padded(ROWS, "left")
    cache = model.new_cache()
    given: dict[str, Any] = {"max_new_tokens": STEPS, "return_dict_in_generate": True, "output_logits": True}
    found: Any = model.generate(ids, mask, policy=policy, cache=cache, **given)
    steps = torch.stack(found.logits, 1)
    for row, sequence in enumerate(found.sequences[:, ids.shape[1] :].tolist()):
        wanted = oracle.logits([*ROWS[row], *sequence], paths[row])[len(ROWS[row]) - 1 : -1]
        torch.testing.assert_close(steps[row], wanted, atol=ATOL[family], rtol=0)
    fixed = model.new_cache()
    model.generate(ids, mask, policy=FixedPaths(paths), cache=fixed, **given)
    assert sorted(cache.slots) == sorted(fixed.slots)
    assert [plan.actions.tolist() for _, plan in sorted(cache.plans.items())] == [
        list(row) for row in zip(*paths, strict=True)
    ]


@pytest.mark.parametrize("kind", [{"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}])
def test_beams_go_with_their_prompt(kind: dict[str, int]) -> None:
    model, oracle = lab("llama")
    policy, paths = cascade(oracle, CHEAP[1])
    ids, mask = padded(ROWS, "left")
    found = model.generate(ids, mask, policy=policy, max_new_tokens=STEPS, **kind)
    assert found.tolist() == model.generate(ids, mask, policy=FixedPaths(paths), max_new_tokens=STEPS, **kind).tolist()


def test_the_prompt_decides_where_more_tokens_follow() -> None:
    """As in scoring: the gap is read where the prompt ends, not where the row does."""
    model, oracle = lab("llama")
    policy, paths = cascade(oracle, CHEAP[0])
    rows = [[*prompt, 5, 6, 7] for prompt in ROWS]
    ids, mask = padded(rows, "right")
    prompt_mask = mask * (torch.arange(ids.shape[1]) < torch.tensor([[len(prompt)] for prompt in ROWS]))
    with model.routed(policy, prompt_mask), torch.inference_mode():
        states = model.run_body(input_ids=ids, attention_mask=mask, use_cache=False)
    for row, path in enumerate(paths):
        found = model.head(states[row, : len(rows[row])])
        torch.testing.assert_close(found, oracle.logits(rows[row], path), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("gap", "taken"), [(0.0, CHEAP[1]), (float("inf"), FULL)])
def test_no_row_or_every_row_falls_back(gap: float, taken: LayerPath) -> None:
    model, _ = lab("llama")
    ids, mask = padded(ROWS, "left")
    found = model.generate(ids, mask, policy=Cascade(CHEAP[1], gap), max_new_tokens=STEPS)
    fixed = FixedPaths([taken] * len(ROWS))
    assert found.tolist() == model.generate(ids, mask, policy=fixed, max_new_tokens=STEPS).tolist()


def test_only_the_layers_after_the_fork_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model, oracle = lab("llama")
    policy, paths = cascade(oracle, CHEAP[0])
    ran: list[tuple[int, int]] = []
    own = model.run_published

    def watched(index: int, hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        ran.append((index, len(hidden)))
        return own(index, hidden, *args, **kwargs)

    monkeypatch.setattr(model, "run_published", watched)
    model.states(*padded(ROWS, "left"), policy=policy)
    back = paths.count(FULL)
    assert ran == [(0, len(ROWS)), (1, len(ROWS)), (3, len(ROWS)), (2, back), (3, back)]


@pytest.mark.parametrize(("text", "depth"), [("..--..", 4 + 4), ("-.....", 5 + 6), (".22...", 8 + 5)])
def test_the_depth_of_a_fall_back_counts_the_layers_that_run_again(text: str, depth: int) -> None:
    policy = Cascade(LayerPath.parse(text), 1.0)
    assert policy.depth(LayerPath.full(6)) == depth
    assert policy.depth(policy.path) == policy.path.depth


def test_logits_that_are_not_finite_fall_back() -> None:
    logits = torch.tensor([[1.0, 0.0, float("nan")], [float("inf"), float("inf"), 0.0], [3.0, 0.0, 0.0]])
    assert Cascade(CHEAP[0], 2.0).unsure(logits).tolist() == [True, True, False]


def test_a_path_of_another_model_is_refused() -> None:
    model, _ = lab("llama")
    with pytest.raises(ValueError, match="paths of 3 layers for a model of 4"):
        model.states(*padded(ROWS, "left"), policy=Cascade(LayerPath([1, 0, 1]), 1.0))


def test_layers_whose_keys_others_read_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = lab("llama")
    monkeypatch.setattr(model, "pinned_layers", frozenset({1}))
    with pytest.raises(PinnedLayerError, match="a cascade does not run here"):
        model.states(*padded(ROWS, "left"), policy=Cascade(CHEAP[0], 1.0))
