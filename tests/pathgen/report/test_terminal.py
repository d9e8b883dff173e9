from dataclasses import replace

import pytest
from commands import pathgen
from path_records import METADATA, make_record, no_guard

from pathgen.generate.outcome import RunSummary, summary_text
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import Evaluation
from pathgen.store.run_folder import RunDirectory
from pathgen.store.run_json import RunInfo
from pathgen.store.shards import write_shard

SUMMARY = RunSummary(
    cut=None,
    out="runs/my run",
    questions=40,
    done_before=0,
    searched=10,
    continued=0,
    failed=2,
    solved=30,
    base_accuracy=0.5,
    solved_rate=0.75,
    mean_best_depth=25.5,
    num_layers=30,
    simulations=500,
    layer_executions=9000,
    layers_run=6000,
    token_layers=90_000,
    search_seconds=20.0,
    questions_per_second=0.5,
    busy_seconds=19.0,
    actors=1,
    wall_seconds=30.0,
)
SETTINGS = dict.fromkeys(("layer_budget", "seconds_budget")) | {"simulations": 3, "max_depth": 8, "max_edits": 8}


@pytest.fixture
def show(tmp_path):
    """Commits a record, and gives the lines of `pathgen COMMAND` on it."""
    run = RunDirectory(str(tmp_path / "run"))
    run.create()
    run.begin(RunInfo(SETTINGS | {"cost": "layers"}, "tiny", "f" * 16, "arc", "builtin"), no_guard)

    def lines(record, command="show"):
        write_shard(run.fs, run.paths, "w-0", 0, [record], METADATA, no_guard)
        answer = pathgen(command, run.out, *([record.question.id] if command == "show" else []))
        assert (answer.code, answer.stderr) == (0, "")
        return [line.rstrip() for line in answer.stdout.splitlines()]

    return lines


def test_the_end_of_a_run_ends_with_the_next_command():
    lines = summary_text(SUMMARY).splitlines()
    assert lines[0] == "40 questions in runs/my run, 2 failed"
    assert lines[1] == (
        "full depth is right on 50.0%, some path on 75.0% "
        "(chosen by the answer; `pathgen stats` tells how much of it is luck: the placebo)"
    )
    assert lines[2] == "best paths run 25.5 of 30 layers (4.5 saved)"
    assert lines[3] == "searched 10 in 20.0 s (0.50 questions a second, 1 actor)"
    assert lines[4].startswith(
        "40 questions may be too few: a gain of 5 points takes about 300 to show, 2 points about 2"
    )
    assert lines[5] == "  pathgen static --target divergence --paths 'runs/my run' --out static.json"
    assert lines[6:] == ["next: pathgen stats 'runs/my run'"]
    assert "too few" not in summary_text(replace(SUMMARY, questions=314))


def test_the_end_of_a_run_that_searched_nothing():
    nothing = dict.fromkeys(("base_accuracy", "solved_rate", "mean_best_depth", "questions_per_second"))
    lines = summary_text(replace(SUMMARY, **nothing, questions=1, failed=0)).splitlines()
    assert (lines[0], lines[-1]) == ("1 question in runs/my run", "next: pathgen stats 'runs/my run'")


def test_a_record_is_drawn_cheapest_right_path_first(show):
    evaluations = [
        Evaluation(LayerPath((1, 1, 1, 1)), False, -1.0, (1.0, 0.0), None, 0),
        Evaluation(LayerPath((1, 0, 1, 1)), True, 0.5, (0.0, 0.5), None, 1),
        Evaluation(LayerPath((0, 0, 1, 1)), False, -2.0, (2.0, 0.0), None, 2),
        Evaluation(LayerPath((1, 2, 0, 1)), False, None, None, None, 3),
        Evaluation(LayerPath((1, 0, 0, 1)), True, 0.25, (0.0, 0.25), None, 4),
    ]
    record = make_record("q[1]", prompt="Is [bold] text kept?", status="improved", evaluations=evaluations)
    lines = show(record)
    assert lines[:4] == ["q[1]: improved", "Is [bold] text kept?", "    yes", "  * no"]
    drawn = [line.split() for line in lines[5:10]]
    assert drawn == [
        ["0", "4", "-1.00", "....", "yes"],
        ["4", "2", "+0.25", "✓", ".--.", "no"],
        ["1", "3", "+0.50", "✓", ".-..", "no"],
        ["2", "2", "-2.00", "--..", "yes"],
        ["3", "4", "-", ".2-."],
    ]
    assert lines[10].endswith("ended: budget")


