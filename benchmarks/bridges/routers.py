"""Do routers on bridged paths read the question? The search's headroom; each router against its shuffle and one path.

    python -m benchmarks.bridges.routers --train TRAIN --text TEXT --sealed SEALED --bridges DIR --out FOLDER

Every figure comes from commands that anyone can run: `pathgen generate` and `pathgen stats` (with the bridges and
without), `pathgen static --target divergence`, `router train`, `infer bench`, and `findings.conditional` over the paths
of --menu. What is done lies in --out, so the same command goes on.

A router's rivals: its own paths dealt to other questions (`shuffled`), and the one path for all of the greatest depth
that is no deeper than the router's mean on its development questions. Both run over the same bridges. No question of
SEALED may be in TRAIN or TEXT, or have served to fit the bridges.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.lab.digits import to_digits
from benchmarks.lab.measurement import machine, run_script
from benchmarks.lab.menu_data import read_layers
from benchmarks.lab.models import Model, model_title
from cluster.program.console import print_json
from infer.bench.bench import Bench, BenchOutcome
from infer.bench.options import BenchOptions
from pathgen.bridges.folder import folder_info
from pathgen.errors import PathgenError
from pathgen.evaluation.intervals import mcnemar_p, paired_difference
from pathgen.paths.layer_path import LayerPath
from pathgen.report.figures import interval, points
from pathgen.static.static_paths import load_static

ROUTERS = {"imitate": (), "value": ("--labels", "value")}
"""The published recipe, and heads that learn what each action adds to the margin; with their options."""
COVERAGE = 1.0
"""Share of the questions that follow the regression. It reads the mean over the prompt a third of the way up. Both were
taken before any result was known."""
ONE_ACTOR = ("--actors", "1", "--threads-per-actor", "1")
STATS = ("done", "base_accuracy", "solved_rate", "mean_best_depth", "headroom")
TRAINED = ("questions", "macro_f1", "dev_questions", "routed_accuracy", "full_accuracy", "mean_depth", "bias")
ROW = ("accuracy", "accuracy_ci95", "mean_depth", "agreement", "off_common_share", "flops_ratio")
"""What the document keeps of `pathgen stats`, `router train` and each system of the benchmark."""


def command(file: Path, *words: str) -> dict[str, Any]:
    """What a command prints for `--json`, kept in a file; a command whose file is there does not run again.

    Raises:
        PathgenError: it does not end with exit code 0.
    """
    if file.exists():
        return json.loads(file.read_text())
    print(" ".join(words), file=sys.stderr, flush=True)
    ended = subprocess.run([sys.executable, "-m", *words], stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        raise PathgenError(f"{' '.join(words)} ended with exit code {ended.returncode}")
    found = json.loads(ended.stdout)
    file.write_text(json.dumps(found))
    return found


def against(outcome: BenchOutcome, name: str, other: str, seed: int) -> dict[str, Any]:
    """A system's accuracy less that of another, on the same questions."""
    new, old = ([answer.correct for answer in outcome.answers[system]] for system in (name, other))
    found = paired_difference(np.array(new), np.array(old), seed)
    return {
        "delta": found.delta,
        "ci95": list(found.ci95),
        "p_value": mcnemar_p(*found.discordant),
        "discordant": list(found.discordant),
    }


