import json
import logging

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from pathgen.errors import InputError
from pathgen.questions.loading import load_questions, parse_columns
from pathgen.questions.question import Question

ARC = {
    "id": "q1",
    "question": "Which floats?",
    "choices": {"text": ["cork", "lead", "iron"], "label": ["A", "B", "C"]},
    "answerKey": "A",
}
GSM = {"id": "g1", "question": "1 + 1?", "answer": "One and one.\n#### 2"}


@pytest.fixture
def write(tmp_path):
    """Writes rows as JSONL (a str or bytes row goes in as it is) and gives the path."""

    def write_rows(*rows):
        raw = [r if isinstance(r, bytes) else (r if isinstance(r, str) else json.dumps(r)).encode() for r in rows]
        path = tmp_path / "questions.jsonl"
        path.write_bytes(b"\n".join(raw))
        return str(path)

    return write_rows


def choices(source, **options):
    return load_questions(source, needs="choices", **options)


def references(source, **options):
    return load_questions(source, needs="reference", **options)


def refusal(source, needs="choices", **options):
    """The text of the refusal, which is one line and exit code 2."""
    with pytest.raises(InputError) as caught:
        load_questions(source, needs=needs, **options)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Schemas


def test_the_arc_schema(write):
    assert choices(write(ARC)) == [Question("q1", "Which floats?", ("cork", "lead", "iron"), 0)]


@pytest.mark.parametrize(
    ("labels", "answer", "gold"),
    [
        (["A", "B", "C"], "C", 2),
        (["1", "2", "3"], "1", 0),
        (["1", "2", "3"], 3, 2),
        ([1, 2, 3], "2", 1),
        (["2", "3", "1"], "1", 2),
        (["C", "B", "A"], "A", 2),
        (["A", "B", "C"], " B ", 1),
        (["A", "B", "C"], "iron", 2),
    ],
)
def test_answers_are_matched_to_the_labels_given_not_to_positions(write, labels, answer, gold):
    row = {**ARC, "choices": {"text": ["cork", "lead", "iron"], "label": labels}, "answerKey": answer}
    assert choices(write(row))[0].gold == gold


@pytest.mark.parametrize(
    ("texts", "answer", "gold"),
    [
        (["cork", "lead", "iron"], 0, 0),
        (["cork", "lead", "iron"], "2", 2),
        (["cork", "lead", "iron"], "B", 1),
        (["cork", "lead", "iron"], "iron", 2),
        (["B", "A", "C"], "A", 1),
        (["3", "1", "2"], "1", 1),
        (["3", "1", "2"], 1, 1),
        (["2", "0", "1"], 0, 0),
    ],
)
def test_plain_lists_take_an_index_a_letter_or_the_text(write, texts, answer, gold):
    row = {"id": "q", "question": "?", "choices": texts, "answer": answer}
    assert choices(write(row))[0].gold == gold


def test_openbookqa_and_our_own_field_names(write):
    stem = {"id": "q", "question_stem": "Up?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"}
    assert choices(write(stem))[0] == Question("q", "Up?", ("a", "b"), 1)
    own = {"id": "q", "prompt": "Up?", "choices": ["a", "b"], "gold": 1}
    assert choices(write(own))[0] == Question("q", "Up?", ("a", "b"), 1)


@pytest.mark.parametrize("count", [2, 26])
def test_two_to_twenty_six_choices(write, count):
    texts = [f"choice {n}" for n in range(count)]
    row = {"id": "q", "question": "?", "choices": texts, "answer": "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[count - 1]}
    assert choices(write(row))[0].gold == count - 1


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("One.\n#### 2", "2"),
        ("#### 1\n#### 1,000 ", "1,000"),
        ("3/4", "3/4"),
        (" 9.8 ", "9.8"),
        (12, "12"),
        (15.0, "15"),
        (9.5, "9.5"),
        (-3, "-3"),
    ],
)
def test_reference_answers(write, answer, reference):
    assert references(write({**GSM, "answer": answer})) == [Question("g1", "1 + 1?", reference=reference)]


def test_whole_number_ids_become_text_and_are_compared_as_text(write):
    assert [q.id for q in choices(write({**ARC, "id": 7}, {**ARC, "id": "07"}))] == ["7", "07"]
    assert "line 2 (id '7'): has the id of line 1" in refusal(write({**ARC, "id": 7}, {**ARC, "id": "7"}))


