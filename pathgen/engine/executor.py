"""Scores of many (row, path) pairs at once: one layer-synchronous batch over the states the paths share.

Three steps. *Capture*: a stock forward without the head, the layers stubbed, records what each layer is called with
(masks, positions, rotary tables). *Layers*: the plan of `sharing` runs over a pool of states. *Finish*: the scored
positions' states go back in through the last layer of a one-token stock forward, so that norm, head and
soft-capping stay the model's, and logits exist for a few positions at a time.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..paths.layer_path import LayerPath
from .cache import RoutedCache
from .influence import InfluenceMeter
from .kept_states import KeptStates
from .logprobs import state_logprobs
from .padded_rows import MaskForm, row_inputs
from .path_model import PathModel
from .probe.shared_keys import SharedKeys
from .shared_prefill import (
    BranchCache,
    RecordingCache,
    stem_inputs,
    stem_of,
    tail_inputs,
    tail_of,
)
from .sharing import Plan, StateKey, Step, is_bridge, plan_sharing, states_to, steps_of
from .supported import take_rows
from .token_rows import Row, scored_positions
from .wrapped.wrapped_model import LayerCalls

STEP_TOKENS = {"cpu": 4096, "cuda": 32768}
"""Most tokens in one call of one layer, by device type."""
KEEP_BYTES = 1 << 30
"""Default bound on states kept between calls."""


@dataclass(slots=True)
class Work:
    """Work done by an executor so far."""

    layers_run: int = 0
    """Layer executions after sharing, one per state."""
    token_layers: int = 0
    """Tokens of these executions, padding included."""
    layers_run_by_row: Counter[Hashable] = field(default_factory=Counter)
    """`layers_run` by row key, until the row's question is forgotten."""
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Wall time by step: capture, layers, finish; and decode, which the evaluator adds."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows as the arguments of one forward, and the cache that its layers are called with.

    With `from_end` they are padded on the left.
    """

    rows: list[Row]
    inputs: dict[str, Any]
    cache: RecordingCache | BranchCache | None
    from_end: bool = False


class Executor:
    """Evaluates paths on rows of one model: packed rows with `masks`, plain causal rows without.

    Attributes:
        influence: of each layer and pair, by row key, as `InfluenceMeter.found`; measured when a row's full path runs.
    """

    def __init__(self, model: PathModel, masks: MaskForm | None, keep_bytes: int = KEEP_BYTES):
        self.model = model
        self.masks = masks
        self.kept = KeptStates(0 if model.pinned_layers else keep_bytes)  # states are kept without others' keys
        self.work = Work()
        self.influence: dict[Hashable, tuple[float, ...]] = {}
        self._bridges = model.bridges
        self._branching = model.carries_state and not model.restrictions.single_steps
        self.step_tokens = STEP_TOKENS.get(model.device.type, STEP_TOKENS["cuda"])

    def token_logprobs(self, asked: Sequence[tuple[Row, LayerPath]]) -> list[np.ndarray]:
        """Log-probabilities, in nats, of the target tokens: one [K] float32 array per pair. Equal pairs run once."""
        return self._logprobs(self._evaluate(asked, None), [row for row, _ in asked])

    def scored_states(self, asked: Sequence[tuple[Row, LayerPath]]) -> list[Tensor]:
        """What the last layer returns at the scored positions: one [S, H] tensor per pair. Equal pairs run once."""
        return list(self._evaluate(asked, None).split([len(row.scored) for row, _ in asked]))

    def prefill(self, asked: Sequence[tuple[Row, LayerPath]]) -> tuple[list[np.ndarray], RoutedCache]:
        """`token_logprobs` of plain causal rows, and a cache from which generation can continue.

        The cache holds the prompt of each pair without its last token, padded on the left.
        """
        assert self.masks is None, "generation continues from plain causal rows"
        recorder = RecordingCache(self.model.slot_makers, self.model.layer_places)
        logprobs = self._logprobs(self._evaluate(asked, recorder), [row for row, _ in asked])
        bridged = self._bridges is not None
        return logprobs, recorder.filled(asked, self.model.device, bridged, stems=self.model.carries_state)

    @torch.inference_mode()
    def _evaluate(self, asked: Sequence[tuple[Row, LayerPath]], recorder: RecordingCache | None) -> Tensor:
        """The final states [N, H] at the scored positions of all pairs, one pair after another."""
        if self.model.bridges is not self._bridges:  # the kept states may come from others
            self.kept.forget_bridged()
            self._bridges = self.model.bridges
        self.model.check_paths(dict.fromkeys(path for _, path in asked))
        rows = self._with_own_rows(list({row.key: row for row, _ in asked}.values()))
        stems = [stem_of(row) for row in rows] if self.model.carries_state else []
        if self._branching or (self.model.carries_state and recorder is not None):
            recorder = recorder or RecordingCache(self.model.slot_makers, self.model.layer_places)
            self._run_stems(asked, stems, recorder)
        if not self._branching:
            cache = None if self.model.carries_state else recorder
            return self._pass(asked, Batch(rows, row_inputs(self.model, self.masks, rows), cache))
        assert recorder is not None
        tails = [tail_of(row) for row in rows]
        self.influence |= {row.key: self.influence[row.stem_key] for row in rows if row.stem_key in self.influence}
        given = Batch(tails, tail_inputs(tails, stems, self.model.device), BranchCache(recorder, tails, stems))
        by_key = {tail.key: tail for tail in tails}
        return self._pass([(by_key[row.key], path) for row, path in asked], given)

    def _with_own_rows(self, rows: list[Row]) -> list[Row]:
        """The rows, a single one twice where its layers' arguments must be taken for each state."""
        return rows * 2 if len(rows) == 1 and self.model.restrictions.own_rows else rows

    def _run_stems(self, asked: Sequence[tuple[Row, LayerPath]], stems: list[Row], recorder: RecordingCache) -> None:
        """Run the stem of each asked row along the row's path, and record what its layers store."""
        by_key = {stem.key: stem for stem in stems}
        on_stems = dict.fromkeys((row.stem_key, path) for row, path in asked)
        alone = self._with_own_rows(list(by_key.values()))
        given = Batch(alone, stem_inputs(alone, self.model.device), recorder, from_end=True)
        self._pass([(by_key[key], path) for key, path in on_stems], given)

    def _pass(self, asked: Sequence[tuple[Row, LayerPath]], batch: Batch) -> Tensor:
        """`_evaluate`, of rows that run as one batch."""
        started = time.perf_counter()
        recorder = batch.cache if isinstance(batch.cache, RecordingCache) else None
        width = batch.inputs["input_ids"].shape[-1] + (batch.cache.get_seq_length() if batch.cache is not None else 0)
        hidden, calls = self.model.capture(
            **batch.inputs, past_key_values=batch.cache, use_cache=batch.cache is not None
        )
        plan = plan_sharing(
            [(row.key, path) for row, path in asked],
            {row.key: index for index, row in enumerate(batch.rows)},
            self.kept.__contains__ if recorder is None else self.kept.holds_way_to,
            max(1, self.step_tokens // width),
            bridged=self._bridges is not None,
        )
        layers_started = time.perf_counter()
        if recorder is not None:
            for key in self._not_run(asked, plan):
                recorder.states[key] = self.kept.stored(key)
        full = LayerPath.full(self.model.num_layers)
        watched = {row.key: row for row, path in asked if path == full and len(row)}
        meter = InfluenceMeter(watched, self.model.num_layers, batch.from_end)
        pool = self._run(plan, hidden, calls, batch, meter)
        if not isinstance(batch.cache, BranchCache):
            self.influence |= meter.found()
        owners, scored, _, _ = scored_positions([row for row, _ in asked])
        slots, tokens = (torch.from_numpy(a).to(pool.device) for a in (np.array(plan.finals)[owners], scored))
        states = pool[slots, tokens]
        self.work.seconds["capture"] += layers_started - started
        self.work.seconds["layers"] += time.perf_counter() - layers_started
        return states

    def _run(
        self,
        plan: Plan,
        hidden: Tensor,
        calls: LayerCalls,
        given: Batch,
        meter: InfluenceMeter,
    ) -> Tensor:
        """Run all steps; return the pool [slots, T, H] that holds the final states."""
        row_index = {row.key: index for index, row in enumerate(given.rows)}
        batch, width, _ = hidden.shape
        pool = hidden.new_zeros(max(plan.num_slots, 1), *hidden.shape[1:])
        indices = _upload(plan.steps, hidden.device)

        shared = SharedKeys(self.model.pinned_layers) if self.model.pinned_layers else None
        # Held from the start: states that this call puts into `kept` may push out states that later steps load.
        planned = [load for step in plan.steps for load in step.loads] + plan.last_loads
        held = {key: self.kept[key] for _, key in planned if key[1]}

        def load(slot: int, key: StateKey) -> None:
            index = row_index[key[0]]
            if key[1]:
                kept, tokens = held.pop(key), len(given.rows[index])
                # Beyond them the slot is still zero: a plan loads into fresh slots only.
                first, start = (width - tokens, len(kept) - tokens) if given.from_end else (0, 0)
                pool[slot, first : first + tokens] = kept[start : start + tokens].to(pool.device)
            else:
                pool[slot] = hidden[index]

        for step, (sources, targets, row_numbers) in zip(plan.steps, indices, strict=True):
            for slot, key in step.loads:
                load(slot, key)
            before = pool.index_select(0, sources)
            if step.bridged:
                states = self.model.run_bridge(step.layer, before)
                pool.index_copy_(0, targets, states.to(pool.device))
                self.kept.put(step.states, states)
                continue
            args, kwargs = calls[step.layer]
            if batch > 1:
                args, kwargs = take_rows((args, kwargs), row_numbers, batch, self.model.row_axes)
            if shared is not None:
                kwargs = shared.given(step.states, kwargs)
            if isinstance(given.cache, BranchCache):
                given.cache.before(step.layer, step.states)
            states = self.model.run_layer(step.layer, before, args, kwargs)
            if shared is not None:
                shared.keep(step.layer, step.states, kwargs)
            meter.watch(step.layer, step.states, before, states)
            pool.index_copy_(0, targets, states.to(pool.device))
            stored = given.cache.name_last(step.states) if isinstance(given.cache, RecordingCache) else None
            self.kept.put(step.states, states, stored)
            self.work.layers_run += len(step.states)
            self.work.token_layers += len(step.states) * width
            self.work.layers_run_by_row.update(key[0] for key in step.states)
        for slot, key in plan.last_loads:
            load(slot, key)
        return pool

    def _not_run(self, asked: Sequence[tuple[Row, LayerPath]], plan: Plan) -> list[StateKey]:
        """The layers' states of the asked paths that the plan leaves out, because they are kept."""
        run = {state for step in plan.steps for state in step.states}
        ends = dict.fromkeys((row.key, steps_of(path, self._bridges is not None)) for row, path in asked)
        states = dict.fromkeys(chain.from_iterable(map(states_to, ends)))
        return [state for state in states if state not in run and not is_bridge(state)]

    @torch.inference_mode()
    def _logprobs(self, states: Tensor, rows: list[Row]) -> list[np.ndarray]:
        """Log-probabilities of the rows' targets, from the states at their scored positions."""
        started = time.perf_counter()
        _, _, predicts, targets = scored_positions(rows)
        values = state_logprobs(self.model, states, predicts, targets)
        self.work.seconds["finish"] += time.perf_counter() - started
        return np.split(values, np.cumsum([len(row.targets) for row in rows])[:-1])


def _upload(steps: list[Step], device: torch.device) -> list[tuple[Tensor, Tensor, Tensor]]:
    """All steps' (sources, targets, rows) as device tensors, in one transfer."""
    if not steps:
        return []
    flat = np.concatenate([np.array([s.sources, s.targets, s.rows], dtype=np.int64).ravel() for s in steps])
    sizes = [3 * len(step.sources) for step in steps]
    parts = torch.from_numpy(flat).to(device, non_blocking=True).split(sizes)
    return [tuple(part.view(3, -1)) for part in parts]
