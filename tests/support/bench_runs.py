"""What benchmarks of a tiny model need: its questions, its searched run, and routers for it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from path_runs import write_run

from pathgen.bridges.folder import files_of, load_bridges, save_bridges
from pathgen.bridges.info import BridgesInfo
from pathgen.bridges.maps import Bridge, Bridges
from pathgen.engine.path_model import PathModel
from pathgen.evaluation.evaluator import Evaluator
from pathgen.models.facts import fingerprint
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import PathRecord
from pathgen.questions.question import Question
from pathgen.questions.tasks import find_task
from router.net.config import RouterConfig
from router.net.router import Router, path_logits
from router.saved.folder import save_router

NUM_LAYERS, HIDDEN = 6, 32
SHORT = LayerPath([1, 0, 1, 1, 0, 1])
SEARCHED = [LayerPath.full(NUM_LAYERS), SHORT, LayerPath([1, 1, 1, 2, 1, 1]), LayerPath([1, 1, 0, 1, 1, 1])]
"""Paths that the hand-made search has run on every question."""


def make_questions(prefix: str, count: int) -> list[Question]:
    """Questions of three choices."""
    return [
        Question(
            f"{prefix}{number}",
            f"Which {prefix} floats{'?' * (number % 5)} {number}",
            ("cork", "lead", "iron bar"),
            number % 3,
        )
        for number in range(count)
    ]


def write_questions(file: Path, questions: list[Question]) -> str:
    """As a .jsonl that `--questions` takes."""
    rows = [{"id": q.id, "question": q.prompt, "choices": list(q.choices or ()), "answer": q.gold} for q in questions]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def searched_records(model_folder: Path, questions: list[Question], bridges: Bridges | None = None) -> list[PathRecord]:
    """Records as a search of SEARCHED leaves them, evaluated on the model, over bridges if there are any."""
    model = PathModel.from_pretrained(str(model_folder))
    model.use_bridges(bridges)
    evaluator = Evaluator(model, find_task("arc"))
    records = []
    for question in questions:
        prepared = evaluator.prepare(question)
        found = evaluator.evaluate([(prepared, path) for path in SEARCHED])
        right = [evaluation for evaluation in found if evaluation.correct]
        best = min(right, key=lambda e: (e.path.depth, -(e.margin or 0), e.path), default=found[0])
        status = "kept" if found[0].correct else "improved" if right else "unsolved"
        records.append(
            PathRecord(
                question, question.sha, "arc", status,
                NUM_LAYERS, 0, "w-0", 1, 1_700_000_000_000, "budget", found[0].correct, found[0].margin,
                best.path, best.path.depth, best.margin, found, len(found) - 1, 24, 24, 1.0,
            )
        )  # fmt: skip
    return records


def write_searched_run(
    folder: Path, model_folder: Path, questions: list[Question], bridges: Bridges | None = None
) -> str:
    """A run's folder of those records, with the bridges that they ran over."""
    records = searched_records(model_folder, questions, bridges)
    digest = bridges.digest if bridges else None
    origin = {"model_id": str(model_folder), "fingerprint": fingerprint(model_folder)}
    out = write_run(folder, records, **origin, bridges=digest)
    for name, content in (files_of(bridges) if bridges else {}).items():
        (folder / name).write_bytes(content)
    return out


def saved_bridges(folder: Path, model_folder: Path) -> Bridges:
    """Random bridges of rank 2 for the model, as they are read from a new folder."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, HIDDEN), (HIDDEN, 2), (HIDDEN,))
    maps = tuple(
        Bridge(*(0.1 * torch.randn(shape, generator=generator) for shape in shapes)) for _ in range(NUM_LAYERS)
    )
    of = {"num_layers": NUM_LAYERS, "width": HIDDEN, "rank": 2, "ridge": 0.1, "text": (), "tokens": 9, "r2": ()}
    info = BridgesInfo(model_id=str(model_folder), fingerprint=fingerprint(model_folder), digest="", **of)
    save_bridges(Bridges(maps), info, folder)
    return load_bridges(folder)


def save_static_router(folder: Path, model_folder: Path, path: LayerPath, **changes) -> str:
    """A router that takes one path on every question."""
    config = RouterConfig(
        str(model_folder), fingerprint(model_folder), NUM_LAYERS, HIDDEN, ("arc",), "static", head="none", **changes
    )
    router = Router(config)
    router.static_logits.data = path_logits(path)
    save_router(router, folder)
    return str(folder)


def save_reading_router(folder: Path, model_folder: Path, seed: int = 0) -> str:
    """A router whose random heads send questions along different paths."""
    torch.manual_seed(seed)
    config = RouterConfig(
        str(model_folder), fingerprint(model_folder), NUM_LAYERS, HIDDEN, ("arc",), "imitate", width=16
    )
    router = Router(config)
    for head in router.heads:
        torch.nn.init.normal_(head.down.weight, std=3.0)
        torch.nn.init.normal_(head.up.weight, std=3.0)
    router.static_logits.data[:, 1] = 0.5
    save_router(router, folder)
    return str(folder)


def path_counts(paths: list[LayerPath]) -> list[tuple[LayerPath, int]]:
    """Each path and how often it is taken."""
    found, counts = np.unique(np.array(paths), axis=0, return_counts=True)
    return [(LayerPath(path.tolist()), int(count)) for path, count in zip(found, counts, strict=True)]
