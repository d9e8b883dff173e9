"""A saved router on path shards: how well it predicts their labels, and how right the routed model is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pathgen.actions import LayerPath
from pathgen.checkpoints import fingerprint, resolve_model
from pathgen.errors import ArtefactError
from pathgen.model import PathModel
from pathgen.placement import default_device
from pathgen.searched_run import question_of

from .dataset import PathDatasets
from .dev import DevQuestion, DevSet
from .modules import Router
from .policy import RouterPolicy
from .pretrained import load_router, resolve_router


def evaluate_router(
    folder: str, paths: Sequence[str], *, bias: float | None = None, device: str | None = None, seed: int = 0
) -> dict[str, Any]:
    """Everything `router evaluate` shows.

    Args:
        folder: of the router.
        paths: folders of path shards, of the router's base model.
        bias: in place of the router's own.
        device: a torch device; CUDA where there is a GPU if None.
        seed: of the bootstrap.

    Raises:
        InputError: a folder is none.
        ArtefactError: the router or the shards are of another model.
    """
    datasets = PathDatasets(paths)
    router = load_router(resolve_router(folder), fingerprint=datasets.fingerprint, num_layers=datasets.num_layers)
    base = resolve_model(router.config.base_model)
    if fingerprint(base) != router.config.base_fingerprint:
        raise ArtefactError(f"{router.config.base_model} is not the model that {folder} was trained on")
    model = PathModel.from_pretrained(
        router.config.base_model, dtype=datasets.dtype, device=device or default_device(None)
    )
    questions = [
        DevQuestion(question_of(record), record.task, out, bool(record.base_correct))
        for out, record in datasets.records()
    ]
    dev = DevSet(model, questions, datasets.chat)
    routed = dev.run(dev.route(RouterPolicy(router.to(model.device), bias)))
    path = static_path(router) if router.config.static_only else routed.common_path
    static = routed.correct if set(routed.paths) == {path} else dev.run_static(path)
    return {"router": folder, "method": router.config.method, **dev.report(routed, static, seed)}


def static_path(router: Router) -> LayerPath:
    """What a router does where the part that reads the question is silent."""
    order = np.array([1, 0, 2])
    logits = (router.static_logits + router.allowed).detach().cpu().numpy()
    return LayerPath(order[logits[:, order].argmax(1)].tolist())
