"""The commands of `infer`. Each command imports heavy libraries itself."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import typer

from cluster.program.console import AsJson, Config, make_app, print_json, tell
from cluster.program.options import command
from pathgen.errors import memory_told

from .bench.options import BenchOptions
from .export.options import ExportOptions
from .harness.command import harness
from .routed.options import AnswerOptions

if TYPE_CHECKING:
    from .routed.routed_model import Completion

LEFT_OUT = 3
"""Exit code of a benchmark that left questions out."""

app = make_app("infer", "Run a frozen language model along the layer paths that a router chooses for each prompt.")


@command(app)
def generate(options: AnswerOptions, config: Config = None, as_json: AsJson = False) -> None:
    """Answer prompts, each along the path that the router chooses for it; without a router, with all layers."""
    from .routed.answering import answer_prompts

    shown = not as_json and options.out is None
    found = answer_prompts(options, partial(_print_answers, quiet=options.quiet) if shown else lambda new: None)
    if as_json:
        told = ("text", "path", "depth", "new_tokens")
        print_json({"outputs": [{name: getattr(answer, name) for name in told} for answer in found.answers]})
    elif options.out is not None and not options.quiet:
        _tell_kept(found.answers, found.model, options)
    if not options.quiet and found.hint:
        tell(found.hint)


@command(app)
def bench(options: BenchOptions, config: Config = None, as_json: AsJson = False) -> None:
    """Compare the routed model with baselines on the same questions: accuracy, depth, speed."""
    from .bench.bench import Bench

    with memory_told("a smaller --batch-size"):
        outcome = Bench(options, tell).run()
    if not as_json:
        from .bench.terminal import bench_text

        bench_text(outcome.figures)
    if options.report is not None:
        from .report.page import write_report

        line = shlex.join(["infer", *sys.argv[1:]])
        write_report(outcome.figures, outcome.questions, outcome.answers, options.report, line)
    if as_json:  # last, so that an error before it is the only object on stdout
        print_json(outcome.figures)
    if outcome.left_out:
        tell(f"questions left out because they do not fit the model's context: {outcome.left_out}")
        raise typer.Exit(LEFT_OUT)


@command(app)
def export(options: ExportOptions, config: Config = None, as_json: AsJson = False) -> None:
    """Write an ordinary Hugging Face folder of a path that is the same for every question."""
    from .export.export import export_path

    done = export_path(options, tell)
    if as_json:
        print_json(done)
        return
    print(f"{done.out}: {done.model} along {done.path}, depth {done.depth} of {len(done.path)}")
    print(f"{done.parameters:,} weights; largest gap of a logit to the model along the path: {done.max_logit_gap:.1g}")
    if isinstance(done.divergence, float):
        print(f"{done.divergence:.3g} nats per position from full depth, on four short texts")
    else:
        print(f"nats per position on held-out text: {done.divergence}")
    print(f"next: lm-eval run --model hf --model_args pretrained={shlex.quote(done.out)} --tasks arc_easy")


command(app)(harness)


def _print_answers(answers: Sequence[Completion], *, quiet: bool) -> None:
    """Answers on stdout, their paths on stderr."""
    for answer in answers:
        print(answer.text, flush=True)
        if not quiet:
            layers = len(answer.path)
            tell(f"{answer.path} depth {answer.depth} of {layers}, layers saved {layers - answer.depth}")


def _tell_kept(answers: Sequence[Completion], model: str, options: AnswerOptions) -> None:
    cut = sum(answer.new_tokens == options.max_new_tokens for answer in answers)
    told = f"; {cut} cut at {options.max_new_tokens} tokens (--max-new-tokens)" if cut else ""
    out = shlex.quote(options.out or "")
    print(f"{options.out}: answers to all {len(answers)} prompts{told}")
    if options.router is None:
        print(f"next: pathgen bridge --model {shlex.quote(model)} --text {out} --out BRIDGES")


def main() -> None:
    """Entry point of the `infer` console script."""
    app()
