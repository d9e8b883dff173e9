"""Generation from shared prefill gives the tokens, scores and work that it should, whatever the paths share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from families import LAYERS, MIXED_PATHS, PROMPTS, padded, random_tokens, tiny
from oracle import Oracle

from pathgen.engine.cache import RoutedCache
from pathgen.engine.executor import Executor
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.engine.token_rows import Row, plain_rows
from pathgen.paths.layer_path import LayerPath

ATOL = 1e-4
NEW_TOKENS = 6
FAMILIES_OF_INTEREST = [
    *("llama", "qwen2", "qwen2_sliding", "mistral", "gemma3", "phi3"),
    *("gpt2", "gpt_neox", "opt", "mixtral", "gptj", "falcon", "gpt_oss"),
]

Pair = tuple[int, LayerPath]
"""(number of a prompt, path)."""

PATHS = [LayerPath(path) for path in MIXED_PATHS[:10]]
PAIRS: list[Pair] = [(prompt, path) for prompt in (0, 1, 2) for path in PATHS]
"""Prompts of 14, 9 and 1 tokens, each along every awkward path; all of them share states."""


@cache
def lab(family: str) -> tuple[PathModel, Oracle]:
    hf_model = tiny(family)
    oracle = Oracle(hf_model)
    return PathModel(hf_model), oracle


@cache
def row_of(prompt: int) -> Row:
    """The prompt with a reference answer of three tokens."""
    return plain_rows(prompt, PROMPTS[prompt], [random_tokens(3, seed=50 + prompt)])[0]


def prefill(executor: Executor, pairs: Sequence[Pair]) -> tuple[list[np.ndarray], RoutedCache]:
    return executor.prefill([(row_of(prompt), path) for prompt, path in pairs])


def generate(model: PathModel, pairs: Sequence[Pair], routed: RoutedCache | None) -> tuple[torch.Tensor, torch.Tensor]:
    """New tokens [B, new] and their logits [B, new, V]; with no cache, each row is prefilled anew."""
    ids, mask = padded([PROMPTS[prompt] for prompt, _ in pairs], "left")
    found: Any = model.generate(
        ids,
        mask,
        policy=FixedPaths(path for _, path in pairs),
        cache=routed,
        max_new_tokens=NEW_TOKENS,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return found.sequences[:, ids.shape[1] :], torch.stack(found.logits, 1)


@pytest.mark.parametrize("family", FAMILIES_OF_INTEREST)
def test_generation_from_shared_prefill_equals_that_without(family: str) -> None:
    model, oracle = lab(family)
    executor = Executor(model, None)
    executor.step_tokens = 64  # a few states a step, so that steps are cut as well
    logprobs, filled = prefill(executor, PAIRS)
    tokens, logits = generate(model, PAIRS, filled)
    plain_tokens, plain_logits = generate(model, PAIRS, None)
    assert torch.equal(tokens, plain_tokens)
    torch.testing.assert_close(logits, plain_logits, atol=ATOL, rtol=0)
    for place, (prompt, path) in list(enumerate(PAIRS))[::6]:
        row = row_of(prompt)
        wanted = oracle.logprobs(PROMPTS[prompt], row.targets.tolist(), path)
        torch.testing.assert_close(torch.from_numpy(logprobs[place]), wanted, atol=ATOL, rtol=0)
        whole = PROMPTS[prompt] + tokens[place].tolist()
        expected = oracle.logits(whole, path)[len(PROMPTS[prompt]) - 1 : -1]
        torch.testing.assert_close(logits[place], expected, atol=ATOL, rtol=0)


@pytest.mark.parametrize("keep_bytes", [0, 60_000, 1 << 30], ids=["none", "few", "all"])
@pytest.mark.parametrize("family", ["mistral", "gpt2"])
def test_what_earlier_calls_left_changes_nothing(family: str, keep_bytes: int) -> None:
    model, _ = lab(family)
    executor = Executor(model, None, keep_bytes)
    pairs = [pair for path in PATHS for pair in ((0, path), (3, path))]
    for start in range(0, len(pairs), 5):
        part = pairs[start : start + 5]
        logprobs, filled = prefill(executor, part)
        tokens, logits = generate(model, part, filled)
        plain_tokens, plain_logits = generate(model, part, None)
        assert torch.equal(tokens, plain_tokens)
        torch.testing.assert_close(logits, plain_logits, atol=ATOL, rtol=0)
        rows = [(row_of(prompt), path) for prompt, path in part]
        alone = Executor(model, None, keep_bytes=0).token_logprobs(rows)
        assert max(np.abs(a - b).max() for a, b in zip(logprobs, alone, strict=True)) < ATOL
        assert executor.kept.nbytes <= keep_bytes


def states_of(pairs: Sequence[Pair]) -> set[tuple[int, tuple[int, ...]]]:
    return {(prompt, path.executions[:length]) for prompt, path in pairs for length in range(1, path.depth + 1)}


def test_each_state_of_a_call_is_run_once_for_score_and_prefill() -> None:
    executor = Executor(lab("llama")[0], None, keep_bytes=0)
    prefill(executor, PAIRS)
    assert executor.work.layers_run == len(states_of(PAIRS)) < sum(path.depth for _, path in PAIRS)
    assert executor.work.token_layers == executor.work.layers_run * max(len(row_of(prompt)) for prompt, _ in PAIRS)


def test_each_state_is_run_once_over_all_calls_when_kept() -> None:
    executor = Executor(lab("llama")[0], None)
    for end in range(4, len(PAIRS) + 1, 4):
        prefill(executor, PAIRS[end - 4 : end])
        assert executor.work.layers_run == len(states_of(PAIRS[:end]))


def test_a_way_with_a_gap_is_run_again() -> None:
    """A state whose way here was forgotten, or was scored and not recorded, is no place to enter at."""
    executor = Executor(lab("llama")[0], None)
    full = LayerPath.full(LAYERS)
    executor.token_logprobs([(row_of(0), full)])
    prefill(executor, [(0, full)])
    assert executor.work.layers_run == 2 * LAYERS
    prefill(executor, [(0, full)])
    executor.token_logprobs([(row_of(0), full)])
    assert executor.work.layers_run == 2 * LAYERS


def test_the_cache_holds_what_prefill_stores_and_no_more() -> None:
    model, _ = lab("gemma3")
    _, filled = prefill(Executor(model, None), PAIRS)
    ids, mask = padded([PROMPTS[prompt][:-1] for prompt, _ in PAIRS], "left")
    plain = model.new_cache()
    with torch.inference_mode(), model.routed(FixedPaths(path for _, path in PAIRS), mask):
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        model.hf_model(ids, attention_mask=mask, position_ids=positions, past_key_values=plain, use_cache=True)
    assert filled.length == plain.length == max(map(len, PROMPTS)) - 1
    assert filled.nbytes == plain.nbytes
    assert sorted(filled.slots) == sorted(plain.slots)
    for where, slot in filled.slots.items():
        expected = plain.slots[where]
        layer, turn = where
        rows = [row for row, (_, path) in enumerate(PAIRS) if path[layer] > turn]
        assert slot.store is not None
        assert expected.store is not None
        for found, wanted in zip(slot.store, expected.store, strict=True):
            assert len(found) == len(rows)
            for place, row in enumerate(rows):
                seen = mask[row] == 1
                torch.testing.assert_close(found[place, :, seen], wanted[place, :, seen], atol=ATOL, rtol=0)


def test_prompts_of_one_token_leave_an_empty_cache() -> None:
    model, _ = lab("llama")
    pairs = [(2, path) for path in PATHS[:6]]
    _, filled = prefill(Executor(model, None), pairs)
    assert filled.get_seq_length() == 0
    assert torch.equal(generate(model, pairs, filled)[0], generate(model, pairs, None)[0])
