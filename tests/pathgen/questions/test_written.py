"""Files of `infer generate --out` as text: what is read, in which tokens, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from pathgen.errors import InputError
from pathgen.questions.written import WRITTEN, is_written, read_written

ROW = {"prompt": "Why?", "text": " So that it is.", "end": "</s>", "chat": False, "new_tokens": 5}
TEMPLATE = "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}{% endfor %}<assistant>"


def write(file: Path, *rows: object) -> str:
    file.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return str(file)


def test_answers_are_whole_references_and_repeats_and_blanks_are_left_out(tmp_path):
    marked = ROW | {"text": "2 and 2 are #### 4, that is \\boxed{4}"}
    file = write(tmp_path / "w.jsonl", ROW, ROW | {"text": " \n"}, marked, ROW)
    assert is_written(file)
    written = read_written(file)
    assert [question.reference for question in written.questions] == [" So that it is.</s>", marked["text"] + "</s>"]
    assert [question.prompt for question in written.questions] == ["Why?", "Why?"]
    assert written.chat is False
    assert len({question.id for question in written.questions}) == 2


@pytest.mark.parametrize("chat", [False, True])
def test_tokens_are_those_of_the_prompt_and_then_those_of_the_answer(tiny_model, tmp_path, chat):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = TEMPLATE
    (question,) = read_written(write(tmp_path / "w.jsonl", ROW | {"chat": chat})).questions
    prompt, (answer,) = WRITTEN.encode(question, tokenizer, chat)
    assert prompt == tokenizer("<user>Why?<assistant>" if chat else "Why?", add_special_tokens=not chat)["input_ids"]
    assert answer == tokenizer(" So that it is.</s>", add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("columns", [{"prompt"}, {"prompt", "text"}, {"question", "answer"}])
def test_other_files_are_no_written_answers(tmp_path, columns):
    assert not is_written(write(tmp_path / "w.jsonl", dict.fromkeys(columns, "x")))


def test_what_is_no_file_is_no_written_answers(tmp_path):
    assert not any(map(is_written, (str(tmp_path / "none.jsonl"), "builtin", "self", str(tmp_path))))


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([ROW, "{"], "line 2"),
        ([ROW, {"prompt": "Why?"}], "line 2: lacks chat, end, new_tokens, text"),
        ([ROW | {"text": 3}], "line 1: text and end must be texts"),
        ([ROW | {"prompt": ""}], "line 1: "),
        ([ROW, ROW | {"chat": True}], "line 1 with chat False and line 2 with chat True"),
        ([ROW | {"text": ""}], "all 1 answers are blank"),
    ],
)
def test_damaged_files_are_refused_with_the_line(tmp_path, rows, told):
    with pytest.raises(InputError, match=r"w\.jsonl: ") as refused:
        read_written(write(tmp_path / "w.jsonl", *rows))
    assert told in str(refused.value)
