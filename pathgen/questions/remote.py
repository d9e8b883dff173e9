"""A question file at a URL, copied to this machine while it is read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import InputError, one_line

ONE_SLASH = re.compile(r"(?P<protocol>[a-z][a-z0-9]+):/(?P<rest>[^/].*)")


def is_remote(source: str) -> bool:
    """Whether the source is a URL.

    Raises:
        InputError: it lacks a slash to be one.
    """
    if slip := ONE_SLASH.fullmatch(source):
        raise InputError(
            f"{one_line(source)}: no such file; did you mean {slip['protocol']}://{one_line(slip['rest'])}"
        )
    return "://" in source


@contextmanager
def copied(url: str) -> Iterator[Path]:
    """A local copy under the URL's last name, within the block.

    Raises:
        InputError: the file cannot be read, or its protocol needs another package.
    """
    import fsspec

    with TemporaryDirectory() as folder:
        copy = Path(folder) / url.rpartition("/")[2]
        try:
            fs, path = fsspec.url_to_fs(url)
            fs.get_file(path, str(copy))
        except FileNotFoundError:
            raise InputError(f"{one_line(url)}: no such file") from None
        except ImportError as error:
            protocol = url.partition("://")[0]
            package = "'layerpaths[s3]'" if protocol in ("s3", "s3a") else f"the fsspec package for {protocol}://"
            raise InputError(f"{one_line(url)}: {protocol}:// needs another package: pip install {package}") from error
        except Exception as error:  # each store has errors of its own
            raise InputError(f"{one_line(url)}: cannot be read: {one_line(error)}") from error
        try:
            yield copy
        except InputError as error:
            raise InputError(str(error).replace(str(copy), url)) from error
