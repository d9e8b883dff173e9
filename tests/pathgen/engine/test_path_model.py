"""A routed batch gives each row what the stock model, rebuilt along that row's path, gives it alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch
from families import (
    FAMILIES,
    LAYERS,
    MIXED_PATHS,
    PROMPTS,
    REFUSED,
    SLIDING,
    padded,
    refused,
    tiny,
)
from oracle import Oracle
from torch import Tensor

from pathgen.engine.cache import RoutedCache
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.engine.supported import UnsupportedModelError
from pathgen.paths.layer_path import LayerPath

ATOL = 1e-4
FULL = LayerPath.full(LAYERS)
NEW_TOKENS = 16
DECODE: dict[str, Any] = {"max_new_tokens": NEW_TOKENS, "return_dict_in_generate": True, "output_logits": True}


@cache
def lab(family: str, attention: str | None = None) -> tuple[PathModel, Oracle]:
    """A wrapped model and an oracle over a copy taken before wrapping."""
    hf_model = tiny(family, attention=attention)
    oracle = Oracle(hf_model)
    return PathModel(hf_model), oracle


@cache
def expected_logits(family: str, attention: str | None, row: int) -> Tensor:
    return lab(family, attention)[1].logits(PROMPTS[row], MIXED_PATHS[row])


def fixed(paths: Sequence[Sequence[int]]) -> FixedPaths:
    return FixedPaths(LayerPath(path) for path in paths)


def assert_prefill_exact(family: str, side: str, attention: str | None = None) -> None:
    ids, mask = padded(PROMPTS, side)
    logits = lab(family, attention)[0].logits(ids, mask, policy=fixed(MIXED_PATHS))
    for row in range(len(PROMPTS)):
        torch.testing.assert_close(
            logits[row, mask[row] == 1], expected_logits(family, attention, row), atol=ATOL, rtol=0
        )


def assert_decode_exact(
    model: PathModel, oracle: Oracle, prompts: Sequence[Sequence[int]], paths: Sequence[Sequence[int]], **kwargs: Any
) -> None:
    """Every decode step's logits equal those of the oracle on the whole sequence so far, and are followed.

    The oracle is causal and keeps nothing, so one pass over the finished sequence holds all its steps.
    """
    ids, mask = padded(prompts, "left")
    found: Any = model.generate(ids, mask, policy=fixed(paths), **DECODE | kwargs)
    copies = len(found.sequences) // len(prompts)
    steps = torch.stack(found.logits, dim=1)  # [B, new, V]
    assert steps.shape[1] == NEW_TOKENS
    for row, sequence in enumerate(found.sequences):
        prompt, path = prompts[row // copies], paths[row // copies]
        tokens = [*prompt, *sequence[ids.shape[1] :].tolist()]
        expected = oracle.logits(tokens, path)[len(prompt) - 1 : -1]
        torch.testing.assert_close(steps[row], expected, atol=ATOL, rtol=0)
        if "do_sample" not in kwargs:
            assert sequence[ids.shape[1] :].tolist() == steps[row].argmax(-1).tolist()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", FAMILIES)
def test_prefill_of_mixed_paths(family: str, side: str) -> None:
    assert_prefill_exact(family, side)


@pytest.mark.parametrize("family", FAMILIES)
def test_paths_differ_enough_to_be_told_apart(family: str) -> None:
    """Else the other tests of this file would prove nothing."""
    _, oracle = lab(family)
    last = torch.stack([oracle.logits(PROMPTS[0], path)[-1] for path in MIXED_PATHS])
    gaps = (last[:, None] - last[None]).abs().amax(-1) + torch.eye(len(MIXED_PATHS)) * 1e9
    assert gaps.min() > 100 * ATOL


@pytest.mark.parametrize("family", FAMILIES)
def test_decode_of_mixed_paths(family: str) -> None:
    for batch in (1, 5, 16):
        rows = slice(1, 2) if batch == 1 else slice(0, batch)
        assert_decode_exact(*lab(family), PROMPTS[rows], MIXED_PATHS[rows])


def test_decode_of_64_rows() -> None:
    assert_decode_exact(*lab("llama"), PROMPTS * 4, [MIXED_PATHS[(5 * row) % 16] for row in range(64)])


@pytest.mark.parametrize("family", [*SLIDING, "gpt2", "opt"])
def test_decode_when_every_row_skips_layer_0(family: str) -> None:
    paths = [path for path in MIXED_PATHS if path[0] == 0]
    assert_decode_exact(*lab(family), PROMPTS[: len(paths)], paths)


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma3", "gpt2"])
def test_eager_attention(family: str) -> None:
    assert_prefill_exact(family, "left", "eager")
    assert_decode_exact(*lab(family, "eager"), PROMPTS[:5], MIXED_PATHS[:5])


class ReadsStates:
    """Decides by the mean state of a row's real tokens, and notes what it is asked."""

    def __init__(self) -> None:
        self.layers: list[int] = []
        self.masks: list[Tensor] = []
        self.decided: list[Tensor] = []

    def actions(self, layer: int, hidden: Tensor, prompt_mask: Tensor) -> Tensor:
        self.layers.append(layer)
        self.masks.append(prompt_mask)
        means = (hidden * prompt_mask[..., None]).sum((1, 2)) / prompt_mask.sum(1)
        self.decided.append((means * 2).floor().long() % 3)
        return self.decided[-1]

    def paths(self) -> list[LayerPath]:
        return [LayerPath(row) for row in torch.stack(self.decided, 1).tolist()]


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt_neox", "mixtral"])
def test_a_policy_reads_each_rows_own_states_once_per_layer(family: str) -> None:
    model, oracle = lab(family)
    policy = ReadsStates()
    ids, mask = padded(PROMPTS, "left")
    found: Any = model.generate(ids, mask, policy=policy, **DECODE)
    assert policy.layers == list(range(LAYERS)), "asked once per layer at prefill, never at decode"
    assert all(torch.equal(seen, mask) for seen in policy.masks)
    paths = policy.paths()
    assert {action for path in paths for action in path} == {0, 1, 2}
    for row, (prompt, path) in enumerate(zip(PROMPTS, paths, strict=True)):
        tokens = found.sequences[row, ids.shape[1] :].tolist()
        expected = oracle.logits(prompt + tokens, path)[len(prompt) - 1 : -1]
        torch.testing.assert_close(torch.stack(found.logits, 1)[row], expected, atol=ATOL, rtol=0)
        alone = ReadsStates()
        model.logits(torch.tensor([prompt]), policy=alone)
        assert alone.paths() == [path], "neither padding nor neighbours weigh in a decision"


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_policy_the_model_is_as_published(family: str) -> None:
    hf_model = tiny(family)
    ids, mask = padded(PROMPTS[:3], "left")

    def published() -> tuple[Tensor, Tensor]:
        logits = hf_model(input_ids=ids, attention_mask=mask).logits
        return logits, hf_model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=4, do_sample=False)

    before, weights = published(), copy.deepcopy(hf_model.state_dict())
    model = PathModel(hf_model)
    model.generate(ids, mask, policy=fixed(MIXED_PATHS[3:6]), max_new_tokens=2)
    for is_wrapped in (True, False):
        assert all(torch.equal(was, now) for was, now in zip(before, published(), strict=True))
        assert list(hf_model.state_dict()) == list(weights)
        assert all(torch.equal(weights[name], now) for name, now in hf_model.state_dict().items())
        assert all(("forward" in vars(layer)) == is_wrapped for layer in model.layers)
        if is_wrapped:
            model.unwrap()


