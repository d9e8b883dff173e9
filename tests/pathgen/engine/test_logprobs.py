"""Scores of a bfloat16 model are computed from its own states and weights, but in float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import LAYERS, VOCAB, random_tokens, tiny

from pathgen.engine import logprobs as module
from pathgen.engine.executor import Executor
from pathgen.engine.logprobs import float32_head
from pathgen.engine.path_model import PathModel
from pathgen.engine.token_rows import plain_rows
from pathgen.paths.layer_path import LayerPath

FULL = LayerPath.full(LAYERS)
PROMPT = random_tokens(9, 1)


def next_token_scores(model: PathModel) -> np.ndarray:
    """[V] log-probability of every token as the one after the prompt."""
    rows = plain_rows("q", PROMPT, [[token] for token in range(VOCAB)])
    return np.concatenate(Executor(model, None).token_logprobs([(row, FULL) for row in rows]))


def test_choices_of_one_token_do_not_tie():
    model = PathModel(tiny("llama").to(torch.bfloat16))
    scores = next_token_scores(model)
    ids = torch.tensor([PROMPT])
    coarse = model.hf_model(ids).logits[0, -1].float().log_softmax(-1)
    assert len(coarse.unique()) < VOCAB, "as the model itself has it, some tie"
    assert len(np.unique(scores)) == VOCAB
    assert np.abs(scores - coarse.numpy()).max() < 0.1


@pytest.mark.parametrize("family", ["llama", "gemma2", "gptj", "granite", "cohere2"])
def test_logits_are_those_of_the_same_weights_in_float32(family, monkeypatch):
    """Also where they are soft-capped, scaled or shifted by a bias, and where the vocabulary takes several parts."""
    monkeypatch.setattr(module, "VOCABULARY_ROWS", 40)
    narrow = PathModel(tiny(family).to(torch.bfloat16))
    wide = PathModel(tiny(family).to(torch.bfloat16).float())
    states = torch.randn(7, 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    seen = []
    hook = narrow.hf_model.get_output_embeddings().register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with float32_head(narrow.hf_model), torch.inference_mode():
        logits = narrow.head(states)
    hook.remove()
    wide.hf_model.get_output_embeddings().register_forward_pre_hook(lambda _, given: (seen[0].float(),))
    with torch.inference_mode():
        expected = wide.head(states.float())
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    assert narrow.head(states).dtype == torch.bfloat16, "outside the block the model is as published"


def test_a_float32_model_is_left_alone(monkeypatch):
    monkeypatch.setattr(module, "_in_float32", lambda *_: pytest.fail("it was called"))
    next_token_scores(PathModel(tiny("llama")))
