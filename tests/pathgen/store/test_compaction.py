import os
import signal
import subprocess
import sys
import uuid
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from killable_run import BUDGETS, IDS, QUESTIONS, work
from path_records import METADATA, make_record, no_guard

import pathgen
from pathgen import faults
from pathgen.errors import ArtefactError
from pathgen.store.compaction import compact
from pathgen.store.folder_lock import LeaseLost
from pathgen.store.provenance import ShardMetadata
from pathgen.store.run_folder import RunDirectory
from pathgen.store.run_json import RunInfo
from pathgen.store.schema import from_table
from pathgen.store.shards import list_shards, read_shard, write_progress, write_shard

INFO = RunInfo({}, "tiny", "f", "arc", "builtin")


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(str(tmp_path))
    run.create()
    run.begin(INFO, no_guard)
    return run


def shard(run, *records, writer="w-0", seq=0):
    return write_shard(run.fs, run.paths, writer, seq, records, METADATA, no_guard)


def raw_records(run):
    names = list_shards(run.fs, run.paths)
    return [record for name in names for record in from_table(read_shard(run.fs, f"{run.paths}/{name}"))]


def test_only_shards_with_superseded_rows_are_rewritten(run):
    untouched = shard(run, make_record("a", 5))
    gone = shard(run, make_record("a", 2), make_record("b", 1), seq=1)
    rewritten = shard(run, make_record("b", 3), make_record("a", 4), make_record("c"), writer="w-1", seq=2)
    compact(run.fs, run.root, no_guard)
    names = list_shards(run.fs, run.paths)
    assert untouched in names
    assert gone not in names
    assert rewritten not in names
    (new,) = set(names) - {untouched}
    assert new.startswith("part-w-1-00002-")
    assert raw_records(run) == [make_record("a", 5), make_record("b", 3), make_record("c")]
    assert ShardMetadata.of(read_shard(run.fs, f"{run.paths}/{new}")) == METADATA
    compact(run.fs, run.root, no_guard)
    assert list_shards(run.fs, run.paths) == names


def test_equal_records_of_two_writers_leave_the_first(run):
    first = shard(run, make_record("a"), writer="w-1")
    shard(run, make_record("a"), writer="w-2")
    compact(run.fs, run.root, no_guard)
    assert list_shards(run.fs, run.paths) == [first]


def test_progress_goes_once_the_shards_have_caught_up(run):
    shard(run, make_record("a", 3))
    write_progress(run.fs, run.root, "w-0", [make_record("a", 3)], METADATA, no_guard)
    for writer, ahead in (("w-1", make_record("a", 4)), ("w-2", make_record("unasked", 1, "searching"))):
        write_progress(run.fs, run.root, writer, [make_record("a", 1), ahead], METADATA, no_guard)
    compact(run.fs, run.root, no_guard)
    assert sorted(os.listdir(f"{run.root}/.progress")) == ["w-1.parquet", "w-2.parquet"]
    shard(run, make_record("a", 4), make_record("unasked", 1), seq=1)
    compact(run.fs, run.root, no_guard)
    assert not os.path.exists(f"{run.root}/.progress")


def test_progress_of_a_failed_question_stays_for_when_it_is_tried_again(run):
    shard(run, make_record("f", status="failed"))
    write_progress(run.fs, run.root, "w-0", [make_record("f", 9, "searching")], METADATA, no_guard)
    write_progress(run.fs, run.root, "w-1", [make_record("f", status="failed")], METADATA, no_guard)
    compact(run.fs, run.root, no_guard)
    assert os.listdir(f"{run.root}/.progress") == ["w-0.parquet"]


def test_without_the_lease_nothing_changes(run):
    def lost():
        raise LeaseLost("another run holds it")

    names = [shard(run, make_record("a", 3)), shard(run, make_record("a", 1), seq=1)]
    with pytest.raises(LeaseLost):
        compact(run.fs, run.root, lost)
    assert list_shards(run.fs, run.paths) == names


def test_an_unreadable_shard_ends_it_before_anything_changes(run):
    names = [shard(run, make_record("a", 3)), shard(run, make_record("a", 1), seq=1)]
    bad = Path(run.paths, shard(run, make_record("b"), seq=2))
    bad.write_bytes(bad.read_bytes()[:-1])
    with pytest.raises(ArtefactError, match=bad.name):
        compact(run.fs, run.root, no_guard)
    assert list_shards(run.fs, run.paths) == [*names, bad.name]


