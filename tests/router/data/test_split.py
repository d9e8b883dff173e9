import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathgen.errors import InputError
from pathgen.questions.question import Question
from router.data.split import check_disjoint, held_out, twins_of_dev


def drawn(share, seed=0, count=4000):
    return {i for i in range(count) if held_out(f"q{i}", share, seed)}


def test_the_lots_never_change():
    assert [i for i in range(20) if held_out(f"q{i}", 0.2)] == [4, 8, 10, 11, 12]


def test_the_share_is_met_and_the_ends_are_none_and_all():
    assert len(drawn(0.2)) == pytest.approx(800, abs=4 * (4000 * 0.2 * 0.8) ** 0.5)
    assert drawn(0.0) == set()
    assert len(drawn(1.0)) == 4000


def test_a_larger_share_holds_out_all_of_a_smaller_one():
    assert drawn(0.1) < drawn(0.3)


def test_another_seed_draws_independently():
    both = len(drawn(0.3) & drawn(0.3, seed=1))
    assert both == pytest.approx(360, abs=80)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_a_share(share):
    with pytest.raises(ValueError, match="between 0 and 1"):
        held_out("q", share)


def question(question_id, prompt=""):
    return Question(question_id, prompt or f"What is {question_id}?", ("yes", "no"), 0)


def test_disjoint_questions_pass():
    check_disjoint(map(question, "abc"), map(question, "def"))


def test_shared_ids_are_refused_and_the_first_five_named():
    with pytest.raises(InputError, match=r"7 development .*\(b, c, d, e, f, …\)") as caught:
        check_disjoint(map(question, "bcdefgh"), (question(name, f"new {name}") for name in "abcdefgh"))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("prompt", ["Why  is\nit?", " WHY is it? ", "why is it?"])
def test_shared_texts_are_refused_whatever_their_case_and_spaces(prompt):
    with pytest.raises(InputError, match=r"1 development .*\(y\)"):
        check_disjoint([question("x", "Why is it?")], [question("y", prompt), question("z")])


@settings(deadline=None)
@given(st.sets(st.text(max_size=3)), st.sets(st.text(max_size=3)))
def test_ids_are_refused_exactly_where_they_meet(training, dev):
    training_questions = [Question(name, f"t{i}") for i, name in enumerate(training)]
    dev_questions = [Question(name, f"d{i}") for i, name in enumerate(dev)]
    if training & dev:
        with pytest.raises(InputError, match=f"^{len(training & dev)} "):
            check_disjoint(training_questions, dev_questions)
    else:
        check_disjoint(training_questions, dev_questions)


def test_twins_of_a_held_out_question_are_found_in_all_rows():
    """The one that counts is held out, and another folder has it under an id that is not."""
    rows = [
        (question("again", "  what is DEV? "), False),
        (question("dev"), True),
        (question("other"), True),
        (question("dev2", "What is other?"), False),
    ]
    assert twins_of_dev(iter(rows), lambda name: name.startswith("dev")) == {"again"}
