"""What a search mends beside its placebo: by hand, where luck or skill is simulated, and where a search steers."""

import numpy as np
import polars as pl
import pytest
from path_records import frame, make_record
from search_toys import drive, layer_search

from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import Evaluation
from pathgen.report.headroom import Headroom, headroom


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
    assert found.questions == 3
    assert found.gold == pytest.approx(1 / 3)
    assert found.placebo == pytest.approx(5 / 6)
    assert found.excess == pytest.approx(1 / 3 - 5 / 6)
    assert found.breaks == 0.5


def test_a_rank_without_a_placebo_counts_for_gold_alone():
    two_choices = scored("1", 1, [2, 1], [1, 2])
    found = headroom(frame([two_choices]))
    assert found is not None
    assert found.verdict.startswith("how much of that is luck is unknown")
    expected = Headroom(1, gold=1.0, placebo=None, excess=None, excess_ci95=None, breaks=None, stopped_early=0)
    assert found == expected

    # Rank 3 is gold's alone, mended; at rank 1 and 2 gold and placebo are both there, and nothing is reached.
    others = [
        scored("2", 3, [4, 3, 2, 1], [1, 2, 3, 4]),
        scored("3", 1, [3, 2, 1], [3, 2, 1]),
        scored("4", 2, [3, 2, 1], [3, 2, 1]),
    ]
    found = headroom(frame(others))
    assert found is not None
    assert found.gold == pytest.approx(1 / 3)
    assert (found.placebo, found.excess) == (0.0, 0.0)


def test_searches_that_stop_at_the_first_right_path_say_nothing_about_chance():
    mended = [scored(str(n), 1, [3, 2, 1], [1, 3, 2]) for n in range(20)]
    missed = [scored(f"c{n}", 2, [3, 2, 1], [3, 1, 2]) for n in range(10)]
    assert "not comparable" not in headroom(frame(mended + missed)).verdict
    mended[0].stop_reason = "early"
    found = headroom(frame(mended + missed))
    assert found.verdict == "the two are not comparable: 1 search stopped early, at the first right path"


def test_few_wrong_answers_have_no_interval_that_would_look_certain():
    mended = [scored(str(n), 1, [3, 2, 1], [1, 3, 2]) for n in range(18)]
    missed = [scored("c", 2, [3, 2, 1], [3, 1, 2])]
    few = headroom(frame(mended + missed))
    assert (few.questions, few.excess_ci95) == (19, None)
    assert few.verdict == "too few to tell the two apart: at least 20 wrong answers are needed"
    assert headroom(frame([*mended, *missed, scored("d", 2, [3, 2, 1], [3, 1, 2])])).excess_ci95 is not None


def test_an_answer_that_is_wrong_by_a_tie_alone_is_not_mended():
    # Gold a ties with b at full depth: not right, as its margin is 0, yet given. Where b is gold, a is given.
    records = [scored("1", 0, [3, 3, 1], [4, 2, 1]), scored("2", 1, [3, 3, 1], [4, 2, 1])]
    for record in records:
        record.base_correct = False
    found = headroom(frame(records))
    assert found is not None
    assert (found.questions, found.gold) == (1, 0.0)
    nothing = headroom(frame(records[:1]))
    assert nothing is None


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
    assert luck.gold > 0.4
    assert abs(luck.excess) < 0.04
    low, high = luck.excess_ci95
    assert low < 0 < high
    assert f"[{100 * low:+.1f}, {100 * high:+.1f}], is not above chance" in luck.verdict
    assert skill.excess > 0.15
    assert skill.excess_ci95[0] > 0
    assert skill.verdict.endswith("may still be luck: the search looked for the right answer alone")


def searched_by_luck(seed, questions=150, layers=30, choices=4, told_gold=True):
    """Records of real searches where gold is any wrong choice, so that no path knows it.

    Each edit of a layer moves each choice's score by a normal draw. The search is told the margin of gold, or else of
    another wrong choice.
    """
    rng = np.random.default_rng(seed)
    records = []
    for number in range(questions):
        base = rng.normal(size=choices)
        moved_by = rng.normal(scale=0.3, size=(layers, 3, choices))
        moved_by[:, 1] = 0.0
        gold, other = (int(choice) for choice in rng.permutation(np.argsort(base)[:-1])[:2])
        target = gold if told_gold else other

        def evaluate(path, base=base, moved_by=moved_by, target=target):
            scores = base + moved_by[np.arange(layers), list(path)].sum(axis=0)
            margin = float(scores[target] - np.delete(scores, target).max())
            return Evaluation(path, margin > 0, margin, tuple(scores.tolist()))

        search = drive(layer_search(layers, seed=number), evaluate)
        records.append(
            make_record(
                str(number),
                choices=tuple("abcd"[:choices]),
                gold=gold,
                status="unsolved",
                base_correct=False,
                evaluations=search.evaluations,
            )
        )
    return records


def test_a_search_that_looks_for_gold_exceeds_the_placebo_by_luck_alone_and_nothing_is_claimed():
    found = headroom(frame(searched_by_luck(seed=0)))
    assert found is not None
    assert found.excess > 0.15
    assert found.excess_ci95[0] > 0.1
    assert found.verdict.endswith("may still be luck: the search looked for the right answer alone")
    assert not hasattr(found, "above_chance")


def test_a_search_that_looks_for_another_choice_meets_gold_less_often_than_the_placebo():
    found = headroom(frame(searched_by_luck(seed=0, told_gold=False)))
    assert found is not None
    assert found.excess_ci95[1] < 0
    assert "is not above chance" in found.verdict


def test_the_interval_is_that_of_a_bootstrap_over_whole_questions():
    rows = simulated(np.random.default_rng(1), lift=0.2, questions=200)
    found = headroom(rows)
    assert found is not None
    wrong = rows.filter(~pl.col("base_correct"))
    rng = np.random.default_rng(2)
    draws = [headroom(wrong[rng.integers(wrong.height, size=wrong.height)]) for _ in range(400)]
    excess = [draw.excess for draw in draws if draw is not None]
    spread = np.std(excess)
    # A percentile of 400 draws is known to about a tenth of the spread; a right answer in the sample has no say.
    assert found.excess_ci95 == pytest.approx(np.percentile(excess, [2.5, 97.5]), abs=0.5 * spread)
    assert found.excess_ci95 == headroom(rows).excess_ci95
