"""Files of `infer generate --out` as text: what is read, in which tokens, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from pathgen.errors import InputError
from pathgen.questions.loading import load_questions
from pathgen.questions.written import is_written, read_written

ROW = {"prompt": "Why?", "text": " So that it is.", "prompt_tokens": [5, 6], "tokens": [7, 8, 9], "chat": False}
TEMPLATE = "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}{% endfor %}<assistant>"


def write(file: Path, *rows: object) -> str:
    file.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return str(file)


def test_answers_are_whole_references_and_repeats_and_blanks_are_left_out(tmp_path):
    marked = ROW | {"text": "2 and 2 are #### 4, that is \\boxed{4}"}
    file = write(tmp_path / "w.jsonl", ROW, ROW | {"text": " \n"}, marked, ROW)
    assert is_written(file)
    written = read_written(file)
    assert [question.reference for question in written.questions] == [" So that it is.", marked["text"]]
    assert [question.prompt for question in written.questions] == ["Why?", "Why?"]
    assert written.chat is False
    assert len({question.id for question in written.questions}) == 2


def test_tokens_are_those_that_were_written(tiny_model, tmp_path):
    """Bytes that are no text do not come back from the text; the end token and the prompt's are as they were."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    ids = [249, 246, 72, tokenizer.eos_token_id]
    text = tokenizer.decode(ids, skip_special_tokens=True)
    assert tokenizer(text, add_special_tokens=False)["input_ids"] != ids[:3]
    written = read_written(write(tmp_path / "w.jsonl", ROW | {"text": text, "tokens": ids, "chat": True}))
    assert written.task.encode(written.questions[0], tokenizer, written.chat) == ([5, 6], [ids])


@pytest.mark.parametrize("chat", [False, True])
def test_of_another_tokenizer_it_is_the_texts(tiny_model, tmp_path, chat):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = TEMPLATE
    written = read_written(write(tmp_path / "w.jsonl", ROW | {"chat": chat}))
    prompt, (answer,) = written.task.encode(written.questions[0], tokenizer, written.chat)
    assert prompt == tokenizer("<user>Why?<assistant>" if chat else "Why?", add_special_tokens=not chat)["input_ids"]
    assert answer == tokenizer(" So that it is.", add_special_tokens=False)["input_ids"]


def test_they_are_no_questions(tmp_path):
    file = write(tmp_path / "w.jsonl", ROW)
    with pytest.raises(InputError, match="text for `pathgen bridge` and `pathgen static`, no questions"):
        load_questions(file, needs="choices")


@pytest.mark.parametrize("columns", [{"prompt"}, {"prompt", "text"}, {"question", "answer"}])
def test_other_files_are_no_written_answers(tmp_path, columns):
    assert not is_written(write(tmp_path / "w.jsonl", dict.fromkeys(columns, "x")))


def test_what_is_no_file_is_no_written_answers(tmp_path):
    assert not any(map(is_written, (str(tmp_path / "none.jsonl"), "builtin", "self", str(tmp_path))))


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([ROW, "{"], "line 2"),
        ([ROW, {"prompt": "Why?"}], "line 2: lacks chat, prompt_tokens, text, tokens"),
        ([ROW | {"text": 3}], "line 1: text must be a text"),
        ([ROW | {"tokens": "7 8"}], "line 1: prompt_tokens and tokens must be lists of token ids"),
        ([ROW | {"prompt_tokens": [1, -1]}], "line 1: prompt_tokens and tokens must be lists of token ids"),
        ([ROW | {"prompt": ""}], "line 1: "),
        ([ROW, ROW | {"chat": True}], "line 1 with chat False and line 2 with chat True"),
        ([ROW | {"text": ""}], "all 1 answers are blank"),
    ],
)
def test_damaged_files_are_refused_with_the_line(tmp_path, rows, told):
    with pytest.raises(InputError, match=r"w\.jsonl: ") as refused:
        read_written(write(tmp_path / "w.jsonl", *rows))
    assert told in str(refused.value)
