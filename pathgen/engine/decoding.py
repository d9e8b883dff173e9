"""Greedy answers of many (prompt, path) pairs from a filled cache; rows that have ended leave the batch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..paths.layer_path import LayerPath
from .cache import RoutedCache
from .path_model import PathModel
from .policies import FixedPaths

SEGMENT_TOKENS = 8
"""Ended rows are dropped after every so many tokens: most answers are short, and a few run to the limit."""


def greedy_answers(
    model: PathModel,
    prompts: Sequence[Sequence[int]],
    paths: Sequence[LayerPath],
    cache: RoutedCache,
    *,
    max_new_tokens: int,
    stop: Sequence[str],
) -> list[str]:
    """Continue each prompt along its path.

    Args:
        model: with its tokenizer.
        prompts: token ids, at least one each.
        paths: one a prompt.
        cache: holds the prompts along these paths but for their last tokens, padded on the left; used up.
        max_new_tokens: longest answer.
        stop: texts that end an answer.

    Returns:
        The texts, without the stop text and what follows it.
    """
    tokenizer = model.tokenizer
    assert tokenizer is not None
    ids, mask = left_padded(prompts, model.device)
    width = ids.shape[1]
    ends = _end_tokens(model)
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
        going = []
        for place, new in enumerate(ids[:, width:].tolist()):
            tokens = list(takewhile(lambda token: token not in ends, new))
            text = str(tokenizer.decode(tokens, skip_special_tokens=True))
            answers[rows[place]] = before_stop(text, stop)
            if len(tokens) == len(new) and answers[rows[place]] == text:
                going.append(place)
        if not going:
            break
        rows = [rows[place] for place in going]
        index = torch.tensor(going, device=ids.device)
        ids = ids[index]
        mask = pad(mask[index], (0, ids.shape[1] - mask.shape[1]), value=1)
        cache.batch_select_indices(index)
    return answers


def before_stop(text: str, stop: Sequence[str]) -> str:
    """The text up to the first of the stop texts in it."""
    ends = [position for mark in stop if (position := text.find(mark)) >= 0]
    return text[: min(ends)] if ends else text


def _end_tokens(model: PathModel) -> set[int]:
    """The tokens at which the model says that it has ended."""
    ends = model.hf_model.generation_config.eos_token_id
    return set(ends) if isinstance(ends, list) else {ends} - {None}


def left_padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """[B, T] ids and mask. A row is padded with its own first token: a repetition penalty sees no other there."""
    width = max(map(len, rows))
    ids = torch.tensor([[row[0]] * (width - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask
