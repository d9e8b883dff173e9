"""S3 for runs: every failure is an OSError, and folders exist only as parts of names.

Endpoint, region and credentials come from the standard AWS_* variables and files; AWS_ENDPOINT_URL_S3 names another
store than Amazon's. botocore retries after throttling, 5xx replies and broken connections, with growing pauses
(AWS_MAX_ATTEMPTS, AWS_RETRY_MODE); s3fs also retries after throttling. A refusal is final.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import ClientError as BrokenTransfer
from botocore.exceptions import BotoCoreError, HTTPClientError
from botocore.exceptions import ConnectionError as BotoConnectionError
from s3fs import S3FileSystem

REQUEST_S = 120.0
"""Time limit of one request with all its retries, for servers that accept a request and never reply."""


class S3Store(S3FileSystem):
    """s3fs that also turns botocore's errors (no credentials, no connection) into OSErrors."""

    async def _call_s3(self, method: str, *args: Any, **kwargs: Any) -> Any:
        with _as_os_errors():
            async with asyncio.timeout(REQUEST_S):
                return await super()._call_s3(method, *args, **kwargs)

    async def _lsdir(self, path: str, *args: Any, **kwargs: Any) -> Any:
        with _as_os_errors():
            return await super()._lsdir(path, *args, **kwargs)

    async def _cat_file(self, path: str, *args: Any, **kwargs: Any) -> Any:
        with _as_os_errors():
            return await super()._cat_file(path, *args, **kwargs)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Do nothing: a key needs no folder, and a mistyped bucket must not be created."""


@contextmanager
def _as_os_errors() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise ConnectionError(f"no answer within {REQUEST_S:g} s") from error
    except (BotoConnectionError, HTTPClientError, BrokenTransfer) as error:
        raise ConnectionError(str(error)) from error
    except BotoCoreError as error:  # no credentials, no such profile: a retry cannot help
        raise PermissionError(errno.EACCES, str(error)) from error
    except OSError as error:
        # Another writer is creating the same object at this moment; s3fs does not translate this code.
        code = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code")
        if code == "ConditionalRequestConflict":
            raise FileExistsError(str(error)) from error
        raise
