"""Layers with convolution windows and recurrent states: along paths, from a cache, and branched from a prompt's end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from families import HYBRIDS, LAYERS, MECHANISMS, MIXED_PATHS, PROMPTS, padded, random_tokens, tiny
from oracle import LoopOracle

from pathgen.engine.cache import RoutedCache
from pathgen.engine.executor import Executor
from pathgen.engine.mask_probe import find_mask_form
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.engine.token_rows import Row, plain_rows
from pathgen.paths.layer_path import LayerPath

ATOL = 3e-3
"""Chunks of a recurrence are rounded apart; transformers' own cached steps differ as much from a whole forward."""
ROWS = 9
ALL = [name if name in MECHANISMS else pytest.param(name, marks=pytest.mark.slow) for name in HYBRIDS]
GENERATE: dict[str, Any] = {"max_new_tokens": 6, "return_dict_in_generate": True, "output_logits": True}


@cache
def lab(family: str) -> tuple[PathModel, LoopOracle]:
    hf_model = tiny(family)
    oracle = LoopOracle(hf_model)
    return PathModel(hf_model), oracle


def fixed(paths: Sequence[Sequence[int]]) -> FixedPaths:
    return FixedPaths(LayerPath(path) for path in paths)


def assert_steps(
    found: Any,
    width: int,
    prompts: Sequence[Sequence[int]],
    paths: Sequence[Sequence[int]],
    oracle: LoopOracle,
    every: int = 1,
) -> None:
    """Each decode step's logits are the oracle's on all tokens so far; of each `every` rows, one is checked."""
    steps = torch.stack(found.logits, 1)
    for row, sequence in list(enumerate(found.sequences[:, width:].tolist()))[::every]:
        expected = oracle.logits([*prompts[row], *sequence], paths[row])[len(prompts[row]) - 1 : -1]
        torch.testing.assert_close(steps[row], expected, atol=ATOL, rtol=0)


@pytest.mark.parametrize("family", ALL)
def test_mixed_paths(family: str) -> None:
    model, oracle = lab(family)
    prompts, paths = PROMPTS[:ROWS], MIXED_PATHS[:ROWS]
    expected = [oracle.logits(prompt, path) for prompt, path in zip(prompts, paths, strict=True)]
    assert min((expected[0][0] - other[0]).abs().max() for other in expected[1:]) > 30 * ATOL, (
        "else this proves nothing"
    )
    for side in ("left", "right"):
        ids, mask = padded(prompts, side)
        logits = model.logits(ids, mask, policy=fixed(paths))
        for row, wanted in enumerate(expected):
            torch.testing.assert_close(logits[row, mask[row] == 1], wanted, atol=ATOL, rtol=0)
    ids, mask = padded(prompts, "left")
    assert_steps(model.generate(ids, mask, policy=fixed(paths), **GENERATE), ids.shape[1], prompts, paths, oracle)


@pytest.mark.parametrize("family", ["lfm2", "falcon_h1"])
def test_beams_move_states_with_their_rows(family: str) -> None:
    model, oracle = lab(family)
    prompts, paths = PROMPTS[:4], [MIXED_PATHS[at] for at in (0, 1, 3, 8)]
    ids, mask = padded(prompts, "left")
    found = model.generate(ids, mask, policy=fixed(paths), num_beams=3, **GENERATE, output_scores=True)
    for row, sequence in enumerate(found.sequences[:, ids.shape[1] :].tolist()):
        logits = oracle.logits([*prompts[row], *sequence], paths[row])[len(prompts[row]) - 1 : -1]
        total = logits.log_softmax(-1)[range(len(sequence)), sequence].sum()
        # transformers divides by the number of new tokens, to the power of the length penalty 1
        torch.testing.assert_close(found.sequences_scores[row], total / len(sequence), atol=ATOL, rtol=0)


REORDERINGS: dict[str, tuple[Callable[[RoutedCache], None], list[int]]] = {
    "select": (lambda held: held.batch_select_indices(torch.tensor([3, 1])), [3, 1]),
    "repeat": (lambda held: held.batch_repeat_interleave(2), [0, 0, 1, 1, 2, 2, 3, 3]),
}


@pytest.mark.parametrize("reordering", REORDERINGS)
@pytest.mark.parametrize("family", ["lfm2", "bamba"])
def test_rows_of_a_filled_cache_move(family: str, reordering: str) -> None:
    model, oracle = lab(family)
    prompts, paths = [*PROMPTS[:2], *PROMPTS[3:5]], MIXED_PATHS[:4]
    ids, mask = padded(prompts, "left")
    held, policy = model.new_cache(), fixed(paths)
    first = model.generate(ids, mask, policy=policy, cache=held, max_new_tokens=3)
    move, order = REORDERINGS[reordering]
    move(held)
    ids = first[order]
    mask = torch.nn.functional.pad(mask[order], (0, 3), value=1)
    chosen = [paths[row] for row in order]
    found = model.generate(ids, mask, policy=fixed(chosen), cache=held, **GENERATE)
    known = [ids[row, mask[row] == 1].tolist() for row in range(len(order))]
    assert_steps(found, ids.shape[1], known, chosen, oracle)


def test_a_skipped_layer_stores_nothing_and_a_repeat_has_a_state_of_its_own() -> None:
    model, _ = lab("lfm2")
    held = model.new_cache()
    model.generate(torch.tensor([PROMPTS[0]]), policy=fixed([(2, 1, 0, 1)]), cache=held, max_new_tokens=1)
    assert sorted(held.slots) == [(0, 0), (0, 1), (1, 0), (3, 0)]
    window, keys = 32 * model.config.conv_L_cache * 4, 2 * len(PROMPTS[0]) * 2 * 8 * 4
    assert held.nbytes == 3 * window + keys
    assert not torch.equal(held.slots[0, 0].conv_states[0], held.slots[0, 1].conv_states[0])


