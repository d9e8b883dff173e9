"""Scores of a bfloat16 model are computed from its own states and weights, but in float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import LAYERS, VOCAB, random_tokens, tiny
from torch import Tensor, nn

from pathgen.engine import vocabulary
from pathgen.engine.executor import Executor
from pathgen.engine.mask_probe import find_mask_form
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.engine.supported import UnsupportedModelError
from pathgen.engine.token_rows import packed_row, plain_rows
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
    monkeypatch.setitem(vocabulary.BLOCK_ROWS, "cpu", 40)
    narrow = PathModel(tiny(family).to(torch.bfloat16))
    wide = PathModel(tiny(family).to(torch.bfloat16).float())
    states = torch.randn(7, 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    seen = []
    with torch.inference_mode():
        hook = narrow.hf_model.get_output_embeddings().register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        logits = narrow.head(states)
        hook.remove()
        wide.hf_model.get_output_embeddings().register_forward_pre_hook(lambda _, given: (seen[0].float(),))
        expected = wide.head(states.float())
        assert narrow.hf_model(torch.tensor([PROMPT])).logits.dtype == torch.bfloat16, "otherwise it is as published"
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def test_a_head_that_is_no_plain_linear_layer_is_told_and_scores_as_it_is(caplog):
    """As a quantised one is not."""

    class Rounded(nn.Linear):
        def forward(self, states: Tensor) -> Tensor:
            return super().forward(states).round(decimals=1)

    hf_model = tiny("llama").to(torch.bfloat16)
    rounded = Rounded(32, VOCAB, bias=False)
    rounded.weight = hf_model.lm_head.weight
    hf_model.lm_head = rounded
    model = PathModel(hf_model)
    (record,) = caplog.records
    assert "its head is a Rounded, no plain linear layer" in record.getMessage()
    states = torch.randn(3, 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.inference_mode():
        expected = rounded(model.hf_model.model.norm(states))
        torch.testing.assert_close(model.head(states), expected.float(), atol=0, rtol=0)


def test_a_model_without_a_head_is_refused():
    hf_model = tiny("llama")
    hf_model.lm_head = None
    with pytest.raises(UnsupportedModelError, match="no head over the vocabulary"):
        PathModel(hf_model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_head_reads_scored_states_alone(dtype):
    """Capture, layers and policies do not touch the vocabulary; the finish multiplies each scored state once."""
    model = PathModel(tiny("llama").to(dtype))
    rows = [packed_row("q", PROMPT, [[1, 2, 3], [4], [5, 6]])]
    seen: list[int] = []
    model.hf_model.get_output_embeddings().register_forward_pre_hook(
        lambda _, given: seen.append(given[0].numel() // 32)
    )
    executor = Executor(model, find_mask_form(model))
    seen.clear()
    executor.token_logprobs([(row, FULL) for row in rows])
    assert seen == [len(rows[0].scored)] == [4]
    model.states(torch.tensor([PROMPT]), policy=FixedPaths([FULL]))
    assert len(seen) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_head_of_a_prefill_gets_its_states_in_one_piece(dtype):
    """The product of a strided batch would copy the whole weight for each row."""
    hf_model = tiny("llama").to(dtype)
    seen: list[Tensor] = []
    head = hf_model.get_output_embeddings()
    own = head.forward
    head.forward = lambda states: (seen.append(states), own(states))[1]
    model = PathModel(hf_model)
    seen.clear()
    ids = torch.tensor([PROMPT, PROMPT])
    model.generate(ids, policy=FixedPaths([FULL] * 2), max_new_tokens=2)
    assert [states.shape for states in seen] == [(2, 1, 32)] * 2
    assert all(states.is_contiguous() for states in seen)
