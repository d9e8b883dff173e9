"""Other programs' files as those programs write them, and what is refused of a file."""

import errno
import json
from dataclasses import replace
from pathlib import Path

import pytest
from commands import pathgen
from path_records import METADATA, make_record, no_guard

from pathgen.exchange.commands import FORMATS
from pathgen.exchange.polar import from_program, to_program
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import Evaluation
from pathgen.questions.question import Question
from pathgen.store.run_folder import RunDirectory
from pathgen.store.run_json import RunInfo
from pathgen.store.schema import from_table
from pathgen.store.shards import write_shard
from pathgen.store.writer import SHARD_RECORDS

FULL = [0, 1, 2, 3, 4, 5]  # of the tiny model
SETTINGS = {"simulations": 1, "layer_budget": None, "seconds_budget": None, "max_depth": 12, "max_edits": 6}


def drllm(**changes):
    """A file as Dr.LLM's search writes it: questions of which full depth is wrong, right, and all is wrong."""
    return {
        "exp": "demo",
        "model_name": "somewhere/else",
        "dataset": "arc_easy",
        "original_correct": [0, 1, 0],
        "mcts_correct": [1, 1, 0],
        "questions": ["Which floats?", "Which sinks?", "Which burns?"],
        "best_path": [[0, 1, 3, 4, 5], FULL, FULL],
        "good_paths": [[[0, 1, 2, 2, 3, 4, 5], [0, 1, 3, 4, 5]], [FULL], []],
        "best_response": ["A", "B", "C"],
    } | changes


def polar(**changes):
    """One question as PoLar's search and merger leave it."""
    return {
        "sample_id": 7,
        "question": "1 + 1?",
        "gt_ans": "2",
        "initial_score": 0.0,
        "final_valid_transitions": [[0, 1, 1, 2, 3, 4, 5], {"path": [0, 2, 3, 4, 5]}],
        "final_invalid_transitions": [[0, 1, 2, 3, 4]],
    } | changes


@pytest.fixture
def load(tiny_model, tmp_path):
    """`pathgen import` of a value as a JSON file, or of a text as it is."""

    def call(name, content, *more, task="arc"):
        file = tmp_path / "file"
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        arguments = ["--format", name, "--model", tiny_model, "--task", task, "--out", tmp_path / "run"]
        return pathgen("import", file, *arguments, *more)

    return call


def records(tmp_path):
    return from_table(RunDirectory(str(tmp_path / "run")).committed.table())


# --- files of the other programs --------------------------------------------------------------------------


def test_a_file_of_dr_llm_becomes_a_run(load, tmp_path):
    answer = load("dr-llm", drllm(), "--json")
    counts = {"records": 3, "improved": 1, "kept": 1, "unsolved": 1, "failed": 0}
    assert (answer.code, answer.stderr) == (0, "")
    assert answer.json == {"out": str(tmp_path / "run"), "format": "dr-llm"} | counts

    by_prompt = {record.question.prompt: record for record in records(tmp_path)}
    floats, sinks, burns = (by_prompt[prompt] for prompt in ("Which floats?", "Which sinks?", "Which burns?"))
    assert [(str(e.path), e.correct, e.margin) for e in floats.evaluations] == [
        ("......", False, None),
        ("..2...", True, None),
        ("..-...", True, None),
    ]
    assert (str(floats.best_path), floats.best_depth, floats.question.reference) == ("..-...", 5, "A")
    assert (floats.simulations, floats.layer_executions) == (2, 6 + 7 + 5)
    assert [str(e.path) for e in sinks.evaluations] == ["......"]
    assert (burns.status, burns.best_path) == ("unsolved", LayerPath.full(6))


def test_a_run_lies_beside_its_file_unless_told_otherwise(tiny_model, tmp_path):
    file = tmp_path / "theirs.json"
    file.write_text(json.dumps(drllm()))
    answer = pathgen("import", file, "--format", "dr-llm", "--model", tiny_model)
    assert (answer.code, answer.stderr) == (0, "")
    assert RunDirectory(str(tmp_path / "theirs")).info().task == "arc"


