"""Runs whose answers were generated: their length and stop texts, and runs from before grading had a version."""

from __future__ import annotations

from dataclasses import replace

import pytest
from path_records import METADATA, make_record, no_guard

from pathgen.errors import ArtefactError
from pathgen.paths.records import Evaluation
from pathgen.questions.answer_options import AnswerOptions
from pathgen.questions.question import Question
from pathgen.report.stats import run_stats
from pathgen.store.run_folder import RunDirectory
from pathgen.store.run_json import RunInfo
from pathgen.store.run_reader import RunReader
from pathgen.store.shards import write_shard

SUM = Question("a", "3 + 4?", reference="7")
BUDGETS = {
    "simulations": 3,
    "layer_budget": None,
    "seconds_budget": None,
    "max_depth": 8,
    "max_edits": 8,
    "cost": "layers",
}


def written(tmp_path, described, cut=(0, 2)):
    """A run of one question whose evaluations at these places were cut."""
    info = RunInfo({**BUDGETS, "dtype": "float32", "task": described}, "tiny", "f" * 16, "math", "x")
    record = make_record("a", question=SUM, task="math")
    record.evaluations = [
        Evaluation(each.path, each.correct, each.margin, answer="7", cut=place in cut)
        for place, each in enumerate(record.evaluations)
    ]
    out = str(tmp_path / "run")
    directory = RunDirectory(out)
    directory.create()
    directory.begin(info, no_guard)
    write_shard(directory.fs, directory.paths, "w-0", 0, [record], replace(METADATA, task="math"), no_guard)
    return out, info, record


def test_a_run_keeps_the_length_and_stop_texts_of_its_answers_and_which_were_cut(tmp_path):
    task = AnswerOptions(200, ("",)).task("math")
    out, _, record = written(tmp_path, task.describe(chat=False))
    run = RunReader(out)
    assert run.task == task
    (found,) = run.records(["a"])
    assert found.evaluations == record.evaluations
    assert run_stats(out).records.cut == 1


def test_a_run_from_before_grading_had_a_version_is_read_but_not_continued(tmp_path):
    task = AnswerOptions().task("math")
    described = task.describe(chat=False)
    older = {name: value for name, value in described.items() if name != "grading"}
    out, info, _ = written(tmp_path, older, cut=())
    assert RunReader(out).task == task
    assert run_stats(out).records.cut == 0
    wanted = replace(info, settings={**info.settings, "task": described})
    with pytest.raises(ArtefactError, match=r"task\.grading +- +2"):
        RunDirectory(out).check_settings(wanted)


def test_a_run_of_other_answers_is_not_continued(tmp_path):
    task = AnswerOptions(200).task("math")
    out, info, _ = written(tmp_path, task.describe(chat=False))
    wanted = replace(info, settings={**info.settings, "task": replace(task, max_new_tokens=32).describe(chat=False)})
    with pytest.raises(ArtefactError, match=r"task\.max_new_tokens +200 +32"):
        RunDirectory(out).check_settings(wanted)
