"""Training routers on features computed once, against the published loop, on the same paths.

    python -m benchmarks.speed.training_speed --paths RUN_DIR --limit 200

Both train the same heads for the same 25 epochs of the same labels in this process, in turns. The published loop is
timed over `--published-epochs` of them and scaled: its epochs are all alike. Ours is timed whole, and its one pass for
features apart.
"""

from __future__ import annotations

import time
from typing import Annotated

import numpy as np
import torch
import typer

from benchmarks.lab.measurement import machine, run_script
from benchmarks.published.training import published_epochs
from cluster.program.console import print_json
from pathgen.engine.path_model import PathModel
from pathgen.questions.tasks import find_task
from router.data.examples import Examples
from router.data.path_datasets import PathDatasets
from router.features.features import FeatureKey, compute_here
from router.labels.labels import make_labels
from router.net.config import RouterConfig
from router.training.settings import TrainSettings
from router.training.trainer import Trainer, new_router


class _InMemory:
    """Features held as one tensor."""

    def __init__(self, features: torch.Tensor):
        self._features = features

    def rows(self, indices: list[int]) -> torch.Tensor:
        """[B, L, W, H]."""
        return self._features[torch.as_tensor(indices)]


def main(
    paths: Annotated[str, typer.Option(help="Run folder.")],
    limit: Annotated[int, typer.Option(help="Paths to train on.")] = 200,
    epochs: Annotated[int, typer.Option(help="Of the training that is compared.")] = 25,
    published: Annotated[int, typer.Option("--published-epochs", help="Of the published loop that are timed.")] = 3,
    repeats: Annotated[int, typer.Option(help="Turns of each.")] = 3,
    threads: Annotated[int, typer.Option(help="torch threads.")] = 2,
    seed: Annotated[int, typer.Option(help="Of first weights and order.")] = 0,
) -> None:
    """Print one JSON object."""
    torch.set_num_threads(threads)
    datasets = PathDatasets([paths])
    labels = [label for label, _ in zip(make_labels(datasets, "shortest"), range(limit), strict=False)]
    model = PathModel.from_pretrained(datasets.model_id, dtype=datasets.dtype)
    assert model.tokenizer is not None
    keys = [FeatureKey(label.question, label.task, datasets.chat, label.path) for label in labels]
    prompts = [find_task(key.task).encode(key.question, model.tokenizer, key.chat)[0] for key in keys]
    config = RouterConfig(
        datasets.model_id, datasets.fingerprint, model.num_layers, model.config.hidden_size, datasets.tasks, "imitate"
    )
    settings = TrainSettings(epochs=epochs, patience=None, seed=seed)
    seconds: dict[str, list[float]] = {"published_epoch": [], "features": [], "training": []}
    for _ in range(repeats):
        started = time.perf_counter()
        published_epochs(model, new_router(config, seed), prompts, [key.path for key in keys], settings, published)
        seconds["published_epoch"].append((time.perf_counter() - started) / published)
        started = time.perf_counter()
        features = compute_here(model, keys, config.pooling)
        seconds["features"].append(time.perf_counter() - started)
        examples = Examples(
            source=_InMemory(features),
            targets=np.stack([label.targets for label in labels]),
            weights=np.ones(len(labels)),
            groups=np.zeros(len(labels), dtype=int),
            ids=[label.question.id for label in labels],
        )
        started = time.perf_counter()
        Trainer(new_router(config, seed), settings, examples, examples, quiet=True).run()
        seconds["training"].append(time.perf_counter() - started)
    whole = epochs * np.array(seconds["published_epoch"])
    cached = whole / np.array(seconds["training"])
    fresh = whole / (np.array(seconds["training"]) + np.array(seconds["features"]))
    print_json(
        {
            "benchmark": "training_speed",
            "paths": len(labels),
            "epochs": epochs,
            "published_epochs_timed": published,
            "seed": seed,
            "repeats": repeats,
            "times_faster_features_cached": {"median": float(np.median(cached)), "turns": cached.tolist()},
            "times_faster_features_included": {"median": float(np.median(fresh)), "turns": fresh.tolist()},
            "seconds": seconds,
            "machine": machine(threads),
        }
    )


if __name__ == "__main__":
    run_script(main)
