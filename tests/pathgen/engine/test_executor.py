"""Scores of many paths at once equal the plain oracle's, whatever is shared, kept, packed or cut into steps."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILIES, LAYERS, SLIDING, VOCAB, WINDOW, random_tokens, tiny
from oracle import Oracle

from pathgen.engine.executor import Executor
from pathgen.engine.mask_probe import find_mask_form
from pathgen.engine.padded_rows import MaskForm
from pathgen.engine.path_model import PathModel
from pathgen.engine.token_rows import PROMPT, Row, packed_row, plain_rows
from pathgen.paths.layer_path import LayerPath

ATOL = 1e-4
KEPT = {"none": 0, "few": 20_000, "all": 1 << 30}
"""Bounds on kept states in bytes; `few` holds some eight states and is exceeded all the time."""

BY_KIND = {"qwen2", "qwen2_sliding", "qwen3", "gemma2", "gemma3", "cohere2", "gpt_oss"}
ADDITIVE = {"gemma2", "gptj", "gpt_oss"}


@dataclass(frozen=True)
class Asked:
    """A made-up question in tokens."""

    name: str
    prompt: list[int]
    choices: list[list[int]]

    @classmethod
    def of(cls, name: str, seed: int, prompt_tokens: int, *choice_tokens: int) -> Asked:
        tokens = [random_tokens(count, 10 * seed + number) for number, count in enumerate(choice_tokens)]
        return cls(name, random_tokens(prompt_tokens, 10 * seed + 9), tokens)

    def rows(self, masks: MaskForm | None) -> list[Row]:
        return (
            [packed_row(self.name, self.prompt, self.choices)]
            if masks is not None
            else plain_rows(self.name, self.prompt, self.choices)
        )


QUESTIONS = [Asked.of("a", 1, 9, 2, 4, 1), Asked.of("b", 2, 14, 1, 1), Asked.of("c", 3, 4, 3, 6, 2, 2)]


def random_paths(count: int, seed: int) -> list[LayerPath]:
    """Paths of nought to all layers edited, some equal."""
    rng = random.Random(seed)
    paths = []
    for _ in range(count):
        path = [1] * LAYERS
        for layer in rng.sample(range(LAYERS), rng.randint(0, LAYERS)):
            path[layer] = rng.choice([0, 2])
        paths.append(LayerPath(path))
    return paths


PAIRS = [(question, path) for question in QUESTIONS for path in random_paths(6, seed=len(question.prompt))]
random.Random(0).shuffle(PAIRS)


@cache
def lab(family: str, attention: str | None = None) -> tuple[PathModel, Oracle, MaskForm | None]:
    hf_model = tiny(family, attention=attention)
    oracle = Oracle(hf_model)
    model = PathModel(hf_model)
    return model, oracle, find_mask_form(model)


@cache
def expected(family: str, attention: str | None = None) -> list[np.ndarray]:
    """Per pair, the log-probabilities of all choices' tokens, choice after choice."""
    oracle = lab(family, attention)[1]
    return [
        np.concatenate([oracle.logprobs(question.prompt, choice, path) for choice in question.choices])
        for question, path in PAIRS
    ]


def evaluate(executor: Executor, pairs: Sequence[tuple[Asked, LayerPath]]) -> list[np.ndarray]:
    """As `expected`, by the engine, in one call."""
    rows = [question.rows(executor.masks) for question, _ in pairs]
    found = iter(
        executor.token_logprobs([(row, path) for own, (_, path) in zip(rows, pairs, strict=True) for row in own])
    )
    return [np.concatenate([next(found) for _ in own]) for own in rows]


def gap(found: Iterable[np.ndarray], wanted: Iterable[np.ndarray]) -> float:
    return max(float(np.abs(f - w).max()) for f, w in zip(found, wanted, strict=True))


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "plain"])
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_equal_the_oracle(family: str, packed: bool) -> None:
    model, _, masks = lab(family)
    for bound in KEPT.values():
        executor = Executor(model, masks if packed else None, keep_bytes=bound)
        executor.step_tokens = 64  # a few states a step, so that steps are cut as well
        found = [scores for start in range(0, len(PAIRS), 5) for scores in evaluate(executor, PAIRS[start : start + 5])]
        assert gap(found, expected(family)) < ATOL
        assert executor.kept.nbytes <= bound


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma3", "gpt2"])
def test_eager_attention(family: str) -> None:
    model, _, masks = lab(family, "eager")
    assert masks is not None
    assert masks.additive
    assert gap(evaluate(Executor(model, masks), PAIRS), expected(family, "eager")) < ATOL