@dataclass(frozen=True, slots=True)
class Lab:
    """The folder of all results, and what its commands share.

    Attributes:
        out: the folder.
        model: alias or folder.
        bridges: folder of `pathgen bridge`.
        seed: of searches, routers, dealing and intervals.
    """

    out: Path
    model: str
    bridges: Path
    seed: int

    def headroom(self, way: str, questions: str, limit: int, simulations: int) -> dict[str, Any]:
        """What `pathgen stats` tells of a search over the bridges (`bridged`) or without (`plain`)."""
        run, name = str(self.out / way), f"{way}-{limit}.json"
        asked = ("--model", self.model, "--questions", questions, "--limit", str(limit), "--seed", str(self.seed))
        more = ("--bridges", str(self.bridges)) if way == "bridged" else ()
        words = ("generate", *asked, "--simulations", str(simulations), *more, *ONE_ACTOR, "--out", run, "--json")
        command(self.out / f"generate-{name}", "pathgen", *words)
        found = command(self.out / f"stats-{name}", "pathgen", "stats", run, "--json")
        return {figure: found[figure] for figure in STATS}

    def static(self, questions: str, limit: int, depth: int) -> list[dict[str, Any]]:
        """One path for all of each depth, the least divergent over the bridges on unlabelled questions."""
        asked = ("--model", self.model, "--task", "arc", "--text", questions, "--limit", str(limit))
        words = (*asked, "--depth", str(depth), "--bridges", str(self.bridges), "--out", str(self._static), "--json")
        found = command(self.out / "static-figures.json", "pathgen", "static", "--target", "divergence", *words)
        return found["frontier"]

    def trained(self, name: str, depth: int, *how: str) -> dict[str, Any]:
        """What `router train` tells of a router within a mean depth."""
        words = ("--paths", str(self.out / "bridged"), "--target-depth", str(depth), "--seed", str(self.seed), *how)
        return command(
            self.out / f"train-{name}.json", "router", "train", *words, "--out", str(self.out / name), "--json"
        )

    def routed(self, name: str, depth: int, sealed: str, limit: int | None) -> dict[str, Any]:
        """A router on the sealed questions: its row, its rivals' rows, and how it compares with each."""
        trained = self.trained(name, depth, "--method", "imitate", *ROUTERS[name], "--tracker", "none", *ONE_ACTOR)
        shallowest = min(entry.depth for entry in load_static(str(self._static)).frontier)
        level = max(shallowest, math.floor(trained["mean_depth"]))
        rival = f"static_{level}"
        self.trained(rival, level, "--method", "static", "--static", str(self._static), "--no-risk")
        options = BenchOptions(
            model=self.model,
            routers={one: str(self.out / one) for one in (name, rival)},
            questions=sealed,
            limit=limit,
            systems=(name, "shuffled", rival),
            paths=(str(self.out / "bridged"),),
            seed=self.seed,
            out=str(self.out / "bench"),
        )
        outcome = Bench(options, lambda line: print(line, file=sys.stderr, flush=True)).run()
        return {
            "questions": outcome.figures.questions,
            "seen_in_training": outcome.figures.seen_in_training,
            "trained": {figure: trained[figure] for figure in TRAINED},
            "systems": {row.name: {figure: getattr(row, figure) for figure in ROW} for row in outcome.figures.systems},
            "against": {other: against(outcome, name, other, self.seed) for other in ("full", "shuffled", rival)},
        }

    def regression(self, menu: Sequence[str], sealed: str, limit: int | None) -> dict[str, Any]:
        """The conditional regression over a menu of bridged paths, without full depth."""
        paths = [LayerPath.parse(path) for path in menu]
        words = ["--questions", sealed, "--model", self.model, "--seed", str(self.seed), "--without-full"]
        words += ["--bridges", str(self.bridges), "--num-layers", str(len(paths[0])), "--workers", "1"]
        words += [word for path in paths for word in ("--menu", to_digits(path))]
        words += [] if limit is None else ["--limit", str(limit)]
        script = "benchmarks.findings.conditional"
        found = command(self.out / "conditional.json", script, *words, "--scores", str(self.out / "scores.jsonl"))
        features = f"mean at layer {read_layers(len(paths[0]))[1]}"
        looks = found["blocks"][features]["choices"]
        return {
            "menu": {str(path): right for path, right in zip(paths, found["accuracies"][1:], strict=True)},
            "features": features,
            **next(row for row in looks if row["coverage"] == COVERAGE),
            "r2": {name: block["r2"] for name, block in found["blocks"].items()},
            "planted": found["planted"],
        }

    @property
    def _static(self) -> Path:
        return self.out / "static.json"


