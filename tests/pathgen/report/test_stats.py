import math

import pytest
from path_records import METADATA, frame, make_record, no_guard

from cluster.program.json_codec import encoded
from pathgen.report.stats import RecordStats, action_counts, find_record, run_stats
from pathgen.report.terminal import stats_text
from pathgen.store.folder_lock import LEASE_NAME, RunLease
from pathgen.store.run_folder import RunDirectory
from pathgen.store.run_json import RunInfo
from pathgen.store.shards import write_progress, write_shard

SETTINGS = {
    "simulations": 3,
    "layer_budget": None,
    "seconds_budget": None,
    "max_depth": 8,
    "max_edits": 8,
    "cost": "layers",
}


# --- counts and rates -----------------------------------------------------------------------------------


def mixed():
    return [
        make_record("kept", best_depth=3, best_margin=1.0, base_margin=1.0),
        make_record("improved", status="improved", base_correct=False, best_depth=2, best_margin=3.0, base_margin=-1.0),
        make_record("unsolved", status="unsolved", base_correct=False, best_depth=4, best_margin=-2, base_margin=-2),
        make_record("failed", status="failed"),
    ]


def test_rates_leave_the_failed_out_and_depth_is_of_the_solved():
    found = RecordStats.of(frame(mixed()))
    assert (found.questions, found.solved) == (3, 2)
    assert (found.improved, found.kept, found.unsolved, found.failed) == (1, 1, 1, 1)
    assert found.base_accuracy == pytest.approx(1 / 3)
    assert found.solved_rate == pytest.approx(2 / 3)
    assert found.mean_best_depth == 2.5
    assert (found.median_base_margin, found.median_best_margin) == (-1.0, 2.0)
    assert found.layer_executions == 3 * (4 + 3 + 3 + 3)
    assert (found.layers_run, found.seconds, found.num_layers) == (9, 3.0, 4)


@pytest.mark.parametrize("records", [[], [make_record("a", status="failed")]])
def test_rates_of_nothing_are_none(records):
    found = RecordStats.of(frame(records))
    assert (found.base_accuracy, found.solved_rate, found.mean_best_depth, found.num_layers) == (None,) * 4
    assert found.failed == len(records)


def test_action_counts():
    assert action_counts([[1, 0, 2], [1, 0, 1], [2, 1, 1]]) == [[0, 2, 1], [2, 1, 0], [0, 2, 1]]
    assert action_counts([]) == []


# --- a run's folder -------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(str(tmp_path / "run"))
    run.create()
    run.begin(RunInfo(SETTINGS, "tiny", "f" * 16, "arc", "builtin", questions=10), no_guard)
    return run


def test_stats_of_a_run(run):
    empty = run_stats(run.out)
    assert (empty.total, empty.done, empty.headroom, empty.action_counts) == (10, 0, None, [])

    write_shard(run.fs, run.paths, "w-0", 0, mixed(), METADATA, no_guard)
    write_shard(run.fs, run.paths, "w-1", 0, [make_record("short", simulations=2)], METADATA, no_guard)
    early = make_record("early", simulations=1, stop_reason="early")
    write_shard(run.fs, run.paths, "w-2", 0, [early], METADATA, no_guard)
    # What is not committed does not count.
    write_progress(run.fs, run.root, "w-3", [make_record("under way", status="searching")], METADATA, no_guard)

    found = run_stats(run.out)
    # "short" was searched under a smaller budget and "failed" failed: neither is done.
    assert (found.total, found.done, found.records.questions, found.records.failed) == (10, 4, 5, 1)
    assert (found.model, found.task, found.under_way) == ("tiny", "arc", False)
    assert [sum(counts) for counts in found.action_counts] == [5] * 4
    assert found.headroom is not None
    contract = "total done improved kept unsolved failed base_accuracy solved_rate mean_best_depth num_layers"
    contract += " action_counts headroom layer_executions layers_run seconds"
    assert set(contract.split()) <= set(encoded(found))
    assert found.bridges is None


def test_stats_name_the_bridges_of_a_run(tmp_path, capsys):
    run = RunDirectory(str(tmp_path / "run"))
    run.create()
    settings = SETTINGS | {"bridges": "d" * 16}
    run.begin(RunInfo(settings, "tiny", "f" * 16, "arc", "builtin", questions=10), no_guard)
    found = run_stats(run.out)
    assert found.bridges == encoded(found)["bridges"] == "d" * 16
    stats_text(found)
    told = capsys.readouterr().out.replace("\n", "")  # a long folder's name wraps
    assert told.startswith(f"{run.out}: tiny, task arc, over bridges {'d' * 16}")


def test_total_follows_the_latest_wish_and_never_falls_below_what_is_there(run):
    write_shard(run.fs, run.paths, "w-0", 0, mixed(), METADATA, no_guard)
    for wanted, total in ((20, 20), (2, 4)):
        run.begin(RunInfo(SETTINGS, "tiny", "f" * 16, "arc", "builtin", questions=wanted), no_guard)
        assert run_stats(run.out).total == total


def test_a_run_at_work_is_told_from_a_dead_one(run):
    with RunLease(run.fs, run.root, on_wait=print):
        assert run_stats(run.out).under_way
        living = run.read_file(LEASE_NAME)
    assert not run_stats(run.out).under_way
    assert living is not None
    run.fs.pipe_file(f"{run.root}/{LEASE_NAME}", living.replace(b'"start_s": ', b'"start_s": 1'))
    assert not run_stats(run.out).under_way


def test_a_record_is_found_whole(run):
    write_shard(run.fs, run.paths, "w-0", 0, mixed(), METADATA, no_guard)
    record = find_record(run.out, "improved")
    assert record["status"] == "improved"
    assert record["evaluations"][0]["path"] == [1, 1, 1, 1]
    assert math.isclose(record["best_margin"], 3.0)
