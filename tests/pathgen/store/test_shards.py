import errno
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from path_records import METADATA, make_record, no_guard
from record_strategies import any_records

from pathgen import faults
from pathgen.errors import ArtefactError, InputError, PathgenError
from pathgen.store.files import open_folder, put, remove_leftovers
from pathgen.store.folder_lock import LeaseLost
from pathgen.store.provenance import VERSION_KEY, ShardMetadata
from pathgen.store.schema import SCHEMA, UnreadableShard, from_table, to_table
from pathgen.store.shards import (
    ShardName,
    _digest,
    _to_parquet,
    list_shards,
    quarantine,
    read_shard,
    write_progress,
    write_shard,
)

FS, _ = open_folder("/")


def put_shard(folder: Path, data: bytes) -> str:
    """A file of any bytes under the name that its digest asks for."""
    path = folder / str(ShardName("w-0", 0, _digest(data)))
    path.write_bytes(data)
    return str(path)


def shard_bytes(table: pa.Table | None = None, **key_values: str) -> bytes:
    table = to_table([make_record("a"), make_record("b")]) if table is None else table
    return _to_parquet(table.replace_schema_metadata(METADATA.key_values() | key_values))


@given(st.lists(any_records, max_size=5))
@settings(max_examples=60, deadline=None)
def test_records_survive_the_way_to_arrow_and_back(records):
    table = to_table(records)
    table.validate(full=True)
    assert table.schema.equals(SCHEMA)
    assert from_table(table) == records


@given(st.lists(any_records, max_size=4))
@settings(max_examples=30, deadline=None)
def test_records_survive_a_shard(records):
    fs, folder = open_folder("memory://shard-round-trip/paths")
    name = write_shard(fs, folder, "w-0", 3, records, METADATA, no_guard)
    table = read_shard(fs, f"{folder}/{name}")
    assert from_table(table) == records
    assert ShardMetadata.of(table) == METADATA


@pytest.mark.parametrize("columns", [None, ["question_id", "influence", "seed"], ["task"]])
def test_a_shard_of_the_first_version_lacks_the_influence(tmp_path, columns):
    """Its records read as made without one, and with it in the file the version is a lie."""
    records = [make_record("a", influence=(0.5, 0.25, 0.125)), make_record("b")]
    whole = to_table(records)
    path = put_shard(tmp_path, shard_bytes(whole.drop_columns(["influence", "cut"]), **{VERSION_KEY: "1"}))
    table = read_shard(FS, path, columns)
    assert table.column_names == (SCHEMA.names if columns is None else columns)
    if columns is None:
        assert from_table(table) == [replace(record, influence=None) for record in records]
    elif "influence" in columns:
        assert table["influence"].to_pylist() == [None, None]
    with pytest.raises(UnreadableShard, match="influence is not known, cut is not known"):
        read_shard(FS, put_shard(tmp_path, shard_bytes(whole, **{VERSION_KEY: "1"})))


def test_a_slice_of_a_table_gives_its_own_rows():
    records = [make_record(str(i), simulations=i) for i in range(6)]
    assert from_table(to_table(records).slice(2, 3)) == records[2:5]


@pytest.mark.parametrize("actions", [[], [0, 3]])
def test_a_path_that_cannot_be_is_refused(actions):
    table = to_table([make_record("a")])
    column = pa.array([actions], type=SCHEMA.field("best_path").type)
    broken = table.set_column(table.schema.get_field_index("best_path"), SCHEMA.field("best_path"), column)
    with pytest.raises(UnreadableShard):
        from_table(broken)


def test_a_shard_is_named_by_writer_sequence_and_digest(tmp_path):
    name = write_shard(FS, str(tmp_path), "w-12ab", 7, [make_record("a")], METADATA, no_guard)
    assert name == f"part-w-12ab-00007-{_digest((tmp_path / name).read_bytes())}.parquet"
    assert (ShardName.parse(name).writer, ShardName.parse(name).seq) == ("w-12ab", 7)
    assert os.listdir(tmp_path) == [name]


def test_only_the_asked_columns_are_read(tmp_path):
    path = put_shard(tmp_path, shard_bytes())
    assert read_shard(FS, path, ["status", "question_id"]).to_pydict() == {
        "status": ["kept", "kept"],
        "question_id": ["a", "b"],
    }


