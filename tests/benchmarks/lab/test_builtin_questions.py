import pytest

from benchmarks.lab.builtin_questions import facts
from benchmarks.lab.builtin_questions.kinds import KINDS, builtin_text
from pathgen.questions.builtin import BUILTIN_FILE


def test_the_data_file_is_what_the_tables_give():
    assert BUILTIN_FILE.read_text(encoding="utf-8") == builtin_text()


def test_sequences_continue_by_their_step():
    for item in KINDS["sequence"]():
        a, b, *_, last = (int(part) for part in item.prompt.removesuffix("?").split(": ")[1].split(", "))
        assert int(item.right) == last + (b - a)


def test_no_thing_belongs_to_two_kinds():
    things = [thing for members in facts.KINDS_OF_THINGS.values() for thing in members]
    assert len(set(things)) == len(things)


@pytest.mark.parametrize("table", [facts.USES, facts.JOBS, facts.OPPOSITES, facts.CAPITALS, *facts.ANALOGIES])
def test_tables_give_each_key_an_answer_of_its_own(table):
    assert len(set(table.values())) == len(table)
    assert all(table)
    assert all(table.values())


def test_no_opposite_can_stand_for_another():
    # A word that is a key and an answer would be asked about in one question and offered in others.
    assert not set(facts.OPPOSITES) & set(facts.OPPOSITES.values())
