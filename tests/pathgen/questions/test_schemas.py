"""The schemas of the sets that people use most, each read as it is; and how a source gives gold."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from pathgen.errors import InputError
from pathgen.questions.loading import load_questions

PAGE = Path(__file__).parents[3] / "docs" / "questions.md"
LIKES = ["tea", "mud"]

CHOICES = {
    "ARC": (
        {"id": "a1", "question": "Q?", "choices": {"text": LIKES, "label": ["A", "B"]}, "answerKey": "B"},
        ("Q?", ("tea", "mud"), 1),
    ),
    "ARC, CommonsenseQA, OpenBookQA: official files": (
        {
            "id": "a2",
            "question": {"stem": "Q?", "choices": [{"text": "tea", "label": "A"}, {"text": "mud", "label": "B"}]},
            "answerKey": "B",
        },
        ("Q?", ("tea", "mud"), 1),
    ),
    "OpenBookQA": (
        {"id": "o1", "question_stem": "Q?", "choices": {"text": LIKES, "label": ["A", "B"]}, "answerKey": "A"},
        ("Q?", ("tea", "mud"), 0),
    ),
    "CommonsenseQA": (
        {
            "id": "c1",
            "question": "Q?",
            "question_concept": "drink",
            "choices": {"label": ["A", "B"], "text": LIKES},
            "answerKey": "A",
        },
        ("Q?", ("tea", "mud"), 0),
    ),
    "MMLU": (
        {"question": "Q?", "subject": "food", "choices": ["tea", "mud", "ink", "oil"], "answer": 3},
        ("Q?", ("tea", "mud", "ink", "oil"), 3),
    ),
    "MMLU as a table": (
        {"question": "Q?", "A": "tea", "B": "mud", "C": "ink", "D": "oil", "answer": "C"},
        ("Q?", ("tea", "mud", "ink", "oil"), 2),
    ),
    "MMLU-Pro": (
        {"question_id": 70, "question": "Q?", "options": ["tea", "mud", "ink"], "answer": "B", "answer_index": 1},
        ("Q?", ("tea", "mud", "ink"), 1),
    ),
    "HellaSwag": (
        {"ind": 4, "ctx_a": "A cup.", "ctx_b": "he", "ctx": "A cup. he", "endings": ["sips", "sings"], "label": "0"},
        ("A cup. he", ("sips", "sings"), 0),
    ),
    "SWAG": (
        {"startphrase": "A cup. he", "ending0": "sips", "ending1": "sings", "ending2": "hops", "label": 0},
        ("A cup. he", ("sips", "sings", "hops"), 0),
    ),
    "PIQA": (
        {"goal": "Cool tea.", "sol1": "Blow on it.", "sol2": "Boil it.", "label": 0},
        ("Cool tea.", ("Blow on it.", "Boil it."), 0),
    ),
    "SocialIQA": (
        {
            "context": "Jo ran.",
            "question": "How is Jo?",
            "answerA": "sad",
            "answerB": "old",
            "answerC": "hot",
            "label": "3",
        },
        ("Jo ran.\nHow is Jo?", ("sad", "old", "hot"), 2),
    ),
    "WinoGrande": (
        {"sentence": "Jo thanked Al as _ had helped.", "option1": "Jo", "option2": "Al", "answer": "2"},
        ("Jo thanked Al as _ had helped.", ("Jo", "Al"), 1),
    ),
    "BoolQ": (
        {"question": "is tea wet", "passage": "Tea is a drink.", "answer": True},
        ("Tea is a drink.\nis tea wet", ("no", "yes"), 1),
    ),
    "SciQ": (
        {
            "question": "Q?",
            "distractor3": "ink",
            "distractor1": "mud",
            "distractor2": "oil",
            "correct_answer": "tea",
            "support": "Tea is a drink.",
        },
        ("Tea is a drink.\nQ?", {"tea", "mud", "oil", "ink"}, "tea"),
    ),
    "RACE": (
        {
            "example_id": "high1.txt",
            "article": "Jo ran.",
            "answer": "B",
            "question": "Who ran?",
            "options": ["Al", "Jo"],
        },
        ("Jo ran.\nWho ran?", ("Al", "Jo"), 1),
    ),
    "MedQA": (
        {
            "question": "Q?",
            "answer": "mud",
            "options": {"A": "tea", "B": "mud"},
            "meta_info": "step1",
            "answer_idx": "B",
        },
        ("Q?", ("tea", "mud"), 1),
    ),
    "MedMCQA": (
        {"question": "Q?", "opa": "tea", "opb": "mud", "opc": "ink", "opd": "oil", "cop": 0},
        ("Q?", ("tea", "mud", "ink", "oil"), 0),
    ),
    "AQuA": (
        {"question": "Q?", "options": ["A)21", "B)21.5", "C)22"], "rationale": "…", "correct": "C"},
        ("Q?", ("21", "21.5", "22"), 2),
    ),
    "COPA": (
        {"premise": "The cup fell.", "choice1": "It broke.", "choice2": "It sang.", "question": "effect", "label": 0},
        ("The cup fell.\nWhat happened as a result?", ("It broke.", "It sang."), 0),
    ),
    "TruthfulQA (mc1)": (
        {"question": "Q?", "mc1_targets": {"choices": ["tea", "mud", "ink"], "labels": [1, 0, 0]}},
        ("Q?", {"tea", "mud", "ink"}, "tea"),
    ),
    "TruthfulQA: official file": (
        {"question": "Q?", "mc1_targets": {"tea": 1, "mud": 0, "ink": 0}},
        ("Q?", {"tea", "mud", "ink"}, "tea"),
    ),
}
REFERENCES = {
    "GSM8K": ({"question": "3 + 4?", "answer": "3 + 4 = <<3+4=7>>7\n#### 7"}, ("3 + 4?", "7")),
    "GSM-Hard": ({"input": "3 + 4.5?", "code": "…", "target": 7.5}, ("3 + 4.5?", "7.5")),
    "MATH": (
        {"problem": "Half?", "level": "Level 1", "type": "Algebra", "solution": "It is $\\boxed{\\frac{1}{2}}$."},
        ("Half?", "\\frac{1}{2}"),
    ),
    "MATH-500": ({"problem": "Half?", "solution": "…", "answer": "\\frac{1}{2}"}, ("Half?", "\\frac{1}{2}")),
    "SVAMP": (
        {"ID": "chal-1", "Body": "Ann has 3 pens.", "Question": "How many?", "Equation": "3", "Answer": "3"},
        ("Ann has 3 pens.\nHow many?", "3"),
    ),
    "ASDiv": (
        {"body": "Ann has 7 pens.", "question": "How many?", "answer": "7 (pens)", "formula": "7=7"},
        ("Ann has 7 pens.\nHow many?", "7 (pens)"),
    ),
    "MetaMathQA": (
        {
            "type": "GSM_AnsAug",
            "query": "Ann has 3 pens and buys 4 more. How many?",
            "response": "3 + 4 = 7.\n#### 7\nThe answer is: 7",
        },
        ("Ann has 3 pens and buys 4 more. How many?", "7"),
    ),
    "DART-Math": (
        {"query": "Half of 14?", "response": "Halve it.\nThe answer is: $\\boxed{7}$"},
        ("Half of 14?", "7"),
    ),
}


@pytest.fixture
def write(tmp_path):
    def write_rows(*rows, name="q.jsonl"):
        path = tmp_path / name
        path.write_text("\n".join(json.dumps(row) for row in rows))
        return str(path)

    return write_rows


def choices(source, **options):
    return load_questions(source, needs="choices", **options)


def refusal(source, needs="choices", **options):
    with pytest.raises(InputError) as caught:
        load_questions(source, needs=needs, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", CHOICES)
def test_sets_of_choices_are_read_as_they_are(write, name):
    row, (prompt, texts, gold) = CHOICES[name]
    (question,) = choices(write(row))
    assert question.prompt == prompt
    if isinstance(texts, set):  # in an order that does not show gold
        assert set(question.choices) == texts
        assert question.choices[question.gold] == gold
    else:
        assert (question.choices, question.gold) == (texts, gold)


@pytest.mark.parametrize("name", REFERENCES)
def test_sets_of_worked_answers_are_read_as_they_are(write, name):
    row, expected = REFERENCES[name]
    (question,) = load_questions(write(row), needs="reference")
    assert (question.prompt, question.reference) == expected


@pytest.mark.parametrize("name", [*CHOICES, *REFERENCES])
def test_the_page_shows_the_row_of_each_set(name):
    row, _ = {**CHOICES, **REFERENCES}[name]
    (line,) = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| {name} |")]
    assert f"`{json.dumps(row, ensure_ascii=False)}`" in line


def test_where_gold_would_always_be_first_the_order_of_choices_does_not_show_it(write):
    rows = [{**CHOICES["TruthfulQA (mc1)"][0], "question": f"Number {number}?"} for number in range(30)]
    places = [question.gold for question in choices(write(*rows))]
    assert all(5 <= places.count(place) <= 15 for place in range(3))


# How gold is given


BLOOD = {"question": "Type?", "options": ["O", "A", "B", "AB"], "answer": "B"}


@pytest.mark.parametrize(
    ("answers", "golds", "how"),
    [
        (["B", "D"], [1, 3], "letters"),
        (["b", "d"], [1, 3], "letters"),
        (["(B)", "D."], [1, 3], "letters"),
        (["B", "AB"], [2, 3], "texts of choices"),
        (["1", "0"], [1, 0], "indices from 0"),
        (["1", "4"], [0, 3], "indices from 1"),
        ([1.0, 0.0], [1, 0], "indices from 0"),
        (["AB", "B", 0], [3, 2, 0], "indices from 0 and texts of choices"),
    ],
)
def test_the_whole_file_decides_how_gold_is_given(write, caplog, answers, golds, how):
    told = []
    rows = [{**BLOOD, "question": f"{n}?", "answer": answer} for n, answer in enumerate(answers)]
    source = write(*rows)
    assert [question.gold for question in choices(source, tell=told.append)] == golds
    assert told == [f"{source}: answers are {how}"]
    assert choices(source, limit=1)[0].gold == golds[0], "rows beyond the limit decide too"
    assert not caplog.records


def test_labels_that_are_letters_are_called_so(write):
    told = []
    choices(write(CHOICES["ARC"][0]), tell=told.append)
    assert told[0].endswith("answers are letters")


def test_a_file_that_leaves_open_how_gold_is_given_is_warned_of_and_can_be_told(write, caplog):
    source = write(BLOOD)
    assert choices(source)[0].gold == 2
    assert "--columns answers=letter" in caplog.text
    assert choices(source, columns={"answers": "letter"})[0].gold == 1
    assert "answers are one of label, text" in refusal(source, columns={"answers": "letters"})


def test_answers_that_contradict_the_others_are_refused_with_their_rows(write):
    rows = [{**BLOOD, "question": f"{n}?", "answer": answer} for n, answer in enumerate(["D", "C", "AB", "D"])]
    text = refusal(write(*rows))
    assert "1 of 4 questions cannot be used: line 3: answer 'AB' is not among the choices" in text
    assert "it would be one of texts of choices, and the other answers are letters" in text
    assert '"answer": "AB"' in text


@pytest.mark.parametrize(
    ("answer", "gold", "texts"),
    [(False, 0, ("no", "yes")), ("Yes", 1, ("no", "yes")), ("no", 0, ("no", "yes")), ("True", 1, ("false", "true"))],
)
def test_yes_and_no(write, answer, gold, texts):
    (question,) = choices(write({"question": "is it", "answer": answer}))
    assert (question.choices, question.gold) == (texts, gold)


def test_texts_of_all_choices_and_columns_of_them_can_be_named(write):
    source = write({"question": "is it", "label": 1, "left": "tea", "right": "mud"})
    assert choices(source, columns={"choices": "no|yes"})[0].choices == ("no", "yes")
    assert choices(source, columns={"choices": "left+right"})[0].choices == ("tea", "mud")
    assert "no column 'wrong'" in refusal(source, columns={"choices": "left+wrong"})


@pytest.mark.parametrize("marks", [[0, 0], [1, 1], [1], [1, 2]])
def test_marks_that_mark_no_single_choice(write, marks):
    row = {"question": "Q?", "mc1_targets": {"choices": LIKES, "labels": marks}}
    assert "are not one 1 and else 0" in refusal(write(row))


# Context, ids, files


@pytest.mark.parametrize("column", ["article", "support", "context", "body", "passage"])
def test_a_context_goes_before_the_question(write, column):
    row = {"question": "Q?", "choices": LIKES, "answer": 0, column: " Tea is a drink. "}
    assert choices(write(row))[0].prompt == "Tea is a drink.\nQ?"
    assert choices(write({**row, column: ""}))[0].prompt == "Q?"
    assert choices(write(row), columns={"context": "-"})[0].prompt == "Q?"


def test_an_unused_column_that_looks_like_context_is_warned_of(write, caplog):
    row = {"question": "Q?", "choices": LIKES, "answer": 0, "background": "Tea is a drink."}
    with caplog.at_level(logging.WARNING):
        assert choices(write(row))[0].prompt == "Q?"
    assert "--columns context=background" in caplog.text
    assert choices(write(row), columns={"context": "background"})[0].prompt == "Tea is a drink.\nQ?"


def test_ids_that_repeat_can_be_left_out(write, caplog):
    rows = [{"id": "x", "question": f"{n}?", "choices": LIKES, "answer": 0} for n in (1, 2, 1)]
    assert "has the id of line 1; --columns id=- makes ids of the contents" in refusal(write(*rows))
    found = choices(write(*rows), columns={"id": "-"})
    assert [question.prompt for question in found] == ["1?", "2?"]
    assert found[0].id == found[0].sha
    assert "1 rows repeat an earlier one" in caplog.text


def test_json_lines_under_the_name_of_json(write):
    rows = [{"question": f"{n}?", "choices": LIKES, "answer": n} for n in (0, 1)]
    assert [question.gold for question in choices(write(*rows, name="q.json"))] == [0, 1]


# Refusals


@pytest.mark.parametrize(
    ("row", "needs", "option"),
    [
        ({"item": {"ask": "Is it?"}, "choices": LIKES, "answer": 0}, "choices", "prompt=item.ask"),
        ({"question": "Q?", "picks": {"text": LIKES}, "answer": 0}, "choices", "choices=picks"),
        ({"question": "Q?", "result": {"value": "12"}}, "reference", "reference=result.value"),
    ],
)
def test_a_refusal_shows_the_row_and_an_option_that_works(write, row, needs, option):
    source = write(row)
    text = refusal(source, needs=needs)
    assert f"--columns {option};" in text
    assert json.dumps(row) in text
    name, _, column = option.partition("=")
    assert load_questions(source, needs=needs, columns={name: column})


def test_references_that_cannot_be_graded_are_counted_and_the_first_five_named(write, caplog):
    good = {"question": "0?", "answer": "7"}
    bad = [{"question": f"{n}?", "answer": "So she has three pens and buys four, that is seven."} for n in range(1, 8)]
    load_questions(write(good, *bad), needs="reference")
    assert "7 of 8 reference answers cannot be read" in caplog.text
    assert caplog.text.count("line ") == 5
