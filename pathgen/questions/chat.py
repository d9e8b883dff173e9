"""Prompts as the user's turn of a chat: where the assistant's turn begins, and on which day the chat takes place."""

from __future__ import annotations

import logging
from datetime import date
from typing import TYPE_CHECKING, Any

from ..errors import InputError, one_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

Chat = bool | str
"""Whether prompts go through the chat template; the day of the chat, as 2026-01-31, where the template prints one."""

NOW = "strftime_now"
"""The function by which templates ask for the time."""
FIXED_DAY = (
    "{%- macro strftime_now(format) -%}{%- set told = namespace(text=format) -%}"
    "{%- for sign, value in chat_day.items() -%}{%- set told.text = told.text.replace(sign, value) -%}{%- endfor -%}"
    "{{ told.text }}{%- endmacro +%}"
)
"""Before a template: its function then gives the day of the chat, at midnight."""
SIGNS = ("-d", "-m", "-y", "-j", *"aAbBdmyYHIMSpjUWVGuwxXcDFTR", "B", "e")
"""What may follow the % of a format."""
REPLY = "REPLY-OF-THE-ASSISTANT"

_openings: dict[tuple[str, str], str] = {}


def chat_turn(tokenizer: PreTrainedTokenizerBase, prompt: str, chat: Chat = True) -> str:
    """The prompt as the user's turn of a chat, up to the assistant's turn.

    A template that ignores `add_generation_prompt` gets the assistant's turn opened as before one of its replies.

    Raises:
        InputError: there is no chat template, it cannot be used, or it ends its prompts without opening a reply.
    """
    if not tokenizer.chat_template:
        raise InputError("--chat needs a model whose tokenizer has a chat template; use --no-chat")
    day = chat if isinstance(chat, str) else None
    return _rendered(tokenizer, [_user(prompt)], day) + _opening(tokenizer, day)


def is_dated(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the chat template prints the day."""
    return NOW in str(tokenizer.chat_template or "")


def settled(tokenizer: PreTrainedTokenizerBase, *, recorded: Any = None) -> Chat:
    """How a run asks through the chat template: as recorded, else on this day if the template prints the day."""
    if recorded:
        return recorded if isinstance(recorded, str) else True
    return date.today().isoformat() if is_dated(tokenizer) else True


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _rendered(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]], day: str | None, **how: Any) -> str:
    how = {"tokenize": False, "add_generation_prompt": True, **how}
    try:
        if day is not None and is_dated(tokenizer):
            when = date.fromisoformat(day)
            how["chat_template"] = FIXED_DAY + str(tokenizer.get_chat_template())
            how["chat_day"] = {f"%{sign}": when.strftime(f"%{sign}") for sign in SIGNS}
        return str(tokenizer.apply_chat_template(turns, **how))
    except Exception as error:  # a template may raise every kind, and has errors of its own
        raise InputError(f"the chat template does not take the prompt ({one_line(error)}); use --no-chat") from error


def _opening(tokenizer: PreTrainedTokenizerBase, day: str | None) -> str:
    """What a template that ignores `add_generation_prompt` puts before a reply; else empty."""
    key = (str(tokenizer.chat_template), day or "")
    if key not in _openings:
        _openings[key] = _found_opening(tokenizer, day)
    return _openings[key]


def _found_opening(tokenizer: PreTrainedTokenizerBase, day: str | None) -> str:
    turn = [_user("Is it?")]
    asked = _rendered(tokenizer, turn, day)
    if asked != _rendered(tokenizer, turn, day, add_generation_prompt=False):
        return ""
    try:
        whole = _rendered(tokenizer, [*turn, {"role": "assistant", "content": REPLY}], day, add_generation_prompt=False)
    except InputError:
        whole = ""
    before, reply, _ = whole.partition(REPLY)
    if reply and before.startswith(asked):
        opening = before.removeprefix(asked)
        if not opening.strip():
            return ""  # the prompt ends where a reply begins
        logger.warning("the chat template ignores add_generation_prompt; a reply is opened as it does: %r", opening)
        return opening
    ends = [token for token in tokenizer.all_special_tokens if token and asked.rstrip().endswith(token)]
    if ends:
        raise InputError(
            f"the chat template ignores add_generation_prompt and ends a prompt with {ends[0]}, so no reply follows: "
            "mend the template, or use --no-chat"
        )
    return ""
