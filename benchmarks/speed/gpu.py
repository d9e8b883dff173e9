"""All that is measured on a GPU, by one command that ends in minutes and downloads nothing.

    python -m benchmarks.speed.gpu --out gpu.json               # on a GPU of 48 GB or more
    python -m benchmarks.speed.gpu --device cpu --shapes tiny   # tries the script itself

Sections, in this order: `exactness` runs the tests marked `gpu`; then, for each model of random weights, `search`
(questions per second, ours and the published search's), `decode` (tokens per second beside plain `generate`) and
`router` (what deciding adds to a prefill). Each gets its share of the time that is left, and is left out, by name,
where that is too little. One that fails is told as well, and the others run.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer

from benchmarks.lab.accelerator import begin_peak, describe, peak_bytes, release
from benchmarks.lab.measurement import machine, run_script
from benchmarks.speed.gpu_decode import decode_section, router_section
from benchmarks.speed.gpu_exactness import gpu_tests, run_tests
from benchmarks.speed.gpu_search import SETTINGS, SearchBench
from benchmarks.speed.made_models import SHAPES, MadeModel, make_model
from cluster.program.console import print_json
from pathgen.errors import InputError, PathgenError
from pathgen.models.devices import default_device

KINDS = ("exactness", "search", "decode", "router")
MOST_TESTS_S = 150.0
NOTE = (
    "random weights: times hold, verdicts are chance; both searches run all their simulations, ours by the stop rule "
    "`budget`"
)


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the measurements.

    Attributes:
        least_s: with less time it is left out.
        weight: its share of the time, over the weights of all that are still to come.
        measure: its figures, in about so many seconds.
    """

    name: str
    least_s: float
    weight: float
    measure: Callable[[float], dict[str, Any]]


@dataclass
class Bench:
    """The sections' models, one in memory at a time.

    Attributes:
        built: what making each model took, by name.
    """

    device: torch.device
    dtype: torch.dtype
    shapes: str
    simulations: int
    seed: int
    built: dict[str, Any] = field(default_factory=dict)
    _made: MadeModel | None = None

    def model(self, name: str) -> MadeModel:
        """The model of that name; the one before is freed."""
        if self._made is None or self._made.name != name:
            self._made = None
            release(self.device)
            before, started = begin_peak(self.device), time.perf_counter()
            made = self._made = make_model(name, SHAPES[self.shapes][name], self.device, self.dtype, self.seed)
            self.built[name] = {
                "seconds": time.perf_counter() - started,
                "parameters": made.parameters,
                "num_layers": made.path_model.num_layers,
                "bytes_before": before,
                "peak_bytes": peak_bytes(self.device),
            }
        return self._made

    def sections(self, kinds: list[str], models: list[str], scale: float) -> list[Section]:
        """The sections in order. The larger a model, the more time; `scale` is that of the least times."""
        found = []
        if "exactness" in kinds:
            found.append(Section("exactness", 20 * scale, 1.2, self._exactness))
        for place, name in enumerate(models):
            weight = 0.7 + 0.3 * place
            found += [
                Section(f"{name} {kind}", least_s * scale, weight * share, self._of_model(name, kind))
                for kind, least_s, share in (("search", 20, 1.0), ("decode", 15, 0.8), ("router", 4, 0.15))
                if kind in kinds
            ]
        return found

    def _exactness(self, seconds: float) -> dict[str, Any]:
        return run_tests(gpu_tests(), min(MOST_TESTS_S, max(seconds, 60.0)))

    def _of_model(self, name: str, kind: str) -> Callable[[float], dict[str, Any]]:
        def measure(seconds: float) -> dict[str, Any]:
            made = self.model(name)
            begin_peak(self.device)
            if kind == "search":
                return SearchBench(made, SETTINGS[self.shapes], self.simulations, self.seed).section(seconds)
            if kind == "decode":
                return decode_section(made, self.shapes, self.seed, seconds)
            return router_section(made, self.seed, seconds)

        return measure


def measure_all(sections: list[Section], document: dict[str, Any], bench: Bench, end: float, out: Path | None) -> None:
    """Fill the document section by section, and write it after each."""
    for place, section in enumerate(sections):
        left = end - time.perf_counter()
        share = left * section.weight / sum(later.weight for later in sections[place:])
        if share < section.least_s:
            document["left_out"].append(section.name)
            print(f"{section.name}: left out, {share:.0f} s are too few", file=sys.stderr, flush=True)
            continue
        print(f"{section.name}: about {share:.0f} s of {left:.0f}", file=sys.stderr, flush=True)
        started = time.perf_counter()
        try:
            release(bench.device)
            begin_peak(bench.device)
            found = section.measure(share)
            json.dumps(found, allow_nan=False)  # a figure that is none fails its section alone
        except Exception as error:  # the next section's figures are worth having
            found = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc(limit=-6)}
            document["failed"].append(section.name)
            print(f"{section.name}: {found['error']}", file=sys.stderr, flush=True)
        seconds, peak = time.perf_counter() - started, peak_bytes(bench.device)
        document["sections"][section.name] = {"seconds": seconds, "peak_bytes": peak, **found}
        document["models"] = bench.built
        if out is not None:
            part = out.with_name(f"{out.name}.part")
            part.write_text(json.dumps(document, indent=1))
            os.replace(part, out)


def main(
    device: Annotated[str, typer.Option(help="torch device [default: cuda if there is one, else cpu].")] = "",
    shapes: Annotated[Literal["full", "tiny"], typer.Option(help="Known models' shapes, or tiny ones.")] = "full",
    dtype: Annotated[str, typer.Option(help="Of the weights.")] = "bfloat16",
    minutes: Annotated[float, typer.Option(min=0.01, help="For everything.")] = 8.0,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON here, after each section.")] = None,
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(KINDS)}; may be repeated.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Of the shapes' models; may be repeated.")] = None,
    simulations: Annotated[int, typer.Option(min=1, help="Per question, for both searches.")] = 50,
    seed: Annotated[int, typer.Option(help="Of weights, questions, searches and the bootstrap.")] = 0,
) -> None:
    """Measure what fits the minutes; the last line on stdout is one JSON document. Exit code 1: a section failed."""
    end = time.perf_counter() + 60 * minutes
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    torch.set_num_threads(threads)
    kinds, models = only or list(KINDS), model or list(SHAPES[shapes])
    if unknown := {*kinds} - {*KINDS} | {*models} - {*SHAPES[shapes]}:
        raise InputError(f"{', '.join(sorted(unknown))}: choose from {', '.join((*KINDS, *SHAPES[shapes]))}")
    device = device or default_device()
    if device == "cpu" and shapes == "full":
        raise InputError("the full shapes need a GPU, and torch sees none; --shapes tiny tries the script without one")
    bench = Bench(torch.device(device), getattr(torch, dtype), shapes, simulations, seed)
    document: dict[str, Any] = {
        "benchmark": "gpu",
        "note": NOTE,
        "machine": machine(threads),
        "device": describe(bench.device),
        "shapes": shapes,
        "dtype": dtype,
        "minutes": minutes,
        "simulations": simulations,
        "seed": seed,
        "models": {},
        "sections": {},
        "left_out": [],
        "failed": [],
    }
    sections = bench.sections(kinds, models, scale=1.0 if shapes == "full" else 0.0)
    measure_all(sections, document, bench, end, out)
    print_json(document)
    failed_tests = document["sections"].get("exactness", {}).get("failed", 0)
    if document["failed"] or failed_tests:
        raise PathgenError(f"failed: {', '.join(document['failed'])}, tests: {failed_tests}")


if __name__ == "__main__":
    run_script(main)
