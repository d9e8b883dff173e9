"""`pathgen`: generate, check, bridge, static, stats, show, validate, export, import; heavy imports are inside each."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from cluster.program.console import AsJson, Config, make_app, print_json, tell
from cluster.program.json_codec import encoded
from cluster.program.options import command, option

from .fitting.options import BridgeOptions
from .generate.options import GenerateOptions
from .static.options import StaticOptions

DEFAULTS = GenerateOptions("")

app = make_app("pathgen", "Search a frozen language model for the layer paths that answer each question best.")

OutDir = Annotated[str, typer.Argument(metavar="DIR", help="A run's folder (the --out of `pathgen generate`).")]


@command(app)
def generate(options: GenerateOptions, config: Config = None, as_json: AsJson = False) -> None:
    """Search layer paths for every question, and commit them as Parquet."""
    from .generate.outcome import RunSummary, summary_text
    from .generate.run import GenerationRun

    outcome = GenerationRun(options, tell).run()
    for remark in outcome.remarks:
        tell(remark)
    if as_json:
        print_json(outcome.summary)
    elif isinstance(outcome.summary, RunSummary):
        print(summary_text(outcome.summary))
    raise typer.Exit(outcome.exit_code)


@command(app)
def stats(out: OutDir, as_json: AsJson = False) -> None:
    """Accuracy, depth, headroom and placebo of a run, also while it is under way; no Ray, no model."""
    from .report.stats import run_stats
    from .report.terminal import stats_text

    found = run_stats(out)
    print_json(found) if as_json else stats_text(found)


@command(app)
def show(
    out: OutDir, question_id: Annotated[str, typer.Argument(metavar="QUESTION_ID")], as_json: AsJson = False
) -> None:
    """One question's record as a picture: its paths, margins and depth."""
    from .report.stats import find_record
    from .report.terminal import record_text

    record = find_record(out, question_id)
    print_json(record) if as_json else record_text(record)


@command(app)
def validate(
    out: OutDir,
    replay: Annotated[int, option("Evaluations to run again on the model.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Check every shard and record, list leftovers and duplicates, and re-run some evaluations."""
    from .report.terminal import report_text
    from .report.validate import validate_run

    report = validate_run(out, replay)
    print_json(report) if as_json else report_text(report)
    raise typer.Exit(0 if report.valid else 4)


@command(app)
def check(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Alias, hub id, local folder or GGUF file.")],
    as_json: AsJson = False,
) -> None:
    """Whether a model runs along paths, what is pinned or restricted and why, and what its layers cost."""
    from .report.check import check_model, check_text

    found = check_model(model)
    print_json(found) if as_json else check_text(found)
    raise typer.Exit(0 if found.supported else 2)


@command(app)
def bridge(options: BridgeOptions, config: Config = None, as_json: AsJson = False) -> None:
    """Fit affine maps that run where layers are skipped, on the frozen model's own states; no labels."""
    from .fitting.result import bridge_text
    from .fitting.run import BridgeFit

    done = BridgeFit(options, tell).run()
    print_json(done) if as_json else print(bridge_text(done, options))


@command(app)
def static(options: StaticOptions, as_json: AsJson = False) -> None:
    """Find the best single path for all questions at each depth: by accuracy, or without labels by divergence."""
    if options.target == "divergence":
        from .static.divergence_run import find_divergence_paths
        from .static.divergence_text import divergence_text

        closest = find_divergence_paths(options)
        print_json({"out": options.out, **encoded(closest)}) if as_json else divergence_text(closest, options)
        return
    from .static.choice import static_text
    from .static.run import find_static_paths

    found = find_static_paths(options)
    print_json({"out": options.out, **encoded(found)}) if as_json else static_text(found, options)


@command(app, "export")
def export_command(
    out: OutDir,
    file: Annotated[
        str, option("The new file; for hub a new folder, or hf://datasets/OWNER/NAME.", "--out", metavar="F")
    ],
    format_name: Annotated[str, option("dr-llm, polar, jsonl or hub.", "--format")],
    dry_run: Annotated[bool, option("hub only: list the files with their sizes, write none.")] = False,
    public: Annotated[bool, option("hub only: make a new repository public.", "--public/--private")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a run's records as another program's file, losslessly as JSON lines, or as a dataset for the hub."""
    from .exchange.commands import export_run
    from .exchange.hub import export_to_hub

    if format_name == "hub":
        report = export_to_hub(out, file, dry_run=dry_run, public=public)
    elif dry_run or public:
        raise typer.BadParameter("--dry-run and --public go with --format hub")
    else:
        report = export_run(out, format_name, file)
    if as_json:
        print_json(report)
        return
    for name, size in report.get("files", {}).items():
        print(f"{size:>12,d} bytes  {name}")
    left_out = f"; {report['left_out']} failed records were left out" if report["left_out"] else ""
    nothing_done = "; nothing was written" if dry_run else ""
    print(f"{report['records']} records in {file}{left_out}{nothing_done}")


@command(app, "import")
def import_command(
    file: Annotated[str, typer.Argument(metavar="F", help="A file of `pathgen export` or the other program.")],
    format_name: Annotated[str, option("dr-llm, polar or jsonl.", "--format")],
    model: Annotated[str, option("Alias, hub id, local folder or GGUF file of the paths' model.")] = DEFAULTS.model,
    task: Annotated[str, option("The paths' task: arc, arc-letter or math.")] = DEFAULTS.task,
    out: Annotated[str | None, option("New folder or URL of the run [default: F without its ending].")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a run's folder from another program's file, for stats, validate and router training."""
    from .exchange.commands import import_file

    out = out or str(Path(file).with_suffix(""))
    report = import_file(file, format_name, model, task, out)
    if as_json:
        print_json(report)
        return
    counts = ", ".join(f"{status} {report[status]}" for status in ("improved", "kept", "unsolved", "failed"))
    print(f"{report['records']} records in {out}: {counts}")
    print(f"next: pathgen stats {shlex.quote(out)}")


def main() -> None:
    """Entry point of the `pathgen` console script."""
    app()
