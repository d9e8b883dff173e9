"""When records reach the disk: 64 or a minute, progress every half minute, nothing without the lease."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from path_records import METADATA, make_record

import pathgen.store.writer
from pathgen.errors import StoreOutage
from pathgen.store.folder_lock import LeaseLost, RunLease
from pathgen.store.index import progress_files, shard_files
from pathgen.store.run_folder import RunDirectory
from pathgen.store.schema import from_table
from pathgen.store.shards import read_shard
from pathgen.store.writer import OUTAGE_RETRY_S, OUTAGE_S, PROGRESS_S, SHARD_RECORDS, SHARD_S, RecordWriter


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(pathgen.store.writer, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(str(tmp_path / "run"))
    run.create()
    return run


@pytest.fixture
def lease(run):
    with RunLease(run.fs, run.root, on_wait=print) as lease:
        yield lease


@pytest.fixture
def writer(clock, run, lease):
    return RecordWriter(run.out, "w-1", METADATA, lease.token)


def stored(run: RunDirectory, files: list[str]) -> list[str]:
    return [r.question.id for file in files for r in from_table(read_shard(run.fs, f"{run.root}/{file}"))]


def shards(run: RunDirectory) -> list[str]:
    return stored(run, shard_files(run.fs, run.root))


def progress(run: RunDirectory) -> list[str]:
    return stored(run, progress_files(run.fs, run.root))


def nothing() -> list:
    return []


def test_the_intervals_are_those_promised():
    assert (SHARD_RECORDS, SHARD_S, PROGRESS_S) == (64, 60, 30)


def test_a_shard_is_written_at_the_64th_record(writer, run):
    ids = [f"q{i:02d}" for i in range(64)]
    for question_id in ids[:63]:
        writer.add(make_record(question_id))
    assert writer.tick(nothing) == []
    writer.add(make_record(ids[63]))
    assert writer.tick(nothing) == ids
    assert shards(run) == ids
    assert writer.tick(nothing) == []


def test_a_shard_is_written_a_minute_after_its_first_record(writer, run, clock):
    clock.now += 500
    writer.add(make_record("a"))
    clock.now += 59
    writer.add(make_record("b"))
    writer.tick(nothing)
    assert shards(run) == []
    clock.now += 1
    assert writer.tick(nothing) == ["a", "b"]
    writer.add(make_record("c"))
    assert writer.close([]) == ["c"]
    assert sorted(shards(run)) == ["a", "b", "c"]
    assert len(shard_files(run.fs, run.root)) == 2


def test_progress_is_written_every_half_minute_and_gone_when_shards_hold_it(writer, run, clock):
    under_way = make_record("u", status="searching")
    writer.add(make_record("a"))
    clock.now += 29.9
    assert writer.tick(lambda: [under_way]) == []
    assert progress(run) == []
    clock.now += 0.2
    assert writer.tick(lambda: [under_way]) == []  # a kill may still lose the file's successor: not durable
    assert sorted(progress(run)) == ["a", "u"]
    clock.now += 30
    assert writer.tick(lambda: [under_way]) == ["a"]
    assert progress(run) == ["u"]  # the shard holds the other
    assert writer.close([]) == []
    assert progress(run) == []


def test_an_outage_of_the_store_is_waited_for_and_what_was_tried_is_written_as_it_was(writer, run, clock, monkeypatch):
    tried, write = [], pathgen.store.writer.write_shard

    def out_of_reach(fs, folder, name, seq, records, *rest):
        tried.append([record.question.id for record in records])
        raise StoreOutage("busy")

    monkeypatch.setattr(pathgen.store.writer, "write_shard", out_of_reach)
    writer.add(make_record("a"))
    clock.now += SHARD_S
    assert writer.tick(nothing) == []
    writer.add(make_record("b"))
    assert writer.tick(nothing) == []  # not again at once
    clock.now += OUTAGE_RETRY_S
    assert writer.tick(nothing) == []
    assert tried == [["a"], ["a"]]
    monkeypatch.setattr(pathgen.store.writer, "write_shard", write)
    clock.now += OUTAGE_RETRY_S
    assert writer.tick(nothing) == ["a"]
    assert writer.close([]) == ["b"]
    assert shards(run) == ["a", "b"]


def test_an_outage_that_lasts_ends_the_work(writer, clock, monkeypatch):
    def out_of_reach(*_):
        raise StoreOutage("busy")

    monkeypatch.setattr(pathgen.store.writer, "write_shard", out_of_reach)
    writer.add(make_record("a"))
    clock.now += SHARD_S
    assert writer.tick(nothing) == []
    clock.now += OUTAGE_S
    with pytest.raises(StoreOutage, match="busy"):
        writer.tick(nothing)


def test_what_is_durable_is_told_though_the_progress_after_it_failed(writer, run, clock, monkeypatch):
    keep = pathgen.store.writer.write_progress
    under_way = make_record("u", status="searching")
    clock.now += PROGRESS_S
    assert writer.tick(lambda: [under_way]) == []

    def out_of_reach(*_):
        raise StoreOutage("busy")

    monkeypatch.setattr(pathgen.store.writer, "write_progress", out_of_reach)
    writer.add(make_record("a"))
    clock.now += SHARD_S
    assert writer.tick(lambda: [under_way]) == ["a"]
    monkeypatch.setattr(pathgen.store.writer, "write_progress", keep)
    assert (shards(run), progress(run)) == (["a"], ["u"])


def test_without_the_lease_nothing_is_written(writer, run, lease, clock):
    run.fs.rm_file(f"{run.root}/.lease.json")
    writer.add(make_record("a"))
    with pytest.raises(LeaseLost):
        writer.close([])
    clock.now += PROGRESS_S
    with pytest.raises(LeaseLost):
        writer.tick(nothing)
    assert (progress(run), shards(run)) == ([], [])
