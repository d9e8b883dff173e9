"""What layers do along a policy's paths: each row skips, runs or repeats a layer as was decided for it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...paths.layer_path import LayerAction
from ..cache import RoutedCache, RowPlan, layer_cache
from ..policies import LayerPolicy, Unsure
from ..supported import PinnedLayerError, take_rows
from .bridged_model import BridgedModel
from .fall_back import Fork


class Routing:
    """A mode of the model: asks the policy once per layer, and replays what the cache holds of its answers.

    Args:
        model: whose layers run.
        policy: decides each row's action.
        prompt_mask: [B, T] what the policy sees. A forward over k·B rows (beams) repeats each row's decision k times.
    """

    def __init__(self, model: BridgedModel, policy: LayerPolicy, prompt_mask: Tensor):
        self._model = model
        self._policy = policy
        self._prompt_mask = prompt_mask
        self._unsure: Unsure | None = getattr(policy, "unsure", None)
        self._fork: Fork | None = None
        if self._unsure is not None and model.pinned_layers:
            raise PinnedLayerError(
                f"{model.name}: later layers read the keys of layer {min(model.pinned_layers)}, so rows cannot fall "
                "back to full depth: a cascade does not run here"
            )

    def __call__(self, index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        """What the layer returns: [B, T, H] states in its own form, of rows that skipped, ran or repeated it."""
        model = self._model
        cache = layer_cache(args, kwargs, model.name)
        plan = cache.plans.get(index) if cache is not None else None
        if plan is None:
            plan = self._decided(index, hidden, cache)
            if self._unsure is not None:
                self._note(index, plan, hidden, args, kwargs)
        if plan.skipped and model.bridges is not None:
            for rows in plan.skipped:
                hidden = self._bridge_rows(index, rows, hidden)
        for turn, rows in enumerate(plan.passes):
            if cache is not None:
                cache.turn = turn
            if rows is None:
                hidden = model.run_layer(index, hidden, args, kwargs)
            else:
                hidden = self._run_rows(index, rows.to(hidden.device), hidden, args, kwargs)
        if index == model.num_layers - 1:
            if self._fork is not None and self._unsure is not None:
                hidden = self._fork.settled(model, hidden, self._prompt_mask, self._unsure, cache)
                self._fork = None
            if cache is not None:
                cache.length += hidden.shape[1]
        return model.as_returned(index, hidden)

    def _decided(self, index: int, hidden: Tensor, cache: RoutedCache | None) -> RowPlan:
        count = len(self._prompt_mask)
        copies = hidden.shape[0] // count
        decided = self._policy.actions(index, hidden[::copies], self._prompt_mask)
        if decided.shape != (count,):
            raise ValueError(f"a policy returns one action per row: shape ({count},); got {tuple(decided.shape)}")
        plan = RowPlan.of(decided.repeat_interleave(copies), hidden.device)
        if index in self._model.pinned_layers and not bool((plan.actions == LayerAction.EXECUTE).all()):
            raise PinnedLayerError(
                f"{self._model.name}: layer {index} always executes once: later layers read its keys"
            )
        if cache is not None:
            cache.plans[index] = plan
        return plan

    def _note(self, index: int, plan: RowPlan, hidden: Tensor, args: tuple, kwargs: dict) -> None:
        """Keep what it takes to run the layers again from the first on that a row does not execute once."""
        if index == 0:
            self._fork = None
        if self._fork is None and not bool((plan.actions == LayerAction.EXECUTE).all()):
            self._fork = Fork(index, hidden)
        if self._fork is not None:
            self._fork.calls.append((args, kwargs))

    def _run_rows(self, index: int, rows: Tensor, hidden: Tensor, args: tuple, kwargs: dict) -> Tensor:
        some_args, some_kwargs = take_rows((args, kwargs), rows, hidden.shape[0], self._model.row_axes)
        ran = self._model.run_layer(index, hidden[rows], some_args, some_kwargs)
        # In a model spread over devices, each layer returns on its own device, and the states continue there.
        return hidden.to(ran.device).index_copy(0, rows.to(ran.device), ran)

    def _bridge_rows(self, index: int, rows: Tensor | None, hidden: Tensor) -> Tensor:
        if rows is None:
            return self._model.run_bridge(index, hidden)
        rows = rows.to(hidden.device)
        return hidden.index_copy(0, rows, self._model.run_bridge(index, hidden[rows]).to(hidden.device))
