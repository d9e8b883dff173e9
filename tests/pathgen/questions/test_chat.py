"""Where a chat template opens the reply, and the day that it prints."""

from __future__ import annotations

import datetime
import logging

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from pathgen.errors import InputError
from pathgen.questions.chat import chat_turn, settled

HONOURED = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
IGNORED = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}"
INSTRUCT = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}<end>"
    "{% endif %}{% endfor %}"
)
PLAIN = "{% for m in messages %}{{ m.content }}<end>{% endfor %}"
CLOSED = "{{ messages[0].content }}<end>"
DATED = "Today: {{ strftime_now('%d %B %Y') }} ({{ strftime_now('%-d/%m/%y %H:%M') }})\n" + HONOURED


def tokenizer_of(template: str | None) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE(vocab={"<end>": 0}, merges=[])), eos_token="<end>", chat_template=template
    )


@pytest.mark.parametrize(
    ("template", "turn"),
    [
        (HONOURED, "<user>hi<end><assistant>"),
        (IGNORED, "<user>hi<end><assistant>"),
        (INSTRUCT, "[INST] hi [/INST]"),
        (PLAIN, "hi<end>"),
        ("{{ messages[0].content }}", "hi"),
    ],
)
def test_a_prompt_ends_where_the_reply_begins(template, turn):
    assert chat_turn(tokenizer_of(template), "hi") == turn


def test_an_opened_reply_is_told_once(caplog):
    tokenizer = tokenizer_of(IGNORED.replace("<end>", "<|end|>"))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            chat_turn(tokenizer, "hi")
    (record,) = caplog.records
    assert "ignores add_generation_prompt; a reply is opened as it does: '<assistant>'" in record.getMessage()


def test_a_template_that_ends_its_prompts_is_refused():
    with pytest.raises(InputError, match="ends a prompt with <end>, so no reply follows: mend the template, or use"):
        chat_turn(tokenizer_of(CLOSED), "hi")


def test_a_template_that_cannot_be_used_is_one_line():
    with pytest.raises(InputError, match=r"does not take the prompt \(no users\); use --no-chat"):
        chat_turn(tokenizer_of("{{ raise_exception('no users') }}"), "hi")


def test_the_day_of_a_chat_is_as_given():
    tokenizer = tokenizer_of(DATED)
    rest = "<user>hi<end><assistant>"
    assert chat_turn(tokenizer, "hi", "2024-03-05") == f"Today: 05 March 2024 (5/03/24 00:00)\n{rest}"
    assert chat_turn(tokenizer, "hi").startswith(f"Today: {datetime.date.today():%d %B %Y}")
    assert chat_turn(tokenizer_of(HONOURED), "hi", "2024-03-05") == rest


def test_a_run_keeps_the_day_on_which_it_began():
    dated, plain = tokenizer_of(DATED), tokenizer_of(HONOURED)
    today = datetime.date.today().isoformat()
    assert settled(dated) == today
    assert settled(dated, recorded="2024-03-05") == "2024-03-05"
    assert settled(dated, recorded=True) is True  # a run of before
    assert settled(plain) is settled(plain, recorded=False) is True
