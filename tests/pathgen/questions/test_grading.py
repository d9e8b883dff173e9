"""Grading: which part of a text is the answer, and which answers are the same."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest

from pathgen.questions.grading import answers_agree, extract_answer, is_gradable, parse_number, same_answer
from pathgen.questions.mathematics.answer_text import find_answer
from pathgen.questions.mathematics.values import read_value


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
        ("So 3 + 4 = 7.\n#### 7\nThe answer is: 7", "7"),
        ("\\boxed 5", "5"),
        ("\\fbox{5}", "5"),
        ("The answer is 7. I checked 8 ways.", "7"),
        ("**Final answer:** 7", "7"),
        ("The final answer is $\\frac{1}{2}$. I hope it is correct.", "$\\frac{1}{2}$"),
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
        ("The answer is 7 because 3 + 4 = 7, not 8.", "7"),
        ("The answer is clear: 3 + 4 = 7", "7"),
        ("#### 3 + 4 = 7 pens", "7"),
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


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("\\boxed{1}\nThe answer is 2. #### 3", "####"),
        ("The answer is \\boxed{1}.", "boxed"),
        ("The answer is 7", "answer is"),
        ("3 and 4 make 7", "last number"),
        ("seven", "whole text"),
    ],
)
def test_the_rule_that_finds_an_answer_has_a_name(text, rule):
    assert find_answer(text).rule == rule


EQUAL = [
    ("7 (pens)", "7"),
    ("$7", "7"),
    ("7%", "7"),
    ("7 dollars", "7"),
    ("1,\\!000", "1000"),
    ("1,\\!000", "1,000"),
    ("\\dfrac{1}{2}", "1/2"),
    ("\\frac12", "0.5"),
    ("90^\\circ", "90"),
    ("90^{\\circ}", "90°"),
    ("6-5i", "6 - 5i"),
    ("6 - 5i", "-5i+6"),
    ("\\text{5 cm}^2", "5"),
    ("10 cm^2", "10"),
    ("3 1/2", "3\\frac{1}{2}"),
    ("3\\frac12", "3.5"),
    ("\\{1,2\\}", "2, 1"),
    ("(1,2)", "1,2"),
    ("\\left( \\frac{1}{2}, 3 \\right)", "(0.5,3)"),
    ("x\\in[1,2)", "[1, 2)"),
    ("(-\\infty,3]\\cup[5,7)", "[5,7) \\cup (-\\infty,3]"),
    ("2\\pm\\sqrt3", "2-\\sqrt{3}, 2+\\sqrt{3}"),
    ("x=5", "5"),
    ("y = 2x+3", "3+2x=y"),
    ("x^2+y^2=1", "1 = y^2 + x^2"),
    ("(x+1)^2", "x^2+2x+1"),
    ("\\frac{1}{\\sqrt2}", "\\frac{\\sqrt{2}}{2}"),
    ("\\sqrt[3]{27}", "3"),
    ("\\log_2 8", "3"),
    ("\\frac{\\pi}{3}", "\\pi/3"),
    ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix}1\\\\2\\end{pmatrix}"),
    ("2^{10}", "1024"),
    ("x \\le 3", "x\\leq 3"),
    ("\\text{even}", "Even"),
    ("\\text{(B)}", "B"),
]
"""Of these math-verify 0.8 says the same, but for `\\text{5 cm}^2`, where it sees a square."""
DIFFERENT = [
    ("(1,2)", "(2,1)"),
    ("[1,2)", "[1,2]"),
    ("0.333", "\\frac13"),
    ("1000000000001", "1000000000002"),
    ("\\frac{\\sqrt3}{2}", "2"),
    ("x^2+1", "x^2-1"),
    ("no", "on"),
    ("\\{1,2\\}", "\\{1,2,2\\}"),
    ("2x", "2"),
    ("6+5i", "6-5i"),
]


@pytest.mark.parametrize(("first", "second"), EQUAL)
def test_mathematics_is_compared_by_value(first, second):
    assert answers_agree(f"so \\boxed{{{first}}}", second)
    assert answers_agree(f"The answer is ${second}$.", first)
    assert same_answer(f"#### {first}", f"#### {second}", "x")
    assert answers_agree(first, first)


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_other_mathematics(first, second):
    assert not answers_agree(f"\\boxed{{{first}}}", second)
    assert not answers_agree(f"\\boxed{{{second}}}", first)


@pytest.mark.parametrize(
    "text",
    [
        "9^{9^{9^9}}",
        "9^{9^9}",
        "(" * 200 + "1" + ")" * 200,
        "1" * 100_000,
        "2^" * 100 + "2",
        "((((9^99)^99)^99)^99)^99",
        "__import__('os').system('true')",
        "\\frac{1}{0}",
        "(-1)^{10^{30}}",
        "1e99^1e99",
    ],
)
def test_hostile_text_is_no_value_and_takes_no_time(text):
    started = time.perf_counter()
    assert read_value(text) is None
    assert answers_agree(text, text)
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    ("reference", "gradable"),
    [
        ("7", True),
        ("Paris", True),
        ("x \\in [1, 2]", True),
        ("7\nThe answer is: 7", True),
        ("So she has 3 pens and buys 4 more, which makes seven.", False),
        ("\\begin{cases} 1 \\end{cases}", False),
        ("one\ntwo", False),
    ],
)
def test_references_that_no_answer_can_be_compared_with(reference, gradable):
    assert is_gradable(reference) is gradable
