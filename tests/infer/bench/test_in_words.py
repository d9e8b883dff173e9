"""The benchmark in plain words: what is called a gain, and what is not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench_example import example_bench, with_system

from infer.bench.answers import Answer, Effort, same_answer
from infer.bench.in_words import in_words
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.question import Question


def said(bench, name):
    """The lines about one system."""
    lines = in_words(bench)
    first = next(place for place, line in enumerate(lines) if line.startswith(f"{name} "))
    rest = lines[first + 1 :]
    return lines[first : first + 1 + next((n for n, line in enumerate(rest) if line[0] != " "), len(rest))]


def test_layers_work_and_answers_kept_are_named():
    bench = with_system(
        example_bench(),
        "static",
        **{"mean_depth": 10.0, "layers_saved": 2.0, "flops_ratio": 0.85, "off_full_share": 1.0},
        **{"agreement": 0.95, "agreement_ci95": (0.835, 0.986), "latency_ms_p50": 9.0},
        **{"delta_vs_full": -0.025, "delta_ci95": (-0.08, 0.03)},
    )
    bench = with_system(bench, "full", latency_ms_p50=10.0)
    bench = with_system(bench, "early_exit", mean_depth=7.0, agreement=0.6)
    assert said(bench, "static") == [
        "static runs 10 of 12 layers and gives full depth's answer to 38 of 40 questions (95.0 % [83.5, 98.6]).",
        "  Gained: 2 layers fewer; 15 % less work in FLOPs; a question takes 0.90 times full depth's time.",
        "  Not gained: accuracy, -2.5 points [-8.0, +3.0]: no clear difference.",
        "  On no more layers, answers kept: early_exit 60.0 %.",
    ]
    assert in_words(bench)[-1] == "40 questions are few: read the intervals, not the figures."


@pytest.mark.parametrize(
    ("interval", "gained", "missed"),
    [
        ((0.01, 0.2), "accuracy, +2.5 points [+1.0, +20.0]", None),
        ((-0.3, -0.1), None, "accuracy, +2.5 points [-30.0, -10.0]: a loss"),
        ((0.0, 0.2), None, "accuracy, +2.5 points [+0.0, +20.0]: no clear difference"),
    ],
)
def test_accuracy_is_gained_where_the_whole_interval_is_above_zero(interval, gained, missed):
    lines = said(with_system(example_bench(), "router", delta_vs_full=0.025, delta_ci95=interval), "router")
    assert ((gained or missed) in lines[1], (gained or missed) in lines[2]) == (bool(gained), bool(missed))


def test_more_layers_work_and_time_are_no_gain():
    changes = {"mean_depth": 13.0, "layers_saved": -1.0, "flops_ratio": 1.08, "latency_ms_p50": 22.0}
    lines = said(with_system(example_bench(), "router", delta_ci95=(-0.1, 0.1), **changes), "router")
    assert lines[1] == "  Gained: nothing."
    assert "1 layers more; 8 % more work in FLOPs; a question takes 1.22 times full depth's time" in lines[2]


def test_full_depth_alone_is_said_to_gain_nothing_and_skipped_or_many_questions_say_nothing():
    bench = replace(with_system(example_bench(), "router", off_full_share=0.0), questions=400)
    assert said(bench, "router") == ["router never leaves full depth: nothing is gained, and nothing is lost."]
    assert not any(line.startswith(("search", "oracle", "early_exit", "400")) for line in in_words(bench))
    only = tuple(entry for entry in bench.systems if entry.name in ("full", "search"))
    assert in_words(replace(bench, systems=only)) == []


@pytest.mark.parametrize(
    ("choices", "reference", "first", "second", "margin", "same"),
    [
        (("a", "b"), None, "a", "a", 0.1, True),
        (("a", "b"), None, "a", "b", 0.1, False),
        (("a", "b"), None, "a", "a", None, False),
        (None, "7", "It is 7.", "so 7", 0.1, True),
        (None, "7", "It is 7.", "so 8", 0.1, False),
    ],
)
def test_answers_are_the_same_by_choice_or_as_graded(choices, reference, first, second, margin, same):
    path = LayerPath.full(3)
    given = [
        Answer("q", path, True, each, text, Effort.of_paths([path])) for each, text in ((0.2, first), (margin, second))
    ]
    assert same_answer(Question("q", "?", choices, 0 if choices else None, reference), *given) == same
