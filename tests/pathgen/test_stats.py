import math

import numpy as np
import polars as pl
import pytest
from path_records import METADATA, make_record, no_guard

from pathgen.actions import LayerPath
from pathgen.headroom import FEWEST_QUESTIONS, headroom
from pathgen.lease import LEASE_NAME, RunLease
from pathgen.records import Evaluation
from pathgen.rundir import RunDirectory
from pathgen.runinfo import RunInfo
from pathgen.shards import to_table, write_progress, write_shard
from pathgen.stats import action_counts, find_record, run_stats, summarize

SETTINGS = {
    "simulations": 3,
    "layer_budget": None,
    "seconds_budget": None,
    "max_depth": 8,
    "max_edits": 8,
    "cost": "layers",
}


def frame(records):
    return pl.DataFrame(pl.from_arrow(to_table(records)))


def scored(question_id, gold, base, *others):
    """A record whose full path and other paths give these choices these scores."""
    paths = [LayerPath.full(4), *(LayerPath(digits) for digits in ((0, 1, 1, 1), (1, 0, 1, 1), (1, 1, 0, 1)))]
    evaluations = [
        Evaluation(path, int(np.argmax(scores)) == gold, 0.0, tuple(scores), None, i)
        for i, (path, scores) in enumerate(zip(paths, (base, *others), strict=False))
    ]
    return make_record(
        question_id,
        status="kept" if evaluations[0].correct else "unsolved",
        choices=tuple("abcd"[: len(base)]),
        gold=gold,
        base_correct=evaluations[0].correct,
        evaluations=evaluations,
    )


# --- headroom -------------------------------------------------------------------------------------------


def test_headroom_by_hand():
    records = [
        # Wrong at full depth (it says a); gold b is second, c third. Mended, and c is reached too.
        scored("1", 1, [3, 2, 1], [1, 3, 2], [1, 2, 3]),
        # Gold b is second again, c third: neither is reached.
        scored("2", 1, [3, 2, 1], [3, 1, 2]),
        # Gold c is third, b second: b is reached.
        scored("3", 2, [3, 2, 1], [1, 3, 2]),
        # Right at full depth: broken by its second path; never broken.
        scored("4", 0, [3, 2, 1], [3, 1, 2], [1, 3, 2]),
        scored("5", 0, [3, 2, 1], [3, 1, 2]),
    ]
    found = headroom(frame(records))
    assert found is not None
    # Placebos: at rank 1 b of "3" (reached): 1; at rank 2 c of "1" (reached) and of "2" (not): 1/2.
    # Gold's ranks are 1, 1, 2, so the placebo is (1 + 1 + 1/2) / 3.
    assert found["questions"] == 3
    assert found["gold"] == pytest.approx(1 / 3)
    assert found["placebo"] == pytest.approx(5 / 6)
    assert found["excess"] == pytest.approx(1 / 3 - 5 / 6)
    assert found["breaks"] == 0.5


def test_a_rank_without_a_placebo_counts_for_gold_alone():
    two_choices = scored("1", 1, [2, 1], [1, 2])
    found = headroom(frame([two_choices]))
    assert found is not None
    assert "nothing tells how much of that is chance" in found.pop("warning")
    nothing = dict.fromkeys(("placebo", "excess", "excess_ci95", "breaks"))
    assert found == {"questions": 1, "gold": 1.0, "above_chance": False, "stopped_early": 0} | nothing

    # Rank 3 is gold's alone, mended; at rank 1 and 2 gold and placebo are both there, and nothing is reached.
    others = [
        scored("2", 3, [4, 3, 2, 1], [1, 2, 3, 4]),
        scored("3", 1, [3, 2, 1], [3, 2, 1]),
        scored("4", 2, [3, 2, 1], [3, 2, 1]),
    ]
    found = headroom(frame(others))
    assert found is not None
    assert found["gold"] == pytest.approx(1 / 3)
    assert (found["placebo"], found["excess"]) == (0.0, 0.0)


