"""The commands of `infer`. Each command imports heavy libraries itself."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
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
from .routed.prompts import blank_hint, check_prompts, end_tokens, read_prompts

if TYPE_CHECKING:
    from .routed.routed_model import Completion

PRINTED_BATCHES = 4
"""Batches whose prompts are sorted by length together; their answers are printed before the next ones run."""
LEFT_OUT = 3
"""Exit code of a benchmark that left questions out."""

app = make_app("infer", "Run a frozen language model along the layer paths that a router chooses for each prompt.")


@command(app)
def generate(options: AnswerOptions, config: Config = None, as_json: AsJson = False) -> None:
    """Answer prompts, each along the path that the router chooses for it."""
    texts = read_prompts(options.prompts, options.file)

    from cluster.program.progress import ProgressView
    from pathgen.bridges.folder import load_bridges
    from pathgen.engine.path_model import PathModel
    from pathgen.models.devices import default_device, default_dtype
    from pathgen.models.reading import load_tokenizer
    from pathgen.models.resolving import resolve_model
    from pathgen.questions.chat import Chat

    from .routed.given_router import router_and_base, uses_chat
    from .routed.routed_model import RoutedModel

    router, name = router_and_base(options.router, options.model)
    folder = resolve_model(name)
    chat: Chat = uses_chat(router.config, load_tokenizer(folder), end_tokens(folder))
    if options.chat is not None:
        chat = options.chat
    check_prompts(folder, texts, options.max_new_tokens, chat=chat)
    if options.bridges is not None:
        router.bridges = load_bridges(options.bridges, router.config.base_fingerprint)
    device = options.device or default_device()
    model = PathModel.from_pretrained(name, dtype=options.dtype or default_dtype(device), device=device)
    routed = RoutedModel(model, router, bias=options.bias)
    answers: list[Completion] = []
    size, quiet = options.batch_size, options.quiet
    with memory_told("a smaller --batch-size"), ProgressView("answering", len(texts), words="", quiet=quiet) as bar:
        for start in range(0, len(texts), PRINTED_BATCHES * size):
            part = texts[start : start + PRINTED_BATCHES * size]
            on_done = partial(lambda before, done: bar.show(before + done), start)
            done_now = routed.complete(part, options.max_new_tokens, size, chat, on_done=on_done)
            answers += done_now
            if not as_json:
                with bar.aside():
                    _print_answers(done_now, quiet=quiet)
    if as_json:
        print_json({"outputs": [asdict(answer) for answer in answers]})
    if not quiet and (hint := blank_hint([answer.text for answer in answers], model.tokenizer, chat=bool(chat))):
        tell(hint)


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


def main() -> None:
    """Entry point of the `infer` console script."""
    app()
