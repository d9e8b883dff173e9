"""Greedy answers of many (prompt, path) pairs from a filled cache; finished rows leave the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..engine.cache import RoutedCache
from ..engine.path_model import PathModel
from ..engine.policies import FixedPaths
from ..paths.layer_path import LayerPath

SEGMENT_TOKENS = 8
"""Tokens between removals of finished rows: most answers are short, and a few run to the limit."""


@dataclass(frozen=True, slots=True)
class GreedyAnswer:
    """A generated text, without the stop text and what follows it; `cut` if it reached the limit without an end."""

    text: str
    cut: bool = False


def greedy_answers(
    model: PathModel,
    prompts: Sequence[Sequence[int]],
    paths: Sequence[LayerPath],
    cache: RoutedCache,
    *,
    max_new_tokens: int,
    stop: Sequence[str],
) -> list[GreedyAnswer]:
    """Continue each prompt along its path, up to `max_new_tokens` or a stop text.

    The cache holds each prompt along its path without the last token, padded on the left; it is changed.

    Returns:
        The answers of the prompts, in order.
    """
    tokenizer = model.tokenizer
    assert tokenizer is not None
    ids, mask = left_padded(prompts, model.device)
    width = ids.shape[1]
    eos = model.hf_model.generation_config.eos_token_id
    ends = eos if isinstance(eos, list) else [eos]
    answers = [""] * len(prompts)
    rows = list(range(len(prompts)))
    for start in range(0, max_new_tokens, SEGMENT_TOKENS):
        ids = model.generate(
            ids,
            mask,
            policy=FixedPaths(paths[row] for row in rows),
            cache=cache,
            max_new_tokens=min(SEGMENT_TOKENS, max_new_tokens - start),
            stop_strings=list(stop) or None,
            tokenizer=tokenizer,
        )
        unfinished = []
        for place, new in enumerate(ids[:, width:].tolist()):
            tokens = list(takewhile(lambda token: token not in ends, new))
            text = str(tokenizer.decode(tokens, skip_special_tokens=True))
            answers[rows[place]] = before_stop(text, stop)
            if len(tokens) == len(new) and answers[rows[place]] == text:
                unfinished.append(place)
        rows = [rows[place] for place in unfinished]
        if not unfinished:
            break
        index = torch.tensor(unfinished, device=ids.device)
        ids = ids[index]
        mask = pad(mask[index], (0, ids.shape[1] - mask.shape[1]), value=1)
        cache.batch_select_indices(index)
    return [GreedyAnswer(text, row in rows) for row, text in enumerate(answers)]


def before_stop(text: str, stop: Sequence[str]) -> str:
    """The text before its first stop text."""
    return text[: min((position for mark in stop if (position := text.find(mark)) >= 0), default=len(text))]


def left_padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """[B, T] ids and mask. Each row is padded with its own first token, so a repetition penalty sees no new token."""
    width = max(map(len, rows))
    ids = torch.tensor([[row[0]] * (width - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask
