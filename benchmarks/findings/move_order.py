"""What does it gain to try moves in the order of the layers' influence? The same searches with all moves alike.

OMP_NUM_THREADS=1 python -m benchmarks.findings.move_order --questions arc_easy.jsonl [--task arc] [--stop budget]
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import typer

from benchmarks.lab.in_process import InProcess, Searched, run_settings
from benchmarks.lab.measurement import alternate, machine, mean, ratio, run_script, share
from cluster.program.console import print_json
from pathgen.actors.placement import IN_FLIGHT
from pathgen.engine.path_model import PathModel
from pathgen.evaluation.evaluator import Evaluator, Prepared
from pathgen.paths.records import PathRecord
from pathgen.questions.loading import load_questions
from pathgen.questions.tasks import find_task
from pathgen.search.path_search import EARLY_SAVED_LAYERS
from pathgen.search.settings import SearchSettings


class WithoutInfluence(Evaluator):
    """An evaluator that does not tell how much layers change."""

    def influence(self, prepared: Prepared) -> None:
        """Nothing: all moves weigh the same."""


def to_first(record: PathRecord) -> int:
    """Evaluations before the first that would stop the published search; all if there is none."""
    shallow = record.num_layers - EARLY_SAVED_LAYERS
    for place, evaluation in enumerate(record.evaluations):
        if evaluation.correct and (not record.base_correct or evaluation.path.depth <= shallow):
            return place
    return len(record.evaluations)


def figures(found: list[Searched], seed: int) -> dict[str, Any]:
    """Of the questions that full depth answers right, or wrong."""
    records = [entry.record for entry in found]
    right = [[one.path.depth for one in record.evaluations if one.correct] for record in records]
    depths = [min(each) for each in right if each]
    return {
        "questions": len(records),
        "evaluations": mean([len(record.evaluations) for record in records], seed),
        "evaluations_to_first": mean([to_first(record) for record in records], seed),
        "some_path_right": share(len(depths), len(records)),
        "best_depth": mean(depths, seed) if depths else None,
        "layers_run": mean([record.layers_run or 0 for record in records], seed),
    }


def main(
    questions: Annotated[str, typer.Option(help="A local file, a hub dataset or `builtin`.")] = "builtin",
    model: Annotated[str, typer.Option(help="Alias, folder or hub id.")] = "smollm2-135m",
    task: Annotated[str, typer.Option(help="`arc` or `arc-letter`.")] = "arc",
    stop: Annotated[Literal["budget", "published"], typer.Option(help="When searches stop.")] = "published",
    limit: Annotated[int, typer.Option(min=1, help="Questions.")] = 60,
    skip: Annotated[int, typer.Option(min=0, help="Leave out the first N.")] = 0,
    simulations: Annotated[int, typer.Option(min=1, help="Per question.")] = 50,
    threads: Annotated[int, typer.Option(min=1, help="torch threads.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the searches and the bootstrap.")] = 0,
) -> None:
    """Search twice; the last line on stdout is one JSON document."""
    import torch

    torch.set_num_threads(threads)
    loaded = load_questions(questions, needs="choices", limit=skip + limit)[skip:]
    path_model, asked_as = PathModel.from_pretrained(model), find_task(task)
    settings = SearchSettings(simulations=simulations, stop=stop)
    run = run_settings(path_model, asked_as, model, settings, seed=seed, in_flight=IN_FLIGHT["cpu"], threads=threads)
    rivals = {
        "influence": InProcess(run, Evaluator(path_model, asked_as)).search,
        "all_alike": InProcess(run, WithoutInfluence(path_model, asked_as)).search,
    }
    results = alternate(rivals, loaded, block=20, repeats=1)
    found = {name: [entry for block in blocks[0] for entry in block] for name, blocks in results.items()}
    layers = {name: np.array([entry.record.layers_run or 0 for entry in each]) for name, each in found.items()}
    evaluations = {name: [len(entry.record.evaluations) for entry in each] for name, each in found.items()}
    print_json(
        {
            "benchmark": "move_order",
            "machine": machine(threads),
            "model": model,
            "task": task,
            "source": questions,
            "stop": stop,
            "questions": len(loaded),
            "simulations": simulations,
            "seed": seed,
            "evaluations_all_alike_over_influence": ratio(evaluations["all_alike"], evaluations["influence"], seed),
            "layers_run_all_alike_over_influence": ratio(layers["all_alike"], layers["influence"], seed),
            **{
                name: {
                    group: figures(kept, seed)
                    for group, is_right in (("right", True), ("wrong", False))
                    if (kept := [entry for entry in each if entry.record.base_correct == is_right])
                }
                for name, each in found.items()
            },
        }
    )


if __name__ == "__main__":
    run_script(main)
