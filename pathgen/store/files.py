"""Files on any file system: an atomic put, an exclusive create, a clean-up."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from ..errors import InputError, PathgenError, StoreOutage

TEMPORARY_PREFIX = ".tmp-"
"""It starts with a dot and the file has no suffix, so that no reader takes an unfinished file for data."""

_BUSY = (errno.EBUSY, errno.EIO, errno.EREMOTEIO)
"""What s3fs raises after its last retry, when the store throttles or has an error of its own."""


def _nothing(*_: object) -> None:
    """The default for a hook of `put`."""


def open_folder(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system of a local path or URL, and the folder's path in it.

    Raises:
        InputError: the protocol is unknown, its package is missing, the place is out of reach, or cannot hold a run.
    """
    if url.startswith("hf://"):
        raise InputError(
            f"{url}: a run cannot be written to the hub, as each file would be a commit; write it to a folder or an "
            "object store, then use `pathgen export --format hub`"
        )
    try:
        if url.startswith(("s3://", "s3a://")):
            from .s3 import S3Store

            # One request per read: with more, s3fs would first request the size of these small files.
            fs: AbstractFileSystem = S3Store(max_concurrency=1)
            path = fs._strip_protocol(url)
        else:
            fs, path = url_to_fs(url)
    except ImportError as error:
        protocol = url.split("://")[0]
        package = "'layerpaths[s3]'" if protocol in ("s3", "s3a") else f"the fsspec package for {protocol}://"
        raise InputError(f"{url}: {protocol}:// needs another package; run: pip install {package}") from error
    except OSError as error:
        raise InputError(f"{url} cannot be reached ({error.strerror or error})") from error
    except ValueError as error:
        raise InputError(f"{url}: {error}; give a folder or a URL such as s3://bucket/run") from error
    return fs, path.rstrip("/") or "/"


def is_local(fs: AbstractFileSystem) -> bool:
    """Whether the files are on this machine, where they can be renamed and flushed."""
    return isinstance(fs, LocalFileSystem)


def full_name(fs: AbstractFileSystem, path: str) -> str:
    """A file's name for messages: its path if it is local, else its URL."""
    return path if is_local(fs) else fs.unstrip_protocol(path)


def parent(path: str) -> str:
    """The folder of a path on any file system."""
    return path.rpartition("/")[0] or "/"


def _refused(fs: AbstractFileSystem, verb: str, path: str, error: OSError) -> PathgenError:
    busy = isinstance(error, ConnectionError | TimeoutError) or error.errno in _BUSY
    kind = StoreOutage if busy and not is_local(fs) else PathgenError
    return kind(f"cannot {verb} {full_name(fs, path)}: {error.strerror or error}")


@contextmanager
def refusals(fs: AbstractFileSystem, verb: str, path: str) -> Iterator[None]:
    """Turn an OSError in the block into a PathgenError that names the action; StoreOutage if it may pass."""
    try:
        yield
    except OSError as error:
        raise _refused(fs, verb, path, error) from error


def list_files(fs: AbstractFileSystem, folder: str) -> list[str]:
    """Sorted names of a folder's entries, empty if it does not exist; PathgenError if the file system refuses."""
    fs.invalidate_cache(folder)
    with refusals(fs, "list", folder), suppress(FileNotFoundError):
        return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in fs.ls(folder, detail=False))
    return []


def read_file(fs: AbstractFileSystem, path: str) -> bytes | None:
    """A file's bytes, None if it does not exist; PathgenError if the file system refuses."""
    with refusals(fs, "read", path), suppress(FileNotFoundError, NotADirectoryError):
        return fs.cat_file(path)
    return None


def check_writable(fs: AbstractFileSystem, folder: str, option: str) -> None:
    """Make a folder, and check that files can be written there, before the work for them begins.

    Args:
        fs: file system of the folder.
        folder: its path.
        option: the user's option and its value, for messages, for example `--out runs/paths`.

    Raises:
        InputError: nothing can be written there.
        PathgenError: nothing can be written at the moment: the disk is full, or the store is busy.
    """
    probe = f"{folder}/{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    try:
        fs.makedirs(folder, exist_ok=True)
        fs.pipe_file(probe, b"")
        fs.rm_file(probe)
    except OSError as error:
        refused = _refused(fs, "write", probe, error)
        if isinstance(refused, StoreOutage) or error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise refused from error
        raise InputError(f"{option} cannot be written ({error.strerror or error}); give another place") from error


def remove_file(fs: AbstractFileSystem, path: str) -> None:
    """Delete a file; PathgenError if the file system refuses, or (only locally) the file does not exist."""
    with refusals(fs, "delete", path):
        fs.rm_file(path)


def put(
    fs: AbstractFileSystem,
    path: str,
    data: bytes,
    *,
    guard: Callable[[], object] = _nothing,
    passing: Callable[[str], object] = _nothing,
) -> None:
    """Make or replace a file atomically: readers see either the old content or all of `data`.

    Locally: write a temporary file in the same folder, flush it to disk, rename it, flush the folder. Elsewhere:
    one put of all bytes, which object stores make visible at once.

    Args:
        fs: the file system.
        path: the file.
        data: its whole content.
        guard: called just before the file appears; raises to cancel the write.
        passing: called with the name of each step: before-temp, mid-temp (only locally), before-rename, after-rename.

    Raises:
        PathgenError: the file system refuses (disk full, no permission, input/output error).
    """
    with refusals(fs, "write", path):
        passing("before-temp")
        if is_local(fs):
            _put_local(path, data, guard, passing)
        else:
            guard()
            passing("before-rename")
            fs.pipe_file(path, data)
        passing("after-rename")


def _put_local(path: str, data: bytes, guard: Callable[[], object], passing: Callable[[str], object]) -> None:
    if os.path.exists(path) and not os.path.isfile(path):
        raise FileExistsError(errno.EEXIST, "it exists and is not a regular file")
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
    try:
        with open(temporary, "wb") as file:
            half = len(data) // 2
            file.write(data[:half])
            file.flush()
            passing("mid-temp")
            file.write(data[half:])
            file.flush()
            os.fsync(file.fileno())
        guard()
        passing("before-rename")
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    flush_folder(folder)


def flush_folder(folder: str | os.PathLike[str]) -> None:
    """Flush the names in a local folder to disk."""
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def create_exclusive(fs: AbstractFileSystem, path: str, data: bytes) -> bool:
    """Write a file only if it does not exist yet; True if the file is ours.

    On an object store this is a conditional put. If the reply is lost, the repeated put fails by its own condition,
    so the stored content decides: `data` must name its writer, so that no other writes the same. The file is looked
    up first, as some stores ignore conditions.

    Raises:
        PathgenError: the file system refuses for another reason.
    """
    with refusals(fs, "write", path):
        try:
            if is_local(fs):
                with fs.open(path, "xb") as file:
                    file.write(data)
            elif (found := read_file(fs, path)) is not None:
                return found == data
            else:
                fs.pipe_file(path, data, mode="create")
        except FileExistsError:
            return not is_local(fs) and read_file(fs, path) == data
    return True


def remove_leftovers(fs: AbstractFileSystem, folder: str) -> list[str]:
    """Delete the temporary files that killed processes left in a folder; returns their names.

    Only for the holder of the run's lease, as the files of living writers are deleted too.
    """
    names = [name for name in list_files(fs, folder) if name.startswith(TEMPORARY_PREFIX)]
    for name in names:
        # A probe or a heartbeat of another process may be gone by now.
        with refusals(fs, "delete", f"{folder}/{name}"), suppress(FileNotFoundError):
            fs.rm_file(f"{folder}/{name}")
    return names
