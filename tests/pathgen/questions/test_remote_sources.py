"""Question files at URLs, and slips in writing one."""

from __future__ import annotations

import fsspec
import pytest

from pathgen.errors import InputError
from pathgen.questions.loading import load_questions

ROW = b'{"id": "q1", "question": "Which?", "choices": ["a", "b"], "answer": "b"}\n'


@pytest.fixture
def store():
    fs = fsspec.filesystem("memory")
    fs.pipe({"/remote/q.jsonl": ROW, "/remote/bad.json": b"{}"})
    yield
    fs.rm("/remote", recursive=True)


def test_a_file_at_a_url_is_read(store):
    (question,) = load_questions("memory://remote/q.jsonl", needs="choices")
    assert (question.id, question.choices, question.gold) == ("q1", ("a", "b"), 1)


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("s3:/bucket/q.jsonl", "s3:/bucket/q.jsonl: no such file; did you mean s3://bucket/q.jsonl"),
        ("memory://remote/none.jsonl", "memory://remote/none.jsonl: no such file"),
        ("memory://remote/bad.json", "memory://remote/bad.json: must hold a list of objects, not dict"),
        ("nowhere://a/q.jsonl", "nowhere://a/q.jsonl: cannot be read: Protocol not known"),
        ("s3://bucket/folder", "s3://bucket/folder: no such questions"),
    ],
)
def test_a_url_that_cannot_be_read_is_named(store, source, wrong):
    with pytest.raises(InputError) as caught:
        load_questions(source, needs="choices")
    assert str(caught.value).startswith(wrong)
    assert "\n" not in str(caught.value)
