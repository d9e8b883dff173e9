import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.lab.builtin_questions.kinds import KINDS
from pathgen.questions.builtin import builtin_questions

GOLDEN = "ccb214447f85a5dea3e361e378c8778be381a8b34b4652b579fc99db1a288f0c"
"""Digest of all ids and contents: a change means that runs of earlier versions cannot be resumed on these questions."""


def _choice_questions(split):
    return builtin_questions("choices", split)


def _kind(question):
    return question.id.split("-")[1]


@pytest.mark.parametrize(("split", "size"), [("train", 330), ("test", 219)])
def test_each_question_has_two_to_five_different_choices_and_one_gold(split, size):
    questions = _choice_questions(split)
    assert len(questions) == size
    assert len({q.id for q in questions}) == size
    for question in questions:
        assert 2 <= len(question.choices) <= 5
        assert len(set(question.choices)) == len(question.choices), question
        assert 0 <= question.gold < len(question.choices)
        assert question.reference is None
        assert all(text == text.strip() and text for text in (question.prompt, *question.choices))
    assert Counter(len(q.choices) for q in questions).most_common(1)[0][0] == 4


def test_all_kinds_are_in_both_splits():
    assert len(KINDS) >= 6
    for split in ("train", "test"):
        assert {_kind(q) for q in _choice_questions(split)} == set(KINDS)


def test_no_prompt_is_asked_twice_in_all_four_sets():
    prompts = [
        q.prompt for needs in ("choices", "reference") for s in ("train", "test") for q in builtin_questions(needs, s)
    ]
    assert len(set(prompts)) == len(prompts)


@pytest.mark.parametrize("split", ["train", "test"])
def test_any_first_n_hold_each_kind_in_proportion(split):
    questions = _choice_questions(split)
    share = {kind: count / len(questions) for kind, count in Counter(map(_kind, questions)).items()}
    for n in range(1, len(questions)):
        taken = Counter(map(_kind, questions[:n]))
        assert all(abs(taken[kind] - share[kind] * n) < 1.5 for kind in KINDS), n


def test_gold_stands_at_each_place_about_equally_often():
    four = [q.gold for s in ("train", "test") for q in _choice_questions(s) if len(q.choices) == 4]
    shares = [four.count(place) / len(four) for place in range(4)]
    assert all(0.2 < share < 0.3 for share in shares), shares


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_the_same_in_every_process_and_on_every_machine(hash_seed):
    code = (
        "import hashlib\nfrom pathgen.questions.builtin import builtin_questions as b\n"
        "print(hashlib.sha256(''.join(q.id + q.sha for n in ('choices', 'reference') for s in ('train', 'test')"
        " for q in b(n, s)).encode()).hexdigest())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": hash_seed},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == GOLDEN


def test_word_problems_have_the_answer_that_their_story_tells():
    questions = [q for split in ("train", "test") for q in builtin_questions("reference", split)]
    assert [len(builtin_questions("reference", s)) for s in ("train", "test")] == [60, 40]
    for question in questions:
        numbers = [int(word.strip(".,")) for word in question.prompt.split() if word.strip(".,").isdigit()]
        answers = {
            "finds": numbers[0] + numbers[1],
            "takes out": numbers[0] - numbers[1],
            "fills": numbers[0] * numbers[1],
            "shares": numbers[0] // numbers[1],
            "lost": numbers[0] - numbers[1] + numbers[-1],
            "sister": numbers[0] + numbers[1],
        }
        (told,) = [answer for story, answer in answers.items() if f" {story} " in question.prompt]
        assert question.reference == str(told), question
        assert question.choices is None