def test_a_file_of_polar_becomes_a_run(load, tmp_path):
    unscored = polar(sample_id="b", initial_score=None, final_valid_transitions=[FULL])
    del unscored["final_invalid_transitions"]
    # Their merger puts the list into an object.
    assert load("polar", {"base_model": "x", "samples": [polar(), unscored]}, task="math").code == 0
    first, second = records(tmp_path)
    assert [(str(e.path), e.correct) for e in first.evaluations] == [
        ("......", False),
        (".2....", True),
        (".-....", True),
        (".....-", False),
    ]
    assert (first.question.id, first.status, str(first.best_path), first.question.reference) == (
        "7",
        "improved",
        ".-....",
        "2",
    )
    assert (second.question.id, second.status) == ("b", "kept")


@pytest.mark.parametrize("name", ["dr-llm", "polar"])
def test_stats_validate_and_show_read_an_import(name, load, tmp_path):
    assert load(name, drllm() if name == "dr-llm" else [polar()]).stdout.endswith("/run\n")
    run = tmp_path / "run"
    stats = pathgen("stats", run, "--json")
    total = 3 if name == "dr-llm" else 1
    assert (stats.json["total"], stats.json["done"], stats.json["improved"]) == (total, total, 1)
    text = pathgen("stats", run).stdout
    assert f"done {total} of {total}" in text
    assert "placebo" not in text
    assert pathgen("validate", run).stdout.endswith("\nvalid\n")
    shown = pathgen("show", run, records(tmp_path)[0].question.id)
    assert (shown.code, shown.stderr) == (0, "")
    refused = pathgen("validate", run, "--replay", 1)
    assert (refused.code, refused.error.split(";")[0]) == (2, "--replay needs a run that searched here")
    again = pathgen("generate", "--out", run, "--model", json.loads((run / "run.json").read_text())["model"]["id"])
    assert again.code == 4  # an import is no search that could go on


def test_the_export_is_what_dr_llm_reads(tmp_path):
    paths = [LayerPath.full(4), LayerPath((1, 0, 2, 1)), LayerPath((1, 1, 0, 1)), LayerPath((0, 0, 0, 0))]
    verdicts = (False, True, False, True)
    evaluations = [Evaluation(p, v, 0.0, None, None, i) for i, (p, v) in enumerate(zip(paths, verdicts, strict=True))]
    record = make_record(
        "q", status="improved", base_correct=False, evaluations=evaluations, best_path=paths[3], task="arc-letter"
    )
    run = RunDirectory(str(tmp_path / "run"))
    run.create()
    run.begin(RunInfo(SETTINGS, "tiny", "f" * 16, "arc-letter", "builtin"), no_guard)
    write_shard(run.fs, run.paths, "w-0", 0, [record], METADATA, no_guard)
    answer = pathgen("export", run.out, "--format", "dr-llm", "--out", tmp_path / "file")
    assert (answer.code, answer.stdout) == (0, f"1 records in {tmp_path / 'file'}\n")
    assert json.loads((tmp_path / "file").read_text()) == {
        "model_name": "tiny",
        "dataset": "arc-letter",
        "num_layers": 4,
        "questions": ["Why?"],
        "original_correct": [0],
        "mcts_correct": [1],
        "improved_cases": [True],
        "path_lengths": [0],
        "unique_layers": [0],
        "best_path": [[]],
        "good_paths": [[[0, 2, 2, 3], []]],
        "best_response": ["B"],  # the second choice, as the task asks for it
        "question_ids": ["q"],
        "choices": [["yes", "no"]],
        "gold": [1],
    }
    assert pathgen("export", run.out, "--format", "polar", "--out", tmp_path / "polar").code == 0
    (sample,) = json.loads((tmp_path / "polar").read_text())
    assert sample["final_valid_transitions"] == [[0, 2, 2, 3], []]
    assert sample["final_invalid_transitions"] == [[0, 1, 2, 3], [0, 1, 3]]
    assert (sample["initial_score"], sample["program"]) == (0.0, [[0, 4, "skip"]])


def test_programs_are_as_few_segments_as_do():
    path = LayerPath((1, 1, 1, 1, 1, 0, 0, 2, 2, 1))
    program = to_program(path)
    assert program == [
        (0, 4, "keep"),
        (4, 5, "keep"),
        (5, 7, "skip"),
        (7, 8, "repeat"),
        (8, 9, "repeat"),
        (9, 10, "keep"),
    ]
    assert from_program([list(segment) for segment in program], 10) == path


