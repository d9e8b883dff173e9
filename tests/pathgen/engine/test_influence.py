"""The influence that is measured beside a full path is what a plain loop over the layers gives."""

from __future__ import annotations

import pytest
import torch
from families import LAYERS, random_tokens, tiny

from pathgen.engine.executor import Executor
from pathgen.engine.mask_probe import find_mask_form
from pathgen.engine.path_model import PathModel
from pathgen.engine.token_rows import packed_row, plain_rows
from pathgen.paths.layer_path import LayerPath

FULL = LayerPath.full(LAYERS)
SHORT = LayerPath([1, 0, 2, 1])
PROMPTS = [random_tokens(9, 1), random_tokens(5, 2)]
CHOICES = [[1, 2], [3, 4, 5]]


def by_hooks(model: PathModel, prompt: list[int]) -> list[float]:
    """From the states of the model's own forward on the prompt alone."""
    states: list[torch.Tensor] = []

    def watch(index, hidden, *args, **kwargs):
        after = model.run_layer(index, hidden, args, kwargs)
        states.extend([hidden[0], after[0]] if index == 0 else [after[0]])
        return model.as_returned(index, after)

    with model.mode(watch), torch.inference_mode():
        model.hf_model(input_ids=torch.tensor([prompt]), use_cache=False)

    def change(width: int, layer: int) -> float:
        pairs = zip(states[layer], states[layer + width], strict=True)
        return sum(1 - float(a @ b / a.norm() / b.norm()) for a, b in pairs) / len(prompt)

    return [change(width, layer) for width in (1, 2) for layer in range(LAYERS + 1 - width)]


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "olmoe"])
def test_influence_is_the_mean_change_of_the_prompt_s_states(family):
    model = PathModel(tiny(family))
    executor = Executor(model, find_mask_form(model))
    rows = [packed_row(str(n), prompt, CHOICES) for n, prompt in enumerate(PROMPTS)]
    executor.token_logprobs([(rows[0], SHORT)])
    assert executor.influence == {}
    executor.token_logprobs([(row, path) for row in rows for path in (FULL, SHORT)])
    assert set(executor.influence) == {"1"}, "layers kept from an earlier call are not measured"
    assert executor.influence["1"] == pytest.approx(by_hooks(model, PROMPTS[1]), abs=1e-5)


def test_rows_of_a_batch_are_measured_apart_and_so_are_choices_that_are_rows():
    model = PathModel(tiny("llama"))
    executor = Executor(model, None)
    rows = [row for n, prompt in enumerate(PROMPTS) for row in plain_rows(n, prompt, CHOICES)]
    executor.prefill([(row, FULL) for row in rows])
    for n, prompt in enumerate(PROMPTS):
        for choice in range(len(CHOICES)):
            assert executor.influence[n, choice] == pytest.approx(by_hooks(model, prompt), abs=1e-5)
