import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import psutil
import pytest

import pathgen
from pathgen.errors import PathgenError
from pathgen.store.files import open_folder
from pathgen.store.folder_lock import LEASE_NAME, Holder, LeaseLost, RunLease, check_lease


@pytest.fixture(params=["local", "memory"])
def run(request, tmp_path):
    """File system and folder of a run."""
    return open_folder(str(tmp_path) if request.param == "local" else f"memory://lease-{uuid.uuid4().hex}")


def lease(run, on_wait=lambda message: None, expiry_s=0.4):
    fs, out = run
    return RunLease(fs, out, on_wait=on_wait, heartbeat_s=0.05, expiry_s=expiry_s)


def check_held(run, held):
    fs, out = run
    check_lease(fs, out, held.token)


def put_lease(run, content: bytes):
    run[0].makedirs(run[1], exist_ok=True)
    run[0].pipe_file(f"{run[1]}/{LEASE_NAME}", content)


def holder_elsewhere(**changes) -> bytes:
    holder = {"token": "t", "host": "elsewhere", "boot_id": "b", "pid": 77, "start_s": 1.0, "heartbeat_ms": 1}
    return json.dumps(holder | changes).encode()


def test_it_is_held_in_the_context_and_given_back(run):
    waits: list[str] = []
    with lease(run, waits.append) as held:
        check_held(run, held)
        stored = json.loads(run[0].cat_file(f"{run[1]}/{LEASE_NAME}"))
        assert (stored["token"], stored["pid"]) == (held.token, os.getpid())
    with pytest.raises(LeaseLost):
        check_held(run, held)
    assert not run[0].exists(f"{run[1]}/{LEASE_NAME}")
    assert waits == []


def test_it_is_given_back_after_an_error(run):
    with pytest.raises(KeyError), lease(run):
        raise KeyError
    assert not run[0].exists(f"{run[1]}/{LEASE_NAME}")


def test_a_heartbeat_keeps_others_out_and_names_the_holder(run):
    waits: list[str] = []
    with lease(run) as held:
        with (
            pytest.raises(PathgenError, match=rf"process {os.getpid()} on ") as caught,
            lease(run, waits.append, expiry_s=60),
        ):
            pass
        assert caught.value.exit_code == 1
        check_held(run, held)
    assert len(waits) == 1
    assert f"process {os.getpid()}" in waits[0]


def test_the_heartbeat_goes_on(run):
    with lease(run):
        contents: set[bytes] = set()
        while len(contents) < 3:
            contents.add(run[0].cat_file(f"{run[1]}/{LEASE_NAME}"))
            time.sleep(0.01)


def test_a_holder_that_another_run_has_followed_is_told_and_leaves_the_lease_alone(run):
    """As after a long suspension."""
    told: list[str] = []
    with RunLease(*run, on_wait=print, on_lost=told.append, heartbeat_s=0.05) as held:
        run[0].pipe_file(f"{run[1]}/{LEASE_NAME}", holder_elsewhere())
        while not told:
            time.sleep(0.01)
        with pytest.raises(LeaseLost):
            held.check()
    assert "was taken over by" in told[0]
    assert run[0].cat_file(f"{run[1]}/{LEASE_NAME}") == holder_elsewhere()


def test_a_killed_holder_on_this_host_is_followed_at_once(tmp_path):
    code = (
        "import sys, time\n"
        "from pathgen.store.files import open_folder\n"
        "from pathgen.store.folder_lock import RunLease\n"
        "with RunLease(*open_folder(sys.argv[1]), on_wait=print, heartbeat_s=0.1):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(pathgen.__file__).parent.parent)}
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, env=environment)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    run = open_folder(str(tmp_path))
    with pytest.raises(PathgenError, match=f"process {child.pid}"), lease(run, expiry_s=60):
        pass
    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and still a zombie
    waits: list[str] = []
    with lease(run, waits.append, expiry_s=1e9) as held:
        check_held(run, held)
    child.wait()
    with lease(run, waits.append, expiry_s=1e9):
        pass
    assert waits == []


def test_death_is_told_by_pid_start_time_and_boot():
    me = Holder.this_process()
    unused_pid = next(pid for pid in range(2**15, 2**22) if not psutil.pid_exists(pid))

    def changed(**fields):
        return Holder(**({name: getattr(me, name) for name in Holder.__dataclass_fields__} | fields))

    assert not me.is_dead_here()
    assert changed(pid=unused_pid).is_dead_here()
    assert changed(start_s=me.start_s - 3600).is_dead_here()
    assert not changed(host="elsewhere", pid=unused_pid).is_dead_here()
    assert not changed(boot_id="another", pid=unused_pid).is_dead_here()


@pytest.mark.parametrize("content", [holder_elsewhere(), b"", b'{"token": "t", "ho', b"[1]", b"\xff"])
def test_a_silent_lease_is_taken_over_after_its_expiry(run, content):
    put_lease(run, content)
    waits: list[str] = []
    started_s = time.monotonic()
    with lease(run, waits.append) as held:
        waited_s = time.monotonic() - started_s
        check_held(run, held)
    assert waited_s >= 0.4
    assert len(waits) == 1


def test_a_lease_seen_half_written_is_watched_anew_once_it_is_whole(run):
    put_lease(run, b'{"tok')

    def finish_writing(message):
        put_lease(run, holder_elsewhere())
        threading.Timer(0.3, put_lease, [run, holder_elsewhere(heartbeat_ms=2)]).start()

    with pytest.raises(PathgenError, match="process 77 on elsewhere"), lease(run, on_wait=finish_writing, expiry_s=60):
        pass


def test_a_lease_given_back_during_the_wait_is_free(run):
    put_lease(run, holder_elsewhere())
    with lease(run, on_wait=lambda _: run[0].rm_file(f"{run[1]}/{LEASE_NAME}"), expiry_s=1e9) as held:
        check_held(run, held)


def test_who_lost_the_lease_commits_no_more_and_leaves_the_new_holder_alone(run):
    with lease(run) as held:
        put_lease(run, holder_elsewhere())
        with pytest.raises(LeaseLost, match="process 77 on elsewhere"):
            check_held(run, held)
        time.sleep(0.2)  # four heartbeats that must not win the lease back
    assert run[0].cat_file(f"{run[1]}/{LEASE_NAME}") == holder_elsewhere()


def test_of_two_that_come_at_once_one_holds_it(tmp_path):
    run = open_folder(str(tmp_path))
    put_lease(run, holder_elsewhere())
    winners: list[str] = []
    losers: list[PathgenError] = []
    together = threading.Barrier(2)
    release = threading.Event()

    def contend():
        together.wait()
        try:
            with lease(run, expiry_s=2) as held:
                winners.append(held.token)
                release.wait(30)
                check_held(run, held)
        except PathgenError as error:
            losers.append(error)
            release.set()

    threads = [threading.Thread(target=contend) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(winners), len(losers)) == (1, 1)
    assert not isinstance(losers[0], LeaseLost)
