"""The `cluster` command on a real cluster that it starts and ends itself. All tests share one, the last one ends it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from cluster.local.local_cluster import LocalCluster

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

LIMIT = 12
LIST = "ps axww -o args; echo $LAYERPATHS_SHARD_S $LAYERPATHS_CLUSTER; pwd"
IMPORT = 'import answer; print("the answer is", answer.VALUE)'
COMMIT_AT_ONCE = "LAYERPATHS_SHARD_S=0\nLAYERPATHS_PROGRESS_S=0\nOMP_NUM_THREADS=1\n"


@dataclass
class Terminal:
    """Where a user sits: a folder, below it a working folder, and an environment without a word about Ray."""

    folder: Path
    place: str = "."

    @property
    def environment(self) -> dict[str, str]:
        bare = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "LAYERPATHS_"))}
        return bare | {"LAYERPATHS_CACHE": str(self.folder / "cache"), "OMP_NUM_THREADS": "1"}

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "cluster", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder / self.place,
            env=self.environment | environment,
            preexec_fn=hear_ctrl_c,
        )

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        return finish(self.start(*arguments, **environment))

    def json(self, *arguments: str) -> dict[str, Any]:
        code, out, said = self.run(*arguments, "--json")
        assert code == 0, said
        return json.loads(out)


def wheel(folder: Path) -> Path:
    """A package that is installed without a network."""
    path = folder / "answer-1.0-py3-none-any.whl"
    about = "answer-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("answer.py", "VALUE = 42\n")
        file.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: answer\nVersion: 1.0\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", "")
    return path


def hear_ctrl_c() -> None:
    """A shell's background jobs ignore it, and what they start would too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, said = process.communicate(timeout=180)
    return process.returncode, out, said


def wait_for(condition: Callable[[], Any], limit_s: float = 240.0) -> Any:
    deadline = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def terminal(tmp_path_factory):
    terminal = Terminal(tmp_path_factory.mktemp("user"))
    terminal.folder.joinpath("job.env").write_text(COMMIT_AT_ONCE)
    started = terminal.json("up", "--num-cpus", "2")
    assert started["address"].startswith("127.0.0.1:")
    yield terminal
    terminal.run("down")


def under_way(terminal: Terminal) -> dict[str, Any] | None:
    """The cluster's status once it shows the fleet's actors and something that they have done.

    Actors are listed a moment before the fleets are asked, and the first question may be done in between.
    """
    state = terminal.json("status")
    return state if state["actors"] and any(fleet["done"] for fleet in state["fleets"] or []) else None


def record(terminal: Terminal) -> LocalCluster:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPATHS_CACHE", str(terminal.folder / "cache"))
        found = LocalCluster.read()
    assert found is not None
    return found


def processes(found: LocalCluster) -> list[psutil.Process]:
    owned = found.alive()
    return list({*owned, *(child for process in owned for child in process.children(recursive=True))})


def test_up_listens_on_loopback_alone_and_only_once(terminal):
    for process in processes(record(terminal)):
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                assert connection.laddr.ip in ("127.0.0.1", "::ffff:127.0.0.1"), process
    code, _, said = terminal.run("up")
    assert (code, said) == (1, f"error: a cluster runs already at {record(terminal).address}; `cluster down` ends it\n")


def test_the_drivers_exit_code_comes_back_and_the_token_is_nowhere(terminal):
    """Five jobs at a time, as each takes Ray some seconds."""
    folder = terminal.folder / "upload"
    for name in (".env", "weights.safetensors", "code.py"):
        folder.mkdir(exist_ok=True)
        (folder / name).touch()
    commands = [
        ("submit", "--wait", "--env-file", "job.env", "--", "sh", "-c", LIST),
        ("submit", "--wait", "--submission-id", "three", "--", "sh", "-c", "echo out; echo err >&2; exit 3"),
        ("submit", "--wait", "--metadata", "sweep=7", "--json", "--", "sh", "-c", "exit 4"),
        ("submit", "--wait", "--working-dir", str(folder), "--", "sh", "-c", "echo found $(ls -A)"),
        (
            "submit",
            "--wait",
            "--pip",
            str(wheel(terminal.folder)),
            "--",
            "sh",
            "-c",
            f"pathgen --help && python -c '{IMPORT}'",
        ),
    ]
    listing, three, four, uploaded, installed = (
        finish(process) for process in [terminal.start(*each) for each in commands]
    )

    assert listing[0] == 0, listing
    assert f"\n0 {record(terminal).address}\n" in listing[2]
    assert f"\n{terminal.folder}\n" in listing[2]  # relative paths mean what they say
    assert (three[0], three[1]) == (3, "three FAILED\n")
    assert "out\nerr\n" in three[2]
    assert four[0] == 4
    told = json.loads(four[1])
    assert (told["status"], told["exit_code"], told["metadata"]) == ("FAILED", 4, {"sweep": "7"})
    assert uploaded[0] == 0, uploaded
    assert "found code.py\n" in uploaded[2]
    assert installed[0] == 0, installed
    assert "the answer is 42\n" in installed[2]

    assert "out\nerr\n" in terminal.run("logs", "three")[1]
    token = Path(record(terminal).token_path or "").read_text()
    assert "gcs_server" in listing[2]  # the list of processes is a real one
    texts = [text for result in (listing, three, four, uploaded, installed) for text in result[1:]]
    texts += [terminal.run("list", "--json")[1], terminal.run("status")[1]]
    texts += [path.read_text() for path in (terminal.folder / "cache").glob("cluster.*")]
    assert not any(token in text for text in texts)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"RAY_AUTH_MODE": "disabled"}, "asks for a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the"),
        ({"RAY_AUTH_TOKEN": "0" * 64}, "refuses this environment's token: look at RAY_AUTH_TOKEN and"),
    ],
)
def test_no_token_and_a_wrong_one_are_told_apart_in_one_line(terminal, environment, said):
    code, out, text = terminal.run("list", **environment)
    assert (code, out) == (1, "")
    assert text.startswith(f"error: {record(terminal).dashboard} {said}")
    assert text.count("\n") == 1


