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
from .files import full_name, is_local, list_files, put, refusals
from .provenance import SHARD_VERSION, VERSION_KEY, ShardMetadata
from .schema import ADDED, SCHEMA, UnreadableShard, to_table

PATHS_FOLDER = "paths"
PROGRESS_FOLDER = ".progress"
QUARANTINE_FOLDER = ".quarantine"

_SEAL_KEY = "layerpaths.digest"
_UNSEALED = "0" * 16
_NAME = re.compile(r"part-(?P<writer>.+)-(?P<seq>\d{5,})-(?P<digest>[0-9a-f]{16})\.parquet")


@dataclass(frozen=True, slots=True)
class ShardName:
    """The parts of `part-<writer>-<seq>-<digest>.parquet`."""

    writer: str
    seq: int
    digest: str

    @classmethod
    def parse(cls, name: str) -> ShardName:
        """The parts of a file's name; UnreadableShard if it is not a shard's name."""
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
    """Commit records as one shard, which appears whole or not at all; the new file's name.

    Args:
        fs: file system of the run.
        folder: the run's `paths` folder.
        writer: id of the actor that writes; no other actor ever uses it.
        seq: number of shards that this writer has committed before.
        records: the rows.
        metadata: origin of the records.
        guard: called just before the commit; raises LeaseLost if another run holds the lease.

    Raises:
        PathgenError: the write failed, for example on a full disk; committed files are unharmed.
    """
    table = to_table(records).replace_schema_metadata(metadata.key_values())
    return commit_table(fs, folder, writer, seq, table, guard)


def commit_table(
    fs: AbstractFileSystem, folder: str, writer: str, seq: int, table: pa.Table, guard: Callable[[], object]
) -> str:
    """`write_shard` for an Arrow table with its schema metadata."""
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
    """Replace a writer's progress file: unfinished searches, and finished records not yet in a shard.

    Arguments and errors as in `write_shard`; after an error the former file is still there.
    """
    table = to_table(records).replace_schema_metadata(metadata.key_values() | {_SEAL_KEY: _UNSEALED})
    path = f"{out}/{PROGRESS_FOLDER}/{writer}.parquet"

    def passing(step: str) -> None:
        if step == "before-rename":
            fault_point("during-progress-swap")

    put(fs, path, _seal(_to_parquet(table)), guard=guard, passing=passing)


def read_shard(fs: AbstractFileSystem, path: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read and verify a shard or a progress file: the only way to read records.

    The digest of a shard's bytes must be in its name, that of a progress file in its metadata. The page checksums
    must fit, and the schema must be exactly `SCHEMA`: a file can never cause an extension type to be built.

    Args:
        fs: file system of the run.
        path: the file.
        columns: the columns to decode, all if None. The whole file is verified either way.

    Returns:
        The rows, with the file's own schema metadata.

    Raises:
        UnreadableShard: the file is damaged.
        ArtefactError: a newer layerpaths wrote it.
        FileNotFoundError: the file does not exist.
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
    if not (_seal(data) == data if is_progress else _digest(data) == ShardName.parse(name).digest):
        raise UnreadableShard(f"{name}: its bytes do not have the digest in its {'footer' if is_progress else 'name'}")
    try:
        return _from_parquet(data, name, columns)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise UnreadableShard(f"{name}: {str(error).splitlines()[0] if str(error) else error!r}") from error


def list_shards(fs: AbstractFileSystem, folder: str, writer: str | None = None) -> list[str]:
    """Names of the shards or progress files in a folder, whether readable or not; of one writer if given."""
    names = [name for name in list_files(fs, folder) if name.endswith(".parquet") and not name.startswith(".")]
    if writer is None:
        return names
    return [name for name in names if name.startswith(f"part-{writer}-") or name == f"{writer}.parquet"]


def quarantine(fs: AbstractFileSystem, out: str, name: str, reason: str) -> None:
    """Move an unreadable file (`name` is relative to `out`) out of every reader's way, with a file for the reason.

    Raises:
        PathgenError: the file system refuses.
    """
    target = f"{out}/{QUARANTINE_FOLDER}/{name.rsplit('/', 1)[-1]}"
    put(fs, f"{target}.reason", f"{reason}\n".encode())
    with refusals(fs, "move", f"{out}/{name}"):
        fs.mv(f"{out}/{name}", target)


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _seal(data: bytes) -> bytes:
    """The file with the digest of its unsealed bytes in the footer: a progress file's name has no digest."""
    # In the footer the value follows its key after two bytes: Thrift's field header and the length.
    start = data.rfind(_SEAL_KEY.encode()) + len(_SEAL_KEY) + 2
    end = start + len(_UNSEALED)
    digest = _digest(data[:start] + _UNSEALED.encode() + data[end:])
    return data[:start] + digest.encode() + data[end:]


def _to_parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    # Without a stored Arrow schema no reader can be led to build an extension type; the Parquet types suffice.
    # Statistics would copy values of rows into the footer, which has no checksum.
    with pq.ParquetWriter(
        buffer, table.schema, compression="zstd", write_page_checksum=True, store_schema=False, write_statistics=False
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(table.schema.metadata)
    return buffer.getvalue()


def _from_parquet(data: bytes, name: str, columns: Sequence[str] | None) -> pa.Table:
    # Opening a file builds the types that its stored Arrow schema names, so look for one in the raw bytes first.
    footer = data[-8 - int.from_bytes(data[-8:-4], "little") :]
    if b"ARROW:schema" in footer:
        raise UnreadableShard(f"{name}: has a stored Arrow schema, so it was not written by layerpaths")
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    stored = file.metadata.metadata or {}
    found = stored.get(VERSION_KEY.encode())
    if found is None:
        raise UnreadableShard(f"{name}: has no schema version, so it was not written by layerpaths")
    if int(found) > SHARD_VERSION:
        raise ArtefactError(
            f"{name} has schema version {int(found)}, this layerpaths reads up to {SHARD_VERSION}: upgrade"
        )
    absent = [column for version, added in ADDED.items() if version > int(found) for column in added]
    expected = pa.schema([field for field in SCHEMA if field.name not in absent])
    if not file.schema_arrow.equals(expected):
        raise UnreadableShard(f"{name}: {_schema_difference(file.schema_arrow, expected)}")
    wanted = SCHEMA.names if columns is None else columns
    table = file.read(columns=[column for column in wanted if column not in absent], use_threads=False)
    table.validate(full=True)
    for place, column in enumerate(wanted):
        if column in absent:
            table = table.add_column(place, SCHEMA.field(column), pa.nulls(len(table), SCHEMA.field(column).type))
    return table.replace_schema_metadata(stored)


def _schema_difference(schema: pa.Schema, expected: pa.Schema) -> str:
    faults = [f"{name} is not known" for name in schema.names if name not in expected.names]
    faults += [f"{name} is missing" for name in expected.names if name not in schema.names]
    if faults:
        return f"wrong columns: {', '.join(faults)}"
    wrong = [field.name for field in schema if not field.equals(expected.field(field.name))]
    return f"wrong type or order of columns: {', '.join(wrong) or 'order'}"