# --- refusals ---------------------------------------------------------------------------------------------


def without(content, name):
    return {key: value for key, value in content.items() if key != name}


BEST = [[0, 1, 3, 4, 5], FULL, FULL]


@pytest.mark.parametrize(
    ("name", "content", "code", "fault"),
    [
        ("dr-llm", '{\n "questions": [,]}', 2, "not JSON: Expecting value at line 2 column 16"),
        ("dr-llm", [1], 2, "must hold one JSON object of lists, not list"),
        ("dr-llm", without(drllm(), "good_paths"), 2, "no list good_paths; a dr-llm file has questions, best_path, "),
        ("dr-llm", drllm(original_correct=[0, 1]), 2, "must be of one length; got questions 3, best_path 3, good_p"),
        ("dr-llm", drllm(original_correct=1), 2, "original_correct must be a list, not int"),
        ("dr-llm", drllm(original_correct=[0, 2, 0]), 2, "question 2 ('Which sinks?'): original_correct must be 0 or"),
        ("dr-llm", drllm(num_layers=4), 4, "is of a model with 4 layers, "),
        (
            "dr-llm",
            drllm(good_paths=[[[0, 1, 3, 4, 5]], [FULL, [0, 1, 1, 1, 2]], []]),
            2,
            "question 2 ('Which sinks?'): good_paths: layer 1 runs 3 times; a layer runs twice at most",
        ),
        ("dr-llm", drllm(best_path=[*BEST[:2], [0, 6]]), 2, "question 3 ('Which burns?'): best_path: layer indices mu"),
        ("dr-llm", drllm(best_path=[*BEST[:2], [1, 0]]), 2, "best_path: layers must run in ascending order"),
        ("dr-llm", drllm(best_path=[*BEST[:2], [1.5]]), 2, "best_path: a path is a list of layer indices"),
        ("dr-llm", drllm(best_path=[*BEST[:2], [0, 1]]), 2, "best_path is not among good_paths"),
        ("dr-llm", drllm(original_correct=[0, 0, 0]), 2, "the full path is among good_paths, and original_correct is"),
        ("dr-llm", drllm(questions=["a", "b", "a"], best_response=["A"] * 3), 2, "its question is a duplicate"),
        ("dr-llm", drllm(questions=["a", "b", 3]), 2, "question 3 (3): the question is int, not text"),
        ("dr-llm", drllm(questions=["a", "b", " "]), 2, "question 3 (' '): the question is empty"),
        ("dr-llm", drllm(questions=["a", "\ud800x", "c"]), 2, "question 2 ('\\ud800x'): the question has half"),
        ("dr-llm", drllm(question_ids=["a", "b", "\ud800x"]), 2, "question 3 ('Which burns?'): its id has half"),
        ("dr-llm", drllm(best_response=["A", "\udfff", "C"]), 2, "('Which sinks?'): the right answer has half"),
        ("dr-llm", drllm(choices=[["a"]] * 3, gold=[0] * 3), 2, "has 1 choices; 2 to 26 are needed"),
        ("dr-llm", drllm(choices=[["a", "a"]] * 3, gold=[0] * 3), 2, "its choices are all the same"),
        ("dr-llm", drllm(choices=[["a", "\ud800"]] * 3, gold=[0] * 3), 2, "choice 2 has half of a surrogate pair"),
        ("dr-llm", '{"questions": [' + "9" * 5000 + "]}", 2, "not usable JSON: a number in it has thousands of digits"),
        ("dr-llm", drllm(dataset="math"), 4, "is of task 'math', not 'arc'; give --task math"),
        ("dr-llm", {key: [] for key in drllm()}, 2, "no questions in it"),
        ("dr-llm", drllm(choices=[["x", "y"]] * 3, gold=[0, 0, 2]), 2, "gold must be an index of its 2 choices; got 2"),
        ("polar", {"a": 1}, 2, "must hold a JSON list of objects, or an object with such a list as `samples`"),
        ("polar", [polar(), 3], 2, "question 2: must be an object, not int"),
        ("polar", [without(polar(), "final_valid_transitions")], 2, "final_valid_transitions must be a list of paths"),
        ("polar", [polar(final_valid_transitions=[[0, 1, 0, 1]])], 2, "layers must run in ascending order"),
        ("polar", [polar(final_valid_transitions=[[0, 1, 2, 3, 4]])], 2, "[0, 1, 2, 3, 4] is both valid and invalid"),
        ("polar", [polar(initial_score=0.5)], 2, "initial_score 0.5 is not 0 or 1"),
        (
            "polar",
            [polar(initial_score=0, final_valid_transitions=[FULL])],
            2,
            "or contradicts the verdict of its full path",
        ),
        ("polar", [polar(sample_id="\ud800")], 2, "its id has half of a surrogate pair"),
        ("polar", [polar(gt_ans=2)], 2, "the right answer is int, not text"),
        ("polar", [polar(num_layers=36)], 4, "is of a model with 36 layers, "),
        ("polar", [polar(program=[[0, 3, "keep"]])], 2, "program: segments must cover layers 0..5; these end at 2"),
        ("polar", [polar(program=[[0, 2, "repeat"]])], 2, "layers 0-1 run twice as a block; only single layers may"),
        ("polar", [polar(program=[[0, 6, "loop"]])], 2, "an op is skip, keep, repeat; got 'loop'"),
        ("polar", [polar(program=[[0, 6, "skip"]])], 2, "its program is not among final_valid_transitions"),
        ("csv", "", 2, "unknown format 'csv': choose from dr-llm, polar, jsonl"),
    ],
)
def test_a_file_that_cannot_be_is_refused_and_leaves_nothing(name, content, code, fault, load, tmp_path):
    answer = load(name, content)
    assert (answer.code, fault in answer.error) == (code, True), answer.error
    assert not (tmp_path / "run").exists()