def main(
    train: Annotated[str, typer.Option(help="Questions to search and train on.")],
    text: Annotated[str, typer.Option(help="Questions whose prompts choose the one path for all.")],
    sealed: Annotated[str, typer.Option(help="Questions of the table.")],
    bridges: Annotated[Path, typer.Option(help="Folder of `pathgen bridge`.")],
    out: Annotated[Path, typer.Option(help="Folder of all results.")],
    menu: Annotated[list[str], typer.Option(help="Path of the regression, as `pathgen show` prints it; may repeat.")],
    model: Model = "smollm2-135m",
    simulations: Annotated[int, typer.Option(help="Of each search.")] = 12,
    limit: Annotated[int, typer.Option(help="Questions searched, with bridges and without.")] = 240,
    text_limit: Annotated[int, typer.Option(help="Questions of --text.")] = 24,
    sealed_limit: Annotated[int | None, typer.Option(help="Questions of --sealed.")] = None,
    depth: Annotated[int, typer.Option(help="Mean depth that routers are brought to, at most.")] = 27,
    seed: Annotated[int, typer.Option(help="Of searches, routers, dealing and intervals.")] = 0,
) -> None:
    """Print one JSON object; the tables go to stderr."""
    out.mkdir(parents=True, exist_ok=True)
    lab = Lab(out, model, bridges, seed)
    fit = folder_info(bridges)
    document = {
        "benchmark": "bridged_routers",
        "model": model_title(model),
        "sources": {name: Path(file).name for name, file in (("train", train), ("text", text), ("sealed", sealed))},
        "bridges": {"rank": fit.rank, "tokens": fit.tokens, "text": [Path(source).name for source in fit.text]},
        "simulations": simulations,
        "seed": seed,
        "headroom": {way: lab.headroom(way, train, limit, simulations) for way in ("bridged", "plain")},
        "static": lab.static(text, text_limit, depth - 1),
        "routers": {name: lab.routed(name, depth, sealed, sealed_limit) for name in ROUTERS},
        "regression": lab.regression(menu, sealed, sealed_limit),
        "looks": 2 * (len(ROUTERS) + 1),
        "machine": machine(1),
    }
    _show(document)
    print_json(document)


def _show(document: Mapping[str, Any]) -> None:
    """The tables in Markdown, on stderr."""
    rows = [["paths", "questions", "wrong", "headroom", "placebo", "excess, points"]]
    for way, found in document["headroom"].items():
        room = found["headroom"]
        shares = [f"{room[name]:.3f}" for name in ("gold", "placebo")]
        rows.append([way, found["done"], room["questions"], *shares, _points(room["excess"], room["excess_ci95"])])
    _print(rows)
    rows = [["router", "layers", "right", "against full", "against its shuffle", "against one path", "its layers"]]
    for name, found in document["routers"].items():
        own, (rival, one) = found["systems"][name], list(found["systems"].items())[-1]
        compared = [found["against"][other] for other in ("full", "shuffled", rival)]
        differences = [_points(other["delta"], other["ci95"]) for other in compared]
        rows.append([name, f"{own['mean_depth']:.2f}", f"{own['accuracy']:.3f}", *differences, one["mean_depth"]])
    look = document["regression"]
    read = [_points(look[f"delta_vs_{other}"], look[f"delta_vs_{other}_ci95"]) for other in ("shuffled", "static")]
    rows.append(["regression", "", "", "", *read, ""])
    _print(rows)


def _print(rows: Sequence[Sequence[object]]) -> None:
    for place, row in enumerate(rows):
        print(f"| {' | '.join(map(str, row))} |", file=sys.stderr)
        if not place:
            print("|---" * len(row) + "|", file=sys.stderr)


def _points(value: float, ends: Sequence[float]) -> str:
    low, high = ends
    return f"{points(value)} {interval((low, high), points)}"


if __name__ == "__main__":
    run_script(main)
