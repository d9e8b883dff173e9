"""Runs on S3: a real server on loopback, which throttles, refuses and loses replies when told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from commands import pathgen
from killable_run import BUDGETS, IDS, QUESTIONS, work
from path_records import METADATA, make_record, no_guard
from s3_lab import BUCKET, raw_rows, s3_here

import pathgen as package
from pathgen import faults
from pathgen.errors import InputError, PathgenError, StoreOutage
from pathgen.store.files import create_exclusive, list_files, put, read_file, remove_file
from pathgen.store.folder_lock import RunLease
from pathgen.store.run_folder import RunDirectory
from pathgen.store.s3 import S3Store
from pathgen.store.schema import UnreadableShard
from pathgen.store.shards import list_shards, write_shard


@pytest.fixture(scope="module")
def s3():
    """The server with one bucket, to which the environment points."""
    with s3_here() as lab:
        yield lab


@pytest.fixture
def out(s3, request):
    """A URL of the test's own."""
    s3.requests.clear()
    return f"s3://{BUCKET}/{abs(hash(request.node.name))}/run"


@pytest.fixture
def run(out):
    return RunDirectory(out)


def test_a_run_is_committed_tidied_and_found_finished(out, run):
    work(out, "w-1")
    assert raw_rows(run) == IDS
    assert list_files(run.fs, run.root) == ["paths", "run.json"]
    before = list_shards(run.fs, run.paths)
    work(out, "w-2")
    assert list_shards(run.fs, run.paths) == before


