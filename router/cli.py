"""`router`: train, evaluate, show. Heavy imports wait until a command needs them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from cluster.program.console import AsJson, Config, make_app, option, print_json, tell
from cluster.program.json_codec import encoded
from pathgen.generate.options import flags_named, parse_actors
from pathgen.models.devices import DTYPES

from .training.settings import TrainSettings
from .training.tracking import DEFAULT_TRACKER

app = make_app()

TRAINING = TrainSettings()

RouterDir = Annotated[str, typer.Argument(metavar="ROUTER", help="A router's folder (the --out of `router train`).")]
Pool = Literal["windows", "last"]


READ_BY = {
    **dict.fromkeys(("labels", "unsolved", "width", "tracker"), ("imitate",)),
    **dict.fromkeys(("batch_size", "learning_rate", "patience"), ("imitate",)),
    **dict.fromkeys(("actors", "threads_per_actor", "gpus_per_actor", "address", "shared_fs"), ("imitate",)),
    **dict.fromkeys(("pooling", "windows", "epochs"), ("imitate", "gates")),
    **dict.fromkeys(("rank", "compute_penalty"), ("gates",)),
    "static": ("static", "imitate"),
}
"""Which methods read an option of `router train`; of those that are not here all do."""


@app.callback()
def _router() -> None:
    """Train routers on path shards: which layers a frozen model skips, runs or repeats on each prompt."""


@app.command()
def train(
    context: typer.Context,
    paths: Annotated[list[str], option("Folder of paths of `pathgen generate`; may repeat.", "--paths")],
    out: Annotated[str, option("Folder of the router.", "--out")],
    method: Annotated[str, option("static, imitate or gates.", "--method")] = "static",
    labels: Annotated[str, option("For imitate: shortest, margin, consensus or value.", "--labels")] = "shortest",
    unsolved: Annotated[
        Literal["full", "drop"], option("Questions without a right path: full depth, or left out.", "--unsolved")
    ] = "drop",
    static: Annotated[
        str | None,
        option("F.json of `pathgen static`: the path to deploy, or what is under imitate's heads.", "--static"),
    ] = None,
    actions: Annotated[str, option("What the router may choose.", "--actions")] = "skip,execute,repeat",
    dev: Annotated[
        list[str] | None, option("Folder of development questions; may repeat. Else a share of --paths.", "--dev")
    ] = None,
    dev_share: Annotated[float, option("Held out of --paths, by hash of the id.", "--dev-share")] = 0.15,
    target_depth: Annotated[
        float | None, option("Highest depth of the path, or mean on development questions.", "--target-depth")
    ] = None,
    bias: Annotated[
        float | None, option("Added to SKIP and taken from REPEAT logits; positive is shallower.", "--bias")
    ] = None,
    model: Annotated[str | None, option("Where the paths' model lies, if not where it was.", "--model")] = None,
    pooling: Annotated[
        Pool, option("What a head reads: windows of the prompt, or its last token.", "--pooling")
    ] = "windows",
    windows: Annotated[int, option("Windows of a prompt.", "--windows", min=1)] = 8,
    width: Annotated[int, option("For imitate: of the heads' bottleneck.", "--width", min=1)] = 128,
    epochs: Annotated[int | None, option("At most [default: 25; gates: 3].", "--epochs", min=1)] = None,
    batch_size: Annotated[
        int, option("For imitate: questions of one step.", "--batch-size", min=1)
    ] = TRAINING.batch_size,
    learning_rate: Annotated[
        float, option("For imitate: AdamW's highest.", "--learning-rate")
    ] = TRAINING.learning_rate,
    patience: Annotated[
        int,
        option("For imitate: epochs without a lower development loss before it stops; 0: never.", "--patience", min=0),
    ] = TRAINING.patience or 0,
    rank: Annotated[int, option("For gates: of the part that reads the question; 0: none.", "--rank", min=0)] = 0,
    compute_penalty: Annotated[
        float, option("For gates: weight of depth in the loss, in nats per share of layers.", "--compute-penalty")
    ] = 0.0,
    seed: Annotated[int, option("Of first weights and order.", "--seed", min=0)] = TRAINING.seed,
    tracker: Annotated[
        str, option("For imitate: none, tensorboard, wandb, mlflow or trackio.", "--tracker")
    ] = DEFAULT_TRACKER,
    actors: Annotated[str, option("Of the feature pass: auto, or how many.", "--actors")] = "auto",
    threads_per_actor: Annotated[
        int | None,
        option("torch threads of each actor [default: cores / actors; 1 on CUDA].", "--threads-per-actor", min=1),
    ] = None,
    gpus_per_actor: Annotated[float, option("GPUs of each actor.", "--gpus-per-actor")] = 1.0,
    dtype: Annotated[str | None, option(f"{', '.join(DTYPES)} [default: the paths'].", "--dtype")] = None,
    device: Annotated[str | None, option("cpu, cuda or cuda:N [default: what there is].", "--device")] = None,
    address: Annotated[str | None, option("A Ray cluster, auto or HOST:PORT; else Ray here.", "--address")] = None,
    shared_fs: Annotated[bool, option("All nodes see the folders of paths.", "--shared-fs")] = False,
    quiet: Annotated[bool, option("No progress.", "--quiet")] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Train a router on path shards, choose on development questions, and say how the routed model does there."""
    from .features.run import FeatureOptions
    from .gates.gates import GateSettings
    from .net.pooling import Pooling
    from .run.options import TrainOptions
    from .run.training_run import TrainingRun

    given: dict[str, Any] = {} if epochs is None else {"epochs": epochs}
    with flags_named():
        parts = {
            "pooling": Pooling(pooling, windows if pooling == "windows" else 1),
            "training": TrainSettings(
                **given,
                batch_size=batch_size,
                learning_rate=learning_rate,
                patience=patience or None,
                seed=seed,
            ),
            "gates": GateSettings(**given, rank=rank, compute_penalty=compute_penalty, seed=seed),
        }
    options = TrainOptions(
        paths=tuple(paths),
        out=out,
        method=method,
        labels=labels,
        unsolved=unsolved,
        static=static,
        actions=tuple(name.strip() for name in actions.split(",")),
        dev=tuple(dev or ()),
        dev_share=dev_share,
        target_depth=target_depth,
        bias=bias,
        model=model,
        width=width,
        features=FeatureOptions(
            actors=parse_actors(actors),
            threads_per_actor=threads_per_actor,
            gpus_per_actor=gpus_per_actor,
            dtype=dtype,
            device=device,
            address=address,
            shared_fs=shared_fs,
            quiet=quiet,
        ),
        tracker=tracker,
        quiet=quiet,
        **parts,  # type: ignore[arg-type]
    )
    training = TrainingRun(options, tell)
    _tell_of_unread(context, method)
    summary = training.run()
    if as_json:
        print_json(summary)
    else:
        from .run.terminal import training_text

        training_text(summary)


