"""The routed cache: what it stores, and that it stays in step when it is cropped, reordered or filled early."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
import torch
from families import LAYERS, MIXED_PATHS, PROMPTS, padded, random_tokens, tiny
from oracle import Oracle
from torch import Tensor

from pathgen.engine.cache import RoutedCache
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.paths.layer_path import LayerPath

ATOL = 1e-4
ROW_BYTES_PER_TOKEN = 2 * 2 * 8 * 4
"""Keys and values x 2 heads x 8 wide x float32: what one executed layer of the tiny llama stores for a token."""


@cache
def lab(family: str) -> tuple[PathModel, Oracle]:
    hf_model = tiny(family)
    oracle = Oracle(hf_model)
    return PathModel(hf_model), oracle


class Sequences:
    """A batch that is fed token by token through one cache, beside the plain lists of tokens it stands for."""

    def __init__(self, family: str, prompts: Sequence[Sequence[int]], paths: Sequence[Sequence[int]]):
        self.model, self.oracle = lab(family)
        self.rows = [list(prompt) for prompt in prompts]
        self.paths = list(paths)
        self.policy = FixedPaths(LayerPath(path) for path in paths)
        self.cache = RoutedCache(LAYERS)
        self.mask = torch.zeros(len(prompts), 0, dtype=torch.int64)
        self._feed(*padded(prompts, "left"))

    @torch.inference_mode()
    def _feed(self, ids: Tensor, mask: Tensor) -> Tensor:
        self.mask = torch.cat([self.mask, mask], dim=1)
        positions = (self.mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        with self.model.routed(self.policy, self.mask):
            return self.model.hf_model(
                input_ids=ids,
                attention_mask=self.mask,
                position_ids=positions,
                past_key_values=self.cache,
                use_cache=True,
            ).logits

    def select(self, index: Sequence[int]) -> None:
        self.rows = [list(self.rows[row]) for row in index]
        self.paths = [self.paths[row] for row in index]
        self.mask = self.mask[list(index)]

    def crop(self, tokens: int) -> None:
        self.cache.crop(-tokens)
        self.mask = self.mask[:, : self.mask.shape[1] - tokens]
        self.rows = [row[: len(row) - tokens] for row in self.rows]

    def feed_and_check(self, count: int) -> None:
        """Feed every row `count` more tokens at once; the logits must be those of the oracle without a cache."""
        more = [random_tokens(count, seed=100 + row) for row in range(len(self.rows))]
        logits = self._feed(torch.tensor(more), torch.ones(len(self.rows), count, dtype=torch.int64))
        for row, tokens in enumerate(more):
            self.rows[row] += tokens
            expected = self.oracle.logits(self.rows[row], self.paths[row])[-count:]
            torch.testing.assert_close(logits[row], expected, atol=ATOL, rtol=0)


FAMILIES_OF_INTEREST = ["llama", "gemma3", "gpt2", "gpt_neox"]


def test_a_skipped_layer_stores_nothing_and_a_repeat_has_two_slots() -> None:
    batch = Sequences("llama", [PROMPTS[0]], [(0, 1, 2, 1)])
    assert sorted(batch.cache.slots) == [(1, 0), (2, 0), (2, 1), (3, 0)]
    assert batch.cache.nbytes == 4 * len(PROMPTS[0]) * ROW_BYTES_PER_TOKEN


def test_bytes_are_those_of_the_rows_that_ran() -> None:
    batch = Sequences("llama", PROMPTS, MIXED_PATHS)
    width = max(map(len, PROMPTS))
    assert batch.cache.nbytes == sum(map(sum, MIXED_PATHS)) * width * ROW_BYTES_PER_TOKEN


def test_length_does_not_hang_on_layer_0() -> None:
    batch = Sequences("mistral", PROMPTS[:2], [(0, 1, 1, 1), (0, 0, 0, 0)])
    assert batch.cache.get_seq_length() == max(map(len, PROMPTS[:2]))
    batch.feed_and_check(1)
    assert batch.cache.get_seq_length() == max(map(len, PROMPTS[:2])) + 1
    assert batch.cache.get_mask_sizes(3, 0) == (batch.cache.get_seq_length() + 3, 0)


def test_length_when_no_row_runs_any_layer() -> None:
    batch = Sequences("llama", PROMPTS[:2], [(0, 0, 0, 0)] * 2)
    batch.feed_and_check(2)
    assert batch.cache.get_seq_length() == max(map(len, PROMPTS[:2])) + 2
    assert batch.cache.nbytes == 0


REORDERINGS: dict[str, tuple[Callable[[RoutedCache], None], list[int]]] = {
    "reorder": (lambda cache: cache.reorder_cache(torch.tensor([3, 0, 0, 5, 1, 1])), [3, 0, 0, 5, 1, 1]),
    "select": (lambda cache: cache.batch_select_indices(torch.tensor([5, 3])), [5, 3]),
    "none_left_to_run": (lambda cache: cache.batch_select_indices(torch.tensor([2, 2])), [2, 2]),
    "repeat": (lambda cache: cache.batch_repeat_interleave(2), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]),
}


@pytest.mark.parametrize("reordering", REORDERINGS)
@pytest.mark.parametrize("family", FAMILIES_OF_INTEREST)
def test_rows_move_with_their_paths(family: str, reordering: str) -> None:
    batch = Sequences(family, PROMPTS[:6], MIXED_PATHS[:6])
    batch.feed_and_check(2)
    move, order = REORDERINGS[reordering]
    move(batch.cache)
    batch.select(order)
    assert batch.cache.batch_size == len(order)
    batch.feed_and_check(1)
    batch.feed_and_check(3)


@pytest.mark.parametrize("family", FAMILIES_OF_INTEREST)
def test_crop_then_decode(family: str) -> None:
    batch = Sequences(family, [prompt for prompt in PROMPTS[:6] if len(prompt) > 4], MIXED_PATHS[1:6])
    batch.feed_and_check(3)
    batch.crop(5)  # into the prompt
    batch.feed_and_check(2)
    batch.crop(1)
    batch.crop(0)
    batch.feed_and_check(4)


def test_crop_refuses_what_it_cannot_do() -> None:
    batch = Sequences("llama", [[1, 2, 3]], [(1, 1, 1, 1)])
    for tokens in (1, -4):
        with pytest.raises(ValueError, match=f"3 tokens held; got {tokens}"):
            batch.cache.crop(tokens)
    assert batch.cache.get_seq_length() == 3


def test_speculative_decoding_crops_for_real() -> None:
    """Prompt lookup proposes tokens, most are refused, and the cache is cropped each time."""
    model, _ = lab("gemma3")
    prompt = torch.tensor([random_tokens(6, seed=1) * 3])
    policy = FixedPaths([LayerPath((0, 2, 1, 1))])
    cropped: list[int] = []

    class Counting(RoutedCache):
        def crop(self, tokens_to_remove: int) -> None:
            cropped.append(tokens_to_remove)
            super().crop(tokens_to_remove)

    plain = model.generate(prompt, policy=policy, max_new_tokens=16)
    speculative = model.generate(
        prompt, policy=policy, cache=Counting(LAYERS), max_new_tokens=16, prompt_lookup_num_tokens=3
    )
    assert torch.equal(plain, speculative)
    assert min(cropped) < 0


def test_generation_goes_on_from_a_filled_cache() -> None:
    prompts, paths = PROMPTS[:6], MIXED_PATHS[:6]
    batch = Sequences("mistral", prompts, paths)
    batch.feed_and_check(2)
    ids, mask = padded([[*row, 7] for row in batch.rows], "left")
    found: Any = batch.model.generate(
        ids,
        mask,
        policy=batch.policy,
        cache=batch.cache,
        max_new_tokens=6,
        output_logits=True,
        return_dict_in_generate=True,
    )
    assert batch.cache.get_seq_length() == ids.shape[1] + 5, "the last new token is not fed"
    for row, path in enumerate(paths):
        known = [*batch.rows[row], 7]
        tokens = known + found.sequences[row, ids.shape[1] :].tolist()
        expected = batch.oracle.logits(tokens, path)[len(known) - 1 : -1]
        torch.testing.assert_close(torch.stack(found.logits, 1)[row], expected, atol=ATOL, rtol=0)


def test_reset_forgets_tokens_and_paths() -> None:
    batch = Sequences("llama", PROMPTS[:2], MIXED_PATHS[3:5])
    batch.cache.reset()
    assert (batch.cache.get_seq_length(), batch.cache.batch_size, batch.cache.nbytes) == (0, -1, 0)
    ids = torch.tensor([PROMPTS[0]])
    policy = FixedPaths([LayerPath((1, 2, 0, 1))])
    reused = batch.model.generate(ids, policy=policy, cache=batch.cache, max_new_tokens=4)
    assert torch.equal(reused, batch.model.generate(ids, policy=policy, max_new_tokens=4))
