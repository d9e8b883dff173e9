"""How fast systems are: one forward from prompt to scores or answer, in turns, so that noise meets all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pathgen.engine.cache import RoutedCache
from pathgen.engine.decoding import left_padded
from pathgen.engine.padded_rows import prompt_mask, row_inputs
from pathgen.engine.policies import LayerPolicy
from pathgen.evaluation.evaluator import Evaluator, Prepared

TIMED_QUESTIONS = 4
TURNS = 3
"""Times that each system runs each of them, after one that only warms up."""

PolicyMaker = Callable[[Sequence[int]], LayerPolicy]
"""From the question of each row of a batch, by place, a policy for that batch."""


@dataclass(frozen=True, slots=True)
class Forwarded:
    """One batch run: tokens scored or made, and bytes that the cache held at its end."""

    tokens: int
    cache_bytes: int | None


Run = Callable[[Sequence[int]], Forwarded]
"""Runs the questions at these places."""


class Forwards:
    """Whole answers in one call: the policy decides on the prompt while the same forward goes on to the choices.

    Args:
        evaluator: the model on the task.
        prepared: the questions by place.
    """

    def __init__(self, evaluator: Evaluator, prepared: Mapping[int, Prepared]):
        self._evaluator = evaluator
        self._prepared = prepared

    def run(self, places: Sequence[int], policy: PolicyMaker) -> Forwarded:
        """The questions at these places as one batch."""
        return self._generate(places, policy) if self._evaluator.task.generates else self._score(places, policy)

    @torch.inference_mode()
    def _score(self, places: Sequence[int], policy: PolicyMaker) -> Forwarded:
        """Rows of prompt and choices, of which the policy sees the prompt alone."""
        model = self._evaluator.model
        owners = [place for place in places for _ in self._prepared[place].rows]
        rows = [row for place in places for row in self._prepared[place].rows]
        scored = np.unique(np.concatenate([row.scored for row in rows]))
        cache = RoutedCache(model.num_layers)
        with model.routed(policy(owners), prompt_mask(rows, model.device)):
            model.hf_model(
                **row_inputs(model, self._evaluator.masks, rows),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=torch.from_numpy(scored).to(model.device),
            )
        return Forwarded(sum(len(row.targets) for row in rows), cache.nbytes)

    def _generate(self, places: Sequence[int], policy: PolicyMaker) -> Forwarded:
        model, task = self._evaluator.model, self._evaluator.task
        prompts = [self._prepared[place].prompt_ids for place in places]
        ids, mask = left_padded(prompts, model.device)
        cache = RoutedCache(model.num_layers)
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
    """What was measured of one system.

    Attributes:
        latencies_s: [turns · questions] of one question alone, in the same order for all systems.
        tokens_per_second: at the benchmark's batch size.
        cache_bytes: held for one question at its end, the mean; None where there is no one cache.
        peak_memory_mb: of CUDA, at the benchmark's batch size; None on the CPU.
    """

    latencies_s: tuple[float, ...]
    tokens_per_second: float
    cache_bytes: int | None
    peak_memory_mb: float | None

    def latency_ms(self, percentile: float) -> float:
        """That percentile of the latencies."""
        return 1000 * float(np.percentile(self.latencies_s, percentile))

    def overhead_over(self, other: Timing) -> float:
        """Share of time beyond another's, the median over the same questions and turns."""
        return float(np.median(np.array(self.latencies_s) / np.array(other.latencies_s))) - 1


def time_systems(
    runs: Mapping[str, Run],
    places: Sequence[int],
    together: Sequence[int],
    device: torch.device,
    on_round: Callable[[int], None] = lambda done: None,
) -> dict[str, Timing]:
    """Time all systems on the same questions, one after the other in each turn, the first one another each time.

    Args:
        runs: by name.
        places: of the questions timed one by one.
        together: of those of one batch, for the rate.
        device: of the model.
        on_round: told how many rounds through all systems, one a question and turn, are done.
    """
    names = list(runs)
    alone: dict[str, list[float]] = {name: [] for name in names}
    held: dict[str, list[int]] = {name: [] for name in names}
    rates: dict[str, list[float]] = {name: [] for name in names}
    peaks: dict[str, float | None] = dict.fromkeys(names)
    for turn in range(TURNS + 1):
        first = turn % len(names)
        order = names[first:] + names[:first]
        for count, place in enumerate(places):
            on_round(turn * len(places) + count)
            for name in order:
                seconds, forwarded = _timed(runs[name], [place], device)
                if turn:
                    alone[name].append(seconds)
                    held[name] += [] if forwarded.cache_bytes is None else [forwarded.cache_bytes]
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
            round(float(np.mean(held[name]))) if held[name] else None,
            peaks[name],
        )
        for name in names
    }


def _timed(run: Run, places: Sequence[int], device: torch.device) -> tuple[float, Forwarded]:
    started = time.perf_counter()
    forwarded = run(places)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started, forwarded
