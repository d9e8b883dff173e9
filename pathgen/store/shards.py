"""Shards: committed path records as immutable Parquet files named by the digest of their bytes."""

from __future__ import annotations

import errno
import hashlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from ..errors import ArtefactError, PathgenError
from ..faults import fault_point
from ..paths.records import PathRecord
from .files import full_name, is_local, list_files, move_file, put
from .provenance import SCHEMA_VERSION, VERSION_KEY, ShardMetadata
from .schema import SCHEMA, UnreadableShard, from_table, to_table

__all__ = [
    "PATHS_FOLDER",
    "PROGRESS_FOLDER",
    "QUARANTINE_FOLDER",
    "SCHEMA",
    "SCHEMA_VERSION",
    "ShardMetadata",
    "ShardName",
    "UnreadableShard",
    "commit_table",
    "from_table",
    "list_shards",
    "quarantine",
    "read_shard",
    "to_table",
    "write_progress",
    "write_shard",
]

PATHS_FOLDER = "paths"
PROGRESS_FOLDER = ".progress"
QUARANTINE_FOLDER = ".quarantine"

_SEAL_KEY = "layerpaths.digest"
_UNSEALED = "0" * 16
_NAME = re.compile(r"part-(?P<writer>.+)-(?P<seq>\d{5,})-(?P<digest>[0-9a-f]{16})\.parquet")


@dataclass(frozen=True, slots=True, order=True)
class ShardName:
    """The parts of `part-<writer>-<seq>-<digest>.parquet`."""

    writer: str
    seq: int
    digest: str

    @classmethod
    def parse(cls, name: str) -> ShardName:
        """Take a file's name apart.

        Raises:
            UnreadableShard: it is no shard's name.
        """
        match = _NAME.fullmatch(name)
        if match is None:
            raise UnreadableShard(f"{name}: not a shard's name; expected part-<writer>-<seq>-<digest>.parquet")
        return cls(match["writer"], int(match["seq"]), match["digest"])

    def __str__(self) -> str:
        return f"part-{self.writer}-{self.seq:05d}-{self.digest}.parquet"


def write_shard(
    fs: AbstractFileSystem,
    folder: str,
    writer: str,
    seq: int,
    records: Sequence[PathRecord],
    metadata: ShardMetadata,
    guard: Callable[[], object],
) -> str:
    """Commit records as one shard: it appears whole or not at all.

    Args:
        fs: file system of the run.
        folder: the run's `paths` folder.
        writer: id of the actor that writes; no other ever writes under it.
        seq: count of this writer's shards so far.
        records: the rows.
        metadata: origin of the records.
        guard: called just before the commit; raises when another run holds the lease.

    Returns:
        The new file's name.

    Raises:
        PathgenError: disk full and the like; nothing was committed, and nothing committed before is harmed.
        LeaseLost: from the guard.
    """
    table = to_table(records).replace_schema_metadata(metadata.key_values())
    return commit_table(fs, folder, writer, seq, table, guard)


def commit_table(
    fs: AbstractFileSystem, folder: str, writer: str, seq: int, table: pa.Table, guard: Callable[[], object]
) -> str:
    """`write_shard` for rows that are an Arrow table already, its schema metadata included."""
    data = _to_parquet(table)
    name = str(ShardName(writer, seq, _digest(data)))
    put(fs, f"{folder}/{name}", data, guard=guard, passing=fault_point)
    return name


def write_progress(
    fs: AbstractFileSystem,
    out: str,
    writer: str,
    records: Sequence[PathRecord],
    metadata: ShardMetadata,
    guard: Callable[[], object],
) -> None:
    """Replace a writer's progress file: searches under way, and finished records not yet in a shard.

    Raises:
        PathgenError: disk full and the like; the former progress file stays.
        LeaseLost: from the guard.
    """
    table = to_table(records).replace_schema_metadata(metadata.key_values() | {_SEAL_KEY: _UNSEALED})
    path = f"{out}/{PROGRESS_FOLDER}/{writer}.parquet"
    put(fs, path, _seal(_to_parquet(table)), guard=guard, passing=_passing_progress)


