"""Over bridges, every row still gets what a plain loop over the stock layers and the written-out maps gives it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from families import LAYERS, MIXED_PATHS, PROMPTS, padded, random_tokens, tiny
from oracle import Oracle
from torch import Tensor

from pathgen.bridges.maps import Bridge, Bridges
from pathgen.engine.executor import Executor
from pathgen.engine.mask_probe import find_mask_form
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.engine.token_rows import Row, packed_row, plain_rows
from pathgen.paths.layer_path import LayerPath

ATOL = 1e-4
FAMILIES = ("llama", "gpt2", "gemma3", "qwen3", "mixtral", "gpt_neox")
WIDTH, RANK = 32, 3
PATHS = [LayerPath(path) for path in MIXED_PATHS]
"""Skips of layer 0, of all layers and of all but one, and repeats, among others."""


def random_bridges(seed: int, layers: int = LAYERS, width: int = WIDTH) -> Bridges:
    """Maps that change a state about as much as a layer does: even layers' whole, odd layers' of rank `RANK`."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.3

    return Bridges(
        tuple(
            Bridge(random(RANK, width), random(width, RANK), random(width))
            if layer % 2
            else Bridge(random(width, width), None, random(width))
            for layer in range(layers)
        )
    )


def written_out(bridges: Bridges) -> list[tuple[Tensor, Tensor]]:
    """Each map as one matrix [H, H] and its bias [H], for the oracle."""
    return [
        (each.down if each.up is None else each.up.double() @ each.down.double(), each.bias) for each in bridges.maps
    ]


BRIDGES, OTHERS = random_bridges(0), random_bridges(1)


@cache
def lab(family: str) -> tuple[PathModel, Oracle, Oracle, Oracle]:
    """A model, and oracles over BRIDGES, over OTHERS and without any."""
    hf_model = tiny(family)
    oracles = (Oracle(hf_model, written_out(BRIDGES)), Oracle(hf_model, written_out(OTHERS)), Oracle(hf_model))
    return PathModel(hf_model), *oracles


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=ATOL, rtol=0)


