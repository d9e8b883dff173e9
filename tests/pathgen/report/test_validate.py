import datetime
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import pathgen
from path_records import METADATA, make_record, no_guard
from searched_runs import FULL, SINGLE_EDITS, choice_questions, write_run

from cluster.program.json_codec import encoded
from pathgen.engine.path_model import PathModel
from pathgen.errors import ArtefactError
from pathgen.evaluation.evaluator import Evaluator
from pathgen.generate.options import GenerateOptions
from pathgen.generate.run import GenerationRun
from pathgen.paths.cost import CostModel
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import Evaluation
from pathgen.questions.tasks import find_task
from pathgen.report.terminal import report_text
from pathgen.report.validate import record_faults, validate_run
from pathgen.store.run_folder import RunDirectory
from pathgen.store.run_json import RunInfo
from pathgen.store.shards import write_progress, write_shard

INFO = RunInfo({"max_edits": 3, "dtype": "float32"}, "tiny", "f" * 16, "arc", "builtin")


def good_record(question_id="a"):
    """A record whose best path is the cheapest right one."""
    paths = [LayerPath(digits) for digits in ((1, 1, 1, 1), (1, 0, 1, 1), (0, 0, 1, 1), (1, 1, 1, 0))]
    evaluations = [
        Evaluation(path, correct, margin, None, None, simulation)
        for simulation, (path, correct, margin) in enumerate(
            zip(paths, (False, True, False, True), (-1.0, 0.5, -2.0, 0.75), strict=True)
        )
    ]
    return make_record(
        question_id,
        status="improved",
        base_correct=False,
        evaluations=evaluations,
        best_path=paths[3],
        best_depth=3,
        best_margin=0.75,
        layer_executions=12,
    )


def test_a_good_record_has_no_faults():
    assert record_faults(good_record(), INFO) == []
    assert record_faults(make_record("b", status="failed"), INFO) == []


def swap_first(record):
    record.evaluations.reverse()


def repeat_one(record):
    record.evaluations.append(record.evaluations[1])
    record.layer_executions += 3


def add_long(record):
    record.evaluations.append(Evaluation(LayerPath((1, 1, 1)), False, 0.0, None, None, 4))
    record.layer_executions += 3


def add_edited(record):
    record.evaluations.append(Evaluation(LayerPath((0, 2, 2, 2)), False, 0.0, None, None, 4))
    record.layer_executions += 6


def choose_second(record):
    record.best_path, record.best_margin = LayerPath((1, 0, 1, 1)), 0.5


def choose_wrong(record):
    record.best_path = LayerPath((0, 0, 1, 1))


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (swap_first, "its first evaluation is not the full path"),
        (repeat_one, "a path was evaluated twice"),
        (add_long, "a path does not have 4 actions"),
        (add_edited, "a path has more than 3 edits"),
        (choose_second, "best_path is not the cheapest right path, or not the one with the largest margin"),
        (choose_wrong, "best_path is not among its right evaluations"),
        ({"layer_executions": 13}, "layer_executions is not the sum of its paths' depths"),
        ({"status": "kept"}, "status kept where its evaluations say improved"),
        ({"status": "failed", "error": None}, "failed without an error"),
        ({"best_depth": 4}, "best_depth is not the depth of best_path"),
        ({"best_margin": 0.5}, "best_margin is not the margin of best_path"),
    ],
)
def test_every_fault_of_a_record_is_found_alone(spoil, fault):
    record = good_record()
    if callable(spoil):
        spoil(record)
    else:
        for name, value in spoil.items():
            setattr(record, name, value)
    assert record_faults(record, INFO) == [fault]


def test_the_cheapest_path_is_so_by_the_runs_own_cost():
    record = good_record()
    record.evaluations.append(Evaluation(LayerPath((0, 1, 1, 1)), True, 0.1, None, None, 4))
    record.layer_executions += 3
    assert record_faults(record, INFO) == []
    cost = encoded(CostModel.from_measures("flops", (5, 1, 1, 1)))
    costly_first = RunInfo(INFO.settings, "tiny", "f" * 16, "arc", "builtin", {"cost": cost})
    assert len(record_faults(record, costly_first)) == 1


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(str(tmp_path / "run"))
    run.create()
    run.begin(INFO, no_guard)
    write_shard(run.fs, run.paths, "w-0", 0, [good_record("a"), good_record("b")], METADATA, no_guard)
    return run


def test_a_sound_run_is_valid(run):
    report = validate_run(run.out, 0)
    assert (report.valid, report.problems, report.notes) == (True, [], [])
    assert (report.shards, report.records, report.questions) == (1, 2, 2)
    answer = pathgen("validate", run.out)
    assert (answer.code, answer.stdout, answer.stderr) == (0, "1 shard, 2 records, 2 questions\nvalid\n", "")


def test_what_an_interruption_leaves_is_noted_and_no_problem(run):
    write_shard(run.fs, run.paths, "w-1", 0, [good_record("a")], METADATA, no_guard)
    write_progress(run.fs, run.root, "w-1", [good_record("c")], METADATA, no_guard)
    (Path(run.paths) / ".tmp-0123").write_text("half")
    report = validate_run(run.out, 0)
    assert report.valid
    assert report.notes == ["a: in 2 rows", "under way: .progress/w-1.parquet", "leftover: .tmp-0123"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: data[:99] + bytes([data[99] ^ 1]) + data[100:],
    ],
    ids=["truncated", "empty", "flipped"],
)
def test_a_damaged_shard_is_named_and_nothing_is_moved(run, damage):
    (shard,) = Path(run.paths).iterdir()
    shard.write_bytes(damage(shard.read_bytes()))
    answer = pathgen("validate", run.out, "--json")
    assert answer.code == 4
    assert not answer.json["valid"]
    (problem,) = answer.json["problems"]
    assert shard.name in problem
    assert shard.exists()
    plain = pathgen("validate", run.out)
    assert plain.code == 4
    assert plain.stdout.endswith("not valid\n")


