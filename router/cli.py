"""`router`: train, evaluate, show. Commands import heavy modules when they run."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.program.console import AsJson, Config, make_app, print_json, tell
from cluster.program.json_codec import encoded
from cluster.program.options import command

from .run.options import READ_BY, EvaluateOptions, TrainOptions

app = make_app(
    "router", "Train routers on path shards: which layers a frozen model skips, runs or repeats on each prompt."
)

RouterDir = Annotated[str, typer.Argument(metavar="ROUTER", help="A router's folder (the --out of `router train`).")]


@command(app)
def train(context: typer.Context, options: TrainOptions, config: Config = None, as_json: AsJson = False) -> None:
    """Train a router on path shards, tune it on development questions, and report the routed model's accuracy there."""
    from .run.inputs import TrainingInputs
    from .run.terminal import training_text
    from .run.training_run import train_router

    inputs = TrainingInputs(options, tell)
    _warn_of_unread(context, options)
    result = train_router(inputs)
    if as_json:
        print_json(result)
    else:
        training_text(result, options.paths[0])


def _warn_of_unread(context: typer.Context, options: TrainOptions) -> None:
    """Name the given flags that the method, or --dev, does not read."""
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if getattr(context.get_parameter_source(parameter.name or ""), "name", None) == "COMMANDLINE"
    ]
    if unread := [flag for flag, methods in READ_BY.items() if options.method not in methods and flag in given]:
        tell(f"warning: --method {options.method} does not read {', '.join(unread)}")
    if "--confidence" in given and options.stated_risk is None:
        tell("warning: --confidence is not used without --risk or --max-loss")
    if options.dev and "--dev-share" in given:
        tell("warning: --dev-share is not used, because --dev gives the development questions")


@command(app)
def evaluate(options: EvaluateOptions, as_json: AsJson = False) -> None:
    """Report accuracy and depth of the routed model on the questions of path shards."""
    from .run.evaluation import evaluate_router
    from .run.terminal import evaluation_text

    result = evaluate_router(options)
    if as_json:
        print_json(result)
    else:
        evaluation_text(result)


@command(app)
def show(router: RouterDir, as_json: AsJson = False) -> None:
    """Show a router's sizes, settings and origin."""
    from .run.evaluation import static_path
    from .run.terminal import router_text
    from .saved.loading import load_router

    found = load_router(router)
    path = static_path(found)
    if as_json:
        static = {"static_only": found.config.static_only, "static_path": list(path)}
        print_json({**encoded(found.config), **static, "parameters": found.num_parameters})
    else:
        router_text(found.config, found.num_parameters, f"{path} depth {path.depth}")


def main() -> None:
    """Entry point of the `router` console script."""
    app()
