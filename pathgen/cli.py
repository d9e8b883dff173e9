"""`pathgen`: generate, static, stats, show, validate, export, import. Heavy imports wait until a command needs them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from cluster.program.console import AsJson, Config, make_app, option, print_json, tell
from cluster.program.json_codec import encoded

from .generate.options import GenerateOptions, make_search_settings, parse_actors
from .models.devices import DTYPES
from .paths.cost import CostName
from .search.settings import EXTRA_DEPTH, StopRule

DEFAULTS = GenerateOptions(out="")

app = make_app()


OutDir = Annotated[str, typer.Argument(metavar="DIR", help="A run's folder (the --out of `pathgen generate`).")]


@app.callback()
def _pathgen() -> None:
    """Search a frozen language model for the layer paths that answer each question best."""


@app.command()
def generate(
    out: Annotated[str, option("Folder or URL of the run; the same command again resumes.", "--out")],
    model: Annotated[str, option("Alias, hub id or local folder.", "--model")] = DEFAULTS.model,
    task: Annotated[str, option("arc, arc-letter or math.", "--task")] = DEFAULTS.task,
    questions: Annotated[
        str, option("builtin[:test], builtin-math, a file, or owner/name[:config][:split].", "--questions")
    ] = DEFAULTS.questions,
    limit: Annotated[int | None, option("Only the first N questions.", "--limit", min=1)] = DEFAULTS.limit,
    simulations: Annotated[
        int, option("Simulations per question.", "--simulations", min=1)
    ] = DEFAULTS.search.simulations,
    layer_budget: Annotated[
        int | None, option("Layer executions per question.", "--layer-budget", min=1)
    ] = DEFAULTS.search.layer_budget,
    seconds_budget: Annotated[
        float | None, option("Seconds per question.", "--seconds-budget")
    ] = DEFAULTS.seconds_budget,
    max_depth: Annotated[
        int | None, option(f"Layer executions of one path [default: layers + {EXTRA_DEPTH}].", "--max-depth", min=1)
    ] = DEFAULTS.search.max_depth,
    max_edits: Annotated[
        int, option("Skips and repeats of one path.", "--max-edits", min=1)
    ] = DEFAULTS.search.max_edits,
    parallel_leaves: Annotated[
        int, option("Paths a search asks at a time.", "--parallel-leaves", min=1)
    ] = DEFAULTS.search.parallel_leaves,
    calibrate: Annotated[
        int, option("Scan all moves on the first N questions for a prior; 0: none.", "--calibrate", min=0)
    ] = DEFAULTS.calibrate,
    prior: Annotated[str | None, option("Another run's prior.json.", "--prior")] = DEFAULTS.prior,
    stop: Annotated[StopRule, option("When a search stops.", "--stop")] = DEFAULTS.search.stop,
    cost: Annotated[CostName, option("What a path's cost counts.", "--cost")] = DEFAULTS.cost,
    actors: Annotated[str, option("Actors, or auto: one per GPU, or per 4 cores.", "--actors")] = "auto",
    threads_per_actor: Annotated[
        int | None,
        option("torch threads of each actor [default: cores / actors; 1 on CUDA].", "--threads-per-actor", min=1),
    ] = DEFAULTS.threads_per_actor,
    gpus_per_actor: Annotated[float, option("GPUs of each actor.", "--gpus-per-actor")] = DEFAULTS.gpus_per_actor,
    in_flight: Annotated[
        int | None, option("Searches interleaved in one actor [default: by device].", "--in-flight", min=1)
    ] = DEFAULTS.in_flight,
    dtype: Annotated[
        str | None, option(f"{', '.join(DTYPES)} [default: float32 on CPU, bfloat16 on CUDA].", "--dtype")
    ] = DEFAULTS.dtype,
    device: Annotated[str | None, option("cpu or cuda [default: what there is].", "--device")] = DEFAULTS.device,
    columns: Annotated[
        str | None, option("Our field = the source's column, e.g. id=qid,prompt=stem,gold=label.", "--columns")
    ] = None,
    chat: Annotated[bool, option("Ask through the chat template.", "--chat/--no-chat")] = DEFAULTS.chat,
    address: Annotated[
        str | None, option("A Ray cluster, auto or HOST:PORT; else Ray here.", "--address")
    ] = DEFAULTS.address,
    shared_fs: Annotated[bool, option("All nodes see --out as the same folder.", "--shared-fs")] = DEFAULTS.shared_fs,
    question_timeout_s: Annotated[
        float, option("Seconds without movement after which an actor is replaced.", "--question-timeout-s")
    ] = DEFAULTS.question_timeout_s,
    start_timeout_s: Annotated[
        float,
        option("Seconds for an actor to be ready; after that it is made anew.", "--start-timeout-s"),
    ] = DEFAULTS.start_timeout_s,
    no_retry_failed: Annotated[bool, option("Leave failed questions as they are.", "--no-retry-failed")] = False,
    allow_failures: Annotated[
        float, option("Share of failed questions that still counts as success.", "--allow-failures", min=0, max=1)
    ] = DEFAULTS.allow_failures,
    seed: Annotated[int, option("Seed of all searches.", "--seed")] = DEFAULTS.seed,
    dry_run: Annotated[bool, option("Check everything, start nothing.", "--dry-run")] = DEFAULTS.dry_run,
    quiet: Annotated[bool, option("No progress.", "--quiet")] = DEFAULTS.quiet,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Search layer paths for every question, and commit them as Parquet."""
    from .generate.run import GenerationRun
    from .questions.loading import parse_columns

    options = GenerateOptions(
        out=out,
        model=model,
        task=task,
        questions=questions,
        limit=limit,
        columns=parse_columns(columns) if columns else {},
        chat=chat,
        search=make_search_settings(
            simulations=simulations,
            layer_budget=layer_budget,
            max_depth=max_depth,
            max_edits=max_edits,
            parallel_leaves=parallel_leaves,
            stop=stop,
        ),
        seconds_budget=seconds_budget,
        cost=cost,
        calibrate=calibrate,
        prior=prior,
        seed=seed,
        actors=parse_actors(actors),
        threads_per_actor=threads_per_actor,
        gpus_per_actor=gpus_per_actor,
        in_flight=in_flight,
        device=device,
        dtype=dtype,
        address=address,
        shared_fs=shared_fs,
        question_timeout_s=question_timeout_s,
        start_timeout_s=start_timeout_s,
        retry_failed=not no_retry_failed,
        allow_failures=allow_failures,
        dry_run=dry_run,
        quiet=quiet,
    )
    outcome = GenerationRun(options, tell).run()
    for remark in outcome.remarks:
        tell(remark)
    if as_json:
        print_json(outcome.summary)
    elif not dry_run:
        from .report.terminal import summary_text

        print(summary_text(outcome.summary))
    raise typer.Exit(outcome.exit_code)