def test_an_unknown_job_is_answered_with_the_known(terminal):
    code, out, said = terminal.run("stop", "nope", "--json")
    assert code == 2
    assert "no job nope" in said
    assert "three" in json.loads(out)["error"]


def test_ctrl_c_leaves_the_job_running(terminal):
    waiting = terminal.start("submit", "--wait", "--submission-id", "long", "--", "sleep", "600")
    assert waiting.stderr.readline() == "job long\n"
    waiting.send_signal(signal.SIGINT)
    code, _, said = finish(waiting)
    assert code == 130
    assert "error: job long keeps running: `cluster logs long -f` follows it, `cluster stop long` ends it" in said
    assert terminal.json("status")["running"][0]["submission_id"] == "long"
    assert terminal.run("stop", "long")[:2] == (0, "long STOPPED\n")


def test_a_stopped_run_that_is_submitted_again_resumes(terminal, tiny_model):
    """The first job's actor hangs half way, so that there is time to look and to stop.

    It is submitted from another folder than the cluster was started in, which its relative paths mean.
    """
    terminal = replace(terminal, place="elsewhere")
    out = terminal.folder / "elsewhere" / "run"
    out.parent.mkdir()
    out.with_name("model").symlink_to(tiny_model)
    generate = (
        *("pathgen", "generate", "--out", "run", "--model", "model", "--limit", str(LIMIT)),
        *("--simulations", "60", "--actors", "1", "--in-flight", "1", "--threads-per-actor", "1"),
        *("--device", "cpu", "--json"),
    )
    terminal.folder.joinpath("hang.env").write_text(COMMIT_AT_ONCE + "LAYERPATHS_FAULT=after-step:60:hang\n")
    name = terminal.run("submit", "--env-file", "../hang.env", "--no-wait", "--", *generate)[1].strip()
    state = wait_for(lambda: under_way(terminal))
    assert terminal.json("stop", name)["status"] == "STOPPED"

    assert state["nodes"] == {"alive": 1, "dead": 0}
    assert state["actors"] == {"SearchWorker": 1}
    assert state["resources"]["CPU"] == {"used": 1, "total": 2}
    assert state["jobs"]["RUNNING"] == 1
    (fleet,) = state["fleets"]
    assert fleet["what"] == f"searching {out}"
    assert 0 < fleet["done"] < fleet["total"] == LIMIT
    assert fleet["rate"] > 0
    assert fleet["eta_s"] > 0

    code, _, said = terminal.run("submit", "--wait", "--env-file", "../job.env", "--", *generate)
    assert code == 0, said
    summary = json.loads(next(line for line in said.splitlines() if line.startswith('{"out"')))
    assert 0 < summary["done_before"] < LIMIT
    assert summary["done_before"] + summary["searched"] == LIMIT
    ids = [row for path in out.glob("paths/*.parquet") for row in pq.read_table(path)["question_id"].to_pylist()]
    assert len(ids) == len(set(ids)) == LIMIT
    assert terminal.json("status")["fleets"] == []


def test_who_waits_for_a_job_whose_cluster_is_lost_is_told_how_to_go_on(terminal):
    waiting = terminal.start("submit", "--wait", "--submission-id", "left", "--", "sleep", "600")
    assert waiting.stderr.readline() == "job left\n"
    wait_for(lambda: terminal.json("status")["running"])
    for process in processes(record(terminal)):
        with contextlib.suppress(psutil.NoSuchProcess):  # it ends after another
            if any(name in " ".join(process.cmdline()) for name in ("gcs_server", "dashboard.py", "DashboardHead")):
                process.kill()
    code, _, said = finish(waiting)
    assert code == 1
    assert said.splitlines()[-1].endswith(
        "resumes, there or on another cluster: cluster submit --wait --submission-id left -- sleep 600"
    )


def test_down_ends_the_cluster_and_no_other(terminal, local_ray):
    found = record(terminal)
    owned = processes(found)
    assert len(owned) > len(found.processes)
    assert terminal.run("down")[:2] == (0, f"ended the cluster at {found.address}\n")
    assert not [process for process in owned if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert not (terminal.folder / "cache" / "cluster.json").exists()
    code, _, said = terminal.run("down")
    assert (code, said) == (1, "error: no cluster of `cluster up` runs here\n")

    import ray

    assert ray.get(ray.remote(lambda: os.getpid()).remote()) > 0