def read_shard(fs: AbstractFileSystem, path: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read and verify a shard or a progress file: the only way that records are read.

    A shard's bytes must have the digest of its name, a progress file's the one in its metadata. The pages must
    have their checksums, and the schema must be exactly `SCHEMA`: no extension type is ever built from a file.

    Args:
        fs: file system of the run.
        path: the file.
        columns: the columns to decode, all if None. The whole file is verified either way.

    Returns:
        The rows; its schema metadata is the file's.

    Raises:
        UnreadableShard: anything is wrong with the file.
        ArtefactError: a newer layerpaths wrote it.
        FileNotFoundError: there is no such file.
        PathgenError: the file system refuses.
    """
    folder, _, name = path.rpartition("/")
    try:
        data = fs.cat_file(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.EIO and is_local(fs):
            raise UnreadableShard(f"{name}: {error.strerror}") from error
        raise PathgenError(f"cannot read {full_name(fs, path)}: {error.strerror or error}") from error
    is_progress = folder.endswith(f"/{PROGRESS_FOLDER}")
    if not (_is_sealed(data) if is_progress else _digest(data) == ShardName.parse(name).digest):
        raise UnreadableShard(f"{name}: its bytes do not have the digest in its {'footer' if is_progress else 'name'}")
    try:
        return _from_parquet(data, name, columns)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise UnreadableShard(f"{name}: {str(error).splitlines()[0] if str(error) else error!r}") from error


def list_shards(fs: AbstractFileSystem, folder: str, writer: str | None = None) -> list[str]:
    """Names of the Parquet files in a folder, whether readable or not; of one writer if given.

    A folder's progress files are listed by this too; theirs are named by the writer alone.
    """
    names = [name for name in list_files(fs, folder) if name.endswith(".parquet") and not name.startswith(".")]
    if writer is None:
        return names
    return [name for name in names if name.startswith(f"part-{writer}-") or name == f"{writer}.parquet"]


def quarantine(fs: AbstractFileSystem, out: str, name: str, reason: str) -> None:
    """Move an unreadable file out of every reader's way, its reason beside it.

    Args:
        fs: file system of the run.
        out: the run's folder.
        name: the file, relative to `out`.
        reason: one line, for people.

    Raises:
        PathgenError: the file system refuses.
    """
    target = f"{out}/{QUARANTINE_FOLDER}/{name.rsplit('/', 1)[-1]}"
    put(fs, f"{target}.reason", f"{reason}\n".encode())
    move_file(fs, f"{out}/{name}", target)


def _passing_progress(step: str) -> None:
    if step == "before-rename":
        fault_point("during-progress-swap")


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _seal(data: bytes) -> bytes:
    """Put the digest of the unsealed bytes in the place of `_UNSEALED`: progress files keep their name."""
    at = _seal_position(data)
    assert data[at : at + len(_UNSEALED)] == _UNSEALED.encode()
    return data[:at] + _digest(data).encode() + data[at + len(_UNSEALED) :]


def _is_sealed(data: bytes) -> bool:
    at = _seal_position(data)
    end = at + len(_UNSEALED)
    return data[at:end] == _digest(data[:at] + _UNSEALED.encode() + data[end:]).encode()


def _seal_position(data: bytes) -> int:
    # In the footer the value follows its key after two bytes: Thrift's field header and the length.
    return data.rfind(_SEAL_KEY.encode()) + len(_SEAL_KEY) + 2


def _to_parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    # No stored Arrow schema: the Parquet types say all, and no reader can be led to build an extension type.
    # No statistics: nothing of the rows stands in the footer, where no checksum guards it.
    options = {
        "compression": "zstd",
        "write_page_checksum": True,
        "store_schema": False,
        "write_statistics": False,
    }
    with pq.ParquetWriter(buffer, table.schema, **options) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(table.schema.metadata)
    return buffer.getvalue()


def _from_parquet(data: bytes, name: str, columns: Sequence[str] | None) -> pa.Table:
    # Opening a file builds the types that its stored Arrow schema names, so that is refused on the bare bytes.
    footer = data[-8 - int.from_bytes(data[-8:-4], "little") :]
    if b"ARROW:schema" in footer:
        raise UnreadableShard(f"{name}: has a stored Arrow schema, so it was not written by layerpaths")
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    stored = file.metadata.metadata or {}
    found = stored.get(VERSION_KEY.encode())
    if found is None:
        raise UnreadableShard(f"{name}: has no schema version, so it was not written by layerpaths")
    if int(found) > SCHEMA_VERSION:
        raise ArtefactError(
            f"{name} has schema version {int(found)}, this layerpaths reads up to {SCHEMA_VERSION}: upgrade"
        )
    if not file.schema_arrow.equals(SCHEMA):
        raise UnreadableShard(f"{name}: {_schema_difference(file.schema_arrow)}")
    table = file.read(columns=columns, use_threads=False)
    table.validate(full=True)
    return table.replace_schema_metadata(stored)


def _schema_difference(schema: pa.Schema) -> str:
    faults = [f"{name} is not known" for name in schema.names if name not in SCHEMA.names]
    faults += [f"{name} is missing" for name in SCHEMA.names if name not in schema.names]
    if faults:
        return f"wrong columns: {', '.join(faults)}"
    wrong = [field.name for field in schema if not field.equals(SCHEMA.field(field.name))]
    return f"wrong type or order of columns: {', '.join(wrong) or 'order'}"
