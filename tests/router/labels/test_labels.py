import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from path_runs import path, searched, write_run

from pathgen.errors import InputError
from router.data.path_datasets import PathDatasets
from router.labels.action_values import MeanEffects, action_values, question_effects
from router.labels.labels import LABEL_POLICIES, consensus, make_labels, margin, one_hot, shortest

FULL = one_hot(path("...."))


def right(record):
    return [evaluation for evaluation in record.evaluations if evaluation.correct]


def chosen(policy, margins):
    record = searched("q", margins)
    found, targets = policy(record, right(record))
    return str(found), targets


def labels(tmp_path, records, policy, **options):
    return list(make_labels(PathDatasets([write_run(tmp_path / "run", records)]), policy, **options))


# --- shortest and margin ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("margins", "expected"),
    [
        ({"....": 9.0, "-...": 0.1, "--..": -0.1}, "-..."),  # right ones only, whatever their margin
        ({"....": 1.0, "-...": 0.5, "..-2": 0.1}, "-..."),  # depth
        ({"....": 1.0, ".-.2": 0.1, "...2": 0.1}, ".-.2"),  # of equal depth the fewest different layers
        ({"....": 1.0, ".-..": 0.2, "..-.": 0.7}, "..-."),  # then margin
        ({"....": 1.0, "..-.": 0.5, ".-..": 0.5}, ".-.."),  # then lexicographic: a skip comes before an execution
        ({"....": 1.0, "2...": 3.0}, "...."),
    ],
)
def test_shortest(margins, expected):
    found, targets = chosen(shortest, margins)
    assert found == expected
    np.testing.assert_array_equal(targets, one_hot(path(expected)))


@pytest.mark.parametrize(
    ("margins", "expected"),
    [
        ({"....": 1.0, "2...": 3.0, "-...": 2.0}, "2..."),
        ({"....": 1.0, "2...": 1.0, "-...": 1.0}, "-..."),  # ties: the shortest
        ({"....": 1.0, ".-..": 1.0, "-...": 1.0}, "-..."),
    ],
)
def test_margin(margins, expected):
    found, targets = chosen(margin, margins)
    assert found == expected
    np.testing.assert_array_equal(targets, one_hot(path(expected)))


def test_one_hot_has_a_column_for_each_action():
    assert one_hot(path("-.2")).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


# --- consensus --------------------------------------------------------------------------------------------


def test_consensus_by_hand():
    # Rewards ½ + ½·σ(z) − ¼·depth/4 of z = 0.5 at depth 4, 2 at 3, 1 at 4; odds exp(reward / 0.1).
    found, targets = chosen(consensus, {"....": 0.5, "-...": 2.0, "-..2": 1.0, "2...": -1.0})
    rewards = [0.5 + 0.5 / (1 + math.exp(-z)) - 0.25 * depth / 4 for z, depth in ((0.5, 4), (2, 3), (1, 4))]
    odds = np.exp(np.array(rewards) / 0.1)
    full, skip, both = odds / odds.sum()
    expected = [[skip + both, full, 0], [0, 1, 0], [0, 1, 0], [0, full + skip, both]]
    np.testing.assert_allclose(targets, expected, atol=1e-12)
    assert found == "-..."


def test_consensus_takes_features_along_the_path_that_agrees_most_and_not_the_heaviest():
    # The deep path of large margin weighs most, but alone: the three others agree on skipping layer 0.
    margins = {"....": -1.0, "22..": 1.05, "-...": 0.3, "-.-.": 0.1, "-..-": 0.1}
    record = searched("q", margins)
    found, targets = consensus(record, right(record))
    assert targets[0, 0] > targets[0, 2]
    assert str(found) == "-..."


def test_consensus_counts_margins_of_generated_answers_from_the_full_paths():
    margins = {"....": 2.0, "-...": 3.0}
    record = searched("q", margins, choices=None, gold=None, reference="yes")
    _, targets = consensus(record, right(record))
    odds = [math.exp((0.5 + 0.5 / (1 + math.exp(-z)) - 0.25 * depth / 4) / 0.1) for z, depth in ((0, 4), (1, 3))]
    assert targets[0, 0] == pytest.approx(odds[1] / sum(odds))


def test_the_consensus_of_one_path_is_the_path():
    found, targets = chosen(consensus, {"....": -1.0, "-..2": 0.5})
    assert found == "-..2"
    np.testing.assert_array_equal(targets, one_hot(path("-..2")))


# --- value ------------------------------------------------------------------------------------------------

LAYERS = 5
SKIPS = np.array([-1.0, 0.4, 0.0, -0.5, 0.2])
REPEATS = np.array([0.0, -0.3, 0.6, 0.1, -0.8])
PLANTED = np.concatenate([SKIPS, REPEATS])


def planted(question_id, rng, effects, num_paths=12):
    """A record whose margins are exactly additive in its paths' edits, around a margin of its own."""
    base = float(rng.normal())
    margins = {"." * LAYERS: base}
    while len(margins) < num_paths:
        text = "".join(rng.choice(list("-.2"), size=LAYERS, p=[0.2, 0.6, 0.2]))
        edits = np.array([letter == "-" for letter in text] + [letter == "2" for letter in text])
        margins[text] = float(base + edits @ effects)
    return searched(question_id, margins)


