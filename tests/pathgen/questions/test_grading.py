"""Grading: which part of a text is the answer, and which answers are the same."""

from __future__ import annotations

from fractions import Fraction

import pytest

from pathgen.questions.grading import answers_agree, extract_answer, parse_number, same_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" 12", "12"),
        (" 7 + 9 = 16", "16"),
        (" 5-3", "3"),
        (" x = -3.", "-3"),
        ("that is \N{MINUS SIGN}4", "-4"),
        ("17 days", "17"),
        ("She pays $1,234.50.", "$1,234.50"),
        ("3/4 of it", "3/4"),
        ("half, so 50%", "50%"),
        ("1, 2, 3", "3"),
        ("1,2,3", "3"),
        ("9 x 11 = 99 #### 98\nso 97", "98"),
        ("#### 1\n#### 2 clips\n3", "2 clips"),
        ("####", ""),
        ("#### \\boxed{5}", "5"),
        ("thus \\boxed{12}, not 13", "12"),
        ("\\boxed{1} then \\boxed{\\frac{1}{\\sqrt{2}}}", "\\frac{1}{\\sqrt{2}}"),
        ("\\boxed{5", "5"),
        (" Paris. ", "Paris."),
        ("", ""),
    ],
)
def test_the_answer_in_a_text(text: str, answer: str) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("15.0", Fraction(15)),
        ("-7", Fraction(-7)),
        ("+7", Fraction(7)),
        (".5", Fraction(1, 2)),
        ("1,234,567.5", Fraction(2469135, 2)),
        ("$3", Fraction(3)),
        ("-$3", Fraction(-3)),
        ("50%", Fraction(50)),
        ("\\$5", Fraction(5)),
        ("3/4", Fraction(3, 4)),
        ("-1/2", Fraction(-1, 2)),
        ("\\frac{3}{4}", Fraction(3, 4)),
        ("\\dfrac{3}{4}", Fraction(3, 4)),
        ("1{,}234", Fraction(1234)),
        ("12.", Fraction(12)),
        ("1e-05", Fraction(1, 100_000)),
        ("1/0", None),
        ("1,2", None),
        ("10:30", None),
        ("3 1/2", None),
        ("1e999999999", None),
        ("9" * 5000, None),
        ("inf", None),
        ("nan", None),
        ("", None),
    ],
)
def test_numbers(text: str, number: Fraction | None) -> None:
    assert parse_number(text) == number


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        (" 15\n", "15.0"),
        (" 6 + 9 = 15", "15"),
        ("$1,234", "1234"),
        ("#### 72 clips in all", "72"),
        ("#### 1,000 dollars\nHope this helps 5", "1000"),
        ("\\boxed{\\frac{1}{2}}", "0.5"),
        ("$\\boxed{1{,}234}$ marbles", "1,234"),
        ("\\boxed{\\text{12 days}}", "12"),
        ("2/3", "0.6666666666666666"),
        ("-4", "\N{MINUS SIGN}4"),
        ("17", "17 days"),
        ("17 days.", "17 days"),
        ("50", "50%"),
        ("12", "worked out #### 12"),
        (" paris. ", "Paris"),
        ("New  York", "new york"),
        ("10:30", "10:30"),
        ("\\boxed{x + 1}", "x + 1"),
    ],
)
def test_the_same_answer(answer: str, reference: str) -> None:
    assert answers_agree(answer, reference)


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("15 - 9", "15"),
        ("4", "-4"),
        ("5-3", "-3"),
        ("", "15"),
        ("none", "15"),
        ("1/0", "0"),
        ("27004", "27005"),
        ("0.67", "0.6666666666666666"),
        ("#### 3\n4", "4"),
        ("####", "4"),
        ("5:30", "10:30"),
        ("30", "10:30"),
        ("2", "2x"),
        ("2", "3 1/2"),
        ("", "Paris"),
        ("12 days in Paris", "Paris"),
    ],
)
def test_another_answer(answer: str, reference: str) -> None:
    assert not answers_agree(answer, reference)


@pytest.mark.parametrize(
    ("first", "second", "reference", "same"),
    [
        ("So 3 and 4 are 7.", "#### 7.0", "12", True),
        ("It is 7", "It is 8", "7", False),
        ("no idea", "No  idea.", "7", True),
        ("no idea", "7", "7", False),
        ("Paris in 1990", "Lyon in 1990", "Rome", False),
        ("#### Paris", "so: \\boxed{paris}", "Rome", True),
    ],
)
def test_two_answers_are_compared_by_the_kind_of_the_reference(first, second, reference, same):
    assert same_answer(first, second, reference) == same_answer(second, first, reference) == same