def test_shards_of_another_model_are_named(run):
    other = METADATA.__class__("other", "0" * 16, "arc", "0.1.0", "")
    write_shard(run.fs, run.paths, "w-1", 0, [good_record("c")], other, no_guard)
    (problem,) = validate_run(run.out, 0).problems
    assert "made with model 0000000000000000, the run's is ffffffffffffffff" in problem


@pytest.fixture(scope="module")
def replayed(tmp_path_factory, tiny_model):
    """By dtype, a run's stored margins and what a replay of all of them finds."""
    found = {}
    for dtype in ("float32", "bfloat16"):
        evaluator = Evaluator(PathModel.from_pretrained(str(tiny_model), dtype=dtype), find_task("arc"))
        questions = choice_questions(4)
        out = write_run(tmp_path_factory.mktemp(dtype) / "run", tiny_model, evaluator, questions)
        prepared = [evaluator.prepare(question) for question in questions]
        paths = [FULL, *SINGLE_EDITS]
        margins = [
            evaluation.margin for entry in prepared for evaluation in evaluator.evaluate([(entry, p) for p in paths])
        ]
        found[dtype] = np.array(margins), validate_run(out, len(margins))
    return found


def test_a_replay_of_a_narrow_run_tells_what_float32_changes(replayed, capsys):
    (wide, _), (narrow, report) = replayed["float32"], replayed["bfloat16"]
    again = report.replay
    changed = (wide > 0) != (narrow > 0)
    assert (again.replayed, again.float32_verdicts_changed) == (len(wide), changed.sum())
    assert again.float32_largest_gap_nats == pytest.approx(np.abs(wide - narrow).max(), abs=1e-4)
    assert again.float32_largest_gap_nats > 1e-3
    largest = np.abs(narrow[changed]).max() if changed.any() else None
    assert again.float32_largest_changed_margin == pytest.approx(largest, abs=1e-4)
    report_text(report)
    assert f"in float32: largest gap {again.float32_largest_gap_nats:.2g} nats" in capsys.readouterr().out


def test_a_replay_of_a_float32_run_has_nothing_to_compare_with(replayed, capsys):
    report = replayed["float32"][1]
    assert report.replay.verdicts_changed == 0
    assert report.replay.float32_verdicts_changed is None
    report_text(report)
    assert "in float32" not in capsys.readouterr().out


DATED = "Today is {{ strftime_now('%d %B %Y') }}.{% for m in messages %}{{ m.content }}{% endfor %}"


def test_a_run_is_replayed_on_the_day_of_its_chat(tiny_model, tmp_path):
    model_folder = shutil.copytree(tiny_model, tmp_path / "model")
    (model_folder / "chat_template.jinja").write_text(DATED)
    evaluator = Evaluator(PathModel.from_pretrained(str(model_folder)), find_task("arc"), chat="2024-03-05")
    out = write_run(tmp_path / "run", model_folder, evaluator, choice_questions(2), paths=SINGLE_EDITS[:2])
    again = validate_run(out, replay=4).replay
    assert again.replayed == 4
    assert again.largest_gap_nats is not None
    assert again.largest_gap_nats < 1e-4
    run_json = tmp_path / "run" / "run.json"
    run_json.write_text(run_json.read_text().replace('"2024-03-05"', '"2024-03-06"'))
    assert any("when run again" in line for line in validate_run(out, replay=4).problems), "the day weighs in answers"


def test_a_run_on_another_template_names_it(tiny_model, tmp_path):
    model_folder = shutil.copytree(tiny_model, tmp_path / "model")
    (model_folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    options = {"model": str(model_folder), "questions": "builtin", "limit": 2, "out": str(tmp_path / "run")}
    run = GenerationRun(GenerateOptions(**options, chat=True), tell=print)
    run.directory.create()
    run.directory.begin(run.info, lambda: None)
    (model_folder / "config.json").write_text((model_folder / "config.json").read_text() + "\n")
    GenerationRun(GenerateOptions(**options, chat=True), tell=print)
    (model_folder / "chat_template.jinja").write_text("Well, {{ messages[0].content }}")
    with pytest.raises(ArtefactError, match="model fingerprint: chat template") as caught:
        GenerationRun(GenerateOptions(**options, chat=True), tell=print)
    assert caught.value.exit_code == 4
    (model_folder / "chat_template.jinja").write_text(DATED)
    other = GenerateOptions(**options | {"out": str(tmp_path / "dated")}, chat=True)
    dated = GenerationRun(other, tell=print)
    assert dated.info.settings["task"]["chat"] == datetime.date.today().isoformat()
    dated.directory.create()
    settings = dated.info.settings | {"task": dated.info.settings["task"] | {"chat": "2024-03-05"}}
    dated.directory.begin(replace(dated.info, settings=settings), lambda: None)
    assert GenerationRun(other, tell=print).chat == "2024-03-05", "a later call asks on the run's day"