def generated(model: PathModel, rows: slice, **kwargs: Any) -> tuple[Tensor, Tensor]:
    """New tokens [B, new] and their logits [B, new, V]."""
    ids, mask = padded(PROMPTS[rows], "left")
    found: Any = model.generate(
        ids, mask, policy=FixedPaths(PATHS[rows]), output_logits=True, return_dict_in_generate=True, **kwargs
    )
    return found.sequences[:, ids.shape[1] :], torch.stack(found.logits, 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_forward_of_mixed_paths(family: str) -> None:
    model, oracle, _, plain = lab(family)
    wanted = [oracle.logits(prompt, path) for prompt, path in zip(PROMPTS, PATHS, strict=True)]
    for side in ("left", "right"):
        ids, mask = padded(PROMPTS, side)
        with model.bridged(BRIDGES):
            logits = model.logits(ids, mask, policy=FixedPaths(PATHS))
        for row, path in enumerate(PATHS):
            close(logits[row, mask[row] == 1], wanted[row])
            if 0 in path:  # else the maps could be left out unseen
                assert (wanted[row] - plain.logits(PROMPTS[row], path)).abs().max() > 100 * ATOL


@pytest.mark.parametrize("family", FAMILIES)
def test_cached_decode_is_the_plain_loops_greedy(family: str) -> None:
    model, oracle, _, _ = lab(family)
    rows = slice(0, 12)
    with model.bridged(BRIDGES):
        tokens, logits = generated(model, rows, max_new_tokens=8)
    for place, (prompt, path) in enumerate(zip(PROMPTS[rows], PATHS[rows], strict=True)):
        so_far, steps = list(prompt), []
        for _ in range(8):
            steps.append(oracle.logits(so_far, path)[-1])
            so_far.append(int(steps[-1].argmax()))
        assert tokens[place].tolist() == so_far[len(prompt) :]
        close(logits[place], torch.stack(steps))


@pytest.mark.parametrize("family", FAMILIES)
def test_cached_decode_equals_the_forward_of_the_longer_sequence(family: str) -> None:
    """Within the engine, with tokens sampled, so that rows with equal paths differ."""
    model, _, _, _ = lab(family)
    rows = slice(0, 8)
    torch.manual_seed(0)
    with model.bridged(BRIDGES):
        tokens, logits = generated(model, rows, max_new_tokens=8, do_sample=True)
        whole = [[*prompt, *new] for prompt, new in zip(PROMPTS[rows], tokens.tolist(), strict=True)]
        forward = model.logits(*padded(whole, "left"), policy=FixedPaths(PATHS[rows]))
    close(logits, forward[:, -9:-1])


@pytest.mark.parametrize("family", ["gemma3", "gpt2"])
def test_beams_keep_bridged_rows(family: str) -> None:
    model, oracle, _, _ = lab(family)
    prompts, paths = [PROMPTS[1], PROMPTS[0], PROMPTS[4]], [PATHS[3], PATHS[1], PATHS[15]]
    beams: dict[str, Any] = {"max_new_tokens": 8, "num_beams": 3, "do_sample": False}
    ids, mask = padded(prompts, "left")
    with model.bridged(BRIDGES):
        together = model.generate(ids, mask, policy=FixedPaths(paths), **beams)
    for row, (prompt, path) in enumerate(zip(prompts, paths, strict=True)):
        alone = oracle.along(path).generate(torch.tensor([prompt]), use_cache=False, **beams)
        assert together[row, ids.shape[1] :].tolist() == alone[0, len(prompt) :].tolist()


# Scores of many paths at once.

CHOICES = [random_tokens(count, 70 + count) for count in (2, 4, 1)]
ASKED = [(number, path) for path in PATHS for number in (0, 3)]
"""Two prompts, each along every path: most states are shared."""


def rows_of(number: int, packed: bool) -> list[Row]:
    key, prompt = f"q{number}", PROMPTS[number]
    return [packed_row(key, prompt, CHOICES)] if packed else plain_rows(key, prompt, CHOICES)


def scores(executor: Executor, asked: Sequence[tuple[int, LayerPath]]) -> list[np.ndarray]:
    """Per pair, the log-probabilities of all choices' tokens, choice after choice."""
    rows = [(row, path) for number, path in asked for row in rows_of(number, executor.masks is not None)]
    flat = np.concatenate(executor.token_logprobs(rows))
    return np.split(flat, len(asked))


def wanted_scores(oracle: Oracle, asked: Sequence[tuple[int, LayerPath]]) -> list[np.ndarray]:
    return [
        np.concatenate([oracle.logprobs(PROMPTS[number], choice, path) for choice in CHOICES]) for number, path in asked
    ]


def layers_needed(asked: Sequence[tuple[int, LayerPath]], *, after_a_map: bool = False) -> int:
    """Different ways, maps included, that end with a layer; with `after_a_map`, only those that lead through a map."""
    ways = set()
    for number, path in asked:
        way: tuple[str, ...] = ()
        for layer, times in enumerate(path):
            for _ in range(times):
                way = (*way, f"layer {layer}")
                if not after_a_map or any(step.startswith("map") for step in way):
                    ways.add((number, way))
            if not times:
                way = (*way, f"map {layer}")
    return len(ways)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_with_shared_states(family: str) -> None:
    model, oracle, _, _ = lab(family)
    wanted = wanted_scores(oracle, ASKED)
    for masks in (find_mask_form(model), None):
        for keep_bytes in (20_000, 1 << 30):  # the first holds a few states and is exceeded all the time
            executor = Executor(model, masks, keep_bytes)
            executor.step_tokens = 64  # a few states a step, so that steps are cut as well
            with model.bridged(BRIDGES):
                found = [each for start in range(0, 32, 8) for each in scores(executor, ASKED[start : start + 8])]
            assert max(np.abs(a - b).max() for a, b in zip(found, wanted, strict=True)) < ATOL
    assert executor.work.layers_run == len(CHOICES) * layers_needed(ASKED) < len(CHOICES) * 2 * sum(map(sum, PATHS))


def test_kept_states_are_of_the_bridges_at_hand() -> None:
    model, over, over_others, plain = lab("llama")
    executor = Executor(model, find_mask_form(model))
    asked = ASKED[:14]
    for bridges, oracle in [(None, plain), (BRIDGES, over), (OTHERS, over_others), (BRIDGES, over), (None, plain)]:
        ran = executor.work.layers_run
        with model.bridged(bridges):
            found = scores(executor, asked)
            again = scores(executor, asked)
        assert max(np.abs(a - b).max() for a, b in zip(found, wanted_scores(oracle, asked), strict=True)) < ATOL
        assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))
        if bridges is not None:
            needed = layers_needed(asked, after_a_map=True)  # states before any map are everybody's
            assert executor.work.layers_run == ran + needed, "nothing is taken from others, or run twice"


