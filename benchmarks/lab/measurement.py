"""What all benchmarks share: the machine, turns that alternate, and intervals by bootstrap over questions."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import typer
from numpy.typing import ArrayLike, NDArray

from pathgen.errors import PathgenError

DRAWS = 10_000
"""Bootstrap draws behind each interval."""
PACKAGES = ("layerpaths", "torch", "transformers", "ray", "numpy")

T = TypeVar("T")
R = TypeVar("R")


def run_script(main: Callable[..., None]) -> None:
    """Run a benchmark's `main` as its command line; what a person did wrong ends in one line and an exit code."""
    try:
        typer.run(main)
    except PathgenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def machine(threads: int) -> dict[str, Any]:
    """What a figure was taken on; `load_average` is the last minute's, the benchmark's own work included.

    Args:
        threads: torch threads that each rival (or each actor) may use.
    """
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "torch_threads": threads,
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
    }


def alternate(
    rivals: Mapping[str, Callable[[Sequence[T]], R]], items: Sequence[T], *, block: int, repeats: int
) -> dict[str, list[list[R]]]:
    """Run every rival on every block of items, `repeats` times, in turns, so that drift hits all alike.

    The order of the rivals is rotated from turn to turn.

    Returns:
        [repeats][blocks] of what the rival gave, by rival.
    """
    blocks = [items[start : start + block] for start in range(0, len(items), block)]
    results: dict[str, list[list[R]]] = {name: [[] for _ in range(repeats)] for name in rivals}
    for repeat in range(repeats):
        for number, part in enumerate(blocks):
            for name in rotated(list(rivals), repeat + number):
                print(f"repeat {repeat + 1}/{repeats}, block {number + 1}/{len(blocks)}: {name}", file=sys.stderr)
                results[name][repeat].append(rivals[name](part))
    return results


def rotated(names: Sequence[T], turn: int) -> list[T]:
    """The names, starting with another one each turn."""
    start = turn % len(names)
    return [*names[start:], *names[:start]]


def mean(values: ArrayLike, seed: int) -> dict[str, Any]:
    """A mean over questions with its interval.

    Args:
        values: [questions].
        seed: of the bootstrap.
    """
    return _estimate(float(np.mean(_floats(values))), _resampled_means(values, seed))


def ratio(numerators: ArrayLike, denominators: ArrayLike, seed: int, *, paired: bool = True) -> dict[str, Any]:
    """A ratio of means over questions with its interval.

    Args:
        numerators: [questions].
        denominators: [questions], of the same ones in the same order if `paired`.
        seed: of the bootstrap.
        paired: whether one draw of questions serves both sides.
    """
    value = float(np.mean(_floats(numerators)) / np.mean(_floats(denominators)))
    below = _resampled_means(denominators, seed if paired else seed + 1)
    return _estimate(value, _resampled_means(numerators, seed) / below)


def median_ratio(numerators: ArrayLike, denominators: ArrayLike, seed: int) -> dict[str, Any]:
    """The median over turns of one rival's figure beside another's of the same turn, with its interval.

    Args:
        numerators: [turns].
        denominators: [turns], of the same turns.
        seed: of the bootstrap.
    """
    ratios = _floats(numerators) / _floats(denominators)
    return _estimate(float(np.median(ratios)), np.median(_resampled(ratios, seed), axis=1))


def share(hits: int, total: int) -> dict[str, Any]:
    """A share with its Wilson interval, which a bootstrap would leave empty at 0 and 1."""
    from pathgen.evaluation.intervals import (
        wilson_interval,  # not above: it loads torch, which the driver of `scale` is without
    )

    if not total:
        return {"value": None, "ci95": None, "of": 0}
    return {"value": hits / total, "ci95": list(wilson_interval(hits, total)), "of": total}


def target(value: float | None, *, least: float | None = None, most: float | None = None) -> dict[str, Any]:
    """A figure beside what it should be; one that could not be taken has not met it."""
    met = value is not None and (least is None or value >= least) and (most is None or value <= most)
    return {"value": value, "least": least, "most": most, "met": bool(met)}


def apportion(seconds: float, weights: ArrayLike) -> NDArray[np.float64]:
    """Wall time of a block, shared out by weight: what each of its questions cost, overheads included."""
    positive = np.maximum(_floats(weights), 1e-9)
    return seconds * positive / positive.sum()


def resamples(count: int, seed: int | np.random.Generator, draws: int = DRAWS) -> NDArray[np.int_]:
    """[draws, count] indices of questions, drawn with replacement.

    Args:
        count: questions.
        seed: equal ones draw the same of equally many questions; a generator goes on from where it is.
        draws: how often.
    """
    return np.random.default_rng(seed).integers(count, size=(draws, count))


def ci95(draws: NDArray[np.float64]) -> list[float]:
    """The interval that holds the middle 95 % of bootstrap draws."""
    return np.quantile(draws, [0.025, 0.975]).tolist()


def _resampled_means(values: ArrayLike, seed: int) -> NDArray[np.float64]:
    """[DRAWS] means over questions drawn with replacement; equal seeds and lengths draw the same questions."""
    return _resampled(_floats(values), seed).mean(axis=1)


def _resampled(sample: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """[DRAWS, n] samples drawn with replacement."""
    return sample[resamples(len(sample), seed)]


def _estimate(value: float, draws: NDArray[np.float64]) -> dict[str, Any]:
    return {"value": value, "ci95": ci95(draws)}


def _floats(values: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # code that runs from its checkout, or a benchmark that needs no Ray
        return None


def _cpu_model() -> str:
    """By Linux's own words where there are any; elsewhere Python's."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
