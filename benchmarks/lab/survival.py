"""What a run whose processes are killed must still come to: the records of an uninterrupted one, each once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.lab.killable import Run
from pathgen.errors import PathgenError
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import PathRecord
from pathgen.store.index import progress_files, read_tables, shard_files
from pathgen.store.run_folder import RunDirectory
from pathgen.store.schema import SCHEMA, from_table

MARGIN_NATS = 1e-4


@dataclass
class Stored:
    """What a run's folder holds, raw."""

    records: list[PathRecord]
    evaluated: dict[str, set[LayerPath]]
    leftovers: list[str]

    @classmethod
    def read(cls, out: Path) -> Stored:
        """Shards and progress files; unreadable ones are leftovers."""
        run = RunDirectory(str(out))
        committed, bad = read_tables(run.fs, run.root, shard_files(run.fs, run.root), SCHEMA.names)
        progress, torn = read_tables(run.fs, run.root, progress_files(run.fs, run.root), SCHEMA.names)
        records = [record for table in committed.values() for record in from_table(table)]
        evaluated: dict[str, set[LayerPath]] = {}
        for record in [*records, *(record for table in progress.values() for record in from_table(table))]:
            evaluated.setdefault(record.question.id, set()).update(e.path for e in record.evaluations)
        hidden = [str(path.relative_to(out)) for path in out.rglob(".*")] if out.exists() else []
        return cls(records, evaluated, [*bad, *torn, *hidden])


@dataclass
class Reference:
    """The uninterrupted run."""

    records: dict[str, PathRecord]
    layer_executions: int
    seconds: float
    first_actor_s: float

    def still_to_run(self, stored: Stored) -> int:
        """Layer executions that a run which goes on from `stored` cannot avoid."""
        done = {record.question.id for record in stored.records}
        total = 0
        for question_id, record in self.records.items():
            if question_id in done:
                continue
            wanted = {evaluation.path for evaluation in record.evaluations}
            total += sum(path.depth for path in wanted - stored.evaluated.get(question_id, set()))
        return total

    def differing(self, records: list[PathRecord]) -> int:
        """Records that evaluated other paths, another order, or got margins further than MARGIN_NATS away."""
        return sum(not _same(self.records[record.question.id], record) for record in records)


def _same(one: PathRecord, other: PathRecord) -> bool:
    pairs = list(zip(one.evaluations, other.evaluations, strict=False))
    return (
        len(one.evaluations) == len(other.evaluations)
        and all(a.path == b.path for a, b in pairs)
        and all(abs((a.margin or 0.0) - (b.margin or 0.0)) <= MARGIN_NATS for a, b in pairs)
        and (one.status, one.stop_reason, one.simulations) == (other.status, other.stop_reason, other.simulations)
    )


@dataclass
class Tally:
    """What the tries against one target came to.

    All but `tries`, `seconds` and `layers_run_again` should be 0. The latter is counted for killed actors alone:
    layer executions beyond those of the uninterrupted run.
    """

    tries: int = 0
    lost: int = 0
    doubled: int = 0
    differing: int = 0
    wrong_exit: int = 0
    left_behind: int = 0
    strays: int = 0
    layers_run_again_though_stored: int = 0
    layers_run_again: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    def check(self, out: Path, reference: Reference) -> None:
        """Compare the folder of an ended run with the uninterrupted one."""
        found = Stored.read(out)
        counts = Counter(record.question.id for record in found.records)
        self.lost += len(reference.records.keys() - counts.keys())
        self.doubled += sum(count > 1 for count in counts.values())
        self.differing += reference.differing(found.records)
        self.left_behind += len(found.leftovers)
        self.problems += found.leftovers


def uninterrupted(command: list[str], out: Path) -> Reference:
    """The run that all others must equal.

    Raises:
        PathgenError: if it does not end with exit code 0.
    """
    run = Run(command, out)
    code, summary, born_s = run.wait()
    if code:
        raise PathgenError(f"the uninterrupted run ended with exit code {code}: {run.errors()}")
    records = {record.question.id: record for record in Stored.read(out).records}
    return Reference(records, summary["layer_executions"], run.seconds, born_s or 0.0)