@pytest.mark.parametrize("family", ["lfm2", "bamba"])
def test_a_state_cannot_be_cropped(family: str) -> None:
    model, _ = lab(family)
    held = model.new_cache()
    model.generate(torch.tensor([PROMPTS[0]]), policy=fixed([(1, 1, 1, 1)]), cache=held, max_new_tokens=1)
    assert not held.is_croppable
    held.crop(0)
    with pytest.raises(ValueError, match="no token can be removed: generate without speculative decoding"):
        held.crop(-1)
    assert held.get_seq_length() == len(PROMPTS[0])


# Choices branch from the state at the prompt's end.

PATHS = [LayerPath(path) for path in MIXED_PATHS[:ROWS]]


@cache
def rows_of(prompt: int) -> list[Row]:
    return plain_rows(prompt, PROMPTS[prompt], [random_tokens(count, seed=50 + prompt + count) for count in (3, 1, 5)])


@pytest.mark.parametrize(("family", "keep_bytes"), [("lfm2", 0), *((family, 1 << 30) for family in MECHANISMS)])
def test_choices_score_as_in_a_row_of_their_own(family: str, keep_bytes: int) -> None:
    """Prompts of 14, 9, 1 and 11 tokens in one call; the second call finds kept states, of other widths."""
    model, oracle = lab(family)
    executor = Executor(model, None, keep_bytes)
    executor.step_tokens = 128  # a few states a step, so that steps are cut as well
    pairs = [(row, path) for path in PATHS for prompt in (0, 1, 2, 3) for row in rows_of(prompt)]
    some, rest = pairs[:30], pairs[24:]
    found = [*executor.token_logprobs(some), *executor.token_logprobs(rest)]
    for (row, path), logprobs in list(zip([*some, *rest], found, strict=True))[::7]:
        wanted = oracle.logprobs(PROMPTS[row.stem_key[0]], row.targets.tolist(), path)
        torch.testing.assert_close(torch.from_numpy(logprobs), wanted, atol=ATOL, rtol=0)


@pytest.mark.parametrize("family", MECHANISMS)
def test_generation_goes_on_from_the_prompt_that_was_scored(family: str) -> None:
    model, oracle = lab(family)
    executor = Executor(model, None)
    for wanted in ((0, 1, 2), (2, 3), (2,)):  # with a prompt of one token, and alone
        pairs = [(rows_of(prompt)[0], path) for prompt in wanted for path in PATHS]
        _, held = executor.prefill(pairs)
        prompts = [PROMPTS[row.stem_key[0]] for row, _ in pairs]
        ids, mask = padded(prompts, "left")
        assert held.length == ids.shape[1] - 1
        found = model.generate(ids, mask, policy=FixedPaths(path for _, path in pairs), cache=held, **GENERATE)
        assert_steps(found, ids.shape[1], prompts, [path for _, path in pairs], oracle, every=4)


def test_the_prompt_runs_once_for_all_its_choices() -> None:
    executor = Executor(lab("lfm2")[0], None)
    rows, full = rows_of(0), LayerPath.full(LAYERS)
    executor.token_logprobs([(row, full) for row in rows])
    stem, tails = len(PROMPTS[0]) - 1, 3 * max(len(row.targets) for row in rows)
    assert executor.work.token_layers == LAYERS * (stem + tails)
    assert executor.work.layers_run == LAYERS * (1 + len(rows))
    assert set(executor.work.layers_run_by_row) == {rows[0].stem_key, *(row.key for row in rows)}
    before = executor.work.token_layers
    executor.token_logprobs([(row, full) for row in rows])
    assert executor.work.token_layers == before, "all states are kept"
    assert set(executor.influence) >= {row.key for row in rows}


def test_families_that_start_a_recurrence_anew_have_rows_of_their_own() -> None:
    assert [name for name in MECHANISMS if lab(name)[0].restrictions.single_steps] == ["jamba"]
    executor = Executor(lab("jamba")[0], None)
    rows = rows_of(0)
    executor.token_logprobs([(row, LayerPath.full(LAYERS)) for row in rows])
    assert executor.work.token_layers == LAYERS * len(rows) * max(map(len, rows))


def test_choices_are_never_packed() -> None:
    assert all(find_mask_form(lab(name)[0]) is None for name in MECHANISMS)


def test_bridges_run_on_the_place_of_a_recurrent_layer() -> None:
    """Scores with bridges are those of a batch of whole rows."""
    from pathgen.bridges.maps import Bridge, Bridges

    model, _ = lab("qwen3_next")
    torch.manual_seed(0)
    maps = tuple(
        Bridge(torch.randn(4, 32) * 0.1, torch.randn(32, 4) * 0.1, torch.randn(32) * 0.1) for _ in range(LAYERS)
    )
    rows, path = rows_of(1), LayerPath([0, 1, 2, 0])
    with model.bridged(Bridges(maps)):
        branched = Executor(model, None).token_logprobs([(row, path) for row in rows])
        ids, mask = padded([row.ids.tolist() for row in rows], "right")
        logits = model.logits(ids, mask, policy=fixed([path] * len(rows))).log_softmax(-1)
    for index, (row, found) in enumerate(zip(rows, branched, strict=True)):
        wanted = logits[index, row.scored[row.predicts], row.targets].numpy()
        np.testing.assert_allclose(found, wanted, atol=ATOL)
