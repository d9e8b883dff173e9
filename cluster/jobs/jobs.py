"""Jobs on a cluster, through Ray's Jobs API: submit, list, follow, stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..connection.endpoint import Endpoint
from ..program.errors import ClusterError, UsageError
from ..program.surroundings import bypass_proxies
from .environment import STOP_WAIT_S

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

_ANSWER_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = STOP_WAIT_S + 5.0
_LAST_TAILS = 5
"""Attempts to read the log of an ended job: the log may be lost with its node."""
_POLL_S = 0.5
_SILENCE_S = 30.0
"""After this time without output from a job, check that its cluster still answers."""
_SIGTERM_EXIT = 143


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """A submitted job.

    Attributes:
        status: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED.
        entrypoint: the shell line it runs.
        exit_code: of its driver, as a shell reports it (128 + signal); None before the end, or without a driver.
        message: first line of Ray's message on the status.
        started_s, ended_s: seconds since the epoch.
    """

    submission_id: str
    status: str
    entrypoint: str
    exit_code: int | None
    message: str
    metadata: Mapping[str, str]
    started_s: float | None
    ended_s: float | None

    @classmethod
    def of(cls, details: JobDetails) -> SubmittedJob:
        """Convert Ray's description, without the job's environment, which a list should not show."""
        code = details.driver_exit_code
        return cls(
            submission_id=details.submission_id or "",
            status=details.status.value,
            entrypoint=details.entrypoint,
            exit_code=128 - code if code is not None and code < 0 else code,
            message=(details.message or "").split("\n")[0].split(", last available logs")[0],
            metadata=details.metadata or {},
            started_s=details.start_time / 1000 if details.start_time else None,
            ended_s=details.end_time / 1000 if details.end_time else None,
        )

    @property
    def is_over(self) -> bool:
        """Whether the job has ended."""
        return self.status in ("STOPPED", "SUCCEEDED", "FAILED")

    def verdict(self) -> int:
        """Exit code of a command that waited for the job: the driver's own exit code, if there is one."""
        if self.status == "SUCCEEDED":
            return 0
        return self.exit_code or (_SIGTERM_EXIT if self.status == "STOPPED" else 1)


class Jobs:
    """The jobs of one cluster.

    Raises:
        ClusterError: the cluster's dashboard does not answer, or refuses the token.
    """

    def __init__(self, endpoint: Endpoint):
        from ray.job_submission import JobSubmissionClient

        self._url = endpoint.dashboard
        bypass_proxies()
        self._check_answers()  # the client itself would wait forever
        with self.one_line_errors(), endpoint.selected():
            self._client = JobSubmissionClient(self._url)
        # Ray has set up its loggers by now; this one logs every connection that closes.
        logging.getLogger(JobSubmissionClient.__module__).setLevel(logging.WARNING)

    def _check_answers(self) -> None:
        import requests

        with self.one_line_errors():
            requests.get(f"{self._url}/api/version", timeout=_ANSWER_TIMEOUT_S)

    def submit(
        self,
        entrypoint: str,
        runtime_env: Mapping[str, Any],
        *,
        submission_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """Submit a shell line; return its submission id.

        Raises:
            UsageError: the id is taken.
            ClusterError: the cluster refuses the job.
        """
        if submission_id is not None and any(job.submission_id == submission_id for job in self.list()):
            raise UsageError(f"job {submission_id} exists; choose another --submission-id, or leave it to Ray")
        with self.one_line_errors():
            return self._client.submit_job(
                entrypoint=entrypoint,
                runtime_env=dict(runtime_env),
                submission_id=submission_id,
                metadata=dict(metadata or {}),
            )

    def list(self) -> Sequence[SubmittedJob]:
        """All submitted jobs, the latest last."""
        with self.one_line_errors():
            found = [SubmittedJob.of(details) for details in self._client.list_jobs() if details.submission_id]
        return sorted(found, key=lambda job: job.started_s or 0.0)

    def find(self, submission_id: str) -> SubmittedJob:
        """The job of this id.

        Raises:
            UsageError: there is no job of this id; the message names the latest ids.
        """
        known = self.list()
        if job := next((job for job in known if job.submission_id == submission_id), None):
            return job
        latest = ", ".join(job.submission_id for job in known[-10:]) or "no jobs"
        raise UsageError(f"no job {submission_id} on {self._url}; there are {latest}")

    def stop(self, submission_id: str) -> SubmittedJob:
        """Stop a job by SIGTERM and later SIGKILL; return its state then. A job that is over is left unchanged."""
        if (job := self.find(submission_id)).is_over:
            return job
        with self.one_line_errors():
            self._client.stop_job(submission_id)
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while not (job := self.find(submission_id)).is_over and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return job

    def logs(self, submission_id: str) -> str:
        """The job's output so far, stdout and stderr together."""
        self.find(submission_id)
        with self.one_line_errors():
            return self._client.get_job_logs(submission_id)

    def follow(self, submission_id: str, write: Callable[[str], object]) -> SubmittedJob:
        """Write the job's output until it is over, and return the ended job. A broken connection resumes where it was.

        Raises:
            ClusterError: the cluster no longer answers.
        """
        import aiohttp

        self.find(submission_id)
        seen = 0

        async def tail() -> bool:
            """Return whether the stream reached its end; False if it broke."""
            nonlocal seen
            position = 0  # each stream starts from the beginning of the log
            stream = aiter(self._client.tail_job_logs(submission_id))
            while True:
                following = asyncio.ensure_future(anext(stream))
                while not (await asyncio.wait({following}, timeout=_SILENCE_S))[0]:
                    self._check_answers()  # a head that is cut off closes no connection
                try:
                    text = following.result()
                except StopAsyncIteration:
                    return True
                except (RuntimeError, OSError, aiohttp.ClientError):
                    return False
                position += len(text)
                if position > seen:
                    write(text[seen - position :])
                    seen = position

        last_tails = _LAST_TAILS
        while True:
            complete = asyncio.run(tail())
            self._check_answers()
            if (job := self.find(submission_id)).is_over:
                last_tails -= 1
                if complete or not last_tails:
                    return job
            time.sleep(_POLL_S)

    @contextlib.contextmanager
    def one_line_errors(self) -> Iterator[None]:
        """Within the block, errors of requests to the dashboard become a ClusterError of one line."""
        import requests
        from ray.exceptions import AuthenticationError, RayError

        try:
            yield
        except AuthenticationError as error:
            text = "refuses this environment's token: look at RAY_AUTH_TOKEN and RAY_AUTH_TOKEN_PATH"
            if "required" in str(error):
                text = "asks for a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the token's file"
            raise ClusterError(f"{self._url} {text}") from error
        except (requests.RequestException, ConnectionError) as error:
            raise ClusterError(f"no Ray dashboard answers at {self._url}") from error
        except (RuntimeError, ValueError, RayError) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip(" .")]
            raise ClusterError(f"{self._url} refuses the request: {(lines or ['no reason given'])[-1]}") from error
