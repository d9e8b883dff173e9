"""`infer bench`. Heavy imports wait until it runs."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

from cluster.program.console import AsJson, Config, option, print_json, tell
from pathgen.errors import memory_told
from pathgen.models.checkpoints import DTYPES

LEFT_OUT = 3
"""Exit code of a benchmark that had to leave questions out."""


def bench(
    model: Annotated[str, option("Alias, hub id or folder of the model.", "--model")] = "smollm2-135m",
    router: Annotated[
        list[str] | None, option("[NAME=]DIR of a router; may repeat. skip_gate=DIR names the gates.", "--router")
    ] = None,
    task: Annotated[str, option("arc, arc-letter or math.", "--task")] = "arc",
    questions: Annotated[str, option("Builtin, hub dataset or file.", "--questions")] = "builtin:test",
    limit: Annotated[int | None, option("The first so many questions.", "--limit", min=1)] = None,
    systems: Annotated[str | None, option("By name, comma between [default: all].", "--systems")] = None,
    paths: Annotated[
        list[str] | None,
        option("Folder of `pathgen generate`; may repeat. Its other questions fit what needs fitting.", "--paths"),
    ] = None,
    static: Annotated[str | None, option("F.json of `pathgen static`, else fitted on --paths.", "--static")] = None,
    batch_size: Annotated[int, option("Questions that run together.", "--batch-size", min=1)] = 8,
    seed: Annotated[int, option("Of draws and intervals.", "--seed", min=0)] = 0,
    out: Annotated[str | None, option("Folder of results; the same command again goes on.", "--out")] = None,
    report: Annotated[str | None, option("HTML file to write.", "--report")] = None,
    device: Annotated[str | None, option("cpu, cuda or cuda:N [default: what there is].", "--device")] = None,
    dtype: Annotated[str | None, option(f"{', '.join(DTYPES)} [default: the paths'].", "--dtype")] = None,
    quiet: Annotated[bool, option("No progress.", "--quiet")] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """The routed model beside its baselines on the same questions: accuracy, depth, speed."""
    from .bench.bench import Bench
    from .bench.options import BenchOptions, parse_routers

    options = BenchOptions(
        model=model,
        task=task,
        questions=questions,
        routers=parse_routers(router or ()),
        limit=limit,
        systems=tuple(name.strip() for name in (systems or "").split(",") if name.strip()),
        paths=tuple(paths or ()),
        static=static,
        batch_size=batch_size,
        seed=seed,
        out=out,
        report=report,
        device=device,
        dtype=dtype,
        quiet=quiet,
    )
    with memory_told("a smaller --batch-size"):
        outcome = Bench(options, tell).run()
    if not as_json:
        from .bench.terminal import bench_text

        bench_text(outcome.figures)
    if report is not None:
        from .report.page import write_report

        command = shlex.join(["infer", *sys.argv[1:]])
        write_report(outcome.figures, outcome.questions, outcome.answers, report, command)
    if as_json:  # last: an error before it is the one object on stdout
        print_json(outcome.figures)
    if outcome.left_out:
        tell(f"questions left out, as they do not fit the model's context: {outcome.left_out}")
        raise typer.Exit(LEFT_OUT)
