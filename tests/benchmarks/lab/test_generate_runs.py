import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from benchmarks.findings.arc_easy import found_figures, margins, time_figures
from benchmarks.lab import watched
from benchmarks.lab.generate_runs import FinishedRun, generate
from benchmarks.speed.actors import compare, search_shares
from pathgen.errors import InputError, PathgenError

BUSY = "import time; end = time.process_time() + {own}\nwhile time.process_time() < end: pass"
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], check=True); exec(sys.argv[2])"


def test_the_cpu_of_a_process_is_its_own_to_its_last_moment_without_its_children():
    command = [sys.executable, "-c", PARENT, BUSY.format(own=1.5), BUSY.format(own=0.5)]
    process = subprocess.Popen(command)
    clock, peak_mb = watched.watch(process)
    assert process.wait() == 0
    assert peak_mb > 1
    assert [used for _, used in clock] == sorted(used for _, used in clock)
    assert 0.5 <= clock[-1][1] < 1.5


def finished(tmp_path, summary, clock, mtime):
    shard = tmp_path / "paths" / "part-w-0-0.parquet"
    shard.parent.mkdir(parents=True, exist_ok=True)
    shard.touch()
    os.utime(shard, (mtime, mtime))
    return FinishedRun(tmp_path, summary, wall_s=50.0, clock=clock)


def test_the_drivers_share_is_taken_over_the_span_that_ends_with_the_last_shard(tmp_path):
    # 5 s of start-up use 4 CPU seconds; then 20 s of search use 1, and 5 s of winding up another 3.
    clock = [(1000.0, 0.0), (1005.0, 4.0), (1025.0, 5.0), (1030.0, 8.0)]
    run = finished(tmp_path, {"search_seconds": 20.0}, clock, mtime=1025.0)
    assert run.driver_share_of_search() == pytest.approx(1 / 20)
    assert run.driver_cpu_s == 8.0


def test_a_run_that_fails_ends_the_benchmark_with_its_exit_code(tmp_path):
    with pytest.raises(PathgenError, match=r"--questions .*absent.jsonl.* exit code 2"):
        generate(tmp_path / "out", "--questions", str(tmp_path / "absent.jsonl"))


def test_an_interrupted_benchmark_leaves_no_run_behind(tmp_path, monkeypatch):
    started = []

    def interrupt(process):
        started.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(watched, "watch", interrupt)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "out")
    assert started[0].poll() is not None


@dataclass(frozen=True, slots=True)
class FakeRun(FinishedRun):
    """A run without a folder."""

    seconds: list[float]
    driver_share: float

    def driver_share_of_search(self):
        return self.driver_share

    def rows(self, columns):
        assert columns == ["seconds"]
        return pl.DataFrame({"seconds": self.seconds})


def fake_run(actors, span, seconds, driver_share=0.01):
    counts = {"actors": actors, "busy_seconds": 0.95 * actors * span, "simulations": 1, "layers_run": 1}
    summary = {"search_seconds": span, "questions_per_second": len(seconds) / span, **counts}
    return FakeRun(Path(), summary, 100.0, [(0.0, 5.0)], seconds, driver_share)


def test_shares_of_a_span_are_medians_over_runs():
    runs = [fake_run(1, 8.0, [1.0, 3.0]), fake_run(1, 80.0, [1.0, 3.0]), fake_run(1, 4.0, [1.0, 1.0])]
    assert search_shares(runs).tolist() == [2.0, 6.0]


def test_scaling_is_the_ratio_of_rates_and_targets_are_medians_of_two_actors():
    runs = {
        1: [fake_run(1, 40.0, [1.0, 3.0], driver_share=0.5), fake_run(1, 40.0, [1.0, 3.0])],
        2: [fake_run(2, 20.0, [1.0, 3.0], driver_share=0.02), fake_run(2, 20.0, [1.0, 3.0], driver_share=0.1)],
    }
    found = compare(runs, seed=0)
    assert found["speed"]["value"] == pytest.approx(2.0)
    assert found["speed_by_repeat"] == [2.0, 2.0]
    assert found["targets"]["driver_share_of_search"] == {
        "value": pytest.approx(0.06),
        "least": None,
        "most": 0.05,
        "met": False,
    }
    assert found["targets"]["busy_share"]["value"] == pytest.approx(0.95)
    assert found["targets"]["speed"]["met"]


ROWS = pl.DataFrame(
    {
        "status": ["kept", "improved", "unsolved", "kept"],
        "base_correct": [True, False, False, True],
        "base_margin": [1.0, -1.0, -3.0, 3.0],
        "best_depth": [5, 6, 6, 4],
        "best_margin": [2.0, 0.5, -3.0, 4.0],
        "num_layers": [6] * 4,
    }
)


def test_depth_and_best_margins_are_of_the_solved_base_margins_of_all():
    found = found_figures(ROWS, seed=0)
    assert (found["solved_rate"]["value"], found["base_accuracy"]["value"]) == (0.75, 0.5)
    assert found["mean_best_depth"]["value"] == 5.0
    assert found["best_margins_of_solved"]["median"] == 2.0
    assert found["base_margins"]["median"] == 0.0
    assert found["base_margins_of_right"]["median"] == 2.0
    assert [entry["met"] for entry in found["targets"].values()] == [False, True]


def test_deciles_are_nine_and_even():
    assert margins(pl.Series([float(value) for value in range(11)]))["deciles"] == pytest.approx(list(range(1, 10)))
    assert margins(pl.Series([None], dtype=pl.Float64)) == {"median": None, "deciles": None}


def test_a_call_that_found_all_done_has_no_time_per_question(tmp_path):
    names = ("searched", "actors", "simulations", "layer_executions", "layers_run", "token_layers", "search_seconds")
    summary = dict.fromkeys(names, 0) | {"questions_per_second": None}
    assert time_figures(FinishedRun(tmp_path, summary, 1.0, []))["seconds_per_question"] is None
    assert time_figures(FinishedRun(tmp_path, summary | {"questions_per_second": 4.0}, 1.0, [])) == {
        "seconds_per_question": 0.25,
        **dict.fromkeys(names, 0),
    }


def test_an_option_that_the_benchmark_fixes_cannot_be_given_again():
    from benchmarks.findings import arc_easy

    with pytest.raises(InputError, match="--stop"):
        arc_easy.main(options=["--stop", "published"])
