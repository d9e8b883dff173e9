"""On a CUDA device, a routed model generates along the path that its router decides on each prompt."""

from __future__ import annotations

import pytest
import torch
from families import LAYERS, PROMPTS, SIZES, padded, tiny
from oracle import Oracle

from infer.routed.routed_model import RoutedModel
from pathgen.engine.path_model import PathModel
from pathgen.evaluation.decided_paths import decide_paths
from router.net.config import RouterConfig
from router.net.router import Router

DEVICE = "cuda"
NEW_TOKENS = 12
ROUNDING = {"float32": 1e-3, "bfloat16": 0.2}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", ROUNDING)
def test_generation_follows_the_routers_paths(dtype: str) -> None:
    hf_model = tiny("llama").to(DEVICE, getattr(torch, dtype))
    oracle = Oracle(hf_model)
    torch.manual_seed(1)
    router = Router(RouterConfig("", "", LAYERS, SIZES["hidden_size"], ("arc",), "imitate"))
    routed = RoutedModel(PathModel(hf_model), router)
    assert routed.router.static_logits.device.type == DEVICE
    ids, mask = (tensor.to(DEVICE) for tensor in padded(PROMPTS, "left"))
    new = routed.generate(ids, mask, max_new_tokens=NEW_TOKENS)[:, ids.shape[1] :]
    paths = decide_paths(routed.path_model, routed.policy, PROMPTS)
    assert len(set(paths)) > 1
    assert routed.cache_bytes > 0
    for row, (prompt, path) in enumerate(zip(PROMPTS, paths, strict=True)):
        logits = oracle.logits(prompt + new[row].tolist(), path)[len(prompt) - 1 : -1].float()
        chosen = logits.gather(1, new[row, :, None])[:, 0]
        assert (logits.amax(1) - chosen).max() < ROUNDING[dtype], "greedy up to rounding"
