"""A hand-made result of a bench, and the rows of its questions."""

from __future__ import annotations

from pathgen.paths.layer_path import LayerPath

NUM_LAYERS = 12
QUESTIONS = 40
SYSTEMS = ("full", "router", "gated", "oracle", "static", "early_exit", "search")
EDITS = {
    "full": lambda index: {},
    "router": lambda index: {index % 5 + 3: 0} if index % 3 else {},
    "gated": lambda index: {4: 0, 7: 0, 8 + index % 2: 0},
    "oracle": lambda index: {index % 6 + 2: 0, 10: 2 if index % 4 == 0 else 1},
    "static": lambda index: {5: 0},
    "early_exit": lambda index: dict.fromkeys(range(6 + index % 3, NUM_LAYERS), 0),
}
RIGHT_EVERY = {"full": 3, "router": 3, "gated": 2, "oracle": 5, "static": 3, "early_exit": 2}
"""A system is wrong on the questions whose number is a multiple of this."""

NO_FIGURES = dict.fromkeys(
    (
        *("accuracy", "accuracy_ci95", "delta_vs_full", "delta_ci95", "p_value", "discordant", "mean_depth"),
        *("layers_saved", "off_full_share", "off_common_share", "tokens_per_second", "latency_ms_p50"),
        *("latency_ms_p95", "flops_ratio", "router_overhead_ratio", "cache_bytes", "peak_memory_mb", "setting"),
    )
)


def example_rows(prompts: dict[int, str] | None = None) -> dict[str, list[dict]]:
    """Rows of 40 questions by system, `search` without any; `prompts` replaces the text of some."""
    rows = {}
    for name, edits in EDITS.items():
        rows[name] = []
        for index in range(QUESTIONS):
            gold = index % 4
            path = [1] * NUM_LAYERS
            for layer, action in edits(index).items():
                path[layer] = action
            # The router differs from full depth on one question alone, so that it is known which comes first.
            correct = bool(index % RIGHT_EVERY[name]) or (name == "router" and index == 21)
            choices = [f"{number}" for number in range(index, index + 4)]
            rows[name].append(
                {
                    "question_id": f"q{index:02d}",
                    "prompt": (prompts or {}).get(index, f"Which number is {index} plus {gold}?"),
                    "choices": choices,
                    "gold": gold,
                    "path": LayerPath(path),
                    "correct": correct,
                    "answer": choices[gold if correct else (gold + 1) % 4],
                }
            )
    return rows


def example_system(name: str, rows: list[dict], full: list[dict]) -> dict:
    """One system's figures; the intervals are round numbers about the accuracy."""
    accuracy = sum(row["correct"] for row in rows) / QUESTIONS
    pairs = [(mine["correct"], theirs["correct"]) for mine, theirs in zip(rows, full, strict=True)]
    won, lost = pairs.count((True, False)), pairs.count((False, True))
    depth = sum(row["path"].depth for row in rows) / QUESTIONS
    paths = [row["path"] for row in rows]
    common = max(paths.count(path) for path in paths) / QUESTIONS
    delta = (won - lost) / QUESTIONS
    half = 0.1 * (won + lost) / QUESTIONS + 0.03
    return {
        **NO_FIGURES,
        "name": name,
        "accuracy": accuracy,
        "accuracy_ci95": [max(accuracy - 0.14, 0), min(accuracy + 0.12, 1)],
        "delta_vs_full": None if name == "full" else delta,
        "delta_ci95": None if name == "full" else [delta - half, delta + half],
        "p_value": None if name == "full" else 1.0 if won + lost < 2 else 0.03,
        "discordant": None if name == "full" else [won, lost],
        "mean_depth": depth,
        "layers_saved": NUM_LAYERS - depth,
        "off_full_share": 1 - paths.count(LayerPath.full(NUM_LAYERS)) / QUESTIONS,
        "off_common_share": 1 - common,
        "tokens_per_second": None if name == "oracle" else 9600 / depth,
        "latency_ms_p50": None if name == "oracle" else 1.5 * depth,
        "latency_ms_p95": None if name == "oracle" else 2.1 * depth,
        "flops_ratio": depth / NUM_LAYERS,
        "cache_bytes": int(depth * 40_000),
        "points": [],
        "skipped": None,
    }


def example_bench(rows: dict[str, list[dict]] | None = None) -> dict:
    """The JSON object of a bench over those rows; `search` was left out by it."""
    rows = rows or example_rows()
    systems = {name: example_system(name, found, rows["full"]) for name, found in rows.items()}
    systems["oracle"] |= {"placebo_accuracy": 0.7}
    systems["router"] |= {"router_overhead_ratio": 1.012, "setting": "bias 0"}
    systems["early_exit"]["setting"] = "threshold 0.9"
    systems["early_exit"]["points"] = [
        {"setting": f"threshold {threshold}", "accuracy": 0.3 + 0.05 * place, "mean_depth": 5.0 + place}
        for place, threshold in enumerate((0.5, 0.7, 0.8, 0.9, 0.95))
    ]
    no_search = {**NO_FIGURES, "name": "search", "points": [], "skipped": "no budget was given"}
    return {
        "model": "tiny-llama",
        "task": "arc",
        "questions": QUESTIONS,
        "seed": 0,
        "seen_in_training": 0,
        "num_layers": NUM_LAYERS,
        "batch_size": 8,
        "systems": [*systems.values(), no_search],
        "environment": {"python": "3.11", "device": "cpu", "dtype": "float32"},
        "command": "infer bench --model tiny-llama --router runs/router --task arc --questions builtin:test",
    }
