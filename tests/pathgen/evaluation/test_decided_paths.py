"""What a policy is seen to decide is what it decided, whatever the batching."""

from __future__ import annotations

import torch

from pathgen.engine.path_model import PathModel
from pathgen.evaluation.decided_paths import decide_paths
from pathgen.paths.layer_path import LayerPath


class ByNorm:
    """Decides by the prompt's own states, so that a wrong row or layer would show."""

    def actions(self, layer, hidden, prompt_mask):
        mean = (hidden * prompt_mask[..., None]).sum((1, 2)) / prompt_mask.sum(1)
        return ((mean * 1e4).long() + layer) % 3


def test_paths_of_a_batch_are_those_of_each_prompt_alone(tiny_model):
    model = PathModel.from_pretrained(str(tiny_model))
    generator = torch.Generator().manual_seed(0)
    prompts = [
        torch.randint(1, 250, (length,), generator=generator).tolist() for length in (40, 7, 38, 41, 9, 39, 40, 1)
    ]
    together = decide_paths(model, ByNorm(), prompts)
    alone = [decide_paths(model, ByNorm(), [prompt])[0] for prompt in prompts]
    assert together == alone
    assert len(set(together)) > 1
    assert all(len(path) == model.num_layers and isinstance(path, LayerPath) for path in together)
