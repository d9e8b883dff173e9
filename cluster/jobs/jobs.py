"""Jobs on a cluster, through Ray's Jobs API: submit, list, follow, stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..connection.endpoint import Endpoint
from ..program.errors import ClusterError, UsageError
from .environment import STOP_WAIT_S

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

_ANSWER_TIMEOUT_S = 10.0
_STOP_WAIT_S = STOP_WAIT_S + 5.0
_LAST_TAILS = 5
"""So often the log of a job that is over is asked for in vain: with its node it may be gone."""
_POLL_S = 0.5
_SILENCE_S = 30.0
"""After so long without a word of a job its cluster is asked whether it is still there."""
_NAMED_IDS = 10
_SIGTERM_EXIT = 143


@dataclass(frozen=True, slots=True)
class Job:
    """A submitted job.

    Attributes:
        submission_id: its name.
        status: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED.
        entrypoint: the shell line it runs.
        exit_code: of its driver, as a shell tells it (128 + signal); None before the end, or if there was no driver.
        message: Ray's word on the status, its first line.
        metadata: as submitted.
        started_s: seconds since the epoch.
        ended_s: the same; None before the end.
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
    def of(cls, details: JobDetails) -> Job:
        """From Ray's own description. Its environment is left out: it may say more than a list should show."""
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
        """Whether nothing more will come of it."""
        return self.status in ("STOPPED", "SUCCEEDED", "FAILED")

    def verdict(self) -> int:
        """What a command that waited for it exits with: the driver's own exit code where there is one."""
        if self.status == "SUCCEEDED":
            return 0
        if self.status == "STOPPED":
            return self.exit_code or _SIGTERM_EXIT
        return self.exit_code or 1

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


class Jobs:
    """The jobs of one cluster.

    Args:
        endpoint: the cluster.

    Raises:
        ClusterError: its dashboard does not answer, or wants another token.
    """

    def __init__(self, endpoint: Endpoint):
        from ray.job_submission import JobSubmissionClient

        self._url = endpoint.dashboard
        self._knock()
        with self.asking(), endpoint.alone():
            self._client = JobSubmissionClient(self._url)
        # Ray has set up its loggers by now; this one tells of every connection that closes.
        logging.getLogger(JobSubmissionClient.__module__).setLevel(logging.WARNING)

    def _knock(self) -> None:
        """See that the dashboard answers: the client itself would wait without end."""
        import requests

        with self.asking():
            requests.get(f"{self._url}/api/version", timeout=_ANSWER_TIMEOUT_S)

    def submit(
        self,
        entrypoint: str,
        runtime_env: Mapping[str, Any],
        *,
        submission_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """Submit a shell line; its submission id.

        Raises:
            UsageError: the id is taken.
            ClusterError: the cluster does not take the job.
        """
        if submission_id is not None and any(job.submission_id == submission_id for job in self.list()):
            raise UsageError(f"job {submission_id} exists; choose another --submission-id, or leave it to Ray")
        with self.asking():
            return self._client.submit_job(
                entrypoint=entrypoint,
                runtime_env=dict(runtime_env),
                submission_id=submission_id,
                metadata=dict(metadata or {}),
            )

    def list(self) -> Sequence[Job]:
        """All submitted jobs, the latest last."""
        with self.asking():
            found = [Job.of(details) for details in self._client.list_jobs() if details.submission_id]
        return sorted(found, key=lambda job: job.started_s or 0.0)

    def find(self, submission_id: str) -> Job:
        """One job.

        Raises:
            UsageError: there is none of that id; those that there are are named.
        """
        known = self.list()
        for job in known:
            if job.submission_id == submission_id:
                return job
        latest = ", ".join(job.submission_id for job in known[-_NAMED_IDS:])
        raise UsageError(f"no job {submission_id} on {self._url}; there {f'are {latest}' if latest else 'is none'}")

    def stop(self, submission_id: str) -> Job:
        """Stop a job, by SIGTERM and later SIGKILL; it as it is then. One that is over stays as it ended."""
        if (job := self.find(submission_id)).is_over:
            return job
        with self.asking():
            self._client.stop_job(submission_id)
        deadline = time.monotonic() + _STOP_WAIT_S
        while not (job := self.find(submission_id)).is_over and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return job

    def logs(self, submission_id: str) -> str:
        """What it has said so far, stdout and stderr together."""
        self.find(submission_id)
        with self.asking():
            return self._client.get_job_logs(submission_id)

    def follow(self, submission_id: str, write: Callable[[str], object]) -> Job:
        """Pass on what it says until it is over; a broken connection is taken up where it was. The ended job.

        Raises:
            ClusterError: the cluster is gone.
        """
        import aiohttp

        self.find(submission_id)
        seen = 0

        async def tail() -> bool:
            """Whether the stream came to its end, rather than broke."""
            nonlocal seen
            position = 0  # the stream begins at the beginning each time
            stream = aiter(self._client.tail_job_logs(submission_id))
            while True:
                following = asyncio.ensure_future(anext(stream))
                while not (await asyncio.wait({following}, timeout=_SILENCE_S))[0]:
                    self._knock()  # a head that is cut off closes no connection
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
            self._knock()
            if (job := self.find(submission_id)).is_over:
                last_tails -= 1
                if complete or not last_tails:
                    return job
            time.sleep(_POLL_S)

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Turns what may go wrong between here and the dashboard into one line."""
        import requests
        from ray.exceptions import AuthenticationError, RayError

        try:
            yield
        except AuthenticationError as error:
            if "required" in str(error):
                right = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the file that holds it"
                raise ClusterError(f"{self._url} asks for a token: {right}") from error
            right = "look at RAY_AUTH_TOKEN and RAY_AUTH_TOKEN_PATH"
            raise ClusterError(f"{self._url} refuses this environment's token: {right}") from error
        except (requests.RequestException, ConnectionError) as error:
            raise ClusterError(f"no Ray dashboard answers at {self._url}") from error
        except (RuntimeError, ValueError, RayError) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip(" .")]
            raise ClusterError(f"{self._url} does not take it: {(lines or ['no reason given'])[-1]}") from error