@app.command()
def stats(out: OutDir, as_json: AsJson = False) -> None:
    """Accuracy, depth and headroom of a run beside its placebo, also while it goes on; no Ray, no model."""
    from .report.stats import run_stats
    from .report.terminal import stats_text

    found = run_stats(out)
    print_json(found) if as_json else stats_text(found)


@app.command()
def show(
    out: OutDir, question_id: Annotated[str, typer.Argument(metavar="QUESTION_ID")], as_json: AsJson = False
) -> None:
    """One question's record as a picture: its paths, margins and depth."""
    from .report.stats import find_record
    from .report.terminal import record_text

    record = find_record(out, question_id)
    print_json(record) if as_json else record_text(record)


@app.command()
def validate(
    out: OutDir,
    replay: Annotated[int, option("Evaluations to run again on the model.", "--replay", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Check every shard and record, list leftovers and duplicates, and re-run some evaluations."""
    from .report.validate import validate_run

    report = validate_run(out, replay)
    if as_json:
        print_json(report)
    else:
        from .report.terminal import report_text

        report_text(report)
    raise typer.Exit(0 if report["valid"] else 4)


@app.command()
def static(
    paths: Annotated[list[str], option("A run's folder; may repeat, all of one model.", "--paths")],
    out: Annotated[str, option("JSON file to write.", "--out")],
    limit: Annotated[int | None, option("At most N questions of each folder.", "--limit", min=1)] = None,
    candidates: Annotated[int, option("Paths to evaluate on the questions.", "--candidates", min=3)] = 48,
    folds: Annotated[int, option("Folds of the cross-validation, at most.", "--folds", min=3)] = 5,
    device: Annotated[str | None, option("cpu, cuda or cuda:N [default: what there is].", "--device")] = None,
    dtype: Annotated[str | None, option(f"{', '.join(DTYPES)} [default: the run's].", "--dtype")] = None,
    threads: Annotated[int | None, option("torch threads [default: the cores].", "--threads", min=1)] = None,
    seed: Annotated[int, option("Of the folds and the order of questions.", "--seed")] = 0,
    model: Annotated[str | None, option("Where the runs' model lies, if not where it was.", "--model")] = None,
    quiet: Annotated[bool, option("No progress.", "--quiet")] = False,
    as_json: AsJson = False,
) -> None:
    """Find the best single path for all questions of a task, at each depth, cross-validated."""
    from .static.choice import static_text
    from .static.run import StaticOptions, find_static_paths

    options = StaticOptions(tuple(paths), out, limit, candidates, folds, device, dtype, threads, seed, quiet, model)
    found = find_static_paths(options)
    print_json({"out": out, **encoded(found)}) if as_json else static_text(found, paths, out)


@app.command("export")
def export_command(
    out: OutDir,
    file: Annotated[
        str, option("The new file; for hub a new folder, or hf://datasets/OWNER/NAME.", "--out", metavar="F")
    ],
    format_name: Annotated[str, option("dr-llm, polar, jsonl or hub.", "--format")],
    dry_run: Annotated[bool, option("hub only: list the files with their sizes, write none.", "--dry-run")] = False,
    public: Annotated[bool, option("hub only: a repository made now is seen by all.", "--public/--private")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a run's records as another program's file, losslessly as JSON lines, or as a dataset for the hub."""
    if format_name == "hub":
        from .exchange.hub import export_to_hub

        report = export_to_hub(out, file, dry_run=dry_run, public=public)
        if not as_json:
            for name, size in report["files"].items():
                print(f"{size:>12,d} bytes  {name}")
    else:
        from .exchange.commands import export_run

        if dry_run or public:
            raise typer.BadParameter("--dry-run and --public go with --format hub")
        report = export_run(out, format_name, file)
    if as_json:
        print_json(report)
    else:
        left_out = f"; {report['left_out']} failed ones have no place in it" if report["left_out"] else ""
        nothing_done = "; nothing was written" if dry_run else ""
        print(f"{report['records']} records in {file}{left_out}{nothing_done}")


@app.command("import")
def import_command(
    file: Annotated[str, typer.Argument(metavar="F", help="A file as `pathgen export` or the other program writes.")],
    format_name: Annotated[str, option("dr-llm, polar or jsonl.", "--format")],
    model: Annotated[
        str, option("Alias, hub id or local folder of the model the paths run through.", "--model")
    ] = DEFAULTS.model,
    task: Annotated[str, option("The task they were found on: arc, arc-letter or math.", "--task")] = DEFAULTS.task,
    out: Annotated[str | None, option("New folder or URL of the run [default: F without its ending].", "--out")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a run's folder of another program's file, for stats, validate and router training."""
    from .exchange.commands import import_file

    out = out or str(Path(file).with_suffix(""))
    report = import_file(file, format_name, model, task, out)
    if as_json:
        print_json(report)
    else:
        print(
            f"{report['records']} records in {out}: improved {report['improved']}, kept {report['kept']}, "
            f"unsolved {report['unsolved']}, failed {report['failed']}"
        )
        print(f"next: pathgen stats {shlex.quote(out)}")


def main() -> None:
    """Entry point of the `pathgen` console script."""
    app()