@pytest.mark.parametrize("family", FAMILIES)
def test_how_each_family_takes_its_mask(family: str) -> None:
    _, _, masks = lab(family)
    window = WINDOW if family in SLIDING else None
    assert masks == MaskForm(by_kind=family in BY_KIND, additive=family in ADDITIVE, window=window)


def test_attention_without_ready_masks_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, _ = lab("llama")
    monkeypatch.setattr(model.config, "_attn_implementation_internal", "flash_attention_2")
    assert find_mask_form(model) is None


def test_a_family_that_mistakes_the_mask_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    blind = Row.visible
    monkeypatch.setattr(Row, "visible", lambda row, window: blind(replace(row, branch=row.branch * 0 + PROMPT), window))
    assert find_mask_form(lab("llama")[0]) is None


@pytest.mark.parametrize("additive", [False, True])
def test_masks_by_hand(additive: bool) -> None:
    form = MaskForm(by_kind=True, additive=additive, window=2)
    row = packed_row("q", [5, 6, 7], [[8, 9], [8, 9]])
    masks = form.build([row], 6, torch.float32, torch.device("cpu"))
    full = [[1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 1, 0]]
    near = [[1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 1, 0, 1, 0]]
    padding = [[0, 0, 0, 0, 0, 1]]  # sees itself, so that no row of a softmax is empty
    for kind, wanted in ("full_attention", full + padding), ("sliding_attention", near + padding):
        visible = torch.tensor([[wanted]], dtype=torch.bool)
        blocked = torch.full(visible.shape, torch.finfo(torch.float32).min)
        assert torch.equal(masks[kind], blocked.masked_fill(visible, 0.0) if additive else visible)