@pytest.mark.parametrize("point", ["after-rename:2", "during-progress-swap:2", "before-delete:2"])
def test_a_kill_anywhere_loses_and_doubles_nothing(out, run, point):
    script = Path(__file__).parents[2] / "support" / "killable_run.py"
    environment = os.environ | {
        faults.VARIABLE: f"{point}:kill",
        "PYTHONPATH": str(Path(package.__file__).parent.parent),
    }
    killed = subprocess.run([sys.executable, script, out, "w-0"], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    committed = set(raw_rows(run))
    plan = run.scan(QUESTIONS, BUDGETS)
    assert (plan.done, plan.quarantined) == (committed, [])
    work(out, "w-1")
    assert raw_rows(run) == IDS


def test_a_shard_whose_reply_is_lost_is_there_once(s3, run):
    with s3.trouble("PUT", "/paths/part-", "lost", times=1) as trouble:
        name = write_shard(run.fs, run.paths, "w-0", 0, [make_record("a")], METADATA, no_guard)
    assert trouble.met == 1
    assert sum(method == "PUT" for method, _ in s3.requests) == 2  # sent again
    assert list_shards(run.fs, run.paths) == [name]
    assert raw_rows(run) == ["a"]


def test_a_lease_whose_reply_is_lost_is_ours(s3, run):
    """The put is sent again, and fails by its own condition."""
    with s3.trouble("PUT", "/.lease.json", "lost", times=1), RunLease(run.fs, run.root, on_wait=pytest.fail) as lease:
        assert lease.token.encode() in read_file(run.fs, f"{run.root}/.lease.json")
    assert list_files(run.fs, run.root) == []


def test_of_many_creators_one_wins(run):
    start, won = threading.Barrier(8), []

    def create(number: int) -> None:
        start.wait()
        if create_exclusive(run.fs, f"{run.root}/x", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert read_file(run.fs, f"{run.root}/x") == str(won[0]).encode()


def test_a_creator_that_meets_another_at_work_has_not_won(s3, run):
    with s3.trouble("PUT", "/x", "ConditionalRequestConflict"):
        assert not create_exclusive(run.fs, f"{run.root}/x", b"1")


def test_a_living_lease_holds_on_a_store_that_knows_no_conditions(s3, run):
    with s3.trouble("PUT", "/.lease.json", "unconditional"), RunLease(run.fs, run.root, on_wait=pytest.fail):
        second = RunLease(run.fs, run.root, on_wait=lambda line: None, heartbeat_s=0.5)
        with pytest.raises(PathgenError, match="is being written by"):
            second.__enter__()


def test_a_store_that_falls_silent_ends_in_one_line(s3, out, run, monkeypatch):
    monkeypatch.setattr("pathgen.store.s3.REQUEST_S", 0.5)
    with s3.trouble("PUT", "/x", "silent"), pytest.raises(PathgenError, match=f"{out}/x: no answer within 0.5 s"):
        put(run.fs, f"{run.root}/x", b"1")


@pytest.mark.parametrize("what", ["SlowDown", "InternalError"])
def test_a_busy_store_is_asked_again(s3, run, what):
    with s3.trouble("PUT", "/x", what, times=1) as trouble:
        put(run.fs, f"{run.root}/x", b"1")
    assert trouble.met == 1
    assert read_file(run.fs, f"{run.root}/x") == b"1"


@pytest.mark.parametrize("what", ["SlowDown", "InternalError"])
def test_a_store_that_stays_busy_ends_in_one_line(s3, out, run, what):
    put(run.fs, f"{run.root}/before", b"1")
    with s3.trouble("PUT", "/x", what) as trouble, pytest.raises(PathgenError) as caught:
        put(run.fs, f"{run.root}/x", b"1")
    assert str(caught.value).startswith(f"cannot write {out}/x: ")
    assert "\n" not in str(caught.value)
    assert 2 <= trouble.met <= 10
    assert list_files(run.fs, run.root) == ["before"]


@pytest.mark.parametrize(
    ("method", "verb", "attempt"),
    [
        ("PUT", "write", lambda run: put(run.fs, f"{run.root}/x", b"1")),
        ("PUT", "write", lambda run: create_exclusive(run.fs, f"{run.root}/x", b"1")),
        ("GET", "read", lambda run: read_file(run.fs, f"{run.root}/x")),
        ("DELETE", "delete", lambda run: remove_file(run.fs, f"{run.root}/x")),
    ],
)
def test_a_refusal_ends_at_once_and_names_the_url(s3, out, run, method, verb, attempt):
    with s3.trouble(method, "/x", "AccessDenied") as trouble, pytest.raises(PathgenError) as caught:
        attempt(run)
    assert str(caught.value) == f"cannot {verb} {out}/x: Access Denied"
    assert trouble.met == 1


def test_a_command_is_refused_in_one_line(s3, out):
    with s3.trouble("GET", f"/{BUCKET}", "AccessDenied"):
        answer = pathgen("generate", "--out", out)
    assert answer.code == 2
    assert answer.error == f"--out {out} cannot be read (cannot list {out}: Access Denied); give another"


@pytest.mark.parametrize("what", ["SlowDown", "InternalError"])
def test_a_command_that_meets_a_busy_store_may_be_tried_again(s3, out, run, what):
    with s3.trouble("GET", f"/{BUCKET}", what):
        answer = pathgen("generate", "--out", out)
    assert answer.code == 1
    assert answer.error.startswith(f"cannot list {out}: ")
    with s3.trouble("PUT", f"/{BUCKET}", what), pytest.raises(StoreOutage):
        run.create()


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(s3, out, run):
    with s3.trouble("PUT", f"/{BUCKET}", "AccessDenied"), pytest.raises(InputError, match=f"{out} cannot be written"):
        run.create()


def test_a_mistyped_bucket_is_not_made(s3):
    with pytest.raises(InputError, match=r"s3://bukcet/run cannot be written \(The specified bucket does not exist\)"):
        RunDirectory("s3://bukcet/run").create()
    assert S3Store().ls("", detail=False) == [BUCKET]


def test_an_answer_in_no_list_harms_no_shard(s3, run):
    """An input/output error of a disk means a damaged file; one of a store says nothing of it."""
    name = write_shard(run.fs, run.paths, "w-0", 0, [make_record("a")], METADATA, no_guard)
    with s3.trouble("GET", name, "Unheard"), pytest.raises(PathgenError, match="This code is in no list") as caught:
        run.scan({"a": "sha-a"}, BUDGETS)
    assert not isinstance(caught.value, UnreadableShard)
    assert run.scan({"a": "sha-a"}, BUDGETS).done == {"a"}


def test_a_damaged_shard_goes_to_quarantine(run):
    name = write_shard(run.fs, run.paths, "w-0", 0, [make_record("a")], METADATA, no_guard)
    run.fs.pipe_file(f"{run.paths}/{name}", read_file(run.fs, f"{run.paths}/{name}")[:-1])
    plan = run.scan({"a": "sha-a"}, BUDGETS, guard=no_guard)
    assert (plan.done, len(plan.quarantined)) == (frozenset(), 1)
    assert list_files(run.fs, f"{run.root}/.quarantine") == [name, f"{name}.reason"]
    assert list_shards(run.fs, run.paths) == []


@pytest.mark.parametrize(
    ("variables", "says", "code"),
    [
        ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}, "Could not connect to the endpoint URL", 1),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "credentials", 2),
    ],
)
def test_a_store_out_of_reach_is_one_line(s3, monkeypatch, tmp_path, variables, says, code):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    S3Store.clear_instance_cache()
    answer = pathgen("generate", "--out", f"s3://{BUCKET}/run")
    S3Store.clear_instance_cache()
    assert answer.code == code
    assert says in answer.error
