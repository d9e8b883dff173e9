"""The `router` program called in this process, and path folders of a tiny real model for it to read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from commands import Answer
from path_runs import path, searched, write_run
from typer.testing import CliRunner

from pathgen.engine.path_model import PathModel
from pathgen.models.facts import fingerprint
from pathgen.paths.records import PathRecord
from pathgen.static.divergence_paths import DivergenceEntry, DivergencePaths
from pathgen.static.static_paths import PathEntry, StaticPaths, Worth
from router.cli import app
from router.data.path_datasets import PathDatasets
from router.features.features import FeatureKey, compute_here
from router.features.store import FeatureStore
from router.labels.labels import make_labels
from router.net.pooling import Pooling

NUM_LAYERS = 6
FULL = "." * NUM_LAYERS
SHALLOW = "-....."
DEEP = ".2...."
WINDOWS = 2
SMALL = ("--windows", WINDOWS, "--width", 4, "--epochs", 2, "--device", "cpu", "--quiet", "--tracker", "none")
"""Options of a training of a second or so."""
IMITATE = ("--method", "imitate", *SMALL)


def router(*arguments: object) -> Answer:
    """Call `router` with these arguments; an exception that it does not answer for is raised here."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    return Answer(result.exit_code, result.stdout, result.stderr)


def records(count: int, *, prefix: str = "q", paths=(SHALLOW, DEEP)) -> list[PathRecord]:
    """Records of questions that full depth answers wrong and, in turn, one of these paths right."""
    found = []
    for number in range(count):
        right = paths[number % len(paths)]
        margins = {FULL: -1.0, **{text: 1.0 if text == right else -2.0 for text in paths}}
        found.append(searched(f"{prefix}{number}", margins))
    return found


def path_folder(folder: Path, model: Path, rows: list[PathRecord], **changes) -> str:
    """A run's folder of these records, found on this model."""
    return write_run(folder, rows, model_id=str(model), fingerprint=fingerprint(model), **changes)


def fill_features(out: str, model: Path, labels: str = "shortest", *, windows: int = WINDOWS, **wishes) -> FeatureStore:
    """Put all features that training on these labels needs into the folder, without Ray."""
    datasets = PathDatasets([out])
    keys = [
        FeatureKey(label.question, label.task, False, label.path) for label in make_labels(datasets, labels, **wishes)
    ]
    pooling = Pooling(windows=windows)
    rows = compute_here(PathModel.from_pretrained(str(model), dtype="float32", device="cpu"), keys, pooling)
    store = FeatureStore(out, datasets.fingerprint, "float32", pooling)
    store.write("here", {key.digest: row for key, row in zip(keys, rows, strict=True)}, {})
    return store


def static_file(file: Path, model: Path, *paths: str, **changes) -> Path:
    """What `pathgen static` would write had it found these paths, the first the best."""
    worths = (0.1, *(0.9 - 0.1 * place for place in range(len(paths))))
    full, *found = (
        PathEntry(path(text), worth, worth, worth, worth - worths[0], 0.01)
        for text, worth in zip((FULL, *paths), worths, strict=True)
    )
    static = StaticPaths(
        model_id=str(model),
        fingerprint=fingerprint(model),
        tasks=("arc",),
        chat=False,
        num_layers=NUM_LAYERS,
        questions=10,
        folds=2,
        seed=0,
        full=full,
        frontier=tuple(sorted(found, key=lambda entry: entry.depth)),
        choice=Worth(0.9, 0.8, 0.01),
        shallow_choice=Worth(0.9, 0.8, 0.01),
        chosen_on=(),
        per_folder=(),
    )
    file.write_bytes(replace(static, **changes).to_json())
    return file


def divergence_file(file: Path, model: Path, *paths: str, **changes) -> Path:
    """What `pathgen static --target divergence` would write had it found these paths, the shallowest first."""
    entries = [
        DivergenceEntry(found, 0.1 * (NUM_LAYERS - found.depth), 0.01, 0.9, 0.02, 0.5, found.depth / NUM_LAYERS)
        for found in map(path, (*paths, FULL))
    ]
    static = DivergencePaths(
        target="divergence",
        model_id=str(model),
        fingerprint=fingerprint(model),
        tasks=("arc",),
        chat=False,
        num_layers=NUM_LAYERS,
        questions=10,
        seed=0,
        full=entries[-1],
        frontier=tuple(entries[:-1]),
        forward_tokens=100.0,
        bridges=None,
        searched_on=("ab",),
        judged_on=("cd",),
    )
    file.write_bytes(replace(static, **changes).to_json())
    return file


def same_files(first: Path, second: Path) -> bool:
    """Whether two routers have the same weights, bit for bit."""
    return (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