def mean_of(records):
    mean = MeanEffects(records[0].num_layers)
    for record in records:
        mean.add(record)
    return mean.solve()


def test_planted_effects_are_recovered():
    rng = np.random.default_rng(0)
    found = mean_of([planted(f"q{i}", rng, PLANTED) for i in range(60)])
    np.testing.assert_allclose(found, PLANTED, atol=0.02)


def test_a_questions_own_effects_are_recovered_from_many_paths():
    rng = np.random.default_rng(1)
    others = [planted(f"q{i}", rng, PLANTED) for i in range(60)]
    own = PLANTED.copy()
    own[[0, 7]] = [1.0, -1.0]
    odd = planted("odd", rng, own, num_paths=80)
    mean = mean_of([*others, odd])
    np.testing.assert_allclose(question_effects(odd, mean), own, atol=0.15)
    np.testing.assert_allclose(question_effects(others[0], mean), PLANTED, atol=0.15)


def test_with_one_evaluation_a_questions_values_are_the_mean():
    mean = mean_of([planted(f"q{i}", np.random.default_rng(i), PLANTED) for i in range(5)])
    np.testing.assert_array_equal(question_effects(searched("q", {".....": 0.7}), mean), mean)


def test_the_posterior_mean_is_that_of_the_formula():
    rng = np.random.default_rng(2)
    record = planted("q", rng, PLANTED + rng.normal(size=10))
    edited = record.evaluations[1:]
    edits = np.array([[a == 0 for a in e.path] + [a == 2 for a in e.path] for e in edited], float)
    changes = np.clip([e.margin - record.base_margin for e in edited], -4, 4)
    precision = 2.5
    expected = PLANTED + np.linalg.inv(edits.T @ edits + precision * np.eye(10)) @ edits.T @ (changes - edits @ PLANTED)
    np.testing.assert_allclose(question_effects(record, PLANTED, precision), expected, atol=1e-9)


@pytest.mark.parametrize(("own", "clipped"), [(-50.0, -4.0), (None, -4.0), (50.0, 4.0), (0.5, 0.0)])
def test_changes_are_clipped_and_a_path_without_a_margin_is_the_worst(own, clipped):
    # One path that skips layer 0 alone, precision 1: half of its change is taken over.
    record = searched("q", {".....": 0.5, "-....": own})
    assert question_effects(record, np.zeros(10)).tolist() == pytest.approx([clipped / 2, *[0.0] * 9])


def test_action_values_have_a_column_for_each_action():
    assert action_values(np.array([1.0, 2.0, 3.0, 4.0])).tolist() == [[1, 0, 3], [2, 0, 4]]


def test_value_labels_are_softmax_of_values_along_the_full_path_and_need_no_right_answer(tmp_path):
    records = [searched("a", {".....": -0.5, "-....": -1.5}), searched("b", {".....": 1.0})]
    first, second = labels(tmp_path, records, "value")
    # Mean: one path of change −1 and a precision of 1: −½. Question a: −½ + ½·(−1 + ½) = −¾.
    for label, value in ((first, -0.75), (second, -0.5)):
        skip = math.exp(value / 0.5)
        expected = [skip / (skip + 2), 1 / (skip + 2), 1 / (skip + 2)]
        np.testing.assert_allclose(label.targets[0], expected, rtol=1e-6)
        np.testing.assert_allclose(label.targets[1:], 1 / 3, rtol=1e-6)
        assert str(label.path) == "....."


def test_each_task_has_its_own_mean(tmp_path):
    arc = write_run(tmp_path / "arc", [searched("a", {"..": 1.0, "-.": 3.0}), searched("b", {"..": 1.0})])
    margins = {"..": 1.0, "-.": -1.0}
    maths = [searched("c", margins, task="math"), searched("d", {"..": 1.0}, task="math")]
    found = {
        label.question.id: label
        for label in make_labels(PathDatasets([arc, write_run(tmp_path / "math", maths, task="math")]), "value")
    }
    assert found["b"].targets[0, 0] > 1 / 3 > found["d"].targets[0, 0]


# --- make_labels ------------------------------------------------------------------------------------------

KEPT = searched("kept", {"....": 1.0, "-...": 1.5, "...2": 2.0})
MENDED = searched("mended", {"....": -1.0, ".2..": 0.5})
UNSOLVED = searched("unsolved", {"....": -1.0, "-...": -0.5})


def test_a_label_tells_where_it_is_from(tmp_path):
    (label,) = labels(tmp_path, [KEPT], "shortest")
    assert (label.question, label.task, label.out) == (KEPT.question, "arc", str(tmp_path / "run"))
    assert (str(label.path), label.targets.dtype, label.weight) == ("-...", np.float32, 1.0)