def test_unwrap_gives_back_a_forward_that_was_set_before() -> None:
    hf_model = tiny("llama")
    layer = hf_model.model.layers[1]
    stock = layer.forward
    calls = []

    def hooked(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return stock(*args, **kwargs)

    layer.forward = hooked
    model = PathModel(hf_model)
    calls.clear()
    model.logits(torch.tensor([PROMPTS[0]]), policy=fixed([(1, 2, 1, 1)]))
    assert len(calls) == 2
    model.unwrap()
    assert layer.forward is hooked


def test_a_failing_policy_leaves_the_model_as_published() -> None:
    model, _ = lab("llama")
    ids = torch.tensor([PROMPTS[0]])
    before = model.hf_model(input_ids=ids).logits
    with pytest.raises(ValueError, match="rows"):
        model.logits(ids, policy=fixed(MIXED_PATHS[:2]))
    assert torch.equal(before, model.hf_model(input_ids=ids).logits)


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2"])
def test_beams_carry_their_rows_path(family: str) -> None:
    model, oracle = lab(family)
    prompts, paths = [PROMPTS[1], PROMPTS[0]], [MIXED_PATHS[3], MIXED_PATHS[1]]
    ids, mask = padded(prompts, "left")
    beams: dict[str, Any] = {"max_new_tokens": 8, "num_beams": 3, "do_sample": False}
    together = model.generate(ids, mask, policy=fixed(paths), **beams)
    for row, (prompt, path) in enumerate(zip(prompts, paths, strict=True)):
        alone = oracle.along(path).generate(torch.tensor([prompt]), use_cache=False, **beams)
        assert together[row, ids.shape[1] :].tolist() == alone[0, len(prompt) :].tolist()


def test_samples_of_a_row_share_its_path() -> None:
    torch.manual_seed(0)
    model, oracle = lab("llama")
    assert_decode_exact(model, oracle, PROMPTS[:3], MIXED_PATHS[1:4], do_sample=True, num_return_sequences=4)


def test_a_policy_reads_each_row_once_however_often_it_is_copied() -> None:
    model, _ = lab("llama")
    ids, mask = padded(PROMPTS[:4], "left")
    once, copied = ReadsStates(), ReadsStates()
    model.generate(ids, mask, policy=once, max_new_tokens=1)
    model.generate(ids, mask, policy=copied, max_new_tokens=1, num_beams=3)
    assert copied.paths() == once.paths()
    assert len(set(once.paths())) > 1


def test_prefill_in_chunks() -> None:
    assert_decode_exact(*lab("mistral"), PROMPTS[:5], MIXED_PATHS[:5], prefill_chunk_size=4)


def test_fixed_paths_must_fit_the_batch_and_the_model() -> None:
    model, _ = lab("llama")
    ids, mask = padded(PROMPTS[:2], "left")
    with pytest.raises(ValueError, match="3 paths for a batch of 2 rows"):
        model.logits(ids, mask, policy=fixed(MIXED_PATHS[:3]))
    for layers in (LAYERS - 1, LAYERS + 1):
        with pytest.raises(ValueError, match=f"paths of {layers} layers for a model of {LAYERS}"):
            model.generate(ids, mask, policy=FixedPaths([LayerPath.full(layers)] * 2), max_new_tokens=1)
    with pytest.raises(ValueError, match="one action per layer"):
        FixedPaths([LayerPath.full(4), LayerPath.full(5)])


def test_a_policy_must_answer_once_per_row() -> None:
    class OneForAll:
        def actions(self, layer: int, hidden: Tensor, prompt_mask: Tensor) -> Tensor:
            return torch.ones(1)

    model, _ = lab("llama")
    with pytest.raises(ValueError, match="one action per row"):
        model.logits(*padded(PROMPTS[:2], "left"), policy=OneForAll())


@pytest.mark.parametrize("name", REFUSED)
def test_refused_families_are_named_with_the_reason(name: str) -> None:
    hf_model = refused(name)
    with pytest.raises(UnsupportedModelError) as caught:
        PathModel(hf_model)
    assert str(caught.value).startswith(f"{name}: ")
    assert REFUSED[name][2] in str(caught.value)
    assert not any("forward" in vars(module) for module in hf_model.modules()), "left as it was"


def test_bfloat16() -> None:
    hf_model = tiny("llama").to(torch.bfloat16)
    oracle = Oracle(hf_model)
    model = PathModel(hf_model)
    ids, mask = padded(PROMPTS, "left")
    logits = model.logits(ids, mask, policy=fixed(MIXED_PATHS))
    assert logits.dtype == torch.bfloat16
    for row, (prompt, path) in enumerate(zip(PROMPTS, MIXED_PATHS, strict=True)):
        torch.testing.assert_close(logits[row, mask[row] == 1], oracle.logits(prompt, path), atol=0.12, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("family", ["llama", "gemma3", "mixtral"])
def test_on_cuda(family: str) -> None:
    hf_model = tiny(family).to("cuda")
    oracle = Oracle(hf_model)
    ids, mask = (tensor.to("cuda") for tensor in padded(PROMPTS, "left"))
    out = PathModel(hf_model).generate(ids, mask, policy=fixed(MIXED_PATHS), max_new_tokens=NEW_TOKENS)
    for row, (prompt, path) in enumerate(zip(PROMPTS, MIXED_PATHS, strict=True)):
        tokens = prompt + out[row, ids.shape[1] :].tolist()
        logits = oracle.logits(tokens, path)[len(prompt) - 1 : -1]
        chosen = logits.gather(1, out[row, ids.shape[1] :, None])[:, 0]
        assert (logits.amax(1) - chosen).max() < 1e-3, "greedy up to rounding"


def test_generation_without_a_cache_is_refused(tiny_model):
    model = PathModel.from_pretrained(str(tiny_model))
    ids = torch.tensor([[1, 2, 3]])
    with pytest.raises(ValueError, match="needs the cache"):
        model.generate(ids, policy=FixedPaths([LayerPath.full(6)]), use_cache=False)


def test_a_checkpoint_that_switches_the_cache_off_generates_the_same(tiny_model):
    model = PathModel.from_pretrained(str(tiny_model))
    ids, policy = torch.tensor([[1, 2, 3]]), FixedPaths([LayerPath([1, 0, 2, 1, 1, 1])])
    usual = model.generate(ids, policy=policy, max_new_tokens=6)
    model.hf_model.generation_config.use_cache = False
    assert torch.equal(model.generate(ids, policy=policy, max_new_tokens=6), usual)


@pytest.mark.parametrize(
    ("call", "wrong"),
    [
        (lambda model, ids, policy: model.logits(ids, policy=[FULL]), r"policy is list; FixedPaths\(paths\) follows"),
        (lambda model, ids, policy: model.logits("hello", policy=policy), "input_ids is str"),
        (lambda model, ids, policy: model.states([[1]], policy=policy), "input_ids is list"),
        (lambda model, ids, policy: model.logits(ids, past_key_values=1, policy=policy), "leave out past_key_values"),
        (lambda model, ids, policy: model.generate(ids, past_key_values=1, policy=policy), "leave out past_key_values"),
        (lambda model, ids, policy: model.generate(ids, inputs_embeds=1, policy=policy), "leave out inputs_embeds"),
        (lambda model, ids, policy: model.generate(ids.repeat(2, 1), policy=policy, max_new_tokens=1), "1 paths for"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(call: Any, wrong: str) -> None:
    model, _ = lab("llama")
    with pytest.raises(ValueError, match=wrong) as caught:
        call(model, torch.tensor([PROMPTS[0]]), fixed([FULL]))
    assert "\n" not in str(caught.value)


def test_a_cache_serves_one_generate() -> None:
    model, _ = lab("llama")
    ids, cache = torch.tensor([PROMPTS[0]]), RoutedCache(LAYERS)
    asked: dict[str, Any] = {"policy": fixed([(1, 0, 2, 1)]), "max_new_tokens": 4}
    first = model.generate(ids, cache=cache, **asked)
    with pytest.raises(ValueError, match=r"it was used before; a cache serves one generate"):
        model.generate(ids, cache=cache, **asked)
    again = model.generate(first, cache=cache, **asked)  # its own prompts, continued
    assert torch.equal(again, model.generate(ids, policy=asked["policy"], max_new_tokens=8))
