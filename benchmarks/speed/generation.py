"""Generation along many paths per question: prefill shared between paths, beside a prefill for each path.

Both sides score the reference answer in one shared batch and decode the same tokens with transformers' own loop;
they differ in where the prompt's keys and values come from. Each call asks for other paths, as a search does: every
path is one or two edits away from an earlier one.

    python -m benchmarks.speed.generation --questions addsub.jsonl --limit 4 --paths 16 --calls 3
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from benchmarks.lab.measurement import run_script
from benchmarks.lab.models import Model
from cluster.program.console import print_json
from pathgen.paths.layer_path import LayerPath, all_moves
from pathgen.questions.loading import load_questions
from pathgen.questions.tasks import find_task

if TYPE_CHECKING:
    import torch

    from pathgen.engine.cache import RoutedCache
    from pathgen.evaluation.evaluator import Evaluator, Prepared

Pairs = list[tuple["Prepared", LayerPath]]


def neighbouring_paths(num_layers: int, calls: int, count: int, rng: np.random.Generator) -> list[list[LayerPath]]:
    """`calls` groups of `count` new paths, the first beginning with the full one; each is a move from an earlier."""
    moves = all_moves(num_layers)
    known = [LayerPath.full(num_layers)]
    while len(known) < calls * count:
        parent, move = known[rng.integers(len(known))], moves[rng.integers(len(moves))]
        if move.fits(parent) and (child := move.apply(parent)) not in known and child.depth > 0:
            known.append(child)
    return [known[start : start + count] for start in range(0, len(known), count)]


def prefill_each(evaluator: Evaluator, pairs: Pairs) -> tuple[list[np.ndarray], RoutedCache]:
    """What `Executor.prefill` gives, with a prefill of its own for every pair."""
    import torch

    from pathgen.engine.policies import FixedPaths

    model = evaluator.model
    logprobs = evaluator.executor.token_logprobs([(prepared.rows[0], path) for prepared, path in pairs])
    prompts = [prepared.prompt_ids[:-1] for prepared, _ in pairs]
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    cache = model.new_cache()
    with torch.inference_mode(), model.routed(FixedPaths(path for _, path in pairs), mask):
        model.hf_model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
    return logprobs, cache


def prefill_shared(evaluator: Evaluator, pairs: Pairs) -> tuple[list[np.ndarray], RoutedCache]:
    """The engine's own."""
    return evaluator.executor.prefill([(prepared.rows[0], path) for prepared, path in pairs])


def measure(evaluator: Evaluator, calls: Sequence[Pairs], prefill: Callable[..., Any]) -> dict[str, Any]:
    """Seconds of prefill and decode over all calls, and what was computed."""
    from pathgen.engine.executor import Executor
    from pathgen.evaluation.decoding import greedy_answers

    evaluator.executor = Executor(evaluator.model, None)
    prefill_s = decode_s = 0.0
    answers: list[str] = []
    margins: list[float] = []
    for pairs in calls:
        started = time.perf_counter()
        logprobs, cache = prefill(evaluator, pairs)
        synchronize(evaluator.model.device)
        decode_started = time.perf_counter()
        found = greedy_answers(
            evaluator.model,
            [prepared.prompt_ids for prepared, _ in pairs],
            [path for _, path in pairs],
            cache,
            max_new_tokens=evaluator.task.max_new_tokens,
            stop=evaluator.task.stop,
        )
        answers += [answer.text for answer in found]
        prefill_s += decode_started - started
        decode_s += time.perf_counter() - decode_started
        margins += [float(values.mean()) for values in logprobs]
    return {
        "prefill_and_score_s": round(prefill_s, 3),
        "decode_s": round(decode_s, 3),
        "layers_run": evaluator.executor.work.layers_run,
        "answers": answers,
        "margins": margins,
    }


def seconds(run: dict[str, Any]) -> float:
    """All of one side."""
    return run["prefill_and_score_s"] + run["decode_s"]


def synchronize(device: torch.device) -> None:
    """Wait for an accelerator, so that a clock read next is true."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main(
    questions: Annotated[str, typer.Option(help="questions with reference answers")] = "builtin-math",
    model: Model = "smollm2-135m",
    limit: Annotated[int, typer.Option(min=1)] = 4,
    paths: Annotated[int, typer.Option(min=1, help="paths per question and call")] = 16,
    calls: Annotated[int, typer.Option(min=1)] = 3,
    rounds: Annotated[int, typer.Option(min=1, help="the fastest counts")] = 2,
    seed: Annotated[int, typer.Option()] = 0,
    device: Annotated[str, typer.Option()] = "cpu",
) -> None:
    """Time both and print one JSON object."""
    from pathgen.engine.path_model import PathModel
    from pathgen.evaluation.evaluator import Evaluator

    task = find_task("math")
    evaluator = Evaluator(PathModel.from_pretrained(model, device=device), task)
    prepared = [evaluator.prepare(question) for question in load_questions(questions, needs="reference", limit=limit)]
    groups = neighbouring_paths(evaluator.model.num_layers, calls, paths, np.random.default_rng(seed))
    asked = [[(question, path) for question in prepared for path in group] for group in groups]
    sides = {"each": prefill_each, "shared": prefill_shared}
    runs = {name: [measure(evaluator, asked, side) for _ in range(rounds)] for name, side in sides.items()}
    best = {name: min(found, key=seconds) for name, found in runs.items()}
    answers = {name: run.pop("answers") for name, run in best.items()}
    margins = {name: run.pop("margins") for name, run in best.items()}
    result = {
        "model": model,
        "device": device,
        "questions": len(prepared),
        "prompt_tokens": [len(question.prompt_ids) for question in prepared],
        "paths_per_call": paths,
        "calls": calls,
        "seed": seed,
        **best,
        "prefill_ratio": round(best["each"]["prefill_and_score_s"] / best["shared"]["prefill_and_score_s"], 2),
        "total_ratio": round(seconds(best["each"]) / seconds(best["shared"]), 2),
        "equal_answers": float(np.mean([a == b for a, b in zip(answers["each"], answers["shared"], strict=True)])),
        "largest_margin_gap_nats": float(np.abs(np.subtract(margins["each"], margins["shared"])).max()),
    }
    print_json(result)


if __name__ == "__main__":
    run_script(main)