def test_kept_and_mended_questions_are_labelled_and_unsolved_ones_as_asked(tmp_path):
    records = [KEPT, UNSOLVED, MENDED]
    assert [str(label.path) for label in labels(tmp_path, records, "shortest")] == ["-...", ".2.."]
    kept, unsolved, mended = make_labels(PathDatasets([str(tmp_path / "run")]), "margin", unsolved="full")
    assert [str(label.path) for label in (kept, unsolved, mended)] == ["...2", "....", ".2.."]
    np.testing.assert_array_equal(unsolved.targets, FULL)


@pytest.mark.parametrize("policy", ["shortest", "margin", "consensus"])
def test_a_path_of_actions_not_allowed_is_not_imitated(tmp_path, policy):
    options = {"actions": ("skip", "execute"), "unsolved": "full"}
    kept, mended = labels(tmp_path, [KEPT, MENDED], policy, **options)
    assert kept.targets[:, 2].sum() == 0
    assert kept.targets[0, 0] > 0
    np.testing.assert_array_equal(mended.targets, FULL)
    assert [label.question.id for label in labels(tmp_path, [], policy, actions=("skip", "execute"))] == ["kept"]


def test_values_of_actions_not_allowed_are_left_out(tmp_path):
    (label,) = labels(tmp_path, [KEPT], "value", actions=("execute", "repeat"))
    assert label.targets[:, 0].tolist() == [0.0] * 4
    assert label.targets[3, 2] > 0.5


@pytest.mark.parametrize("policy", LABEL_POLICIES)
def test_questions_not_wanted_are_as_if_they_were_not_there(tmp_path, policy):
    held_out = searched("held-out", {"....": 1.0, "-...": 4.0, "2...": -3.0})
    alone = labels(tmp_path / "alone", [KEPT, MENDED], policy)
    among = labels(tmp_path / "among", [held_out, KEPT, MENDED], policy, wanted=lambda name: name != "held-out")
    assert [label.question for label in among] == [label.question for label in alone]
    for one, other in zip(among, alone, strict=True):
        np.testing.assert_array_equal(one.targets, other.targets)


@pytest.mark.parametrize("policy", ["shortest", "margin", "consensus"])
def test_no_label_at_all_is_refused_at_the_end(tmp_path, policy):
    stream = make_labels(PathDatasets([write_run(tmp_path / "run", [UNSOLVED])]), policy)
    with pytest.raises(InputError, match=r"no labels in .*run: .*skip, execute, repeat"):
        next(stream)


@pytest.mark.parametrize("policy", LABEL_POLICIES)
def test_records_without_margins_serve_the_policy_that_needs_none(tmp_path, policy):
    record = searched("bare", {"....": -1.0, "..-.": 1.0})
    bare = [replace(evaluation, margin=None) for evaluation in record.evaluations]
    out = write_run(tmp_path / "run", [replace(record, base_margin=None, best_margin=None, evaluations=bare)])
    stream = make_labels(PathDatasets([out]), policy)
    if policy == "shortest":
        assert [label.path for label in stream] == [path("..-.")]
    else:
        with pytest.raises(InputError, match=f"^{out}: question bare has no margin .* use --labels shortest$"):
            list(stream)


def test_an_unknown_policy_is_answered_with_the_list(tmp_path):
    datasets = PathDatasets([write_run(tmp_path / "run", [KEPT])])
    with pytest.raises(InputError, match="'best'; policies are shortest, margin, consensus, value"):
        make_labels(datasets, "best")


@pytest.mark.parametrize("actions", [("skip", "repeat"), ("execute", "jump")])
def test_actions_are_checked_before_the_stream_begins(tmp_path, actions):
    datasets = PathDatasets([write_run(tmp_path / "run", [KEPT])])
    with pytest.raises(ValueError, match="action"):
        make_labels(datasets, "shortest", actions=actions)


texts = st.text("-.2", min_size=4, max_size=4)
margins_of = st.dictionaries(texts, st.none() | st.floats(-30, 30, width=32), max_size=8)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(-30, 30, width=32), margins_of), min_size=1, max_size=5), st.data())
def test_every_label_is_a_distribution_over_allowed_actions(tmp_path_factory, searches, data):
    records = [
        searched(f"q{i}", {"....": base, **{k: v for k, v in m.items() if k != "...."}})
        for i, (base, m) in enumerate(searches)
    ]
    datasets = PathDatasets([write_run(tmp_path_factory.mktemp("any") / "run", records)])
    actions = data.draw(st.sampled_from([("skip", "execute", "repeat"), ("skip", "execute"), ("execute", "repeat")]))
    forbidden = [i for i, name in enumerate(("skip", "execute", "repeat")) if name not in actions]
    for policy in LABEL_POLICIES:
        found = list(make_labels(datasets, policy, unsolved="full", actions=actions))
        assert [label.question.id for label in found] == [record.question.id for record in records]
        for label in found:
            np.testing.assert_allclose(label.targets.sum(1), 1, atol=1e-6)
            assert label.targets.min() >= 0
            assert not label.targets[:, forbidden].any()
            assert not set(label.path) & set(forbidden)
