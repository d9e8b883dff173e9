"""The input of a router: a prompt's hidden states, averaged over windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cluster.program.options import option

if TYPE_CHECKING:
    from torch import Tensor

MAX_WINDOWS = 1024
"""Per prompt: more windows than tokens add nothing, and would fill the memory."""


@dataclass(frozen=True, slots=True)
class Pooling:
    """How the states of a prompt become the vectors that a router reads.

    The kind `windows` takes the mean over each of `windows` equal parts of the prompt; `last` takes its last token.

    Raises:
        ValueError: the kind is unknown, or the number of windows does not fit it.
    """

    kind: Annotated[
        Literal["windows", "last"], option("What a head reads: windows of the prompt, or its last token.", "--pooling")
    ] = "windows"
    windows: Annotated[int, option("Number of windows per prompt.", min=1)] = 8

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.kind not in ("windows", "last"):
            raise ValueError(f"pooling is windows or last; got {self.kind!r}")
        most = MAX_WINDOWS if self.kind == "windows" else 1
        if type(self.windows) is not int or not 1 <= self.windows <= most:
            raise ValueError(
                f"pooling {self.kind!r} with {self.windows!r} windows; last takes 1, windows 1 to {MAX_WINDOWS}"
            )

    @classmethod
    def from_flags(cls, kind: Literal["windows", "last"], windows: int) -> Pooling:
        """The pooling from the command line; `last` ignores --windows."""
        return cls(kind, windows if kind == "windows" else 1)

    def weights(self, prompt_mask: Tensor) -> Tensor:
        """[B, W, T] share of each token in each window, from a mask [B, T] with padding on either side.

        Padding has share 0, and each window sums to 1.

        Window w of n tokens spans floor(w·n/W) to ceil((w+1)·n/W). The windows are equal parts if W divides n. Else
        neighbours share a token, and prompts shorter than W repeat theirs, so no window is empty (Dr.LLM, section
        3.3, does not define the remainder).
        """
        import torch

        mask = prompt_mask.to(torch.bool)
        place = mask.cumsum(-1) - 1  # [B, T] index of each token among its row's
        length = mask.sum(-1)[:, None, None]  # [B, 1, 1]
        if self.kind == "last":
            inside = (place[:, None] == length - 1) & mask[:, None]
        else:
            window = torch.arange(self.windows, device=mask.device)[None, :, None]
            start = window * length // self.windows
            end = -(-(window + 1) * length // self.windows)
            inside = (place[:, None] >= start) & (place[:, None] < end) & mask[:, None]
        return inside / inside.sum(-1, keepdim=True).clamp(min=1)

    def pool(self, hidden: Tensor, prompt_mask: Tensor) -> Tensor:
        """[B, W, H] of the states [B, T, H], in their dtype."""
        return self.weights(prompt_mask).to(hidden.dtype).bmm(hidden)
