"""A hand-made result of a bench: its questions, their answers and the figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from infer.bench.answers import Answer, Effort, Point
from infer.bench.figures import BenchResult, OracleFigures, SystemFigures
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.question import Question

COMMAND = "infer bench --model tiny-llama --router runs/router --task arc --questions builtin:test"
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


def example_questions(prompts: dict[int, str] | None = None) -> list[Question]:
    """40 questions; `prompts` replaces the text of some."""
    return [
        Question(
            f"q{index:02d}",
            (prompts or {}).get(index, f"Which number is {index} plus {index % 4}?"),
            tuple(f"{number}" for number in range(index, index + 4)),
            index % 4,
        )
        for index in range(QUESTIONS)
    ]


def example_answers() -> dict[str, list[Answer]]:
    """Answers to the 40 questions by system, `search` without any."""
    answers = {}
    for name, edits in EDITS.items():
        answers[name] = []
        for index, question in enumerate(example_questions()):
            actions = [1] * NUM_LAYERS
            for layer, action in edits(index).items():
                actions[layer] = action
            path = LayerPath(actions)
            # The router differs from full depth on one question alone, so that it is known which comes first.
            correct = bool(index % RIGHT_EVERY[name]) or (name == "router" and index == 21)
            text = question.choices[index % 4 if correct else (index + 1) % 4]
            answers[name].append(Answer(question.id, path, correct, None, text, Effort.of_paths([path])))
    return answers


def example_system(name: str, answers: list[Answer], full: list[Answer]) -> SystemFigures:
    """One system's figures; the intervals are round numbers about the accuracy."""
    accuracy = sum(answer.correct for answer in answers) / QUESTIONS
    pairs = [(mine.correct, theirs.correct) for mine, theirs in zip(answers, full, strict=True)]
    won, lost = pairs.count((True, False)), pairs.count((False, True))
    paths = [answer.path for answer in answers]
    depth = sum(path.depth for path in paths) / QUESTIONS
    common = max(paths.count(path) for path in paths) / QUESTIONS
    delta = (won - lost) / QUESTIONS
    agreement = sum(mine.answer == theirs.answer for mine, theirs in zip(answers, full, strict=True)) / QUESTIONS
    half = 0.1 * (won + lost) / QUESTIONS + 0.03
    return (OracleFigures if name == "oracle" else SystemFigures)(
        name=name,
        accuracy=accuracy,
        accuracy_ci95=(max(accuracy - 0.14, 0), min(accuracy + 0.12, 1)),
        delta_vs_full=None if name == "full" else delta,
        delta_ci95=None if name == "full" else (delta - half, delta + half),
        p_value=None if name == "full" else 1.0 if won + lost < 2 else 0.03,
        discordant=None if name == "full" else (won, lost),
        mean_depth=depth,
        layers_saved=NUM_LAYERS - depth,
        off_full_share=1 - paths.count(LayerPath.full(NUM_LAYERS)) / QUESTIONS,
        off_common_share=1 - common,
        tokens_per_second=None if name == "oracle" else 9600 / depth,
        latency_ms_p50=None if name == "oracle" else 1.5 * depth,
        latency_ms_p95=None if name == "oracle" else 2.1 * depth,
        flops_ratio=depth / NUM_LAYERS,
        cache_bytes=int(depth * 40_000),
        agreement=agreement,
        agreement_ci95=(max(agreement - 0.1, 0), min(agreement + 0.02, 1)),
    )


def example_bench() -> BenchResult:
    """The figures of those answers; `search` was left out by the bench."""
    answers = example_answers()
    systems = {name: example_system(name, given, answers["full"]) for name, given in answers.items()}
    points = tuple(
        Point(f"threshold {threshold}", 0.3 + 0.05 * place, 5.0 + place)
        for place, threshold in enumerate((0.5, 0.7, 0.8, 0.9, 0.95))
    )
    changes = {
        "oracle": {"placebo_accuracy": 0.7},
        "router": {"router_overhead_ratio": 1.012, "setting": "bias 0"},
        "early_exit": {"setting": "threshold 0.9", "points": points},
    }
    return BenchResult(
        model="tiny-llama",
        task="arc",
        questions=QUESTIONS,
        seed=0,
        seen_in_training=0,
        num_layers=NUM_LAYERS,
        batch_size=8,
        environment={"python": "3.11", "device": "cpu", "dtype": "float32"},
        settings={},
        systems=(
            *(replace(system, **changes.get(name, {})) for name, system in systems.items()),
            SystemFigures(name="search", skipped="no budget was given"),
        ),
    )


def with_system(bench: BenchResult, name: str, /, **changes: Any) -> BenchResult:
    """The bench with other figures of one system."""
    systems = (replace(system, **changes) if system.name == name else system for system in bench.systems)
    return replace(bench, systems=tuple(systems))