def test_ids_made_from_content_outlive_a_reordering(write):
    first, second = ({"question": text, "choices": ["a", "b"], "answer": 0} for text in ("One?", "Two?"))
    forward = {q.prompt: q.id for q in choices(write(first, second))}
    assert forward == {q.prompt: q.id for q in choices(write(second, first))}
    assert len(set(forward.values())) == 2
    assert "line 3: repeats line 1" in refusal(write(first, second, first))


# Columns


def test_columns_map_fields_to_the_names_of_the_source(write):
    row = {"qid": 5, "stem": "Up?", "options": ["a", "b"], "label": "B", "question": "no", "answer": "A"}
    mapping = parse_columns("id=qid, prompt=stem,choices=options,gold=label")
    assert choices(write(row), columns=mapping) == [Question("5", "Up?", ("a", "b"), 1)]
    row = {"id": "q", "question": "1?", "answer": "no", "final": 1}
    assert references(write(row), columns={"reference": "final"})[0].reference == "1"


def test_unknown_fields_and_absent_columns_are_answered_with_what_there_is(write):
    text = refusal(write(ARC), columns={"question": "question"})
    assert "'question'" in text
    assert "id, prompt, choices, gold, reference" in text
    text = refusal(write(ARC), columns={"gold": "key"})
    assert "'key'" in text
    assert "id, question, choices, answerKey" in text
    assert "--columns reference=COLUMN" in refusal(write(ARC), needs="reference")
    assert "has no columns" in refusal("builtin", columns={"id": "id"})


@pytest.mark.parametrize("text", ["", "id", "id=", "=qid", "id=a,,", "id=a,id=b"])
def test_a_column_mapping_that_cannot_be_read(text):
    with pytest.raises(InputError, match="columns: "):
        parse_columns(text)


# What is wrong with a row


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"question": None}, "question is missing"),
        ({"question": " "}, "question is empty"),
        ({"question": 5}, "question is int, not text"),
        ({"question": "a\0b"}, "question has a NUL character"),
        ({"question": "a\ud800b"}, "question has half of a surrogate pair"),
        ({"id": None}, "id is missing"),
        ({"id": ""}, "id is empty"),
        ({"id": True}, "id is bool, not text"),
        ({"id": 1.5}, "id is float, not text"),
        ({"choices": None}, "choices are missing"),
        ({"choices": "abc"}, "choices are neither"),
        ({"choices": {"label": ["A"]}}, "choices are neither"),
        ({"choices": ["one"]}, "has 1 choices; 2 to 26 are needed"),
        ({"choices": [str(n) for n in range(27)]}, "has 27 choices"),
        ({"choices": ["a", None]}, "choice 2 is missing"),
        ({"choices": ["a", ""]}, "choice 2 is empty"),
        ({"choices": ["a", 2]}, "choice 2 is int, not text"),
        ({"choices": ["a", "b\0"]}, "choice 2 has a NUL character"),
        ({"choices": ["a", "a", "a"]}, "its choices are all the same"),
        ({"choices": {"text": ["a", "b"], "label": ["A"]}}, "do not name 2 choices"),
        ({"choices": {"text": ["a", "b"], "label": ["A", "A"]}}, "do not name 2 choices"),
        ({"answerKey": None}, "answer is missing"),
        ({"answerKey": "D"}, "answer 'D' is not among the choices"),
        ({"answerKey": 0}, "answer '0' is not among the choices"),
        ({"answerKey": True}, "answer is bool, not text"),
        ({"choices": ["a", "b"], "answerKey": 2}, "answer '2' is not among the choices"),
        ({"choices": ["a", "b"], "answerKey": -1}, "answer '-1' is not among the choices"),
        ({"choices": ["a", "b"], "answerKey": "AB"}, "answer 'AB' is not among the choices"),
        ({"choices": ["3", "4"], "answerKey": 3}, "answer '3' is not among the choices"),
    ],
)
def test_a_bad_row_is_named_with_its_line_and_id(write, change, problem):
    row = {**ARC, "id": "bad", **change}
    text = refusal(write({**ARC, "id": "good"}, row))
    assert "1 of 2 questions cannot be used: line 2" in text
    assert problem in text
    if row["id"] == "bad":
        assert "line 2 (id 'bad'): " in text


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (None, "reference answer is missing"),
        ("", "reference answer is empty"),
        ("Working.\n#### ", "reference answer is empty"),
        (False, "reference answer is bool, not text"),
        (["2"], "reference answer is list, not text"),
        (float("nan"), "reference answer is nan"),
    ],
)
def test_a_bad_reference_is_named(write, answer, problem):
    assert f"line 1 (id 'g1'): {problem}" in refusal(write({**GSM, "answer": answer}), needs="reference")


