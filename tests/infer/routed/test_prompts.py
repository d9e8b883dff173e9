"""Prompts from arguments, files and standard input, and every refusal of one."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import pytest
from transformers import AutoTokenizer

from infer.routed.prompts import (
    answers_chats,
    blank_hint,
    check_context,
    check_prompts,
    encode_prompts,
    end_tokens,
    read_prompts,
)
from pathgen.errors import InputError


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


def refusal(given=(), file=None) -> str:
    with pytest.raises(InputError) as caught:
        read_prompts(given, file)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_arguments_are_prompts_as_they_are():
    assert read_prompts(["one", " two\nlines "], None) == ["one", " two\nlines "]


def test_a_text_file_holds_one_prompt_a_line(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_bytes(b"\xef\xbb\xbffirst\r\nse\x0bcond \xe2\x80\xa8 still\nd\xc3\xa9j\xc3\xa0 vu")
    assert read_prompts([], str(file)) == ["first", "se\x0bcond \u2028 still", "déjà vu"]


@pytest.mark.parametrize("name", ["p.txt", "-"])
def test_blank_lines_are_skipped(tmp_path, monkeypatch, name):
    content = b"\nfirst\n\n \t\r\n second \n\n"
    (tmp_path / name).write_bytes(content)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    assert read_prompts([], name if name == "-" else str(tmp_path / name)) == ["first", " second "]


def test_a_jsonl_file_holds_objects_with_a_prompt(tmp_path):
    file = tmp_path / "prompts.jsonl"
    rows = [{"prompt": "two\nlines", "id": 1}, {"prompt": "é"}]
    file.write_text("\n\n".join(json.dumps(row) for row in rows))
    assert read_prompts([], str(file)) == ["two\nlines", "é"]


@pytest.mark.parametrize("rows", [["one", "two\nlines"], [{"prompt": "one", "id": 7}, {"prompt": "two\nlines"}]])
def test_a_json_file_holds_a_list_of_texts_or_of_objects(tmp_path, rows):
    file = tmp_path / "list.json"
    file.write_text(json.dumps(rows, indent=1))
    assert read_prompts([], str(file)) == ["one", "two\nlines"]


def test_a_dash_is_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"one\ntwo\n")))
    assert read_prompts([], "-") == ["one", "two"]


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ([], "no prompts: give them as arguments, or --file F"),
        (["a", " \n"], "1 of 2 prompts cannot be used: prompt 2: prompt is empty"),
        (["\udcff"], "prompt 1: prompt has half of a surrogate pair"),  # bytes of an argument that are no UTF-8
        (["a\0b"], "prompt 1: prompt has a NUL character"),
    ],
)
def test_arguments_that_cannot_be_used(given, wrong):
    assert wrong in refusal(given)


@pytest.mark.parametrize(
    ("name", "content", "wrong"),
    [
        ("p.txt", b"", "no prompts in it"),
        ("p.jsonl", b"\n", "no prompts in it"),
        ("p.json", b"[]", "no prompts in it"),
        ("p.json", b'{"prompt": "a"}', 'must hold a list of texts or of {"prompt": …}, not dict'),
        ("p.json", b'["a", 7, null]', '2 of 3 prompts cannot be used: row 2: 7 is neither a text nor {"prompt": …}'),
        ("p.json", b'["a", {"text": "b"}, " "]', "row 2: prompt is missing; row 3: prompt is empty"),
        ("p.json", b'{"prompt": "a"}\n{"prompt": "b"}\n', "JSON on each line is a .jsonl"),
        ("p.txt", b"\n \t\r\n", "no prompts in it"),
        ("p.txt", b"a\n\nb\0\n", "1 of 2 prompts cannot be used: line 3: prompt has a NUL character"),
        ("p.txt", b"a\nb\xff\n", "line 2: not UTF-8: byte 0xff at offset 1"),
        ("p.jsonl", b'{"prompt": "a"}\n{"text": "b"}\n', "1 of 2 prompts cannot be used: line 2: prompt is missing"),
        ("p.jsonl", b'{"prompt": 7}\n', "line 1: prompt is int, not text"),
        ("p.jsonl", b'{"prompt": ""}\n', "line 1: prompt is empty"),
        ("p.jsonl", b'{"prompt": "a"\n', "line 1: not JSON"),
        ("p.jsonl", b'["a"]\n', "line 1: not a JSON object but list"),
        ("p.jsonl", b'{"prompt": "\xff"}\n', "line 1: not UTF-8: byte 0xff"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, content, wrong):
    file = tmp_path / name
    file.write_bytes(content)
    told = refusal(file=str(file))
    assert told.startswith(f"{file}: ")
    assert wrong in told


def test_the_first_five_of_many_are_named(tmp_path):
    file = tmp_path / "p.txt"
    file.write_text("\0\n" * 7)
    told = refusal(file=str(file))
    assert "7 of 7" in told
    assert "line 5: prompt has a NUL character; and 2 more" in told
    assert "line 6" not in told


@pytest.mark.parametrize("name", ["gone.txt", "gone.jsonl"])
def test_a_file_that_is_not_there(tmp_path, name):
    assert refusal(file=str(tmp_path / name)) == f"{tmp_path / name}: no such file"


def test_a_folder_is_no_file(tmp_path):
    assert "cannot be read" in refusal(file=str(tmp_path))


def test_arguments_and_a_file_are_not_mixed(tmp_path):
    assert "not both" in refusal(["a"], str(tmp_path / "p.txt"))


def test_tokens_are_the_tokenizers_own(tokenizer):
    assert encode_prompts(tokenizer, ["ab", "c"], chat=False) == [
        tokenizer("ab")["input_ids"],
        tokenizer("c")["input_ids"],
    ]


def test_a_chat_opens_the_assistants_turn_and_adds_no_special_tokens(tiny_model):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[bot]{% endif %}"
    )
    (ids,) = encode_prompts(tokenizer, ["hi"], chat=True)
    assert tokenizer.decode(ids) == "[user]hi[bot]"


TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }};\n{% endfor %}"


@pytest.mark.parametrize(
    ("template", "end", "chats"),
    [
        (TURNS, ";", True),
        (TURNS, ".", False),  # a base model with a template: a generation ends elsewhere
        (TURNS.replace(";", ""), ";", False),  # turns that do not end
        ("{{ raise_exception('no') }}", ";", False),
        (None, ";", False),
    ],
)
def test_a_model_is_made_for_chats_if_its_turns_end_where_its_generations_end(tiny_model, template, end, chats):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = template
    assert answers_chats(tokenizer, tokenizer(end, add_special_tokens=False)["input_ids"]) == chats


def test_the_end_of_a_generation_is_told_by_its_own_file_before_the_models_config(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama", "eos_token_id": 5}')
    assert end_tokens(tmp_path) == {5}
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [7, 8]}')
    assert end_tokens(tmp_path) == {7, 8}


def test_blank_answers_come_with_a_hint_of_what_may_help(tiny_model):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    assert blank_hint(["a", "b"], tokenizer, chat=False) is None
    assert blank_hint(["a", " \n"], tokenizer, chat=False).startswith("1 of 2 answers are blank")
    assert blank_hint([""], tokenizer, chat=True).endswith("try --no-chat, or another prompt")
    tokenizer.chat_template = TURNS
    assert blank_hint([""], tokenizer, chat=False).endswith("try --chat")


def test_a_chat_needs_a_template(tokenizer):
    with pytest.raises(InputError, match="use --no-chat"):
        encode_prompts(tokenizer, ["hi"], chat=True)


def test_text_without_tokens_is_refused(tokenizer):
    with pytest.raises(InputError, match=r"prompt 2: text is empty"):
        encode_prompts(tokenizer, ["a", ""], chat=False)
    with pytest.raises(InputError, match=r"prompt 1: 'a' has no tokens"):
        encode_prompts(lambda text: {"input_ids": []}, ["a"], chat=False)


def test_what_just_fits_the_context_is_taken_and_no_more():
    check_context([[1] * 4, [1] * 6], 2, 8)
    with pytest.raises(InputError, match=r"1 of 2 prompts .* prompt 2: 7 tokens and 2 new ones, .* context is 8"):
        check_context([[1] * 4, [1] * 7], 2, 8)


def test_prompts_are_checked_by_tokenizer_and_config_alone(tiny_model, tmp_path):
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny_model / name).read_bytes())
    check_prompts(tmp_path, ["a" * 500], 12, chat=False)  # its context is 512, a token is a byte
    with pytest.raises(InputError, match="501 tokens and 12 new ones, the model's context is 512"):
        check_prompts(tmp_path, ["a" * 501], 12, chat=False)