@pytest.mark.parametrize("family", ["gemma3", "gpt2", "gpt_neox"])
def test_generation_from_shared_prefill(family: str) -> None:
    model, oracle, _, _ = lab(family)
    executor = Executor(model, None)
    rows = [plain_rows(number, prompt, [CHOICES[0]])[0] for number, prompt in enumerate(PROMPTS)]
    with model.bridged(BRIDGES):
        for part in (slice(0, 5), slice(0, 12)):  # the second finds states of the first
            logprobs, filled = executor.prefill(list(zip(rows[part], PATHS[part], strict=True)))
            tokens, logits = generated(model, part, max_new_tokens=6, cache=filled)
            plain_tokens, plain_logits = generated(model, part, max_new_tokens=6)
            assert torch.equal(tokens, plain_tokens)
            close(logits, plain_logits)
    for found, prompt, path in zip(logprobs, PROMPTS, PATHS, strict=False):
        close(torch.from_numpy(found), oracle.logprobs(prompt, CHOICES[0], path))


# What bridges must not change, and what is refused.


def test_without_a_skip_or_without_bridges_all_is_as_before_bit_for_bit() -> None:
    hf_model = tiny("llama")
    model = PathModel(hf_model)
    ids, mask = padded(PROMPTS[:3], "left")
    published = hf_model(input_ids=ids, attention_mask=mask).logits
    no_skips = FixedPaths([LayerPath.full(LAYERS), LayerPath([2, 1, 1, 1]), LayerPath([2, 2, 2, 2])])
    skips = FixedPaths(PATHS[1:4])
    full = [(number, LayerPath.full(LAYERS)) for number in (0, 3)]

    def outputs(policy: FixedPaths) -> list[Tensor]:
        return [
            model.logits(ids, mask, policy=policy),
            model.states(ids, mask, policy=policy),
            model.generate(ids, mask, policy=policy, max_new_tokens=4),
            *map(torch.from_numpy, scores(Executor(model, None), full)),
        ]

    before = outputs(no_skips), outputs(skips)
    with model.bridged(BRIDGES):
        assert all(map(torch.equal, outputs(no_skips), before[0]))
        assert not torch.equal(outputs(skips)[0], before[1][0])
        assert torch.equal(hf_model(input_ids=ids, attention_mask=mask).logits, published), "no policy, no bridges"
    assert all(map(torch.equal, outputs(skips), before[1]))


@pytest.mark.parametrize("bridges", [random_bridges(0, layers=LAYERS + 1), random_bridges(0, width=WIDTH // 2)])
def test_bridges_of_another_shape_are_refused(bridges: Bridges) -> None:
    model = lab("llama")[0]
    with pytest.raises(ValueError, match=f"a model of {LAYERS} of {WIDTH}"), model.bridged(bridges):
        pass
    assert model.bridges is None


def test_bfloat16_models_get_the_maps_in_their_dtype() -> None:
    hf_model = tiny("llama").to(torch.bfloat16)
    oracle = Oracle(hf_model, written_out(BRIDGES))
    model = PathModel(hf_model)
    model.use_bridges(BRIDGES)
    assert model.bridges is not None
    assert {each.bias.dtype for each in model.bridges.maps} == {torch.bfloat16}
    ids, mask = padded(PROMPTS, "left")
    logits = model.logits(ids, mask, policy=FixedPaths(PATHS))
    assert logits.dtype == torch.bfloat16
    for row, (prompt, path) in enumerate(zip(PROMPTS, PATHS, strict=True)):
        torch.testing.assert_close(logits[row, mask[row] == 1], oracle.logits(prompt, path), atol=0.15, rtol=0)
