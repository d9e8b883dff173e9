"""Files on any file system: a put that happens whole or not at all, an exclusive create, a clean-up."""

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
"""Dot first and no suffix, so that no reader takes an unfinished file for data."""


_BUSY = (errno.EBUSY, errno.EIO, errno.EREMOTEIO)
"""s3fs's words for throttling and for a store's own errors, once it has asked often enough."""
_NO_FAULT_OF_THE_PLACE = (errno.ENOSPC, errno.EDQUOT)


def _nothing(*_: object) -> None:
    """The guard and the watcher of a put that needs none."""


def open_folder(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system of a local path or URL, and the folder's path in it.

    Raises:
        InputError: the protocol is unknown, its package is not installed, it is out of reach, or no run can be there.
    """
    if url.startswith("hf://"):
        raise InputError(
            f"{url}: the hub takes no run, as each file would be a commit; write to a folder or an object store, and "
            "from there `pathgen export --format hub`"
        )
    try:
        if url.startswith(("s3://", "s3a://")):
            from .s3 import S3Store

            # One request a read: more than one at a time would first ask for the size of these small files.
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
    """Whether files can be renamed and flushed to a disk of this machine."""
    return isinstance(fs, LocalFileSystem)


def full_name(fs: AbstractFileSystem, path: str) -> str:
    """A file's name for people: its path here, its URL elsewhere."""
    return path if is_local(fs) else fs.unstrip_protocol(path)


def parent(path: str) -> str:
    """The folder of a path on any file system."""
    return path.rpartition("/")[0] or "/"


def _refused(fs: AbstractFileSystem, verb: str, path: str, error: OSError) -> PathgenError:
    """What is raised for an error of a file system: it may pass with time, or not."""
    busy = isinstance(error, ConnectionError | TimeoutError) or error.errno in _BUSY
    kind = StoreOutage if busy and not is_local(fs) else PathgenError
    return kind(f"cannot {verb} {full_name(fs, path)}: {error.strerror or error}")


@contextmanager
def _refusals(fs: AbstractFileSystem, verb: str, path: str) -> Iterator[None]:
    """Within the block, an error of the file system is a PathgenError that says what it refused."""
    try:
        yield
    except OSError as error:
        raise _refused(fs, verb, path, error) from error


def list_files(fs: AbstractFileSystem, folder: str) -> list[str]:
    """Sorted names of the entries of a folder; none if there is no such folder.

    Raises:
        PathgenError: the file system refuses.
    """
    fs.invalidate_cache(folder)
    with _refusals(fs, "list", folder), suppress(FileNotFoundError):
        return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in fs.ls(folder, detail=False))
    return []


def is_file(fs: AbstractFileSystem, path: str) -> bool:
    """Whether there is a file of that name, rather than a folder or nothing.

    Raises:
        PathgenError: the file system refuses.
    """
    with _refusals(fs, "look up", path):
        return fs.isfile(path)


def read_file(fs: AbstractFileSystem, path: str) -> bytes | None:
    """A file's bytes, None if there is none of that name.

    Raises:
        PathgenError: the file system refuses.
    """
    with _refusals(fs, "read", path), suppress(FileNotFoundError, NotADirectoryError):
        return fs.cat_file(path)
    return None


def check_writable(fs: AbstractFileSystem, folder: str, option: str) -> None:
    """Make a folder, and see that files can be written there before work begins that ends in one.

    Args:
        fs: its file system.
        folder: path in there.
        option: with its value as the user gave it, for the message: `--out runs/paths`.

    Raises:
        InputError: they cannot.
        PathgenError: not now: the disk is full, or the store is busy.
    """
    probe = f"{folder}/{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    try:
        fs.makedirs(folder, exist_ok=True)
        fs.pipe_file(probe, b"")
        fs.rm_file(probe)
    except OSError as error:
        refused = _refused(fs, "write", probe, error)
        if isinstance(refused, StoreOutage) or error.errno in _NO_FAULT_OF_THE_PLACE:
            raise refused from error
        raise InputError(f"{option} cannot be written ({error.strerror or error}); give another place") from error


def remove_file(fs: AbstractFileSystem, path: str) -> None:
    """Delete a file.

    Raises:
        PathgenError: the file system refuses, or (locally) there is none.
    """
    with _refusals(fs, "delete", path):
        fs.rm_file(path)


def move_file(fs: AbstractFileSystem, path: str, target: str) -> None:
    """Give a file another name.

    Raises:
        PathgenError: the file system refuses, or there is none.
    """
    with _refusals(fs, "move", path):
        fs.mv(path, target)


def put(
    fs: AbstractFileSystem,
    path: str,
    data: bytes,
    *,
    guard: Callable[[], object] = _nothing,
    passing: Callable[[str], object] = _nothing,
) -> None:
    """Write a file so that readers see either what was there before or all of `data`.

    Locally: a temporary file in the same folder, flushed to disk, renamed, the folder flushed. Elsewhere: one
    put of the finished bytes, which object stores make visible at once.

    Args:
        fs: the file system.
        path: the file to make or replace.
        data: its whole content.
        guard: called just before the file appears; it raises to call the commit off.
        passing: told each step's name as it is passed: before-temp, mid-temp, before-rename, after-rename
            (mid-temp only locally).

    Raises:
        PathgenError: the file system refuses (disk full, no permission, input/output error).
    """
    with _refusals(fs, "write", path):
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
        raise FileExistsError(errno.EEXIST, "it is there, and no regular file")
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
    """See that the names in a local folder are on disk."""
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def create_exclusive(fs: AbstractFileSystem, path: str, data: bytes) -> bool:
    """Write a file only if there is none of that name; whether it is ours.

    On an object store it is a put on the condition that there is no such object. The reply to one may be lost, and
    the put sent again then fails by its own condition, so what is there now decides; and it is looked up before,
    for the sake of stores that know no conditions.

    Args:
        fs: the file system.
        path: the file to make.
        data: its content, which names its writer: no other writes the same.

    Raises:
        PathgenError: the file system refuses for another reason.
    """
    with _refusals(fs, "write", path):
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
    """Delete the temporary files that killed processes left in a folder; their names.

    Only for the holder of the run's lease: the file of a living writer would go too.
    """
    names = [name for name in list_files(fs, folder) if name.startswith(TEMPORARY_PREFIX)]
    for name in names:
        # A contender's probe, or a heartbeat, is gone as soon as it is made.
        with _refusals(fs, "delete", f"{folder}/{name}"), suppress(FileNotFoundError):
            fs.rm_file(f"{folder}/{name}")
    return names
