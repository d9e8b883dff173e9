"""Text in token ids: prompts of questions, plain text, and text sampled from the frozen model itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..errors import InputError, one_line
from ..paths.records import seeded_hash
from ..questions.loading import load_questions
from ..questions.question import Question
from ..questions.sources import read_rows
from ..questions.tasks import Task
from ..questions.written import Written, is_written, read_written

if TYPE_CHECKING:
    from ..engine.path_model import PathModel

Piece = tuple[int, ...]
"""Token ids of one text."""
Stream = Callable[["PathModel"], Iterator[Piece]]
"""The pieces of a source in a model's tokens; it may raise InputError for text that it meets only then."""
SELF = "self"
PIECE_TOKENS = 512
"""Longer texts are cut into pieces of this length."""
WRITTEN_TOKENS = 2048
"""A prompt with its answer is cut off after so many."""
SAMPLED_TOKENS = 256
SAMPLED_TOGETHER = 32
HELD_OUT = 10
"""One piece in so many, the second first, is held out of the fit, to tell how well it does."""


@dataclass(frozen=True, slots=True)
class Texts:
    """The pieces to fit on, and those held out."""

    fit: tuple[Piece, ...]
    held_out: tuple[Piece, ...]

    @property
    def tokens(self) -> int:
        """Tokens to fit on."""
        return sum(map(len, self.fit))


def draw(streams: Sequence[Iterator[Piece]], tokens: int) -> Texts:
    """Pieces of all streams, in equal shares of tokens, until there are `tokens` to fit on, or no more."""
    left = dict.fromkeys(range(len(streams)), 0)  # tokens taken of each stream that goes on
    fit: list[Piece] = []
    held_out: list[Piece] = []
    fitted = 0  # tokens
    while left and fitted < tokens:
        least = min(left, key=left.__getitem__)
        piece = next(streams[least], None)
        if piece is None:
            del left[least]
            continue
        left[least] += len(piece)
        if (len(fit) + len(held_out)) % HELD_OUT == 1:
            held_out.append(piece)
        else:
            fit.append(piece)
            fitted += len(piece)
    return Texts(tuple(fit), tuple(held_out))


def open_source(source: str, task: Task, *, chat: bool, seed: int) -> Stream:
    """The pieces of a source, once there is a model; those of `self` do not end.

    Questions are read here. They give their prompts, with each choice where the task scores choices; never gold, and
    no reference. Written answers are read here too: they give the prompt with the answer.

    Raises:
        InputError: the source cannot be read.
    """
    if source == SELF:
        return partial(_sampled, seed=seed)
    if is_written(source):
        written = read_written(source)
        written.questions.sort(key=lambda question: seeded_hash(seed, question.id))
        return partial(_answered, written=written)
    if not _is_plain(source):
        questions = load_questions(source, needs=task.needs, labelled=False)
        questions.sort(key=lambda question: seeded_hash(seed, question.id))
        return partial(_asked, questions=questions, task=task, chat=chat)
    if not Path(source).is_file():
        raise InputError(f"{source}: no such file")
    return partial(_plain, source=source)


def asks_in_chat(source: str) -> bool:
    """Whether the source holds answers that were asked in a chat."""
    return is_written(source) and bool(read_written(source).chat)


def _is_plain(source: str) -> bool:
    path = Path(source)
    if path.suffix == ".txt":
        return True
    if path.suffix != ".jsonl" or not path.is_file():
        return False
    first = next(iter(read_rows(source)), None)
    return first is not None and "text" in first.values and not {"question", "prompt"} & first.values.keys()


def _plain(model: PathModel, source: str) -> Iterator[Piece]:
    assert model.tokenizer is not None
    for text in _texts(source):
        ids = model.tokenizer(text)["input_ids"]
        yield from (tuple(ids[start : start + PIECE_TOKENS]) for start in range(0, len(ids), PIECE_TOKENS))


def _texts(source: str) -> Iterator[str]:
    if Path(source).suffix == ".txt":
        try:
            yield Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{source} cannot be read as text ({one_line(error)})") from error
        return
    for row in read_rows(source):
        if row.fault or not isinstance(row.values.get("text"), str):
            raise InputError(f"{source}, {row.where}: {row.fault or 'it has no text in `text`'}")
        yield row.values["text"]


def _asked(model: PathModel, questions: Sequence[Question], task: Task, *, chat: bool) -> Iterator[Piece]:
    assert model.tokenizer is not None
    for question in questions:
        prompt, continuations = task.encode(question, model.tokenizer, chat)
        if task.generates or task.letters:
            continuations = [[]]
        yield from (tuple([*prompt, *tokens][:PIECE_TOKENS]) for tokens in continuations)


def _answered(model: PathModel, written: Written) -> Iterator[Piece]:
    assert model.tokenizer is not None
    for question in written.questions:
        prompt, (answer,) = written.task.encode(question, model.tokenizer, written.chat)
        yield (*prompt, *answer)[:WRITTEN_TOKENS]


def _sampled(model: PathModel, seed: int) -> Iterator[Piece]:
    """Text that the frozen model writes at temperature 1 after its start token."""
    config = model.hf_model.generation_config
    tokenizer = model.tokenizer
    assert tokenizer is not None
    starts = (tokenizer.bos_token_id, config.bos_token_id, tokenizer.eos_token_id, model.pad_token_id)
    start = next(token for token in starts if isinstance(token, int))
    ends = {model.pad_token_id, tokenizer.eos_token_id}
    generator_state = torch.Generator().manual_seed(seed)
    while True:
        torch.manual_seed(int(torch.randint(1 << 30, (), generator=generator_state)))
        begin = torch.full((SAMPLED_TOGETHER, 1), start, device=model.device)
        with torch.inference_mode():
            rows = model.hf_model.generate(
                input_ids=begin,
                attention_mask=torch.ones_like(begin),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                repetition_penalty=1.0,
                max_new_tokens=SAMPLED_TOKENS - 1,
                pad_token_id=model.pad_token_id,
            )
        for row in rows.tolist():
            end = next((place for place, token in enumerate(row[1:], start=1) if token in ends), len(row))
            if end > 1:
                yield tuple(row[:end])
