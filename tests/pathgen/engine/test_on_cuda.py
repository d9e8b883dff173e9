"""On a CUDA device, in the dtypes that models run in there: packed, shared and mixed paths equal a plain loop's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import MIXED_PATHS, PROMPTS, VOCAB, padded, random_tokens, tiny
from oracle import Oracle

from pathgen.engine.executor import Executor
from pathgen.engine.mask_probe import find_mask_form
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.engine.token_rows import Row, packed_row, plain_rows
from pathgen.engine.vocabulary import float32_logits
from pathgen.paths.layer_path import LayerPath

DEVICE = "cuda"
HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
ROUNDING = {"bfloat16": 0.2, "float16": 0.025}
"""Largest gap in logits and log-probabilities from rounding alone: about four times what a CPU shows."""
CHOICES = (3, 1, 4)
NEW_TOKENS = 12

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def lab(family: str, dtype: str) -> tuple[PathModel, Oracle]:
    hf_model = tiny(family).to(DEVICE, HALVES[dtype])
    oracle = Oracle(hf_model)
    return PathModel(hf_model), oracle


def asked() -> list[tuple[str, list[int], list[list[int]]]]:
    """(name, prompt, choices) of made-up questions."""
    return [
        (f"q{number}", prompt, [random_tokens(count, 100 * number + count) for count in CHOICES])
        for number, prompt in enumerate(PROMPTS[:4])
    ]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3"])
def test_packed_choices_and_shared_prefixes(family: str, dtype: str) -> None:
    model, oracle = lab(family, dtype)
    masks = find_mask_form(model)
    assert masks is not None
    paths = [LayerPath(path) for path in MIXED_PATHS]
    rows: dict[str, Row] = {name: packed_row(name, prompt, choices) for name, prompt, choices in asked()}
    executor = Executor(model, masks)
    for half in (paths[:8], paths[8:]):  # the second call starts from kept states
        found = iter(executor.token_logprobs([(row, path) for row in rows.values() for path in half]))
        for _, prompt, choices in asked():
            for path in half:
                wanted = torch.cat([oracle.logprobs(prompt, choice, path) for choice in choices])
                assert np.abs(next(found) - wanted.cpu().numpy()).max() < ROUNDING[dtype]
    assert executor.work.layers_run < len(rows) * sum(path.depth for path in paths)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(("states", "hidden", "vocabulary"), [(1, 64, 1000), (37, 2048, 32001), (300, 64, 1000)])
@pytest.mark.parametrize("bias", [False, True])
def test_the_head_is_not_rounded(states: int, hidden: int, vocabulary: int, bias: bool, dtype: str) -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(hidden, vocabulary, bias=bias).to(DEVICE, HALVES[dtype]).requires_grad_(False)
    given = torch.randn(states, 1, hidden).to(DEVICE, HALVES[dtype])
    with torch.inference_mode():
        found, rounded = float32_logits(head, given), head(given)
    wanted = given.double() @ head.weight.double().T + (head.bias.double() if bias else 0)
    assert found.dtype == torch.float32
    assert found.shape == (states, 1, vocabulary)
    off, off_if_rounded = ((logits.double() - wanted).abs().max() for logits in (found, rounded))
    assert off < 2e-5 * wanted.abs().max()
    assert off < off_if_rounded / 10


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_logits_of_states_are_float32(family: str, dtype: str) -> None:
    model, _ = lab(family, dtype)
    ids = torch.tensor([PROMPTS[0]], device=DEVICE)
    full = FixedPaths([LayerPath.full(model.num_layers)])
    found = model.head(model.states(ids, policy=full)[0])
    wanted = model.logits(ids, policy=full)[0]
    assert found.dtype == torch.float32
    assert (found != found.to(HALVES[dtype]).float()).any(), "rounded to the model's dtype"
    assert (found - wanted.float()).abs().max() < ROUNDING[dtype]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("family", ["llama", "gemma3", "mistral"])  # experts: rounding alone may choose others
def test_mixed_paths_decode(family: str, dtype: str) -> None:
    model, oracle = lab(family, dtype)
    ids, mask = (tensor.to(DEVICE) for tensor in padded(PROMPTS, "left"))
    policy = FixedPaths(LayerPath(path) for path in MIXED_PATHS)
    new = model.generate(ids, mask, policy=policy, max_new_tokens=NEW_TOKENS)[:, ids.shape[1] :]
    for row, (prompt, path) in enumerate(zip(PROMPTS, MIXED_PATHS, strict=True)):
        logits = oracle.logits(prompt + new[row].tolist(), path)[len(prompt) - 1 : -1].float()
        chosen = logits.gather(1, new[row, :, None])[:, 0]
        assert (logits.amax(1) - chosen).max() < ROUNDING[dtype], "greedy up to rounding"


def test_decoding_continues_from_a_shared_prefill() -> None:
    model, oracle = lab("llama", "bfloat16")
    rows = [(plain_rows(f"q{number}", prompt, [[1, 2]])[0], prompt) for number, prompt in enumerate(PROMPTS[:4])]
    paths = [LayerPath(path) for path in MIXED_PATHS[:2]]
    pairs = [(row, prompt, path) for row, prompt in rows for path in paths]
    _, cache = Executor(model, None).prefill([(row, path) for row, _, path in pairs])
    ids, mask = (tensor.to(DEVICE) for tensor in padded([prompt for _, prompt, _ in pairs], "left"))
    policy = FixedPaths(path for _, _, path in pairs)
    out = model.generate(ids, mask, policy=policy, cache=cache, max_new_tokens=NEW_TOKENS)
    new = out[:, ids.shape[1] :]
    assert new.shape == (len(pairs), NEW_TOKENS)
    assert int(new.max()) < VOCAB
    for row, (_, prompt, path) in enumerate(pairs):
        logits = oracle.logits(prompt + new[row].tolist(), path)[len(prompt) - 1 : -1].float()
        assert (logits.amax(1) - logits.gather(1, new[row, :, None])[:, 0]).max() < ROUNDING["bfloat16"]
