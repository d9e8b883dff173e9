"""A small run, to be killed at any of its fault points: `python killable_run.py OUT WRITER`."""

import sys

from path_records import METADATA, make_record, no_guard

from pathgen.store.compaction import compact
from pathgen.store.index import Budgets
from pathgen.store.run_folder import RunDirectory
from pathgen.store.run_json import RunInfo
from pathgen.store.shards import write_progress, write_shard

IDS = [f"q{i}" for i in range(6)]
QUESTIONS = {id_: f"sha-{id_}" for id_ in IDS}
BUDGETS = Budgets(simulations=3, layer_executions=None, seconds=None, max_depth=8)


def work(out: str, writer: str) -> None:
    """Search what is not done, two questions a shard; a smaller record goes along, for compaction to remove."""
    run = RunDirectory(out)
    run.create()
    run.begin(RunInfo({}, "tiny", "f", "arc", "builtin"), no_guard)
    plan = run.scan(QUESTIONS, BUDGETS)
    todo = [id_ for id_ in IDS if id_ not in plan.done]
    for seq, start in enumerate(range(0, len(todo), 2)):
        pair = todo[start : start + 2]
        halves = [make_record(id_, 2, "searching") for id_ in pair]
        write_progress(run.fs, run.root, writer, halves, METADATA, no_guard)
        records = [make_record(pair[0], 1), *(make_record(id_) for id_ in pair)]
        write_shard(run.fs, run.paths, writer, seq, records, METADATA, no_guard)
    compact(run.fs, run.root, no_guard)


if __name__ == "__main__":
    work(*sys.argv[1:])
