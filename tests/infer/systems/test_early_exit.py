"""Early exit leaves where the model's own head is sure, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import random_tokens, tiny

from infer.systems.early_exit import NEVER, EarlyExit, exit_confidences, exit_paths
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.evaluation.decided_paths import decide_paths
from pathgen.paths.layer_path import LayerPath


@pytest.fixture(scope="module")
def model():
    return PathModel(tiny("llama"))


@pytest.fixture(scope="module")
def prompts():
    return [random_tokens(count, count) for count in (3, 9, 5, 10, 12, 4)]


def test_threshold_zero_leaves_at_once_and_above_one_never(model, prompts):
    layers = model.num_layers
    assert set(decide_paths(model, EarlyExit(model, 0.0), prompts)) == {LayerPath([1] + [0] * (layers - 1))}
    assert set(decide_paths(model, EarlyExit(model, NEVER), prompts)) == {LayerPath.full(layers)}
    ids = torch.tensor([prompts[1]])
    torch.testing.assert_close(
        model.logits(ids, policy=EarlyExit(model, NEVER)),
        model.logits(ids, policy=FixedPaths([LayerPath.full(layers)])),
    )


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_confidence_is_the_top_probability_of_the_shortened_model(family):
    """Before layer l the head sees what the model cut off there would say, its own norm and soft-capping included."""
    model = PathModel(tiny(family))
    prompts = [random_tokens(7, seed) for seed in range(3)]
    found = exit_confidences(model, prompts)
    assert np.isnan(found[:, 0]).all()
    for layer in range(1, model.num_layers):
        cut = LayerPath([1] * layer + [0] * (model.num_layers - layer))
        logits = model.logits(torch.tensor(prompts), policy=FixedPaths([cut] * 3))[:, -1]
        np.testing.assert_allclose(found[:, layer], logits.softmax(-1).amax(-1), atol=1e-4)


def test_swept_paths_are_those_that_the_policy_takes(model, prompts):
    confidences = exit_confidences(model, prompts)
    values = np.unique(confidences[~np.isnan(confidences)])
    different = set()
    for threshold in (values[:-1] + values[1:]) / 2:
        swept = exit_paths(confidences, threshold)
        assert decide_paths(model, EarlyExit(model, threshold), prompts) == swept
        different.update(swept)
    assert len(different) > 2


def test_rows_decide_alone_wherever_the_padding_is(model, prompts):
    confidences = exit_confidences(model, prompts)
    threshold = float(np.nanmedian(confidences))
    alone = [decide_paths(model, EarlyExit(model, threshold), [prompt])[0] for prompt in prompts]
    assert exit_paths(confidences, threshold) == alone
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    policy = EarlyExit(model, NEVER)
    model.logits(ids, mask, policy=policy)
    np.testing.assert_allclose(policy.confidences[:, 1:], confidences[:, 1:], atol=1e-4)
