"""`pathgen validate`: checks that a run is complete and consistent, and runs some evaluations again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from cluster.program.json_codec import SPLICED, decoded

from ..errors import InputError
from ..identity import difference_told, differences, shown
from ..paths.cost import CostModel
from ..paths.layer_path import LayerPath
from ..paths.records import Evaluation, PathRecord
from ..store.files import TEMPORARY_PREFIX, list_files
from ..store.index import progress_files, read_all, shard_files
from ..store.provenance import ShardMetadata
from ..store.run_folder import RunDirectory
from ..store.run_json import RunInfo
from ..store.schema import SCHEMA, UnreadableShard, from_table
from ..store.shards import PROGRESS_FOLDER, QUARANTINE_FOLDER

REPLAY_TOLERANCE_NATS = 1e-3


@dataclass(frozen=True, slots=True)
class Replay:
    """Evaluations run again in other batches, and how much they differ from the stored ones.

    A run in a narrower dtype than float32 is run again in float32 too: the last three are about that, else None.
    """

    replayed: int = 0
    largest_gap_nats: float | None = None
    verdicts_changed: int = 0
    float32_largest_gap_nats: float | None = None
    float32_verdicts_changed: int | None = None
    float32_largest_changed_margin: float | None = None
    """Largest stored margin, without its sign, of a verdict that float32 changes; None if it changes none."""


@dataclass(frozen=True, slots=True)
class Validation:
    """The content of a run's folder, the problems that make it invalid, and notes on what interruptions left behind."""

    out: str
    shards: int
    records: int
    questions: int
    problems: list[str]
    notes: list[str]
    replay: Replay = field(metadata=SPLICED)
    valid: bool


def validate_run(out: str, replay: int) -> Validation:
    """Check a run's folder; run `replay` evaluations again on the model.

    Raises:
        InputError: the folder holds no run, or an imported run with `replay` above 0.
        ArtefactError: a shard has a newer schema version.
    """
    directory = RunDirectory(out)
    info = directory.info()
    fs, root = directory.fs, directory.root
    tables, unreadable = read_all(fs, root, partial(shard_files, fs, root), SCHEMA.names)
    problems = list(unreadable.values())
    records: list[PathRecord] = []
    for file, table in tables.items():
        if differences(info.fingerprint, made_with := ShardMetadata.of(table).fingerprint):
            problems.append(
                f"{file}: made with model {shown(made_with)}, the run's is {shown(info.fingerprint)}: "
                + difference_told(info.fingerprint, made_with, "the run's")
            )
        try:
            records += from_table(table)
        except UnreadableShard as error:
            problems.append(f"{file}: {error}")
    for record in records:
        problems += [f"{record.question.id}: {fault}" for fault in record_faults(record, info)]
    counts = Counter(record.question.id for record in records)
    repeated = [f"{question_id}: in {count} rows" for question_id, count in sorted(counts.items()) if count > 1]
    notes = repeated + _notes(directory)
    again = _replay(records, info, out, replay) if replay else Replay()
    gap = again.largest_gap_nats
    if gap is not None and gap > REPLAY_TOLERANCE_NATS and info.settings["dtype"] == "float32":
        problems.append(f"evaluations differ by up to {gap:.2g} nats when run again")
    return Validation(out, len(tables), len(records), len(counts), problems, notes, again, valid=not problems)


def record_faults(record: PathRecord, info: RunInfo) -> list[str]:
    """The contradictions in a record."""
    faults = []
    if record.status == "failed":
        return [] if record.error else ["failed without an error"]
    paths = [evaluation.path for evaluation in record.evaluations]
    if not paths or paths[0] != LayerPath.full(record.num_layers):
        return ["its first evaluation is not the full path"]
    if any(len(path) != record.num_layers for path in paths):
        faults.append(f"a path does not have {record.num_layers} actions")
    if len(set(paths)) < len(paths):
        faults.append("a path was evaluated twice")
    if record.layer_executions != sum(path.depth for path in paths):
        faults.append("layer_executions is not the sum of its paths' depths")
    if any(path.edits > info.settings["max_edits"] for path in paths):
        faults.append(f"a path has more than {info.settings['max_edits']} edits")
    right = [evaluation for evaluation in record.evaluations if evaluation.correct]
    wanted = "kept" if record.base_correct else "improved" if right else "unsolved"
    if record.status != wanted:
        faults.append(f"status {record.status} where its evaluations say {wanted}")
    stored = info.notes.get("cost")
    cost = decoded(CostModel, stored) if stored else CostModel.layers(record.num_layers)
    return faults + _best_faults(record, right or record.evaluations[:1], cost)