@pytest.mark.parametrize("kind", ["shard", "progress"])
def test_each_flipped_bit_and_each_truncation_is_caught(tmp_path, kind):
    records = [make_record("a"), make_record("b")]
    if kind == "shard":
        path = tmp_path / write_shard(FS, str(tmp_path), "w-0", 0, records, METADATA, no_guard)
    else:
        write_progress(FS, str(tmp_path), "w-0", records, METADATA, no_guard)
        path = tmp_path / ".progress" / "w-0.parquet"
    data = path.read_bytes()
    assert from_table(read_shard(FS, str(path))) == records
    damaged = [data[:length] for length in (0, 4, 12, len(data) // 2, len(data) - 1)]
    damaged += [flip(data, position, position % 8) for position in range(0, len(data), 11)]
    for bad in damaged:
        path.write_bytes(bad)
        with pytest.raises(UnreadableShard):
            read_shard(FS, str(path), ["question_id"])


def flip(data: bytes, position: int, bit: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]


def test_columns_must_be_exactly_the_schema(tmp_path):
    table = to_table([make_record("a")])
    extra = table.append_column("surprise", pa.array([1]))
    missing = table.drop_columns(["gold"])
    binary = pa.field("question_id", pa.large_binary(), nullable=False)
    retyped = table.set_column(0, binary, pa.array([b"a"], type=binary.type))
    nullable = table.set_column(0, pa.field("question_id", pa.string()), table["question_id"])
    moved = table.select([*table.schema.names[1:], table.schema.names[0]])
    for broken, word in [
        (extra, "surprise is not known"),
        (missing, "gold is missing"),
        (retyped, "question_id"),
        (nullable, "question_id"),
        (moved, "order"),
    ]:
        with pytest.raises(UnreadableShard, match=word):
            read_shard(FS, put_shard(tmp_path, shard_bytes(broken)))


class Marked(pa.ExtensionType):
    """A type that would run code of its own when a file names it."""

    built = 0

    def __init__(self):
        super().__init__(pa.string(), "test.marked")

    def __arrow_ext_serialize__(self):
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type, serialized):
        cls.built += 1
        return cls()


def test_an_extension_type_is_refused_before_it_is_built(tmp_path):
    table = to_table([make_record("a")])
    storage = table["task"].combine_chunks()
    field = pa.field("task", Marked(), nullable=False)
    table = table.set_column(2, field, pa.ExtensionArray.from_storage(Marked(), storage))
    table = table.replace_schema_metadata(METADATA.key_values())
    pa.register_extension_type(Marked())
    try:
        pq.write_table(table, tmp_path / "raw")
        Marked.built = 0
        with pytest.raises(UnreadableShard, match="stored Arrow schema"):
            read_shard(FS, put_shard(tmp_path, (tmp_path / "raw").read_bytes()))
        assert Marked.built == 0
    finally:
        pa.unregister_extension_type("test.marked")


def test_parquet_of_another_program_is_refused(tmp_path):
    data = _to_parquet(to_table([make_record("a")]).replace_schema_metadata({"made by": "someone"}))
    with pytest.raises(UnreadableShard, match="no schema version"):
        read_shard(FS, put_shard(tmp_path, data))
    (tmp_path / "data.parquet").write_bytes(data)
    with pytest.raises(UnreadableShard, match="not a shard's name"):
        read_shard(FS, str(tmp_path / "data.parquet"))


def test_a_newer_schema_version_is_no_damage_but_a_request_to_upgrade(tmp_path):
    path = put_shard(tmp_path, shard_bytes(**{VERSION_KEY: "4"}))
    with pytest.raises(ArtefactError, match=r"part-.* has schema version 4, this layerpaths reads up to 3") as caught:
        read_shard(FS, path)
    assert caught.value.exit_code == 4


def test_quarantine_moves_the_file_and_says_why(tmp_path):
    (tmp_path / "paths").mkdir()
    (tmp_path / "paths" / "part-x.parquet").write_bytes(b"PAR1")
    quarantine(FS, str(tmp_path), "paths/part-x.parquet", "part-x.parquet: too short")
    assert list_shards(FS, str(tmp_path / "paths")) == []
    assert (tmp_path / ".quarantine" / "part-x.parquet").read_bytes() == b"PAR1"
    assert "too short" in (tmp_path / ".quarantine" / "part-x.parquet.reason").read_text()


def test_shards_of_one_writer(tmp_path):
    for writer in ("w-1", "w-10"):
        write_shard(FS, str(tmp_path), writer, 0, [make_record("a")], METADATA, no_guard)
    (tmp_path / ".tmp-0").write_bytes(b"")
    assert len(list_shards(FS, str(tmp_path))) == 2
    assert [ShardName.parse(name).writer for name in list_shards(FS, str(tmp_path), "w-1")] == ["w-1"]
    assert list_shards(FS, str(tmp_path / "absent")) == []


@pytest.mark.parametrize("url", ["memory://guarded/paths", None])
def test_a_lost_lease_calls_the_commit_off(tmp_path, url):
    fs, folder = open_folder(url or str(tmp_path / "paths"))

    def lost():
        raise LeaseLost("another run holds it")

    with pytest.raises(LeaseLost):
        write_shard(fs, folder, "w-0", 0, [make_record("a")], METADATA, lost)
    assert not fs.exists(folder) or fs.ls(folder) == []


@pytest.mark.parametrize("point", ["before-temp", "mid-temp", "before-rename"])
@pytest.mark.parametrize("action", ["enospc", "eio"])
def test_a_full_or_broken_disk_fails_in_one_line_and_harms_nothing(tmp_path, monkeypatch, point, action):
    first = write_shard(FS, str(tmp_path), "w-0", 0, [make_record("a")], METADATA, no_guard)
    monkeypatch.setenv(faults.VARIABLE, f"{point}:1:{action}")
    monkeypatch.setattr(faults, "_passings", faults.Counter())
    with pytest.raises(PathgenError, match=os.strerror(getattr(errno, action.upper()))) as caught:
        write_shard(FS, str(tmp_path), "w-0", 1, [make_record("b")], METADATA, no_guard)
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == [first]
    read_shard(FS, str(tmp_path / first))


def test_a_failed_swap_keeps_the_former_progress(tmp_path, monkeypatch):
    write_progress(FS, str(tmp_path), "w-0", [make_record("a", status="searching")], METADATA, no_guard)
    monkeypatch.setenv(faults.VARIABLE, "during-progress-swap:1:eio")
    monkeypatch.setattr(faults, "_passings", faults.Counter())
    with pytest.raises(PathgenError):
        write_progress(FS, str(tmp_path), "w-0", [], METADATA, no_guard)
    (path,) = (tmp_path / ".progress").iterdir()
    assert [record.question.id for record in from_table(read_shard(FS, str(path)))] == ["a"]
    write_progress(FS, str(tmp_path), "w-0", [], METADATA, no_guard)
    assert read_shard(FS, str(path)).num_rows == 0


def test_leftovers_go_and_all_else_stays(tmp_path):
    code = (
        "from pathgen.store.files import *\n"
        "fs, out = open_folder('.'); put(fs, out + '/x', b'new', passing=fault_point)"
    )
    (tmp_path / "x").write_bytes(b"old")
    killed = subprocess.run(
        [sys.executable, "-c", f"from pathgen.faults import fault_point; {code}"],
        cwd=tmp_path,
        env=os.environ | {faults.VARIABLE: "mid-temp:1:kill", "PYTHONPATH": str(Path(faults.__file__).parents[1])},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(os.listdir(tmp_path)) == 2
    assert len(remove_leftovers(FS, str(tmp_path))) == 1
    assert (tmp_path / "x").read_bytes() == b"old"


def test_put_replaces_on_any_file_system():
    fs, folder = open_folder("memory://put")
    put(fs, f"{folder}/x", b"one")
    put(fs, f"{folder}/x", b"two")
    assert fs.cat_file(f"{folder}/x") == b"two"


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules, "pathgen.store.s3", raising=False)
    with pytest.raises(InputError, match=r"pip install 'layerpaths\[s3\]'"):
        open_folder("s3://bucket/run")
    with pytest.raises(InputError, match="nosuch"):
        open_folder("nosuch://bucket/run")