@pytest.mark.parametrize("family", SLIDING)
def test_the_window_matters(family: str) -> None:
    """A packed mask without the window is seen, so the tests above prove that it is there."""
    model, _, masks = lab(family)
    assert masks is not None
    assert gap(evaluate(Executor(model, replace(masks, window=None)), PAIRS), expected(family)) > 100 * ATOL


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "mixtral"])
def test_choices_must_not_see_each_other(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, masks = lab(family)
    blind = Row.visible
    monkeypatch.setattr(Row, "visible", lambda row, window: blind(replace(row, branch=row.branch * 0 + PROMPT), window))
    assert gap(evaluate(Executor(model, masks), PAIRS), expected(family)) > 100 * ATOL


def test_the_window_counts_positions_not_places_in_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, masks = lab("mistral")
    by_position = Row.visible
    monkeypatch.setattr(
        Row, "visible", lambda row, window: by_position(replace(row, positions=np.arange(len(row))), window)
    )
    assert gap(evaluate(Executor(model, masks), PAIRS), expected("mistral")) > 100 * ATOL


# Work: every state once.


def states_of(pairs: Iterable[tuple[Asked, LayerPath]]) -> set[tuple[str, tuple[int, ...]]]:
    """All that has to be computed: each question with each beginning of its paths' executed layers."""
    return {
        (question.name, path.executions[:length]) for question, path in pairs for length in range(1, path.depth + 1)
    }


def width_of(pairs: Iterable[tuple[Asked, LayerPath]]) -> int:
    """Tokens of the longest packed row; a choice's last token is not run."""
    return max(len(question.prompt) + sum(len(choice) - 1 for choice in question.choices) for question, _ in pairs)


def many_pairs(seed: int, count: int) -> list[tuple[Asked, LayerPath]]:
    rng = random.Random(seed)
    return [(rng.choice(QUESTIONS), path) for path in random_paths(count, seed)]


@pytest.mark.parametrize("seed", range(4))
def test_each_state_of_a_call_is_computed_once(seed: int) -> None:
    model, _, masks = lab("llama")
    executor = Executor(model, masks, keep_bytes=0)
    layers_run = token_layers = 0
    for call in range(2):
        pairs = many_pairs(10 * seed + call, 12)
        evaluate(executor, pairs)
        layers_run += len(states_of(pairs))
        token_layers += len(states_of(pairs)) * width_of(pairs)
        assert (executor.work.layers_run, executor.work.token_layers) == (layers_run, token_layers)


@pytest.mark.parametrize("seed", range(4))
def test_each_state_is_computed_once_over_all_calls_when_kept(seed: int) -> None:
    model, _, masks = lab("llama")
    executor = Executor(model, masks)
    executor.step_tokens = 64
    so_far: set[tuple[str, tuple[int, ...]]] = set()
    token_layers = 0
    for call in range(6):
        pairs = many_pairs(10 * seed + call, 5)
        evaluate(executor, pairs)
        token_layers += len(states_of(pairs) - so_far) * width_of(pairs)
        so_far |= states_of(pairs)
        assert (executor.work.layers_run, executor.work.token_layers) == (len(so_far), token_layers)
    assert executor.work.layers_run_by_row == {
        name: sum(1 for own, _ in so_far if own == name) for name in {own for own, _ in so_far}
    }


@pytest.mark.parametrize(
    ("first", "then", "runs"),
    [
        ((1, 1, 1, 1), (1, 1, 1, 2), 1),  # the repeat's first pass is kept
        ((1, 1, 1, 1), (1, 1, 1, 1), 0),
        ((1, 1, 1, 1), (1, 1, 1, 0), 0),  # skipping the last layer ends at a kept state
        ((1, 1, 1, 0), (1, 1, 1, 1), 1),
        ((1, 2, 1, 1), (1, 1, 1, 1), 2),
        ((0, 1, 1, 1), (1, 1, 1, 1), 4),
        ((2, 2, 2, 2), (0, 0, 0, 0), 0),
    ],
)
def test_a_path_enters_at_its_longest_kept_beginning(first: tuple[int, ...], then: tuple[int, ...], runs: int) -> None:
    model, oracle, masks = lab("llama")
    executor = Executor(model, masks)
    question = QUESTIONS[0]
    evaluate(executor, [(question, LayerPath(first))])
    assert executor.work.layers_run == sum(first)
    (found,) = evaluate(executor, [(question, LayerPath(then))])
    assert executor.work.layers_run == sum(first) + runs
    wanted = np.concatenate([oracle.logprobs(question.prompt, choice, then) for choice in question.choices])
    assert gap([found], [wanted]) < ATOL


def test_forgotten_questions_are_computed_again() -> None:
    model, _, masks = lab("llama")
    executor = Executor(model, masks)
    pairs = [(question, LayerPath.full(LAYERS)) for question in QUESTIONS]
    evaluate(executor, pairs)
    executor.kept.forget({"b"})
    evaluate(executor, pairs)
    assert executor.work.layers_run == (3 + 1) * LAYERS


def test_kept_states_outlive_a_change_of_padding() -> None:
    """Rows are kept at the width of the batch that made them and loaded into batches of other widths."""
    model, _, masks = lab("gemma3")
    wide, narrow = QUESTIONS[1], QUESTIONS[0]
    for questions in ([narrow, wide], [narrow]), ([narrow], [narrow, wide]):
        executor = Executor(model, masks)
        evaluate(executor, [(question, LayerPath((1, 1, 1, 1))) for question in questions[0]])
        pairs = [(question, LayerPath((1, 1, 1, 2))) for question in questions[1]]
        assert gap(evaluate(executor, pairs), evaluate(Executor(model, masks, keep_bytes=0), pairs)) < ATOL


POISON = VOCAB - 1


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "plain"])
@pytest.mark.parametrize("family", ["llama", "gemma2", "mixtral", "gpt2"])
def test_nan_stays_in_its_question(family: str, packed: bool) -> None:
    model, _, masks = lab(family)
    assert not any(POISON in tokens for question in QUESTIONS for tokens in (question.prompt, *question.choices))
    poisoned = Asked("poisoned", [5, POISON, 7, 8], [[1, 2], [3]])

    def poison(module: torch.nn.Module, args: tuple[Any, ...], embedded: torch.Tensor) -> torch.Tensor:
        return embedded.masked_fill((args[0] == POISON)[..., None], float("nan"))

    hook = model.hf_model.get_input_embeddings().register_forward_hook(poison)
    try:
        executor = Executor(model, masks if packed else None)
        for start in range(0, len(PAIRS), 6):
            pairs = PAIRS[start : start + 6]
            sick = [(poisoned, path) for _, path in pairs]
            found = evaluate(executor, [pair for both in zip(sick, pairs, strict=True) for pair in both])
            assert all(np.isnan(scores).all() for scores in found[::2])
            assert gap(found[1::2], expected(family)[start : start + 6]) < ATOL
    finally:
        hook.remove()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("family", ["llama", "gemma3", "mixtral"])
def test_on_cuda(family: str) -> None:
    model = PathModel(tiny(family).to("cuda"))
    masks = find_mask_form(model)
    assert masks is not None
    assert gap(evaluate(Executor(model, masks), PAIRS), expected(family)) < 1e-2