def _best_faults(record: PathRecord, candidates: Sequence[Evaluation], cost: CostModel) -> list[str]:
    """The best path must be the cheapest candidate; among equally cheap ones, the one with the largest margin."""
    best = next((evaluation for evaluation in candidates if evaluation.path == record.best_path), None)
    if best is None:
        return ["best_path is not among its right evaluations"]

    def rank(evaluation: Evaluation) -> tuple[float, float]:
        return cost.cost(evaluation.path), -(evaluation.margin or 0.0)

    faults = []
    if any(rank(other) < rank(best) for other in candidates):
        faults.append("best_path is not the cheapest right path, or not the one with the largest margin")
    if record.best_depth != best.path.depth:
        faults.append("best_depth is not the depth of best_path")
    if record.best_margin != best.margin:
        faults.append("best_margin is not the margin of best_path")
    return faults


def _notes(directory: RunDirectory) -> list[str]:
    fs, root = directory.fs, directory.root
    notes = [f"quarantined: {name}" for name in list_files(fs, f"{root}/{QUARANTINE_FOLDER}")]
    notes += [f"under way: {name}" for name in progress_files(fs, root)]
    for folder in (root, directory.paths, f"{root}/{PROGRESS_FOLDER}", f"{root}/{QUARANTINE_FOLDER}"):
        notes += [f"leftover: {name}" for name in list_files(fs, folder) if name.startswith(TEMPORARY_PREFIX)]
    return notes


def _replay(records: list[PathRecord], info: RunInfo, out: str, count: int) -> Replay:
    from ..engine.path_model import PathModel
    from ..evaluation.evaluator import Evaluator
    from ..models.resolving import resolve_recorded

    if "imported" in info.settings:
        raise InputError("--replay needs a run that searched here; an import does not say how its paths were run")
    resolve_recorded(info.model_id, info.fingerprint, out)
    pairs = [(record, evaluation) for record in records for evaluation in record.evaluations]
    chosen = np.random.default_rng(0).permutation(len(pairs))[:count]
    sample = [pairs[index] for index in sorted(chosen)]

    def again(dtype: str) -> _Compared:
        model = PathModel.from_pretrained(info.model_id, dtype=dtype)
        model.use_bridges(RunDirectory(out).bridges(info))
        evaluator = Evaluator(model, info.asked_task, chat=info.settings["task"]["chat"])
        prepared = {record.question.id: evaluator.prepare(record.question) for record, _ in sample}
        found = evaluator.evaluate([(prepared[record.question.id], evaluation.path) for record, evaluation in sample])
        return _Compared([(old, new) for (_, old), new in zip(sample, found, strict=True)])

    dtype = info.settings["dtype"]
    same = again(dtype)
    if dtype == "float32":
        return Replay(len(sample), same.largest_gap, len(same.changed))
    wide = again("float32")
    margin = max((abs(old.margin or 0.0) for old, _ in wide.changed), default=None)
    return Replay(len(sample), same.largest_gap, len(same.changed), wide.largest_gap, len(wide.changed), margin)


@dataclass(frozen=True, slots=True)
class _Compared:
    """Pairs of a stored evaluation and the same one run again."""

    pairs: list[tuple[Evaluation, Evaluation]]

    @property
    def largest_gap(self) -> float:
        """Of two margins, in nats."""
        margins = [(old.margin, new.margin) for old, new in self.pairs]
        return max((abs(a - b) for a, b in margins if a is not None and b is not None), default=0.0)

    @property
    def changed(self) -> list[tuple[Evaluation, Evaluation]]:
        """The pairs whose verdicts differ."""
        return [(old, new) for old, new in self.pairs if old.correct != new.correct]