def line(**changes):
    """A line of `jsonl`: a record of the tiny model that only ran the full path."""
    question = Question("q", "Which floats?", ("cork", "lead"), 0)
    evaluation = {
        "path": [1] * 6,
        "correct": True,
        "margin": 0.5,
        "choice_scores": [1.0, 0.5],
        "answer": None,
        "simulation": 0,
    }
    row = {
        "question_id": "q",
        "question_sha": question.sha,
        "task": "arc",
        "prompt": question.prompt,
        "choices": ["cork", "lead"],
        "gold": 0,
        "reference": None,
        "status": "kept",
        "stop_reason": "budget",
        "num_layers": 6,
        "base_correct": True,
        "base_margin": 0.5,
        "best_path": [1] * 6,
        "best_depth": 6,
        "best_margin": 0.5,
        "evaluations": [evaluation],
        "simulations": 0,
        "layer_executions": 6,
        "layers_run": 6,
        "seconds": 1.0,
        "seed": 0,
        "writer": "w-0",
        "attempts": 1,
        "created_ms": 0,
        "error": None,
    }
    return row | changes


def test_a_line_as_above_is_a_record(load):
    assert load("jsonl", json.dumps(line()) + "\n\n" + json.dumps(line(question_id="r"))).code == 0


def test_many_lines_become_shards_in_their_order(load, tmp_path):
    ids = [f"q{number}" for number in reversed(range(SHARD_RECORDS + 1))]
    assert load("jsonl", "\n".join(json.dumps(line(question_id=name)) for name in ids)).code == 0
    assert len(list((tmp_path / "run" / "paths").iterdir())) == 2
    assert [record.question.id for record in records(tmp_path)] == ids


