"""What a model must show when it is wrapped: a few rows of a few tokens against the plainest forwards of its own.

Two short rows run along different paths, one with a repeat in the middle and one that skips, together in a batch:
padded on the left and continued from the cache, then padded on the right without one. Each must give what it gives
alone, in an unpadded forward with the model's own default positions, each layer called as often as its path says.
What fails is run in the restricted way that passes, or the model is refused with the reason. A model is wrapped at the
cost of five forwards of a few tokens, two more where layers carry states.
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
from ..supported import UnsupportedModelError, take_rows
from ..wrapped.wrapped_model import LayerCalls
from .alone import Alone, check_shape
from .arguments import RowAxes, find_row_axes
from .closeness import is_close
from .restrictions import KEYS_ARE_PICKED, Restrictions
from .rotary import rope_border

LONG, SHORT = 9, 5
"""Tokens of the two rows; the last one runs from the cache."""


@torch.inference_mode()
def probe_model(model: Any) -> None:
    """Set `row_axes` and `restrictions` of a `PathModel` under construction.

    Raises:
        UnsupportedModelError: the model cannot be run along paths; the message names it and the reason.
    """
    name = type(model.hf_model).__name__
    try:
        positions = "position_ids" in inspect.signature(model.hf_model.forward).parameters
        _Probe(model, name, positions, Alone(model)).run()
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
    lone: Alone

    def run(self) -> None:
        model = self.model
        model.restrictions = self._within_border()
        rows, paths = self._rows(), self._paths()
        alone = [self.lone.checked(rows[0], paths[0]), self.lone.run(rows[1], paths[1])]
        two, three = (self._captured(picked) for picked in (rows, [*rows, rows[0]]))
        model.row_axes = self._row_axes(two, three)
        for restrictions in self._ways():
            model.restrictions = restrictions
            if self._counts_alike(rows) and self._holds(rows, paths, alone):
                model.restrictions = replace(
                    restrictions,
                    own_rows=self._needs_own_rows(*two),
                    single_steps=model.carries_state and not self._goes_on(rows[0], paths[0], alone[0]),
                )
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

    def _captured(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, LayerCalls]:
        """First states and layer calls of rows padded on the left; no layer runs."""
        states, calls = self.model.capture(**self._batch(rows, "left"), use_cache=False)
        check_shape(self.name, states, len(rows), len(rows[0]))
        return states, calls

    def _row_axes(self, two: tuple[Tensor, LayerCalls], three: tuple[Tensor, LayerCalls]) -> RowAxes:
        """From captures of two and three rows."""
        found: RowAxes = {}
        for calls in zip(two[1], three[1], strict=True):
            try:
                found |= find_row_axes(*calls)
            except ValueError as error:
                raise UnsupportedModelError(f"{self.name}: {error}") from error
        return found

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

    def _cached(self, rows: Sequence[Sequence[int]], paths: Sequence[LayerPath], steps: int = 1) -> list[Tensor]:
        """[T, H] of each row: the batch padded on the left, its last tokens from the cache, `steps` at once."""
        model = self.model
        given = self._batch(rows, "left")
        mask, width = given["attention_mask"], given["attention_mask"].shape[1]
        cache = model.new_cache()
        ends = [0, width - steps, width] if width > steps else [0, width]
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

    def _goes_on(self, row: list[int], path: LayerPath, alone: Tensor) -> bool:
        """Whether several tokens can go on from a stored state."""
        try:
            return self._is_close(self._cached([row], [path], steps=LONG - SHORT)[0], alone)
        except Exception:  # it may raise anything
            return False

    def _needs_own_rows(self, states: Tensor, calls: LayerCalls) -> bool:
        """Whether a layer refuses two states with the arguments of one row; the first layer of each kind is tried.

        Args:
            states: [2, T, H] of two rows.
            calls: their layer calls.
        """
        model = self.model
        kinds = getattr(model.config, "layer_types", None) or [""] * model.num_layers
        first: dict[tuple[type, str], int] = {}
        for place, (layer, kind) in enumerate(zip(model.layers, kinds, strict=False)):
            first.setdefault((type(layer), kind), place)
        one = torch.zeros(1, dtype=torch.long, device=states.device)
        try:
            for place in first.values():
                model.run_layer(place, states, *take_rows(calls[place], one, 2, model.row_axes))
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
        return is_close(got, want, self.model.hf_model.dtype)

    def _reason(self, rows: list[list[int]], paths: list[LayerPath], alone: list[Tensor]) -> str:
        """Why no way holds, in a few words."""
        model = self.model
        shorter = self.lone.run(rows[0][:-1], paths[0])
        if not self._is_close(shorter, alone[0][: len(shorter)]):
            return "not causal: a later token changes earlier outputs"
        model.restrictions = replace(model.restrictions, one_length=False, own_positions=False, position_offset=0)
        uncached = self._batch(rows[:1], "right")
        del uncached["input_ids"]
        if not self._is_close(self.lone.run(rows[0], paths[0], **uncached), alone[0]):
            return "explicit positions give other outputs than its own"
        if not self._is_close(self._cached(rows[:1], paths[:1])[0], alone[0]):
            return "its layers keep state outside the key-value cache"
        return "a row of a batch is not what it is alone"
