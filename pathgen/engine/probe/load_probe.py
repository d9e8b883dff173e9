"""What a model must show when it is wrapped: a few rows of a few tokens against the plainest forwards of its own.

Two short rows run along different paths, one with a repeat in the middle and one that skips, together in a batch:
padded on the left and continued from the cache, then padded on the right without one. Each must give what it gives
alone, in an unpadded forward with the model's own default positions, each layer called as often as its path says.
What fails is run in the restricted way that passes, or the model is refused with the reason.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin

from ...errors import one_line
from ...paths.layer_path import LayerPath
from ..policies import FixedPaths
from ..supported import UnsupportedModelError, tensors_in
from .arguments import RowAxes, find_row_axes
from .restrictions import KEYS_ARE_PICKED, Restrictions
from .rotary import rope_border

LONG, SHORT = 9, 5
"""Tokens of the two rows; the last one runs from the cache."""
CLOSE, LOW_PRECISION_CLOSE = 1e-3, 0.1
"""Largest gap relative to a token's largest value, in float32 and in narrower dtypes. There, rounding may send single
tokens to other experts, so the median over a row's tokens counts."""


@torch.inference_mode()
def probe_model(model: Any) -> None:
    """Set `row_axes` and `restrictions` of a `PathModel` under construction.

    Raises:
        UnsupportedModelError: the model cannot be run along paths; the message names it and the reason.
    """
    name = type(model.hf_model).__name__
    try:
        _Probe(model, name, "position_ids" in inspect.signature(model.hf_model.forward).parameters).run()
    except (UnsupportedModelError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # a family that passes other arguments may raise anything
        reason = one_line(f"{type(error).__name__}: {error}")
        raise UnsupportedModelError(f"{name}: its forward cannot be followed layer by layer ({reason})") from error


@dataclass(slots=True)
class _Probe:
    model: Any
    name: str
    positions: bool
    """Whether `generate` hands positions to the model: only to a forward that names them."""

    def run(self) -> None:
        model = self.model
        model.restrictions = self._within_border()
        rows, paths = self._rows(), self._paths()
        alone = [self._alone(row, path) for row, path in zip(rows, paths, strict=True)]
        self._check_hands_states_on(rows[0])
        model.row_axes = self._row_axes(rows)
        for restrictions in self._ways():
            model.restrictions = restrictions
            if self._counts_alike(rows) and self._holds(rows, paths, alone):
                model.restrictions = replace(restrictions, own_rows=self._needs_own_rows(rows))
                return
        raise UnsupportedModelError(f"{self.name}: {self._reason(rows, paths, alone)}")

    def _within_border(self) -> Restrictions:
        """Which lengths run, from its rotary tables and from how many keys its indexers may pick."""
        border, past_border = rope_border(self.model.hf_model)
        config = self.model.config
        if "indexed_attention" in (getattr(config, "layer_types", None) or ()):
            keys = getattr(config, "index_topk", None)
            if keys is None:
                raise UnsupportedModelError(f"{self.name}: its config does not say how many keys its indexers pick")
            if border is None or keys <= border:
                return Restrictions(self.name, border=keys, past_border=False, border_is=KEYS_ARE_PICKED)
            past_border = False
        return Restrictions(self.name, border=border, past_border=past_border)

    def _ways(self) -> list[Restrictions]:
        """The ways to run it, the least restricted first."""
        plain = self.model.restrictions
        padding = getattr(self.model.config, "pad_token_id", None)
        offset = 0 if padding is None else padding + 1
        one_length = replace(plain, one_length=True)
        shifted = [replace(plain, position_offset=offset)] if offset and self.positions else []
        uncounted = [replace(one_length, own_positions=True)] if self.positions else []
        return [plain, *shifted, one_length, *uncounted]

    def _rows(self) -> list[list[int]]:
        """A long row, and a short one that differs from it in its last token; no special tokens."""
        settings = {**vars(self.model.hf_model.config), **vars(self.model.config)}
        special = {value for key, value in settings.items() if "token" in key and isinstance(value, int)}
        size = self.model.config.vocab_size
        plain = [token for token in range(min(size, LONG + 3 + len(special))) if token not in special] or [0]
        tokens = [plain[(3 * place + 2) % len(plain)] for place in range(LONG + 1)]
        rows = [tokens[:LONG], [*tokens[: SHORT - 1], tokens[LONG]]]
        border = self.model.restrictions.border
        return rows if border is None else [row[: max(1, border - 1)] for row in rows]

    def _paths(self) -> list[LayerPath]:
        layers, pinned = self.model.num_layers, self.model.pinned_layers
        free = [layer for layer in range(layers) if layer not in pinned]
        if not free:
            raise UnsupportedModelError(f"{self.name}: every layer's keys are read by others, so none can be skipped")
        middle, first = free[len(free) // 2], free[0]
        return [
            LayerPath(2 if layer == middle else 1 for layer in range(layers)),
            LayerPath(0 if layer == first else 1 for layer in range(layers)),
        ]

    def _row_axes(self, rows: Sequence[Sequence[int]]) -> RowAxes:
        """From captures of two and three rows, padded on the left, in which no layer runs."""
        captured = []
        for picked in (rows, [*rows, rows[0]]):
            states, calls = self.model.capture(**self._batch(picked, "left"), use_cache=False)
            self._check_shape(states, len(picked), len(rows[0]))
            captured.append(calls)
        found: RowAxes = {}
        for two, three in zip(*captured, strict=True):
            try:
                found |= find_row_axes(two, three)
            except ValueError as error:
                raise UnsupportedModelError(f"{self.name}: {error}") from error
        return found

    def _alone(self, row: Sequence[int], path: LayerPath, **inputs: Any) -> Tensor:
        """[T, H] of one row with the model's defaults: no mask, no positions, no cache."""
        model = self.model
        called: list[int] = []

        def as_often(index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
            self._check_shape(hidden, 1, len(row))
            called.append(index)
            for _ in range(path[index]):
                hidden = model.run_layer(index, hidden, args, kwargs)
            return model.as_returned(index, hidden)

        with model.mode(as_often):
            ids = torch.tensor([list(row)], device=model.device)
            states: Tensor = model.run_body(input_ids=ids, use_cache=False, **inputs)[0].float()
        if called != list(range(model.num_layers)):
            raise UnsupportedModelError(
                f"{self.name}: a forward calls {len(called)} layers of its stack of {model.num_layers}, each not once"
            )
        return states

    def _check_hands_states_on(self, row: Sequence[int]) -> None:
        """A layer may change what later layers get in no way but by the states that it returns.

        The published forward, in which no layer's return is taken apart, is compared with the loop at full depth, and
        its layers' other arguments with those of a forward in which no layer runs.
        """
        model = self.model
        ids = torch.tensor([list(row)], device=model.device)
        given: list[list[Tensor]] = []

        def watch(index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
            given.append([tensor.clone() for tensor in tensors_in((args, kwargs))])
            return model.run_published(index, hidden, *args, **kwargs)

        with model.mode(watch):
            published = model.run_body(input_ids=ids, use_cache=False)[0].float()
        _, calls = model.capture(input_ids=ids, use_cache=False)
        same = len(given) == len(calls) and all(
            len(tensors) == len(others) and all(map(torch.equal, tensors, others))
            for tensors, others in zip(given, map(tensors_in, calls), strict=True)
        )
        if not same or not self._is_close(self._alone(row, LayerPath.full(model.num_layers)), published):
            raise UnsupportedModelError(f"{self.name}: its layers hand more than their states to the next")
        first = ids[:, :2]
        states = model.run_body(input_ids=first, use_cache=False)[0]
        logits = model.hf_model(input_ids=first, use_cache=False).logits[0].float()
        if not self._is_close(model.head(states), logits):
            raise UnsupportedModelError(f"{self.name}: its head reads more than the last layer's states")

    def _check_shape(self, states: Tensor, rows: int, tokens: int) -> None:
        if states.dim() != 3 or states.shape[:2] != (rows, tokens):
            raise UnsupportedModelError(
                f"{self.name}: a layer takes states of shape {tuple(states.shape)}, not one row per question"
            )

    def _holds(self, rows: list[list[int]], paths: list[LayerPath], alone: list[Tensor]) -> bool:
        """Whether rows of a batch are what they are alone, in the way of `model.restrictions`."""
        model = self.model
        if model.restrictions.one_length:
            pairs = zip(rows, paths, strict=True)
            cached = [self._cached([row], [path])[0] for row, path in pairs]
        else:
            cached = self._cached(rows, paths)
        if not all(self._is_close(got, want) for got, want in zip(cached, alone, strict=True)):
            return False
        given = self._batch(rows, "right")
        with model.routed(FixedPaths(paths), given["attention_mask"]):
            states = model.run_body(**given, use_cache=False).float()
        return all(self._is_close(got[: len(want)], want) for got, want in zip(states, alone, strict=True))

    def _counts_alike(self, rows: list[list[int]]) -> bool:
        """Whether `generate` keeps the positions that it is given, where the model's own begin elsewhere."""
        if not self.model.restrictions.position_offset:
            return True
        given = self._batch(rows[:1], "right")
        ids = given.pop("input_ids")
        found = self.model.hf_model.prepare_inputs_for_generation(ids, **given, use_cache=True, is_first_iteration=True)
        positions = found.get("position_ids")
        is_its_own = type(self.model.hf_model).generate is not GenerationMixin.generate  # it may ask another module
        return not is_its_own and positions is not None and torch.equal(positions, given["position_ids"])

    def _cached(self, rows: Sequence[Sequence[int]], paths: Sequence[LayerPath]) -> list[Tensor]:
        """[T, H] of each row: the batch padded on the left, its last token from the cache."""
        model = self.model
        given = self._batch(rows, "left")
        mask, width = given["attention_mask"], given["attention_mask"].shape[1]
        cache = model.new_cache()
        ends = [0, width - 1, width] if width > 1 else [0, 1]
        parts = []
        with model.routed(FixedPaths(paths), mask[:, : ends[1]]):
            for start, end in pairwise(ends):
                step = {
                    key: value[:, start:end].contiguous() for key, value in given.items() if key != "attention_mask"
                }
                parts.append(
                    model.run_body(**step, attention_mask=mask[:, :end], past_key_values=cache, use_cache=True)
                )
        states = torch.cat(parts, dim=1).float()
        return [state[width - len(row) :] for state, row in zip(states, rows, strict=True)]

    def _needs_own_rows(self, rows: list[list[int]]) -> bool:
        """Whether a layer refuses two states with the arguments of one row; the first layer of each kind is tried."""
        model = self.model
        states, calls = model.capture(**self._batch(rows[:1], "right"), use_cache=False)
        kinds = getattr(model.config, "layer_types", None) or [""] * model.num_layers
        first: dict[tuple[type, str], int] = {}
        for place, (layer, kind) in enumerate(zip(model.layers, kinds, strict=False)):
            first.setdefault((type(layer), kind), place)
        try:
            for place in first.values():
                model.run_layer(place, states.expand(2, -1, -1), *calls[place])
        except Exception:  # it may raise anything
            return True
        return False

    def _batch(self, rows: Sequence[Sequence[int]], side: str) -> dict[str, Tensor]:
        """Ids, mask and perhaps positions [B, T]; padded with each row's own first token."""
        width = max(map(len, rows))
        ids, mask = [], []
        for row in rows:
            gap = width - len(row)
            ids.append([row[0]] * gap + list(row) if side == "left" else list(row) + [row[0]] * gap)
            mask.append([0] * gap + [1] * len(row) if side == "left" else [1] * len(row) + [0] * gap)
        found, together = (torch.tensor(rows, device=self.model.device) for rows in (ids, mask))
        given = {"input_ids": found, "attention_mask": together}
        return given | ({"position_ids": (together.cumsum(-1) - 1).clamp(min=0)} if self.positions else {})

    def _is_close(self, got: Tensor, want: Tensor) -> bool:
        """Whether [T, H] states are equal up to rounding, relative to each token's largest value.

        Relative, because beside a massive activation the small ones are rounded coarsely.
        """
        gaps = (got - want).abs().amax(-1) / want.abs().amax(-1).clamp(min=1e-12)
        if self.model.hf_model.dtype.itemsize >= 4:
            return bool((gaps <= CLOSE).all())
        return bool(gaps.median() <= LOW_PRECISION_CLOSE)

    def _reason(self, rows: list[list[int]], paths: list[LayerPath], alone: list[Tensor]) -> str:
        """Why no way holds, in a few words."""
        model = self.model
        shorter = self._alone(rows[0][:-1], paths[0])
        if not self._is_close(shorter, alone[0][: len(shorter)]):
            return "not causal: a later token changes earlier outputs"
        model.restrictions = replace(model.restrictions, one_length=False, own_positions=False, position_offset=0)
        uncached = self._batch(rows[:1], "right")
        del uncached["input_ids"]
        if not self._is_close(self._alone(rows[0], paths[0], **uncached), alone[0]):
            return "explicit positions give other outputs than its own"
        if not self._is_close(self._cached(rows[:1], paths[:1])[0], alone[0]):
            return "its layers keep state outside the key-value cache"
        return "a row of a batch is not what it is alone"