@pytest.mark.parametrize(
    "point",
    [
        "before-temp:2",
        "mid-temp:2",
        "before-rename:2",
        "after-rename:2",
        "during-progress-swap:2",
        "after-rename:5",  # shards 4 to 6 are the rewritten ones
        "before-delete:2",
        "before-progress-delete:1",
    ],
)
def test_a_kill_anywhere_loses_and_doubles_nothing(tmp_path, point):
    out = tmp_path / "run"
    script = Path(__file__).parents[2] / "support" / "killable_run.py"
    environment = os.environ | {
        faults.VARIABLE: f"{point}:kill",
        "PYTHONPATH": str(Path(pathgen.__file__).parent.parent),
    }
    killed = subprocess.run([sys.executable, script, out, "w-0"], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    run = RunDirectory(str(out))
    committed = run.committed.table(["question_id"])["question_id"].to_pylist()
    plan = run.scan(QUESTIONS, BUDGETS)
    assert plan.done == set(committed)
    assert len(committed) == len(plan.done)
    assert plan.quarantined == []

    work(str(out), "w-1")
    raw = pl.read_parquet(f"{out}/paths/*.parquet")
    assert sorted(raw["question_id"]) == IDS
    assert set(raw["simulations"]) == {3}
    assert sorted(os.listdir(out)) == ["paths", "run.json"]
    assert all(name.startswith("part-") for name in os.listdir(out / "paths"))


FAILED = -1
"""In the model below: the simulations of a failed record, so that any other outranks it."""

contents = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.integers(FAILED, 4), min_size=1)
writers = st.sampled_from(["w-1", "w-2"])


def crashing(*points: str):
    return st.none() | st.sampled_from(points)


class History(RuleBasedStateMachine):
    """Two writers commit, flush progress and crash in any order; runs resume and tidy up, and crash in it."""

    @initialize()
    def begin(self):
        self.run = RunDirectory(f"memory://history-{uuid.uuid4().hex}/run")
        self.run.create()
        self.run.begin(INFO, no_guard)
        self.seq = 0
        self.committed: dict[str, int] = {}
        self.flushed: dict[str, dict[str, int]] = {}

    def attempt(self, point, act) -> bool:
        """Whether `act` passed without the crash that is asked for."""
        faults._passings.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(faults.VARIABLE, f"{point}:1:raise")
            try:
                act()
            except RuntimeError:
                return False
        return True

    @rule(writer=writers, content=contents, crash=crashing("before-rename", "after-rename"))
    def commit(self, writer, content, crash):
        records = [make_record(id_, n, "failed" if n == FAILED else "kept") for id_, n in content.items()]
        self.seq += 1
        arguments = (self.run.fs, self.run.paths, writer, self.seq, records, METADATA, no_guard)
        self.attempt(crash, lambda: write_shard(*arguments))
        if crash != "before-rename":
            for id_, n in content.items():
                self.committed[id_] = max(n, self.committed.get(id_, FAILED))

    @rule(writer=writers, content=contents, crash=crashing("during-progress-swap"))
    def flush(self, writer, content, crash):
        content = {id_: max(n, 0) for id_, n in content.items()}
        records = [make_record(id_, n, "searching") for id_, n in content.items()]
        arguments = (self.run.fs, self.run.root, writer, records, METADATA, no_guard)
        if self.attempt(crash, lambda: write_progress(*arguments)):
            self.flushed[writer] = content

    @rule(crash=crashing("before-rename", "after-rename", "before-delete", "before-progress-delete"))
    def tidy(self, crash):
        if self.attempt(crash, lambda: compact(self.run.fs, self.run.root, no_guard)):
            self.flushed = {
                writer: content
                for writer, content in self.flushed.items()
                if any(id_ not in self.committed or n > self.committed[id_] for id_, n in content.items())
            }
            ids = Counter(record.question.id for record in raw_records(self.run))
            assert ids == Counter(dict.fromkeys(self.committed, 1))
        else:
            # Some progress files may be gone; which ones is what the folder says.
            names = list_shards(self.run.fs, f"{self.run.root}/.progress")
            self.flushed = {w: content for w, content in self.flushed.items() if f"{w}.parquet" in names}

    @invariant()
    def readers_see_each_committed_question_once(self):
        rows = self.run.committed.table(["question_id", "simulations", "status"]).to_pylist()
        assert len(rows) == len(self.committed)
        found = {row["question_id"]: FAILED if row["status"] == "failed" else row["simulations"] for row in rows}
        assert found == self.committed

    @invariant()
    def a_resumed_run_finds_all_that_was_stored(self):
        plan = self.run.scan({id_: f"sha-{id_}" for id_ in "abcd"}, BUDGETS)
        assert plan.done == {id_ for id_, n in self.committed.items() if n >= BUDGETS.simulations}
        assert set(plan.failed) == {id_ for id_, n in self.committed.items() if n == FAILED}
        stored = Counter({id_: n for id_, n in self.committed.items() if n > FAILED})
        for content in self.flushed.values():
            stored |= Counter(content)  # the larger of each
        for id_ in set("abcd") - plan.done:
            record = self.run.load_record(plan.resume.get(id_, []), id_)
            assert (record.simulations if record else 0) == stored[id_]
        assert plan.quarantined == []


TestHistory = History.TestCase
TestHistory.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)