def test_all_problems_are_collected_and_the_first_five_shown_in_file_order(write):
    good = {**ARC, "id": "good"}
    bad = [{**ARC, "id": f"b{n}", "question": ""} for n in range(6)]
    text = refusal(write(good, *bad[:2], "{oops", *bad[2:], {**good}))
    assert "8 of 9 questions cannot be used" in text
    places = [text.index(f"line {n}") for n in (2, 3, 4, 5, 6)]
    assert places == sorted(places)
    assert "line 7" not in text
    assert text.endswith("and 3 more")


def test_equal_choices_are_a_warning_and_the_first_of_them_is_gold(write, caplog):
    row = {**ARC, "choices": {"text": ["a", "b", "b"], "label": ["A", "B", "C"]}, "answerKey": "C"}
    with caplog.at_level(logging.WARNING, logger="pathgen.questions.loading"):
        questions = choices(write({**ARC, "id": "fine"}, row))
    assert [question.gold for question in questions] == [0, 1]
    (record,) = caplog.records
    assert "1 of 2 questions have equal choices (first: line 2)" in record.getMessage()


# Files


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"id": 1,', "line 3: not JSON: "),
        ("[1, 2]", "line 3: not a JSON object but list"),
        (b'{"id": "\xff"}', "line 3: not UTF-8: byte 0xff at offset 8"),
        ("[" * 100_000, "line 3: not JSON: nested too deeply"),
    ],
)
def test_a_malformed_line_is_named_with_its_number_in_the_file(write, line, problem):
    source = write(ARC, "", line)
    text = refusal(source)
    assert text.startswith(source)
    assert problem in text


def test_a_file_of_malformed_lines_only(write):
    assert "2 of 2 questions cannot be used: line 1: not JSON" in refusal(write("{", "{"))


def test_line_separators_inside_a_text_do_not_end_a_line(write):
    row = json.dumps({**ARC, "question": "a\u2028b\x85c"}, ensure_ascii=False)
    assert choices(write("\ufeff" + row + "\r"))[0].prompt == "a\u2028b\x85c"


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_has_no_questions(write, content):
    assert "no questions in it" in refusal(write(content))


def test_limit_takes_the_first_rows_and_checks_only_them(write):
    source = write(ARC, {**ARC, "id": "q2"}, "{broken", {**ARC})
    assert [q.id for q in choices(source, limit=2)] == ["q1", "q2"]
    assert "line 3" in refusal(source, limit=3)
    assert len(choices(write(ARC), limit=10)) == 1
    assert "at least 1" in refusal(source, limit=0)


def test_json_holds_a_list_of_objects(tmp_path):
    path = tmp_path / "q.json"
    path.write_text(json.dumps([ARC, {**ARC, "id": "q2"}], indent=1))
    assert [q.id for q in choices(str(path))] == ["q1", "q2"]
    path.write_text(json.dumps([ARC, 5]))
    assert "row 2: not a JSON object but int" in refusal(str(path))
    path.write_text(json.dumps(ARC))
    assert "must hold a list of objects, not dict" in refusal(str(path))
    path.write_text('[\n{"id": }]')
    assert "not JSON: Expecting value at line 2 column 8" in refusal(str(path))
    path.write_text("[]")
    assert "no questions in it" in refusal(str(path))


def test_parquet(tmp_path):
    path = tmp_path / "q.parquet"
    rows = [ARC, {**ARC, "id": "q2", "answerKey": "B"}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert [(q.id, q.gold) for q in choices(str(path))] == [("q1", 0), ("q2", 1)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{**ARC, "question": b"bytes"}]), path)
    assert "row 1 (id 'q1'): question is bytes, not text" in refusal(str(path))
    path.write_bytes(path.read_bytes()[:100])
    assert "not readable as Parquet" in refusal(str(path))


def test_sources_that_are_not_there(tmp_path):
    assert "no such file" in refusal(str(tmp_path / "none.jsonl"))
    assert ".jsonl, .json, .parquet" in refusal(str(tmp_path))
    (tmp_path / "q.csv").write_text("id,question\n")
    assert ".jsonl, .json, .parquet" in refusal(str(tmp_path / "q.csv"))
    (tmp_path / "dir.json").mkdir()
    assert "dir.json" in refusal(str(tmp_path / "dir.json"))
    assert "no such questions" in refusal("nonsense")


