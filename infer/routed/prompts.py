"""Reads prompts, encodes them, and refuses unusable ones before a model runs."""

from __future__ import annotations

import os
import reprlib
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathgen.errors import InputError, one_line
from pathgen.questions.chat import Chat, chat_turn
from pathgen.questions.parsing import parse_text, read_json, refuse_unusable
from pathgen.questions.sources import SourceRow, read_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_NEW_TOKENS = 32
BATCH_SIZE = 8
"""Default length of an answer, and default number of prompts per batch."""


def read_prompts(given: Sequence[str], file: str | None) -> list[str]:
    """The prompts given as arguments, or those of a file, in order.

    The file is a `.jsonl` or `.parquet` of objects with a `prompt`, a `.json` with a list of these or of texts, any
    other file with one prompt per line, or `-` for the lines of standard input. Blank lines are skipped.

    Raises:
        InputError: neither or both are given, the file cannot be read, or prompts cannot be used.
    """
    if given and file is not None:
        raise InputError("give prompts as arguments or as --file, not both")
    if file is None:
        rows = [SourceRow(f"prompt {number}", {"prompt": text}) for number, text in enumerate(given, start=1)]
    elif Path(file).suffix == ".json":
        rows = _listed(file)
    elif Path(file).suffix in (".jsonl", ".parquet"):
        if not os.path.isfile(file):  # unlike Path.is_file, False for a name too long for any file
            raise InputError(f"{one_line(file)}: no such file")
        rows = list(read_rows(file))
    else:
        rows = _lines(file)
    if not rows:
        raise InputError(f"{file}: no prompts in it" if file else "no prompts: give them as arguments, or --file F")
    prompts, problems = [], []
    for row in rows:
        try:
            if row.fault:
                raise ValueError(row.fault)
            prompts.append(parse_text(row.values.get("prompt"), "prompt"))
        except ValueError as error:
            problems.append(f"{row.where}: {error}")
    refuse_unusable("prompts", problems, len(rows), file)
    return prompts


def encode_prompts(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], *, chat: Chat) -> list[list[int]]:
    """Token ids of each prompt; with `chat` it is the user's turn, followed by the start of the assistant's.

    Raises:
        InputError: a prompt is not usable text or has no tokens, or `chat` is set and the tokenizer has no template.
    """
    found, problems = [], []
    for number, prompt in enumerate(prompts, start=1):
        try:
            text = parse_text(prompt, "text")
            ids: Any = (
                tokenizer(chat_turn(tokenizer, text, chat), add_special_tokens=False) if chat else tokenizer(text)
            )
            if not chat and not ids["input_ids"]:
                raise ValueError(f"{reprlib.repr(text)} has no tokens for this tokenizer")
            found.append(ids["input_ids"])
        except ValueError as error:
            problems.append(f"prompt {number}: {error}")
    refuse_unusable("prompts", problems, len(prompts))
    return found


def end_tokens(folder: Path) -> frozenset[int]:
    """Ids of the tokens that end a generation of the model in `folder`; none if its files name none."""
    from transformers import GenerationConfig

    from pathgen.models.reading import load_config

    try:
        found: Any = GenerationConfig.from_pretrained(folder)
    except OSError:  # no generation_config.json
        found = load_config(folder).get_text_config()
    ids = found.eos_token_id
    return frozenset(ids if isinstance(ids, list) else [] if ids is None else [ids])


def answers_chats(tokenizer: PreTrainedTokenizerBase, ends: Collection[int]) -> bool:
    """Whether the model is made for chats: its template ends an assistant's turn with a token that ends a generation.

    Base models often have a template too, but their generations end with the end of a text alone.

    Args:
        tokenizer: of the model.
        ends: ids of the tokens that end a generation.
    """
    if not tokenizer.chat_template:
        return False
    said = "layers"
    turns = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": said}]
    try:
        text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    except Exception:  # a template can raise anything
        return False
    ids: Any = tokenizer(text.rpartition(said)[2], add_special_tokens=False)["input_ids"]
    return not set(ends).isdisjoint(ids)


def blank_hint(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase | None, *, chat: bool) -> str | None:
    """What may help if answers are blank; None if none is."""
    blank = sum(not text.strip() for text in texts)
    if not blank:
        return None
    hint = f"{blank} of {len(texts)} answers are blank, as the model ends at once: "
    if chat:
        return f"{hint}try --no-chat, or another prompt"
    if tokenizer is not None and tokenizer.chat_template:
        return f"{hint}its prompts went without the chat template that it has; try --chat"
    return f"{hint}it has no chat template and continues texts; try a prompt that leaves something to continue"


def check_context(prompts: Sequence[Sequence[int]], new_tokens: int, context_tokens: int) -> None:
    """Check that each prompt, given as token ids, and an answer of `new_tokens` fit the context.

    Raises:
        InputError: some do not fit.
    """
    problems = [
        f"prompt {number}: {len(prompt)} tokens and {new_tokens} new ones, the model's context is {context_tokens}"
        for number, prompt in enumerate(prompts, start=1)
        if len(prompt) + new_tokens > context_tokens
    ]
    refuse_unusable("prompts", problems, len(prompts))


def check_prompts(folder: Path, prompts: Sequence[str], new_tokens: int, *, chat: Chat) -> None:
    """Check the prompts with the tokenizer and config of the model in `folder`, without its weights.

    Raises:
        InputError: tokenizer or config do not load; see also `encode_prompts` and `check_context`.
    """
    from pathgen.evaluation.evaluator import context_tokens
    from pathgen.models.reading import load_config, load_tokenizer

    limit = context_tokens(load_config(folder).get_text_config())
    check_context(encode_prompts(load_tokenizer(folder), prompts, chat=chat), new_tokens, limit)


def _listed(file: str) -> list[SourceRow]:
    """One row per entry of a JSON list of texts, or of objects with a prompt."""
    try:
        entries = read_json(Path(file))
    except FileNotFoundError:
        raise InputError(f"{one_line(file)}: no such file") from None
    except OSError as error:
        raise InputError(f"{one_line(file)}: cannot be read: {error.strerror or error}") from error
    except InputError as error:
        raise InputError(f"{error}; a .json holds one list of prompts; JSON on each line is a .jsonl") from error
    if not isinstance(entries, list):
        raise InputError(f'{file}: must hold a list of texts or of {{"prompt": …}}, not {type(entries).__name__}')
    rows = []
    for number, entry in enumerate(entries, start=1):
        if isinstance(entry, (str, dict)):
            rows.append(SourceRow(f"row {number}", entry if isinstance(entry, dict) else {"prompt": entry}))
        else:
            fault = f'{reprlib.repr(entry)} is neither a text nor {{"prompt": …}}'
            rows.append(SourceRow(f"row {number}", {}, fault))
    return rows


def _lines(file: str) -> list[SourceRow]:
    """One row per non-blank line of UTF-8, with or without a byte order mark; lines end in LF or CR LF."""
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{file}: no such file") from None
    except OSError as error:
        raise InputError(f"{one_line(file)}: cannot be read: {error.strerror or error}") from error
    rows = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if line.strip():
            try:
                rows.append(SourceRow(f"line {number}", {"prompt": line.removesuffix(b"\r").decode()}))
            except UnicodeDecodeError as error:
                fault = f"not UTF-8: byte {line[error.start]:#04x} at offset {error.start}"
                rows.append(SourceRow(f"line {number}", {}, fault))
    return rows
