import numpy as np
import pytest

from benchmarks.lab.measurement import (
    alternate,
    apportion,
    ci95,
    machine,
    mean,
    ratio,
    resamples,
    rotated,
    run_script,
    share,
    target,
)
from pathgen.errors import InputError


def test_rivals_take_turns_on_every_block_and_no_one_always_goes_first():
    order = []

    def rival(name):
        def run(block):
            order.append((name, list(block)))
            return sum(block)

        return run

    results = alternate({"a": rival("a"), "b": rival("b")}, [1, 2, 3, 4, 5], block=2, repeats=2)
    assert results == {"a": [[3, 7, 5], [3, 7, 5]], "b": [[3, 7, 5], [3, 7, 5]]}
    first_of_each_turn = [name for name, _ in order[::2]]
    assert first_of_each_turn == ["a", "b", "a", "b", "a", "b"]
    assert [block for _, block in order[:6:2]] == [[1, 2], [3, 4], [5]]


def test_every_name_leads_once():
    assert [rotated("abc", turn)[0] for turn in range(4)] == ["a", "b", "c", "a"]
    assert all(sorted(rotated("abc", turn)) == ["a", "b", "c"] for turn in range(4))


def test_a_paired_ratio_of_proportional_times_is_certain_an_unpaired_one_is_not():
    slow = np.array([3.0, 6.0, 30.0, 9.0])
    paired = ratio(slow, slow / 3, seed=1)
    assert paired["value"] == pytest.approx(3.0)
    assert paired["ci95"] == pytest.approx([3.0, 3.0])
    low, high = ratio(slow, slow / 3, seed=1, paired=False)["ci95"]
    assert low < 2 < 4 < high


def test_a_ratio_is_of_totals_not_a_mean_of_ratios():
    assert ratio([1.0, 9.0], [1.0, 1.0], seed=0)["value"] == pytest.approx(5.0)
    assert ratio([10.0, 10.0], [1.0, 9.0], seed=0)["value"] == pytest.approx(2.0)


def test_unpaired_sides_may_have_different_numbers_of_questions():
    found = ratio([2.0] * 3, [1.0] * 50, seed=0, paired=False)
    assert (found["value"], found["ci95"]) == (2.0, [2.0, 2.0])


def test_the_bootstrap_interval_of_a_mean_is_close_to_the_normal_one_and_its_seed_decides():
    sample = np.random.default_rng(5).normal(10, 2, size=400)
    found = mean(sample, seed=3)
    reach = 1.96 * sample.std() / np.sqrt(len(sample))
    assert found["value"] == pytest.approx(sample.mean())
    assert found["ci95"] == pytest.approx([sample.mean() - reach, sample.mean() + reach], abs=0.02)
    assert found == mean(sample, seed=3) != mean(sample, seed=4)


def test_equal_seeds_draw_the_same_questions_and_a_generator_goes_on():
    drawn = resamples(5, seed=3, draws=4)
    assert drawn.shape == (4, 5)
    assert set(drawn.ravel()) <= set(range(5))
    rng = np.random.default_rng(3)
    assert np.array_equal(drawn, resamples(5, rng, draws=4))
    assert not np.array_equal(drawn, resamples(5, rng, draws=4))


def test_an_interval_leaves_a_fortieth_out_at_each_end():
    assert ci95(np.arange(1001.0)) == [25.0, 975.0]


@pytest.mark.parametrize(
    ("hits", "total", "interval"),
    [
        (8, 10, [0.4902, 0.9433]),  # Wilson's formula by hand: (0.8 + 0.19207) / 1.38415 ± 0.22658
        (0, 10, [0.0, 0.2775]),  # its upper end is z² / (n + z²)
        (10, 10, [0.7225, 1.0]),
    ],
)
def test_wilson_intervals(hits, total, interval):
    found = share(hits, total)
    assert found["value"] == hits / total
    assert found["ci95"] == pytest.approx(interval, abs=1e-4)


def test_a_share_of_nothing_is_unknown():
    assert share(0, 0) == {"value": None, "ci95": None, "of": 0}


def test_targets_are_met_at_their_bounds_and_never_by_an_unknown_figure():
    assert target(5.0, least=5.0)["met"]
    assert not target(4.99, least=5.0)["met"]
    assert target(1.5, most=1.5)["met"]
    assert not target(1.51, most=1.5)["met"]
    assert not target(None, least=0.0)["met"]


def test_a_blocks_time_is_shared_out_whole_even_when_no_question_used_any():
    assert apportion(6.0, [1.0, 2.0]).tolist() == pytest.approx([2.0, 4.0])
    assert apportion(6.0, [0.0, 0.0]).tolist() == pytest.approx([3.0, 3.0])


def test_the_machine_is_named():
    found = machine(threads=3)
    assert found["torch_threads"] == 3
    assert found["cpu"]
    assert found["cores"] >= 1
    assert found["torch"][0].isdigit()


def test_a_persons_mistake_ends_in_one_line_and_its_exit_code(monkeypatch, capsys):
    def main() -> None:
        raise InputError("no such file")

    monkeypatch.setattr("sys.argv", ["benchmark"])
    with pytest.raises(SystemExit) as ended:
        run_script(main)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: no such file\n"
