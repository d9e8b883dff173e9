"""What callers give a model: token ids, a mask, options of its forward. Each ValueError says what would be right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

OWN_CACHE = "a row's path is kept in its own cache, which generate makes: leave out {}"
ONE_FORWARD = "one forward runs whole rows, without a cache: leave out {}"
IDS_ONLY = "prompts are given as input_ids [B, T]: leave out {}"


def checked_mask(input_ids: Any, attention_mask: Any, vocabulary: int) -> Tensor:
    """The mask [B, T], all ones if absent, after a check of ids and mask.

    Args:
        input_ids: what should be [B, T] token ids.
        attention_mask: what should be [B, T] of 0 and 1, or None.
        vocabulary: number of ids that the model knows.

    Raises:
        ValueError: they are something else, or a row has no token.
    """
    import torch

    if isinstance(input_ids, Mapping):
        raise ValueError("input_ids is a tokenizer's whole output: pass its parts, as in generate(**encoded)")
    if isinstance(input_ids, str) or not isinstance(input_ids, torch.Tensor):
        hint = "; RoutedModel.complete takes texts" if isinstance(input_ids, str) else "; torch.tensor(rows) makes one"
        raise ValueError(f"input_ids is {type(input_ids).__name__}, not a tensor [B, T] of token ids{hint}")
    if input_ids.dim() != 2 or not input_ids.numel():
        hint = "; input_ids[None] is a batch of one row" if input_ids.dim() == 1 else ""
        raise ValueError(f"input_ids has shape {list(input_ids.shape)}, not [B, T] with at least one token{hint}")
    if input_ids.is_floating_point() or input_ids.is_complex() or input_ids.dtype == torch.bool:
        raise ValueError(f"input_ids is of {input_ids.dtype}, not of whole numbers")
    smallest, largest = int(input_ids.min()), int(input_ids.max())
    if smallest < 0 or largest >= vocabulary:
        wrong = smallest if smallest < 0 else largest
        raise ValueError(f"input_ids holds {wrong}; the model knows the tokens 0 to {vocabulary - 1}")
    if attention_mask is None:
        return torch.ones_like(input_ids)
    if not isinstance(attention_mask, torch.Tensor) or attention_mask.shape != input_ids.shape:
        its = getattr(attention_mask, "shape", None)
        found = type(attention_mask).__name__ if its is None else str(list(its))
        raise ValueError(f"attention_mask is {found}, not {list(input_ids.shape)} like input_ids")
    if not bool(attention_mask.bool().any(-1).all()):
        row = int((~attention_mask.bool().any(-1)).nonzero()[0])
        raise ValueError(f"row {row} of attention_mask has no token")
    return attention_mask


def refuse_options(options: Iterable[str], why: Mapping[str, str]) -> None:
    """Raise ValueError for an option with a reason not to give it; the reason has a place for its name."""
    for name in options:
        if name in why:
            raise ValueError(why[name].format(name))


def check_continues(input_ids: Tensor, held: int, rows: int, beams: int) -> None:
    """Check that prompts [B, T] continue a cache of `held` tokens and `rows` rows.

    Raises:
        ValueError: the cache has as many tokens as the prompts, as after its first use, or other rows.
    """
    count, width = input_ids.shape
    if held >= width:
        raise ValueError(
            f"the cache holds {held} tokens and the prompts have {width}: it was used before; a cache serves one "
            "generate, and holds the first tokens of its prompts"
        )
    if held and rows not in (count, count * beams):
        raise ValueError(f"the cache holds {rows} rows and there are {count} prompts: it belongs to others")


def texts_of(prompts: Any) -> list[Any]:
    """The prompts as a list.

    Raises:
        ValueError: they are one text, or no series at all.
    """
    if isinstance(prompts, (str, bytes)):
        raise ValueError("prompts are a list of texts, and this is one text: give [text]")
    if isinstance(prompts, Mapping) or not isinstance(prompts, Iterable):
        raise ValueError(f"prompts are a list of texts; got {type(prompts).__name__}")
    return list(prompts)


def token_rows_of(rows: Any, what: str) -> Sequence[Sequence[int]]:
    """Rows of token ids, unchanged.

    Raises:
        ValueError: they are texts, or not rows.
    """
    if isinstance(rows, str) or not isinstance(rows, Sequence):
        raise ValueError(f"{what} are rows of token ids; got {type(rows).__name__}")
    for row in rows:
        if isinstance(row, (str, int)):
            raise ValueError(f"{what} are rows of token ids; one is {type(row).__name__}: encode it by the tokenizer")
    return rows


def whole_number(value: Any, name: str) -> int:
    """The value, if it is a whole number of at least 1; ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be at least 1, and whole; got {value!r}")
    return int(value)