def test_searches_that_stop_at_the_first_right_path_say_nothing_about_chance():
    mended = [scored(str(n), 1, [3, 2, 1], [1, 3, 2]) for n in range(2 * FEWEST_QUESTIONS)]
    missed = [scored(f"c{n}", 2, [3, 2, 1], [3, 1, 2]) for n in range(FEWEST_QUESTIONS)]
    assert headroom(frame(mended + missed))["above_chance"]
    mended[0].stop_reason = "early"
    found = headroom(frame(mended + missed))
    assert not found["above_chance"]
    assert found["warning"].endswith("not comparable, 1 searches stopped early, at the first right path")


def test_failed_questions_and_tasks_without_choices_have_no_headroom():
    generated = make_record("1", choices=None, gold=None, reference="2")
    generated.evaluations = [Evaluation(e.path, True, 0.5, None, "2", e.simulation) for e in generated.evaluations]
    assert headroom(frame([generated, make_record("2", status="failed")])) is None


def simulated(rng, lift, questions=3000, choices=4, paths=5):
    """Questions whose gold has no tie to the scores, but for a `lift` of gold on every path but the full one."""
    records = []
    for number in range(questions):
        gold = int(rng.integers(choices))
        base = rng.normal(size=choices)
        rows = base + rng.normal(size=(paths, choices))
        rows[:, gold] += lift
        every = [LayerPath((1, 1, 1, 1)), *(LayerPath((number % 3, i % 3, i // 3, 1)) for i in range(paths))]
        evaluations = [
            Evaluation(path, int(np.argmax(scores)) == gold, 0.0, tuple(scores), None, i)
            for i, (path, scores) in enumerate(zip(every, (base, *rows), strict=True))
        ]
        records.append(
            make_record(
                str(number),
                choices=tuple("abcd"),
                gold=gold,
                status="unsolved",
                base_correct=evaluations[0].correct,
                evaluations=evaluations,
            )
        )
    return frame(records)


def test_luck_alone_has_no_excess_though_it_mends_many_and_skill_has_some():
    # Paths that shake the scores at random mend much. 2250 questions are wrong: one standard error is 1.1 %.
    luck = headroom(simulated(np.random.default_rng(0), lift=0.0))
    skill = headroom(simulated(np.random.default_rng(0), lift=0.5))
    assert luck is not None
    assert skill is not None
    assert luck["gold"] > 0.4
    assert abs(luck["excess"]) < 0.04
    low, high = luck["excess_ci95"]
    assert low < 0 < high
    assert not luck["above_chance"]
    assert luck["warning"].endswith(f"[{100 * low:+.1f}, {100 * high:+.1f}]: not above chance")
    assert skill["excess"] > 0.15
    assert skill["excess_ci95"][0] > 0
    assert (skill["above_chance"], skill["warning"]) == (True, None)


def test_the_interval_is_that_of_a_bootstrap_over_whole_questions():
    rows = simulated(np.random.default_rng(1), lift=0.2, questions=200)
    found = headroom(rows)
    assert found is not None
    wrong = rows.filter(~pl.col("base_correct"))
    rng = np.random.default_rng(2)
    draws = [headroom(wrong[rng.integers(wrong.height, size=wrong.height)]) for _ in range(400)]
    excess = [draw["excess"] for draw in draws if draw is not None]
    spread = np.std(excess)
    # A percentile of 400 draws is known to about a tenth of the spread; a right answer in the sample has no say.
    assert found["excess_ci95"] == pytest.approx(np.percentile(excess, [2.5, 97.5]), abs=0.5 * spread)
    assert found["excess_ci95"] == headroom(rows)["excess_ci95"]


@pytest.mark.parametrize("missing", [1, 0])
def test_a_few_questions_are_no_proof(missing):
    # Every gold is reached and no other choice ever: as far above chance as can be.
    records = [scored(str(n), 1 + n % 2, [3, 2, 1], *([[1, 3, 2]], [[1, 2, 3]])[n % 2]) for n in range(30 - missing)]
    found = headroom(frame(records))
    assert found is not None
    assert FEWEST_QUESTIONS == 30
    assert found["excess_ci95"] == [1.0, 1.0]
    assert found["above_chance"] == (not missing)
    assert (found["warning"] or "").endswith("29 wrong answers are too few to tell from chance" * missing)


# --- counts and rates -----------------------------------------------------------------------------------


def mixed():
    return [
        make_record("kept", best_depth=3, best_margin=1.0, base_margin=1.0),
        make_record("improved", status="improved", base_correct=False, best_depth=2, best_margin=3.0, base_margin=-1.0),
        make_record("unsolved", status="unsolved", base_correct=False, best_depth=4, best_margin=-2, base_margin=-2),
        make_record("failed", status="failed"),
    ]


def test_rates_leave_the_failed_out_and_depth_is_of_the_solved():
    found = summarize(frame(mixed()))
    assert {name: found[name] for name in ("questions", "improved", "kept", "unsolved", "failed", "solved")} == {
        "questions": 3,
        **dict.fromkeys(("improved", "kept", "unsolved", "failed"), 1),
        "solved": 2,
    }
    assert found["base_accuracy"] == pytest.approx(1 / 3)
    assert found["solved_rate"] == pytest.approx(2 / 3)
    assert found["mean_best_depth"] == 2.5
    assert (found["median_base_margin"], found["median_best_margin"]) == (-1.0, 2.0)
    assert found["layer_executions"] == 3 * (4 + 3 + 3 + 3)
    assert (found["layers_run"], found["seconds"], found["num_layers"]) == (9, 3.0, 4)


@pytest.mark.parametrize("records", [[], [make_record("a", status="failed")]])
def test_rates_of_nothing_are_none(records):
    found = summarize(frame(records))
    assert all(found[name] is None for name in ("base_accuracy", "solved_rate", "mean_best_depth", "num_layers"))
    assert found["failed"] == len(records)


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
    assert (empty["total"], empty["done"], empty["headroom"], empty["action_counts"]) == (10, 0, None, [])

    write_shard(run.fs, run.paths, "w-0", 0, mixed(), METADATA, no_guard)
    write_shard(run.fs, run.paths, "w-1", 0, [make_record("short", simulations=2)], METADATA, no_guard)
    early = make_record("early", simulations=1, stop_reason="early")
    write_shard(run.fs, run.paths, "w-2", 0, [early], METADATA, no_guard)
    # What is not committed does not count.
    write_progress(run.fs, run.root, "w-3", [make_record("under way", status="searching")], METADATA, no_guard)

    found = run_stats(run.out)
    # "short" was searched under a smaller budget and "failed" failed: neither is done.
    assert (found["total"], found["done"], found["questions"], found["failed"]) == (10, 4, 5, 1)
    assert (found["model"], found["task"], found["under_way"]) == ("tiny", "arc", False)
    assert [sum(counts) for counts in found["action_counts"]] == [5] * 4
    assert found["headroom"] is not None
    contract = "total done improved kept unsolved failed base_accuracy solved_rate mean_best_depth num_layers"
    contract += " action_counts headroom layer_executions layers_run seconds"
    assert set(contract.split()) <= set(found)


def test_total_follows_the_latest_wish_and_never_falls_below_what_is_there(run):
    write_shard(run.fs, run.paths, "w-0", 0, mixed(), METADATA, no_guard)
    for wanted, total in ((20, 20), (2, 4)):
        run.begin(RunInfo(SETTINGS, "tiny", "f" * 16, "arc", "builtin", questions=wanted), no_guard)
        assert run_stats(run.out)["total"] == total


def test_a_run_at_work_is_told_from_a_dead_one(run):
    with RunLease(run.fs, run.root, on_wait=print):
        assert run_stats(run.out)["under_way"]
        living = run.read_file(LEASE_NAME)
    assert not run_stats(run.out)["under_way"]
    assert living is not None
    run.fs.pipe_file(f"{run.root}/{LEASE_NAME}", living.replace(b'"start_s": ', b'"start_s": 1'))
    assert not run_stats(run.out)["under_way"]


def test_a_record_is_found_whole(run):
    write_shard(run.fs, run.paths, "w-0", 0, mixed(), METADATA, no_guard)
    record = find_record(run.out, "improved")
    assert record["status"] == "improved"
    assert record["evaluations"][0]["path"] == [1, 1, 1, 1]
    assert math.isclose(record["best_margin"], 3.0)
