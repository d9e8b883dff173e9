"""Greedy decoding that drops ended rows gives what transformers' own loop gives to each row alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_checkpoint import NUM_LAYERS

from pathgen.engine.cache import RoutedCache
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.evaluation.decoding import SEGMENT_TOKENS, GreedyAnswer, before_stop, greedy_answers
from pathgen.paths.layer_path import LayerPath

LIMIT = 2 * SEGMENT_TOKENS + 4
PROMPTS = ["What is it?", "No", "A longer prompt than the others", "x"] * 3
PATHS = [LayerPath(path) for path in ((1, 1, 1, 1, 1, 1), (0, 1, 2, 1, 0, 1), (2, 1, 1, 1, 1, 1), (0, 0, 0, 1, 0, 0))]
ROWS = [(prompt, PATHS[(row + row // 4) % 4]) for row, prompt in enumerate(PROMPTS)]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> PathModel:
    return PathModel.from_pretrained(str(tiny_model))


def tokens_of(model: PathModel, prompt: str) -> list[int]:
    assert model.tokenizer is not None
    return model.tokenizer(prompt)["input_ids"]


def alone(model: PathModel, prompt: str, path: LayerPath) -> list[int]:
    """`LIMIT` new tokens of one row, whatever they say."""
    ids = torch.tensor([tokens_of(model, prompt)])
    out = model.generate(ids, policy=FixedPaths([path]), max_new_tokens=LIMIT, eos_token_id=-1, pad_token_id=0)
    return out[0, ids.shape[1] :].tolist()


def together(model: PathModel, limit: int, stop: tuple[str, ...]) -> list[GreedyAnswer]:
    return greedy_answers(
        model,
        [tokens_of(model, prompt) for prompt, _ in ROWS],
        [path for _, path in ROWS],
        RoutedCache(NUM_LAYERS),
        max_new_tokens=limit,
        stop=stop,
    )


def test_the_first_stop_text_ends_an_answer() -> None:
    assert before_stop("12\n\nQuestion: 3", ("Question:", "\n")) == "12"
    assert before_stop("12", ("\n",)) == "12"
    assert before_stop("12\n", ()) == "12\n"
    assert before_stop("\n12", ("\n",)) == ""


@pytest.mark.parametrize("limit", [1, SEGMENT_TOKENS, LIMIT])
def test_segments_are_one_generation(model: PathModel, limit: int) -> None:
    assert model.tokenizer is not None
    expected = [model.tokenizer.decode(alone(model, *row)[:limit], skip_special_tokens=True) for row in ROWS]
    assert together(model, limit, ()) == [GreedyAnswer(text, cut=True) for text in expected]


def test_rows_end_at_their_own_stop_or_end_token_and_leave_the_batch(
    model: PathModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert model.tokenizer is not None
    rows = [alone(model, *row) for row in ROWS]
    # Ends that these rows do reach, at different times: one as the end token, one as a stop text.
    end = rows[0][2]
    mark = next(text for tokens in rows[1:] if (text := str(model.tokenizer.decode([tokens[9]]))).isascii() and text)
    monkeypatch.setattr(model.hf_model.generation_config, "eos_token_id", [end])
    batches: list[int] = []
    own = model.generate

    def counted(ids: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        batches.append(len(ids))
        return own(ids, *args, **kwargs)

    monkeypatch.setattr(model, "generate", counted)
    found = together(model, LIMIT, (mark,))
    going = [0, 0, 0]
    for tokens, answer in zip(rows, found, strict=True):
        until = tokens[: tokens.index(end)] if end in tokens else tokens
        text = str(model.tokenizer.decode(until, skip_special_tokens=True))
        assert answer.text == before_stop(text, (mark,))
        assert answer.cut == (end not in tokens and mark not in text)
        for segment in range(3):
            begun = str(model.tokenizer.decode(until[: segment * SEGMENT_TOKENS], skip_special_tokens=True))
            ended = end in tokens[: segment * SEGMENT_TOKENS] or mark in begun
            going[segment] += not ended
    assert batches == going
    assert going[0] > going[1] > going[2] > 0, "the case has rows of three lengths"