@pytest.mark.parametrize("source", ["What is it?\n" * 100_000, "/" + "a" * 5000 + ".jsonl", "a/b" + "c" * 300])
def test_a_name_too_long_for_a_file_is_no_source(monkeypatch, source):
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: 1 / 0)
    text = refusal(source)
    assert "\n" not in text
    assert len(text) < 500


# The hub, with its client replaced: what is asked of it and what is made of its answers


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("allenai/ai2_arc:ARC-Easy:validation", ("allenai/ai2_arc", "ARC-Easy", "validation")),
        ("allenai/ai2_arc:ARC-Easy", ("allenai/ai2_arc", "ARC-Easy", "train")),
        ("some-one/some.set", ("some-one/some.set", None, "train")),
        ("some-one/some.set:test", ("some-one/some.set", None, "test")),
        ("some-one/some.set::dev", ("some-one/some.set", None, "dev")),
        ("some-one/some.set:test:dev", ("some-one/some.set", "test", "dev")),
    ],
)
def test_hub_names(monkeypatch, source, asked):
    calls = []

    def load_dataset(name, config, split):
        calls.append((name, config, split))
        return datasets.Dataset.from_list([ARC, {**ARC, "id": "q2"}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert [q.id for q in choices(source, limit=1)] == ["q1"]
    assert calls == [asked]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionError("Couldn't reach"), "cannot be reached"),
        (datasets.exceptions.DatasetNotFoundError("Dataset 'a/b' doesn't exist"), "Dataset 'a/b' doesn't exist"),
        (ValueError("Unknown split\n'x'"), "Unknown split 'x'"),
        (RuntimeError("Dataset scripts are no longer supported"), "Dataset scripts are no longer supported"),
        (NotImplementedError("no such layout"), "no such layout"),
    ],
)
def test_hub_failures(monkeypatch, error, text):
    def load_dataset(*_, **__):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert text in refusal("a/b:c:x")


def test_a_hub_dataset_that_breaks_while_it_is_read(monkeypatch):
    class Broken:
        features = datasets.Features({"question": datasets.Value("string")})

        def select_columns(self, names):
            return self

        def __iter__(self):
            yield ARC
            raise ImportError("To support decoding\nimages, please install 'Pillow'.")

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: Broken())
    assert refusal("a/b").startswith("a/b: To support decoding images")


def test_pictures_of_a_hub_dataset_are_not_decoded(monkeypatch):
    rows = datasets.Dataset.from_list([{**ARC, "image": {"bytes": b"none", "path": None}}])
    rows = rows.cast_column("image", datasets.Image())
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows)
    assert [q.id for q in choices("a/b")] == ["q1"]


# The embedded sets


def test_builtin_sources():
    assert choices("builtin") == choices("builtin:train")
    assert choices("builtin", limit=5) == choices("builtin")[:5]
    assert not {q.id for q in choices("builtin:train")} & {q.id for q in choices("builtin:test")}
    assert all(q.reference for q in references("builtin-math:test"))
    assert references("builtin-math") == references("builtin-math:train")


def test_builtin_refusals():
    assert "builtin:train and builtin:test" in refusal("builtin:dev")
    assert "builtin-math has them" in refusal("builtin", needs="reference")
    assert "builtin has them" in refusal("builtin-math:test")


def test_the_digest_of_a_question_covers_all_but_its_id():
    base = Question("a", "p", ("x", "y"), 0)
    assert base.sha == Question("b", "p", ("x", "y"), 0).sha
    others = [Question("a", "q", ("x", "y"), 0), Question("a", "p", ("y", "x"), 0), Question("a", "p", ("x", "y"), 1)]
    assert len({base.sha, *(other.sha for other in others)}) == 4


def test_gold_may_be_missing_where_no_labels_are_needed(write):
    bare = {name: value for name, value in ARC.items() if name != "answerKey"}
    source = write(ARC, {**bare, "id": "q2"}, {**ARC, "id": "q3", "answerKey": None})
    assert [question.gold for question in choices(source, labelled=False)] == [0, None, None]
    assert [question.gold for question in choices(write(bare), labelled=False)] == [None]
    with pytest.raises(InputError, match="no column for gold"):
        choices(write(bare))
    with pytest.raises(InputError, match="'D' is"):
        choices(write({**ARC, "answerKey": "D"}), labelled=False)
