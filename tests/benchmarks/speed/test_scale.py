"""The benchmark of scale, small: real fleets whose actors wait instead of searching, and a real resume."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.ray
def test_a_small_run_is_measured_whole(folder):
    asked = {
        "questions": 200,
        "actors": 2,
        "latency-s": 0.05,
        "seats": 6,
        "seat-questions": 60,
        "seat-latency-s": 0.2,
        "starts": 1,
    }
    options = [word for name, value in asked.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "benchmarks.speed.scale", *options, "--simulations", "8", "--model", folder]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    processes, seats, resume = found["processes"], found["seats"], found["resume"]
    assert (processes["actors"], processes["questions"]) == (2, 200)
    assert (seats["actors"], seats["questions"]) == (6, 60)
    assert processes["shards"] >= 200 / 64
    for fleet in (processes, seats):
        assert 0 < fleet["driver_fleet_cpu_ms_per_question"] <= fleet["driver_cpu_ms_per_question"]
    for name in ("dry_run", "finished_again", "stats"):
        assert resume[name]["cpu_seconds"] > 0
        assert resume[name]["peak_memory_mb"] > 0
    for starts in resume["first_search_seconds"].values():
        assert len(starts) == 1
        assert starts[0] > 0
    assert found["limit"]["questions_per_second"] > 0


def test_the_driver_whose_memory_is_measured_is_without_torch():
    code = "import benchmarks.speed.scale, sys; print({'torch', 'ray'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert loaded.stdout.strip() == "set()"
