"""What a job runs and in which environment, how it ended, and how its log is followed."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

import aiohttp
import pytest

import cluster.jobs.environment
import cluster.jobs.jobs
from cluster.connection.endpoint import Endpoint
from cluster.jobs.environment import EXCLUDES, entrypoint, read_env_file, runtime_env
from cluster.jobs.jobs import Jobs, SubmittedJob
from cluster.program.errors import ClusterError, UsageError

HERE = Endpoint("http://127.0.0.1:2", "127.0.0.1:1", is_local=True)
NODE = Endpoint("http://10.0.0.1:2", "10.0.0.1:1", is_local=False)
OUTSIDE = Endpoint("http://ray.example:2", None, is_local=False)
OURS = str(Path(sys.executable).with_name("pathgen"))
BARE = {"uploads": False, "installs": False}
STOP_WAIT = {"RAY_JOB_STOP_WAIT_TIME_S": "20"}
COMMAND = ["pathgen", "generate", "--out", "runs/a b"]


@pytest.mark.parametrize(
    ("endpoint", "more", "line"),
    [
        (HERE, {}, f"cd '/some where' && exec {OURS} generate --out 'runs/a b'"),
        (NODE, {}, f"{OURS} generate --out 'runs/a b'"),
        (OUTSIDE, {}, "pathgen generate --out 'runs/a b'"),
        (HERE, {"installs": True}, "cd '/some where' && exec python -m pathgen generate --out 'runs/a b'"),
        (OUTSIDE, {"installs": True}, "python -m pathgen generate --out 'runs/a b'"),
    ],
)
def test_a_cluster_of_this_machine_runs_this_environments_programs(monkeypatch, endpoint, more, line):
    monkeypatch.setattr(cluster.jobs.environment.os, "getcwd", lambda: "/some where")
    assert entrypoint(COMMAND, endpoint, **BARE | more) == line


def test_what_is_uploaded_is_a_copy_that_no_run_is_written_into():
    uploads = BARE | {"uploads": True}
    with pytest.raises(UsageError, match="--out runs/a b would lie in the cluster's copy of --working-dir"):
        entrypoint(COMMAND, HERE, **uploads)
    for out in ("/data/run", "s3://bucket/run"):
        assert entrypoint([*COMMAND[:-1], out], HERE, **uploads) == f"pathgen generate --out {out}"
    assert entrypoint(["echo", "--out", "x"], HERE, **uploads) == "echo --out x"


def test_other_programs_and_shell_characters_are_left_as_they_are():
    assert entrypoint(["echo", "$HOME; rm x"], NODE, **BARE) == "echo '$HOME; rm x'"


def test_a_job_is_told_which_cluster_it_runs_on():
    bare = {"working_dir": None, "env_file": None, "pip": []}
    assert runtime_env(NODE, **bare) == {"env_vars": {"LAYERPATHS_ADDRESS": "10.0.0.1:1"} | STOP_WAIT}
    assert runtime_env(OUTSIDE, **bare) == {"env_vars": {"LAYERPATHS_ADDRESS": "auto"} | STOP_WAIT}


def test_folder_variables_and_packages_travel(tmp_path):
    file = tmp_path / "job.env"
    file.write_text("# comment\n\nMAX_TOKENS=8\nNAME = a=b \n")
    found = runtime_env(OUTSIDE, working_dir=str(tmp_path), env_file=str(file), pip=["einops==0.8"])
    assert found == {
        "env_vars": {"LAYERPATHS_ADDRESS": "auto", "MAX_TOKENS": "8", "NAME": "a=b"} | STOP_WAIT,
        "working_dir": str(tmp_path),
        "excludes": list(EXCLUDES),
        "pip": ["einops==0.8"],
    }


def test_a_working_dir_that_is_none_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"--working-dir .*nowhere is not a folder"):
        runtime_env(HERE, working_dir=str(tmp_path / "nowhere"), env_file=None, pip=[])


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "db_password", "RAY_AUTH_TOKEN"]
)
def test_secrets_do_not_travel(tmp_path, name):
    file = tmp_path / "job.env"
    file.write_text(f"A=1\n{name}=hunter2\n")
    with pytest.raises(UsageError, match=f"sets {name}: .*in the environment of the cluster itself") as caught:
        read_env_file(str(file))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "word",
    [
        *("HF_TOKEN=hunter2", "--api-key=hunter2", "s3://user:hunter2@host/run", "hf_hunter2hunter2hunter2"),
        *("A=1 HF_TOKEN=hunter2 exec x", "github_pat_hunter2hunter2hunter2", "https://host/f?a=1&sig=hunter2"),
        "AccountName=a;AccountKey=hunter2",
    ],
)
def test_a_secret_in_a_command_is_refused_and_not_repeated(word):
    with pytest.raises(UsageError, match=r"looks like a secret.*in the environment of the cluster itself") as caught:
        entrypoint(["env", word, *COMMAND], NODE, **BARE)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("line", ["URL=postgres://user:hunter2@host/db", "X=hf_hunter2hunter2hunter2"])
def test_a_secret_by_its_form_does_not_travel_either(tmp_path, line):
    file = tmp_path / "job.env"
    file.write_text(f"{line}\n")
    with pytest.raises(UsageError, match=f"sets {line.split('=')[0]}: ") as caught:
        read_env_file(str(file))
    with pytest.raises(UsageError, match="looks like a secret"):
        runtime_env(HERE, working_dir=None, env_file=None, pip=[line])
    assert "hunter2" not in str(caught.value)


def test_a_long_name_is_no_secret():
    words = ["pathgen", "generate", "--out", "s3://bucket/task-arc-challenge-smollm2-135m-instruct"]
    assert entrypoint(words, NODE, **BARE).endswith(words[-1])


@pytest.mark.parametrize("line", ["hunter2", "=hunter2", "a b=hunter2", "1A=hunter2"])
def test_a_malformed_line_is_numbered_and_not_quoted(tmp_path, line):
    file = tmp_path / "job.env"
    file.write_text(f"A=1\n{line}\n")
    with pytest.raises(UsageError, match="line 2: expected NAME=VALUE") as caught:
        read_env_file(str(file))
    assert "hunter2" not in str(caught.value)


def job(status: str, exit_code: int | None = None) -> SubmittedJob:
    return SubmittedJob("id", status, "true", exit_code, "", {}, None, None)


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (job("SUCCEEDED", 0), 0),
        (job("FAILED", 3), 3),
        (job("FAILED", 4), 4),
        (job("FAILED"), 1),  # no driver ever ran
        (job("STOPPED"), 143),
        (job("STOPPED", 137), 137),
    ],
)
def test_who_waits_exits_as_the_driver_did(ended, code):
    assert ended.verdict() == code


class FakeClient:
    """A Jobs API whose log breaks off, twice, and begins at the beginning each time."""

    def __init__(self, url: str):
        self.streams = [["one\n", "tw"], ["one\n", "two\nthr"], ["one\ntwo\n", "three\n"]]

    def list_jobs(self):
        from ray.job_submission import JobDetails, JobStatus, JobType

        status = JobStatus.RUNNING if len(self.streams) > 1 else JobStatus.FAILED
        ended = {"driver_exit_code": -9} if status is JobStatus.FAILED else {}
        return [
            JobDetails(type=JobType.SUBMISSION, submission_id="a", entrypoint="true", status=status, **ended),
            JobDetails(type=JobType.DRIVER, entrypoint="", status=status),
        ]

    async def tail_job_logs(self, submission_id: str):
        texts = self.streams.pop(0)
        for text in texts:
            yield text
        if self.streams:
            raise RuntimeError("WebSocket connection closed unexpectedly")


@pytest.fixture
def jobs(monkeypatch):
    import ray.job_submission
    import requests

    monkeypatch.setattr(requests, "get", lambda *_, **__: None)
    monkeypatch.setattr(ray.job_submission, "JobSubmissionClient", FakeClient)
    monkeypatch.setattr(cluster.jobs.jobs, "_POLL_S", 0.0)
    return Jobs(OUTSIDE)


def test_a_log_that_breaks_off_is_taken_up_where_it_was(jobs):
    said = []
    ended = jobs.follow("a", said.append)
    assert "".join(said) == "one\ntwo\nthree\n"
    assert (ended.status, ended.exit_code) == ("FAILED", 137)


class GoneLog(FakeClient):
    """A job that is over, on a node that is gone."""

    def __init__(self, url: str):
        super().__init__(url)
        self.streams = self.streams[-1:]

    async def tail_job_logs(self, submission_id: str):
        yield "one\n"
        raise aiohttp.ServerDisconnectedError


def test_the_log_of_a_job_that_is_over_is_not_waited_for_for_ever(jobs, monkeypatch):
    monkeypatch.setattr(jobs, "_client", GoneLog(""))
    said = []
    assert jobs.follow("a", said.append).status == "FAILED"
    assert said == ["one\n"]


class SilentLog(FakeClient):
    """A job whose cluster is cut off: no connection is closed, and nothing comes any more."""

    async def tail_job_logs(self, submission_id: str):
        yield "one\n"
        await asyncio.Event().wait()


def test_a_cluster_that_falls_silent_is_asked_whether_it_is_there(jobs, monkeypatch):
    import requests

    answers = iter([None, None])

    def get(url: str, timeout: float) -> None:
        if next(answers, requests.ConnectTimeout) is not None:
            raise requests.ConnectTimeout

    monkeypatch.setattr(cluster.jobs.jobs, "_SILENCE_S", 0.01)
    monkeypatch.setattr(requests, "get", get)
    monkeypatch.setattr(jobs, "_client", SilentLog(""))
    said = []
    with pytest.raises(ClusterError, match="no Ray dashboard answers"):
        jobs.follow("a", said.append)
    assert said == ["one\n"]
    assert next(answers, "asked twice before") == "asked twice before"


def test_a_reader_that_has_gone_ends_the_following(jobs):
    def write(text: str) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        jobs.follow("a", write)


def test_an_unknown_id_is_answered_with_the_known(jobs):
    with pytest.raises(UsageError, match=r"no job b on http://ray\.example:2; there are a$"):
        jobs.find("b")


def test_an_id_that_is_taken_is_refused(jobs):
    with pytest.raises(UsageError, match="job a exists"):
        jobs.submit("true", {}, submission_id="a")


def test_a_dashboard_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr(cluster.jobs.jobs, "_ANSWER_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ClusterError, match=f"no Ray dashboard answers at {url}"):
            Jobs(Endpoint(url, None, is_local=False))
    with pytest.raises(ClusterError, match=f"no Ray dashboard answers at {url}"):
        Jobs(Endpoint(url, None, is_local=False))
