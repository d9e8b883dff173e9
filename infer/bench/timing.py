"""Times systems from prompt to scores or answer, in turns, so that noise affects all alike."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pathgen.engine.padded_rows import prompt_mask, row_inputs
from pathgen.engine.policies import LayerPolicy
from pathgen.engine.token_rows import scored_positions
from pathgen.evaluation.decoding import left_padded
from pathgen.evaluation.evaluator import Evaluator, Prepared

TIMED_QUESTIONS = 4
TURNS = 3
"""Timed runs of each question by each system, after one warm-up."""

PolicyMaker = Callable[[Sequence[int]], LayerPolicy]
"""Makes the policy of a batch from the place of each row's question."""


@dataclass(frozen=True, slots=True)
class Forwarded:
    """The result of a batch: tokens scored or generated, and bytes of the cache at its end."""

    tokens: int
    cache_bytes: int | None


Run = Callable[[Sequence[int]], Forwarded]
"""Runs the questions at these places."""


@dataclass(frozen=True, slots=True, eq=False)
class Forwards:
    """Answers questions in one call: one forward runs the prompt, where the policy decides, and the choices.

    Attributes:
        prepared: the questions by place.
    """

    evaluator: Evaluator
    prepared: Mapping[int, Prepared]

    def run(self, places: Sequence[int], policy: PolicyMaker) -> Forwarded:
        """Run the questions at these places as one batch."""
        if not self.evaluator.task.generates:
            return self._score(places, policy)
        kind = self.evaluator.model.restrictions.kind
        kinds = {place: kind(len(self.prepared[place].prompt_ids), decodes=True) for place in places}
        parts = [
            self._generate([place for place in places if kinds[place] == one], policy)
            for one in dict.fromkeys(kinds.values())
        ]
        return Forwarded(sum(part.tokens for part in parts), sum(part.cache_bytes or 0 for part in parts))

    @torch.inference_mode()
    def _score(self, places: Sequence[int], policy: PolicyMaker) -> Forwarded:
        """One forward over prompts and choices, in which the policy sees only the prompts."""
        model = self.evaluator.model
        owners = [place for place in places for _ in self.prepared[place].rows]
        rows = [row for place in places for row in self.prepared[place].rows]
        at, tokens = (torch.from_numpy(found).to(model.device) for found in scored_positions(rows)[:2])
        cache = model.new_cache()
        with model.routed(policy(owners), prompt_mask(rows, model.device)):
            states = model.run_body(
                **row_inputs(model, self.evaluator.masks, rows), past_key_values=cache, use_cache=True
            )
        model.head(states[at.to(states.device), tokens.to(states.device)])
        return Forwarded(sum(len(row.targets) for row in rows), cache.nbytes)

    def _generate(self, places: Sequence[int], policy: PolicyMaker) -> Forwarded:
        model, task = self.evaluator.model, self.evaluator.task
        ids, mask = left_padded([self.prepared[place].prompt_ids for place in places], model.device)
        cache = model.new_cache()
        made = model.generate(
            ids,
            mask,
            policy=policy(places),
            cache=cache,
            max_new_tokens=task.max_new_tokens,
            stop_strings=list(task.stop) or None,
            tokenizer=model.tokenizer,
        )
        return Forwarded(int((made[:, ids.shape[1] :] != model.pad_token_id).sum()), cache.nbytes)


@dataclass(frozen=True, slots=True)
class Timing:
    """The measurements of one system.

    Attributes:
        latencies_s: [turns · questions] latency of one question alone, in the same order for all systems.
        tokens_per_second: at the benchmark's batch size.
        cache_bytes: mean size of the cache at the end of a question; None for a search, which has many.
        peak_memory_mb: on CUDA, at the benchmark's batch size; None on the CPU.
    """

    latencies_s: tuple[float, ...]
    tokens_per_second: float
    cache_bytes: int | None
    peak_memory_mb: float | None

    def latency_ms(self, percentile: float) -> float:
        """This percentile of the latencies."""
        return 1000 * float(np.percentile(self.latencies_s, percentile))

    def overhead_over(self, other: Timing) -> float:
        """Share of time above another timing, the median over the same questions and turns."""
        return float(np.median(np.array(self.latencies_s) / np.array(other.latencies_s))) - 1


def time_systems(
    runs: Mapping[str, Run],
    places: Sequence[int],
    together: Sequence[int],
    device: torch.device,
    on_round: Callable[[int], None] = lambda done: None,
) -> dict[str, Timing]:
    """Time all systems by name on the same questions, one after the other; each turn starts with another system.

    The questions at `places` are timed one by one, those at `together` as one batch, for the rate. `on_round` is called
    with 1 when all systems have run a question of a turn.
    """
    names = list(runs)
    alone: dict[str, list[float]] = defaultdict(list)
    caches: dict[str, list[int]] = defaultdict(list)
    rates: dict[str, list[float]] = defaultdict(list)
    peaks: dict[str, float] = {}
    for turn in range(TURNS + 1):
        first = turn % len(names)
        order = names[first:] + names[:first]
        for place in places:
            for name in order:
                seconds, forwarded = _timed(runs[name], [place], device)
                if turn:
                    alone[name].append(seconds)
                    if forwarded.cache_bytes is not None:
                        caches[name].append(forwarded.cache_bytes)
            on_round(1)
        for name in order:
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            seconds, forwarded = _timed(runs[name], together, device)
            if turn:
                rates[name].append(forwarded.tokens / seconds)
            if device.type == "cuda":
                peaks[name] = torch.cuda.max_memory_allocated(device) / 2**20
    return {
        name: Timing(
            tuple(alone[name]),
            float(np.median(rates[name])),
            round(float(np.mean(caches[name]))) if caches[name] else None,
            peaks.get(name),
        )
        for name in names
    }


def _timed(run: Run, places: Sequence[int], device: torch.device) -> tuple[float, Forwarded]:
    started = time.perf_counter()
    forwarded = run(places)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started, forwarded
