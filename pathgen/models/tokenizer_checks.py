"""Checks of a tokenizer at load, on a few plain texts and without a forward; an appended end token is dropped."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ..errors import InputError

logger = logging.getLogger(__name__)

PROMPT = "Question: Which of these is a planet, the Sun or Mars?\nAnswer:"
CONTINUATIONS = (" Mars", " B", " 42", " the planet Mars")


def checked(tokenizer: Any, told: Path) -> Any:
    """The tokenizer, if a prompt's tokens begin those of prompt and answer, and plain text survives it.

    Special tokens after a text are dropped (of this object; told once): answers would come after the end.

    Raises:
        InputError: special tokens stand elsewhere than before the text, the prompt's tokens change with what follows,
            or text is lost. The line names the tokenizer's folder.
    """
    before, after = _around(tokenizer, told)
    if after:
        _drop_end(tokenizer, before)
        logger.warning(
            "the tokenizer in %s appends %s to each text; it is dropped, because an answer comes after the prompt",
            *(told, " ".join(map(str, tokenizer.convert_ids_to_tokens(after)))),
        )
        if _around(tokenizer, told)[1]:
            raise InputError(
                _refusal(told, f"appends {tokenizer.decode(after)} to each text, which cannot be turned off")
            )
    prompt = _ids(tokenizer, PROMPT)
    for text in CONTINUATIONS:
        whole = _ids(tokenizer, PROMPT + text)
        if whole[: len(prompt)] != prompt or len(whole) == len(prompt):
            raise InputError(
                _refusal(
                    told, f"gives other tokens to a prompt when {text.strip()!r} follows, so no answer can be scored"
                )
            )
    plain = tokenizer(PROMPT, add_special_tokens=False)["input_ids"]
    back = str(tokenizer.decode(plain, skip_special_tokens=True))
    if _letters(back) != _letters(PROMPT):
        raise InputError(_refusal(told, f"loses text: it reads {PROMPT!r} as {back!r}"))
    return tokenizer


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text)["input_ids"])


def _letters(text: str) -> str:
    """The text without white space and case, which some tokenizers change on purpose."""
    return "".join(text.split()).casefold()


def _refusal(told: Path, what: str) -> str:
    return f"the tokenizer in {told} {what}"


def _around(tokenizer: Any, told: Path) -> tuple[list[int], list[int]]:
    """The special tokens that stand before and after a text."""
    whole, plain = _ids(tokenizer, PROMPT), list(tokenizer(PROMPT, add_special_tokens=False)["input_ids"])
    for start in range(len(whole) - len(plain) + 1):
        if plain and whole[start : start + len(plain)] == plain:
            added = tokenizer.added_tokens_decoder.items()
            special = {*tokenizer.all_special_ids, *(number for number, token in added if token.special)}
            if set(plain) & (special - {tokenizer.unk_token_id}):
                break
            return whole[:start], whole[start + len(plain) :]
    raise InputError(_refusal(told, "puts special tokens inside a plain text, or gives it no tokens"))


def _drop_end(tokenizer: Any, before: list[int]) -> None:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        tokenizer.add_eos_token = False
        return
    from tokenizers.processors import TemplateProcessing

    names = [str(token) for token in tokenizer.convert_ids_to_tokens(before)]
    backend.post_processor = TemplateProcessing(
        single=[*names, "$A"],
        pair=[*names, "$A", "$B"],
        special_tokens=list(dict(zip(names, before, strict=True)).items()),
    )
