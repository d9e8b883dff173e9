"""Batches of prompts: which run together, how they are padded, and that paths are decided on all of a prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from pathgen.engine.policies import RecordedPolicy


def longest_first(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Indices in batches of like length; the largest batch is the first, so that a lack of memory shows at once.

    Raises:
        ValueError: a batch size below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; got {batch_size}")
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    yield from (order[start : start + batch_size] for start in range(0, len(order), batch_size))


class WholePromptPolicy(RecordedPolicy):
    """A policy whose decisions are kept, each seen to be taken on the whole prompt."""

    def actions(self, layer: int, hidden: Tensor, prompt_mask: Tensor) -> Tensor:
        """[B] what the policy answers.

        Raises:
            ValueError: the forward is over other tokens than the prompt's.
        """
        if hidden.shape[1] != prompt_mask.shape[1]:
            raise ValueError(
                f"a path is decided on the whole prompt of {prompt_mask.shape[1]} tokens, and kept; "
                f"this forward has {hidden.shape[1]}: no chunked prefill, no assistant"
            )
        return super().actions(layer, hidden, prompt_mask)
