"""Batches of prompts of similar length, and a policy for whole prompts only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from pathgen.engine.policies import RecordedPolicy


def longest_first(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Indices in batches of similar length; the longest come first, so that a lack of memory shows early.

    Raises:
        ValueError: the batch size is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; got {batch_size}")
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    yield from (order[start : start + batch_size] for start in range(0, len(order), batch_size))


class WholePromptPolicy(RecordedPolicy):
    """Records the decisions of another policy, and checks that each one sees the whole prompt."""

    def actions(self, layer: int, hidden: Tensor, prompt_mask: Tensor) -> Tensor:
        """[B] the actions of the recorded policy.

        Raises:
            ValueError: the forward has another number of tokens than the prompt.
        """
        if hidden.shape[1] != prompt_mask.shape[1]:
            raise ValueError(
                f"a path is decided on the whole prompt of {prompt_mask.shape[1]} tokens, and kept; "
                f"this forward has {hidden.shape[1]}: no chunked prefill, no assistant"
            )
        return super().actions(layer, hidden, prompt_mask)