def test_a_long_record_says_what_it_leaves_out(show):
    paths = [LayerPath.full(4), *(LayerPath((1, a, b, c)) for a in range(3) for b in range(3) for c in range(2))]
    evaluations = [Evaluation(path, True, 0.5, (0.0, 0.5), None, i) for i, path in enumerate(paths)]
    lines = show(make_record("long", evaluations=evaluations))
    drawn = [line for line in lines if "✓" in line]
    assert f"… and {len(paths) - len(drawn)} more paths that rank lower" in lines


def test_a_failed_record_tells_why(show):
    lines = show(make_record("q", status="failed", attempts=2, error="600 tokens, the model's context is 512"))
    assert lines[-1] == "failed after 2 attempts: 600 tokens, the model's context is 512"


def test_a_generated_answer_is_one_line(show):
    record = make_record("q", choices=None, gold=None, reference="2")
    record.evaluations = [Evaluation(LayerPath.full(4), True, 0.5, None, "so\n\n it is 2", 0)]
    lines = show(record)
    assert "  reference: 2" in lines
    assert lines[4].endswith("so it is 2")


def test_stats_are_drawn(show):
    lines = show(make_record("q"), "stats")
    text = "\n".join(lines)
    assert "done 1 of 1: improved 0, kept 1, unsolved 0, failed 0" in lines
    assert "accuracy, full depth  100.0%" in text
    assert "layers saved          1.00" in text
    assert any(line.startswith("skipped    █ ") for line in lines)  # the best path skips layer 2 alone
    assert any(line.startswith("repeated      ") for line in lines)
    assert any(line.startswith("1 question may be too few") for line in lines)
    assert lines[-1].startswith("next: pathgen static --paths ")


def test_what_some_path_solves_is_never_told_without_the_placebo(show):
    """Two of three wrong answers are mended, as luck has it: a wrong choice of like rank is reached as often."""
    base = (3.0, 2.0, 1.0)
    paths = [LayerPath.full(4), LayerPath((1, 0, 1, 1))]

    def wrong(question_id, gold, scores):
        evaluations = [
            Evaluation(path, simulation == gold == 1, 0.0, values, None, simulation)
            for simulation, (path, values) in enumerate(zip(paths, (base, scores), strict=True))
        ]
        return make_record(
            question_id,
            status="unsolved",
            choices=("a", "b", "c"),
            gold=gold,
            base_correct=False,
            evaluations=evaluations,
        )

    show(wrong("1", 1, (1.0, 3.0, 2.0)), "stats")
    show(wrong("2", 2, (1.0, 2.0, 3.0)), "stats")
    lines = show(wrong("3", 2, (1.0, 3.0, 2.0)), "stats")
    text = "\n".join(lines)
    assert "upper bound: it knows the answer; see placebo" in text
    at = lines.index("full depth answers 3 questions wrong:")
    # Placebos: at the second rank b of "2" (no) and of "3" (yes), at the third c of "1" (no): (1/2 + 0 + 0) / 3.
    assert lines[at + 1] == "  headroom  66.7%  of them some path answers right"
    assert lines[at + 2].startswith("  placebo   16.7%  of them it would be by luck alone")
    assert lines[at + 3] == "  too few to tell the two apart: at least 20 wrong answers are needed"


def test_generated_answers_have_no_placebo_and_stats_say_so(show):
    record = make_record("q", choices=None, gold=None, reference="2")
    record.evaluations = [Evaluation(LayerPath.full(4), True, 0.5, None, "2", 0)]
    lines = show(record, "stats")
    text = " ".join(lines)
    assert "how much of what some path answers right is luck is unknown: no choices were scored" in text
    assert "some path right       100.0%     upper bound: it knows the answer" in lines


def test_a_record_of_unknown_effort_is_drawn(show):
    lines = show(make_record("q", layers_run=None, seconds=None, stop_reason=None))
    assert lines[-1] == "13 layer executions"
