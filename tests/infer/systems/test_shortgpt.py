"""Block influence as its definition has it, and the order in which layers go."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from families import random_tokens, tiny

from infer.systems.shortgpt import block_influence, pruned_path
from pathgen.engine.path_model import PathModel


def test_influence_is_one_minus_the_mean_cosine_over_tokens():
    model = PathModel(tiny("llama"))
    prompts = [random_tokens(count, count) for count in (4, 11, 10, 7)]
    cosines: list[list[float]] = [[] for _ in range(model.num_layers)]
    caught = []  # without a policy the model is as published; its own list of states ends after the final norm
    model.layers[-1].register_forward_hook(lambda module, inputs, output: caught.append(output))
    with torch.no_grad():
        for prompt in prompts:
            states = list(model.hf_model(torch.tensor([prompt]), output_hidden_states=True).hidden_states)
            states[-1] = caught.pop()
            for layer, (before, after) in enumerate(pairwise(states)):
                cosines[layer] += torch.cosine_similarity(before[0], after[0], dim=-1).tolist()
    np.testing.assert_allclose(block_influence(model, prompts), [1 - np.mean(row) for row in cosines], atol=1e-4)


def test_layers_of_least_influence_go_first():
    influence = np.array([0.9, 0.2, 0.5, 0.2, 0.1])
    assert [str(pruned_path(influence, depth)) for depth in (5, 4, 3, 2, 1)] == [
        ".....",
        "....-",
        ".-..-",
        ".-.--",
        ".----",
    ]
    assert str(pruned_path(influence, 3, pinned=(4,))) == ".-.-."
