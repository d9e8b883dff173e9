"""A real S3 server on loopback (moto's), with a hand on the wire: throttled, refused, its replies lost."""

from __future__ import annotations

import contextlib
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from pathgen.store.run_folder import RunDirectory
from pathgen.store.s3 import S3Store
from pathgen.store.schema import from_table
from pathgen.store.shards import list_shards, read_shard

BUCKET = "bucket"
ERROR = '<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
STATUS = {
    "SlowDown": ("503 Slow Down", "Please reduce your request rate."),
    "InternalError": ("500 Internal Server Error", "We encountered an internal error."),
    "AccessDenied": ("403 Forbidden", "Access Denied"),
    "ConditionalRequestConflict": ("409 Conflict", "A conflicting operation is in progress."),
    "Unheard": ("400 Bad Request", "This code is in no list."),
}


@dataclass
class Trouble:
    """What happens to requests.

    Attributes:
        method: to requests of this method,
        part: whose path holds this;
        what: a code of STATUS is answered; `lost`: it is carried out and the connection cut before the reply;
            `silent`: it is carried out, and no reply ever comes; `unconditional`: it is carried out without its
            If-None-Match.
        times: so many of them.
        met: requests that it has met.
    """

    method: str
    part: str
    what: str
    times: float = float("inf")
    met: int = 0

    def meets(self, environ: dict[str, Any]) -> bool:
        """Whether it falls on this request."""
        if environ["REQUEST_METHOD"] != self.method or self.part not in environ["PATH_INFO"] or self.met >= self.times:
            return False
        self.met += 1
        return True


@dataclass
class S3Lab:
    """The server, and what it does to requests.

    Attributes:
        app: moto's.
        troubles: the first that falls on a request happens to it.
        requests: method and path of all requests so far.
    """

    app: Callable[..., Iterable[bytes]]
    url: str = ""
    troubles: list[Trouble] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        trouble = next((trouble for trouble in self.troubles if trouble.meets(environ)), None)
        if trouble is None:
            return self.app(environ, start_response)
        if trouble.what == "unconditional":
            environ.pop("HTTP_IF_NONE_MATCH", None)
            return self.app(environ, start_response)
        if trouble.what in ("lost", "silent"):
            b"".join(self.app(environ, lambda *_: None))
            if trouble.what == "lost":
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionError  # werkzeug then sends nothing
        length = int(environ.get("CONTENT_LENGTH") or 0)
        environ["wsgi.input"].read(length)
        status, message = STATUS[trouble.what]
        start_response(status, [("Content-Type", "application/xml")])
        return [ERROR.format(code=trouble.what, message=message).encode()]

    @contextlib.contextmanager
    def trouble(self, method: str, part: str, what: str, times: float = float("inf")) -> Iterator[Trouble]:
        """It happens within the block."""
        trouble = Trouble(method, part, what, times)
        self.troubles.append(trouble)
        try:
            yield trouble
        finally:
            self.troubles.remove(trouble)

    @property
    def environment(self) -> dict[str, str]:
        """The standard variables by which clients find the server; two attempts a call, for the tests' sake."""
        return {
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "2",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


class _Quiet(MotoRequestHandler):
    def log(self, *_: Any) -> None:
        """Nothing."""


@contextlib.contextmanager
def s3_server() -> Iterator[S3Lab]:
    """A server with nothing in it."""
    lab = S3Lab(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, lab, threaded=True, request_handler=_Quiet)
    lab.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    # moto keeps what it holds by process, not by server.
    urllib.request.urlopen(urllib.request.Request(f"{lab.url}/moto-api/reset", method="POST")).close()
    lab.requests.clear()
    try:
        yield lab
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def s3_here() -> Iterator[S3Lab]:
    """A server with one empty bucket, to which the environment points within the block."""
    with s3_server() as lab, pytest.MonkeyPatch.context() as patch:
        for name, value in lab.environment.items():
            patch.setenv(name, value)
        S3Store.clear_instance_cache()
        S3Store().mkdir(BUCKET)
        yield lab
    S3Store.clear_instance_cache()


def raw_rows(run: RunDirectory) -> list[str]:
    """Question ids of all committed rows, those that another outranks included."""
    tables = [read_shard(run.fs, f"{run.paths}/{name}") for name in list_shards(run.fs, run.paths)]
    return sorted(record.question.id for table in tables for record in from_table(table))