def _tell_of_unread(context: typer.Context, method: str) -> None:
    """Name the options of the command line that this method, or --dev, leaves unread."""

    def is_given(name: str) -> bool:
        source = context.get_parameter_source(name)
        return source is not None and source.name == "COMMANDLINE"

    unread = [name for name, methods in READ_BY.items() if method not in methods and is_given(name)]
    if unread:
        tell(f"warning: --method {method} does not read {', '.join('--' + name.replace('_', '-') for name in unread)}")
    if context.params["dev"] and is_given("dev_share"):
        tell("warning: --dev-share holds nothing out of --paths, as --dev gives the development questions")


@app.command()
def evaluate(
    router: Annotated[str, option("Folder or hub id of a router.", "--router")],
    paths: Annotated[list[str], option("Folder of paths; may repeat.", "--paths")],
    bias: Annotated[
        float, option("Added to SKIP and taken from REPEAT logits: 0 is as trained, positive shallower.", "--bias")
    ] = 0.0,
    model: Annotated[str | None, option("Where the base model lies, if not where it was.", "--model")] = None,
    device: Annotated[str | None, option("cpu, cuda or cuda:N [default: what there is].", "--device")] = None,
    seed: Annotated[int, option("Of the intervals.", "--seed", min=0)] = 0,
    quiet: Annotated[bool, option("No progress.", "--quiet")] = False,
    as_json: AsJson = False,
) -> None:
    """How right and how deep the routed model is on the questions of path shards."""
    from .run.evaluation import evaluate_router

    figures = evaluate_router(router, paths, bias=bias, model=model, device=device, seed=seed, quiet=quiet)
    if as_json:
        print_json(figures)
    else:
        from .run.terminal import evaluation_text

        evaluation_text(figures)


@app.command()
def show(router: RouterDir, as_json: AsJson = False) -> None:
    """A router's sizes, settings and origin."""
    from .run.evaluation import static_path
    from .run.terminal import router_text
    from .saved.loading import load_router, resolve_router

    found = load_router(resolve_router(router))
    path = static_path(found)
    if as_json:
        static = {"static_only": found.config.static_only, "static_path": list(path)}
        print_json({**encoded(found.config), **static, "parameters": found.num_parameters})
    else:
        router_text(found.config, found.num_parameters, f"{path} depth {path.depth}")


def main() -> None:
    """Entry point of the `router` console script."""
    app()