@pytest.mark.parametrize(
    ("changes", "code", "fault"),
    [
        ({"status": "searching"}, 2, "record 2 ('q'): status searching where its evaluations say kept"),
        ({"layer_executions": 7}, 2, "layer_executions is not the sum of its paths' depths"),
        ({"num_layers": 30}, 4, "line 2 is of a model with 30 layers, "),
        ({"task": "math"}, 4, "line 2 is of task 'math', not 'arc'"),
        ({"seed": None}, 2, "line 2: seed must not be null"),
        ({"extra": 1}, 2, "line 2: the record: unknown extra"),
        ({"stop_reason": "bored"}, 2, "stop_reason must be null or one of budget, early, exhausted, interrupted"),
        ({"evaluations": [{"path": [1] * 6}]}, 2, "an entry of evaluations: no correct, margin, choice_scores, "),
        ({"evaluations": {}}, 2, "line 2: evaluations must be a list; got {}"),
        ({"choices": ["cork", None]}, 2, "line 2: an entry of choices must not be null"),
        ({"best_path": [3] * 6}, 2, "line 2: a path holds action 3; 0, 1 and 2 exist"),
        ({"gold": "A"}, 2, "line 2: "),
        ({"seconds": 1e39}, 2, "line 2: seconds must be a number that float32 holds; got 1e+39"),
        ({"question_id": "first"}, 2, "its question is a duplicate"),
        ({"prompt": "\ud800x"}, 2, "line 2: a text has half of a surrogate pair, which is not a character"),
    ],
)
def test_a_line_that_is_no_record_is_refused_and_leaves_nothing(changes, code, fault, load, tmp_path):
    answer = load("jsonl", "".join(json.dumps(row) + "\n" for row in (line(question_id="first"), line(**changes))))
    assert (answer.code, fault in answer.error) == (code, True), answer.error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"a": 1', "line 2: not JSON: Expecting ',' delimiter at column 8"),
        ("3", "line 2: the record must be an object; got 3"),
        (json.dumps(line(seconds=float("nan"))), "line 2: seconds must be a number that float32 holds; got nan"),
    ],
)
def test_a_line_that_is_no_json_is_named(text, fault, load):
    answer = load("jsonl", json.dumps(line(question_id="first")) + "\n" + text)
    assert (answer.code, fault in answer.error) == (2, True), answer.error


def test_what_exists_is_never_written_over(load, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    answer = load("dr-llm", drllm())
    assert answer.code == 2
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    (tmp_path / "run" / "notes.txt").unlink()
    assert load("dr-llm", drllm()).code == 0
    answer = load("dr-llm", drllm())
    assert (answer.code, answer.error) == (2, f"--out {tmp_path / 'run'} is not empty; give a new folder")

    file = tmp_path / "kept"
    file.write_text("mine")
    answer = pathgen("export", tmp_path / "run", "--format", "polar", "--out", file)
    assert (answer.code, answer.error) == (2, f"--out {file} exists already; give a new file")
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "target", "fault"),
    [
        ("csv", "new", "unknown format 'csv': choose from dr-llm, polar, jsonl, hub"),
        ("jsonl", "missing/new", "there is no folder"),
    ],
)
def test_an_export_is_refused(name, target, fault, load, tmp_path):
    load("dr-llm", drllm())
    answer = pathgen("export", tmp_path / "run", "--format", name, "--out", tmp_path / target)
    assert (answer.code, fault in answer.error) == (2, True)


def test_an_export_that_fails_leaves_no_file(load, tmp_path):
    load("dr-llm", drllm())
    (shard,) = (tmp_path / "run" / "paths").iterdir()
    shard.write_bytes(b"PAR1")
    answer = pathgen("export", tmp_path / "run", "--format", "jsonl", "--out", tmp_path / "new")
    assert (answer.code, "1 unreadable" in answer.error) == (4, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "run"]


def test_a_full_disk_leaves_no_half_file(load, tmp_path, monkeypatch):
    def half(records, info, num_layers, file):
        file.write("{")
        raise OSError(errno.ENOSPC, "No space left on device")

    load("dr-llm", drllm())
    monkeypatch.setitem(FORMATS, "jsonl", replace(FORMATS["jsonl"], write=half))
    answer = pathgen("export", tmp_path / "run", "--format", "jsonl", "--out", tmp_path / "new")
    assert (answer.code, answer.error) == (1, f"cannot write {tmp_path / 'new'}: No space left on device")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "run"]


def test_a_run_of_failed_questions_has_nothing_for_the_others(tmp_path):
    run = RunDirectory(str(tmp_path / "run"))
    run.create()
    run.begin(RunInfo(SETTINGS, "tiny", "f" * 16, "arc", "builtin"), no_guard)
    write_shard(run.fs, run.paths, "w-0", 0, [make_record("a", status="failed")], METADATA, no_guard)
    answer = pathgen("export", run.out, "--format", "dr-llm", "--out", tmp_path / "file")
    assert (answer.code, answer.error) == (2, f"{run.out} holds no record that dr-llm can store")
    assert Path(run.out).is_dir()
