"""What holds for a training whatever its method: seeds, resume, splits, depth, what lies beside the router."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from commands import pathgen
from path_runs import searched
from router_commands import (
    FULL,
    IMITATE,
    NUM_LAYERS,
    SHALLOW,
    SMALL,
    fill_features,
    path_folder,
    records,
    router,
    same_files,
    static_file,
)

from pathgen import faults
from pathgen.engine.path_model import PathModel
from pathgen.paths.records import seeded_hash
from pathgen.store.files import TEMPORARY_PREFIX
from router.data.path_datasets import PathDatasets
from router.data.split import held_out
from router.features.features import FeatureKey, compute_here
from router.labels.labels import make_labels
from router.saved.loading import load_router, seen_by

pytestmark = pytest.mark.usefixtures("no_ray")


def test_a_seed_decides_everything(paths, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert router("train", "--paths", paths, "--out", tmp_path / name, *IMITATE, "--seed", seed).code == 0
    assert same_files(tmp_path / "a", tmp_path / "b")
    assert not same_files(tmp_path / "a", tmp_path / "c")


def test_a_training_killed_between_epochs_goes_on_to_the_same_weights(paths, tmp_path):
    arguments = ["--paths", paths, *map(str, (*IMITATE, "--epochs", 4, "--patience", 0))]
    assert router("train", "--out", tmp_path / "whole", *arguments).code == 0
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "router", "train", "--out", str(out), *arguments]
    environment = os.environ | {faults.VARIABLE: "after-rename:2:kill", "OMP_NUM_THREADS": "1"}
    assert subprocess.run(command, env=environment, timeout=120).returncode == -signal.SIGKILL
    assert [entry.name for entry in out.iterdir()] == [".training"]
    (out / f"{TEMPORARY_PREFIX}ab").write_bytes(b"half")  # of a file that was being written
    shown = router("train", "--out", out, *arguments[:-1], "0", "--json")
    assert shown.json["epochs"] == 4
    assert same_files(tmp_path / "whole", out)
    assert not (out / ".training").exists()


def test_the_target_depth_is_kept(paths, tmp_path):
    free = router("train", "--paths", paths, "--out", tmp_path / "free", *IMITATE, "--json").json
    target = free["mean_depth"] - 1
    found = router(
        "train", "--paths", paths, "--out", tmp_path / "r", *IMITATE, "--target-depth", target, "--json"
    ).json
    assert found["mean_depth"] <= target
    assert found["bias"] > 0
    assert router("show", tmp_path / "r", "--json").json["bias"] == found["bias"]
    again = router("evaluate", "--router", tmp_path / "r", "--paths", paths, "--json").json
    evaluate = ("evaluate", "--router", tmp_path / "r", "--paths", paths, "--json", "--bias")
    assert router(*evaluate, 0).json == again  # as trained
    assert again["mean_depth"] < router(*evaluate, -found["bias"]).json["mean_depth"]


def test_a_bias_is_stored_and_acts(paths, tmp_path):
    found = router("train", "--paths", paths, "--out", tmp_path / "r", *IMITATE, "--bias", 1000, "--json").json
    assert (found["bias"], found["mean_depth"]) == (1000, 0)
    assert router("show", tmp_path / "r", "--json").json["bias"] == 1000


def test_two_tasks_share_a_router(paths, tiny_model, tmp_path):
    questions = [
        searched(f"m{n}", {FULL: -1.0, SHALLOW: 1.0}, task="math", choices=None, gold=None, reference="4")
        for n in range(12)
    ]
    for record in questions:
        record.question_sha = record.question.sha
    other = path_folder(tmp_path / "math", tiny_model, questions, task="math")
    fill_features(other, tiny_model)
    found = router(
        "train", "--paths", paths, "--paths", other, "--out", tmp_path / "r", *IMITATE, "--dev-share", 0.3, "--json"
    ).json
    assert router("show", tmp_path / "r", "--json").json["tasks"] == ["arc", "math"]
    assert [row["folder"] for row in found["per_folder"]] == [paths, other]
    assert sum(row["dev_questions"] for row in found["per_folder"]) == found["dev_questions"]
    assert found["questions"] + found["dev_questions"] == 36


def test_development_questions_may_come_from_elsewhere(paths, tiny_model, tmp_path):
    dev = path_folder(tmp_path / "dev", tiny_model, records(8, prefix="dev"))
    fill_features(dev, tiny_model)
    found = router("train", "--paths", paths, "--dev", dev, "--out", tmp_path / "r", *IMITATE, "--json").json
    assert (found["questions"], found["dev_questions"]) == (24, 8)
    seen = json.loads((tmp_path / "r" / "training_questions.json").read_text())
    for name, folder in (("trained_on", paths), ("chosen_on", dev)):
        assert sorted(question.sha for question in PathDatasets([folder]).questions()) == seen[name]
    for folder, count in ((paths, 24), (dev, 8)):
        shown = router("evaluate", "--router", tmp_path / "r", "--paths", folder)
        assert f"the router was trained or chosen on {count} of these: they flatter it" in shown.stdout


def test_a_static_path_is_chosen_on_its_own_questions_and_on_no_development_ones(paths, tiny_model, tmp_path):
    static = static_file(tmp_path / "F.json", tiny_model, SHALLOW, chosen_on=("ab", "cd"))
    train = ("train", "--paths", paths, "--static", static, "--out")
    assert router(*train, tmp_path / "static", *SMALL, "--no-risk").code == 0
    stored = json.loads((tmp_path / "static" / "training_questions.json").read_text())
    assert stored == {"trained_on": ["ab", "cd"], "chosen_on": []}
    assert router(*train, tmp_path / "imitate", *IMITATE).code == 0
    stored = json.loads((tmp_path / "imitate" / "training_questions.json").read_text())
    dev = {q.sha for q in PathDatasets([paths]).questions() if held_out(q.id, 0.15)}
    assert set(stored["chosen_on"]) == {"ab", "cd"} | dev
    assert not dev & set(stored["trained_on"])


def test_too_few_questions_for_a_static_path_deploy_the_full_one(tiny_model, tmp_path):
    rows = records(24)
    held = [row for row in rows if held_out(row.question.id, 0.15)]
    few = [row for row in rows if row not in held][:3]
    paths = path_folder(tmp_path / "paths", tiny_model, [*held, *few])
    train = ("train", "--paths", paths, "--out", tmp_path / "r", "--device", "cpu", "--quiet", "--json")
    answer = router(*train)
    assert (answer.code, answer.json["mean_depth"], answer.json["questions"]) == (0, 6, 0)
    line = (
        f"warning: no path was searched for, the full one is deployed: {paths}: too few searched questions (2 are left"
    )
    assert line in answer.stderr
    assert router("evaluate", "--router", tmp_path / "r", "--paths", paths, "--json").json["off_full_share"] == 0
    refused = router(*train, "--target-depth", 5)
    assert (refused.code, refused.json["error"].split(" (")[0]) == (2, f"{paths}: too few searched questions")
    assert router(*train, "--target-depth", 6).code == 0


def test_a_handful_of_questions_is_enough_for_a_static_path(tiny_model, tmp_path):
    rows = records(24)
    held = [row for row in rows if held_out(row.question.id, 0.15)]
    few = [row for row in rows if row not in held][:4]
    paths = path_folder(tmp_path / "paths", tiny_model, [*held, *few])
    answer = router("train", "--paths", paths, "--out", tmp_path / "r", "--device", "cpu", "--quiet", "--json")
    assert (answer.code, answer.json["questions"], "warning" in answer.stderr) == (0, 4, False)


def test_an_older_list_of_questions_is_read(tmp_path):
    (tmp_path / "training_questions.json").write_text('["ab"]')
    assert seen_by(tmp_path) == {"ab"}


def test_one_question_under_two_ids_is_never_on_both_sides(tiny_model, tmp_path):
    rows = records(24)
    held = [row for row in rows if held_out(row.question.id, 0.15)]
    free = next(name for name in (f"twin{n}" for n in range(99)) if not held_out(name, 0.15))
    twin = searched(free, {FULL: -1.0, SHALLOW: 1.0}, prompt=f" {held[0].question.prompt.upper()}")
    twin.question_sha = twin.question.sha
    out = path_folder(tmp_path / "paths", tiny_model, [*rows, twin])
    fill_features(out, tiny_model)
    answer = router("train", "--paths", out, "--out", tmp_path / "r", *IMITATE, "--json")
    assert "1 questions ask what a held-out one asks; they are not trained on" in answer.stderr
    assert answer.json["questions"] == 24 - len(held)
    assert twin.question_sha not in json.loads((tmp_path / "r" / "training_questions.json").read_text())["trained_on"]


def test_a_model_that_has_moved_is_named_at_each_step(tiny_model, tmp_path):
    before, after = shutil.copytree(tiny_model, tmp_path / "before"), tmp_path / "after"
    paths = path_folder(tmp_path / "paths", before, records(60))
    before.rename(after)
    common = ("--paths", paths, "--device", "cpu", "--quiet")
    assert pathgen("static", *common, "--out", tmp_path / "s.json", "--model", after).code == 0
    answer = router("train", *common, "--out", tmp_path / "r", "--model", after, "--no-risk")
    assert answer.code == 0, answer.stderr
    after.rename(before)
    found = router("evaluate", *common, "--router", tmp_path / "r", "--model", before, "--json").json
    stored = json.loads((tmp_path / "r" / "training_questions.json").read_text())["trained_on"]
    assert found["seen_in_training"] == len(stored) > 0


def test_settings_and_figures_lie_beside_the_router(paths, tmp_path):
    found = router("train", "--paths", paths, "--out", tmp_path / "r", *IMITATE, "--seed", 5, "--json").json
    stored = json.loads((tmp_path / "r" / "training.json").read_text())
    assert stored["settings"]["training"]["seed"] == 5
    assert stored["settings"]["paths"] == [paths]
    assert stored["figures"] == {name: value for name, value in found.items() if name != "seconds"}


def test_a_static_path_chosen_on_development_questions_is_said_to_flatter(paths, tiny_model, tmp_path):
    shas = [question.sha for question in PathDatasets([paths]).questions()]
    train = ("train", "--paths", paths, "--out", tmp_path / "r", "--device", "cpu", "--quiet", "--static")
    for seen in (1, 0):
        static = static_file(tmp_path / "F.json", tiny_model, SHALLOW, chosen_on=("ab", *shas[:seen]))
        line = f"the static path was chosen on {seen} of {len(shas)} development questions: its accuracy here"
        assert (line in router(*train, static).stderr) == bool(seen)


def test_evaluate_tells_how_well_labels_are_predicted(paths, tmp_path):
    out = tmp_path / "r"
    assert router("train", "--paths", paths, "--out", out, *IMITATE).code == 0
    found = router("evaluate", "--router", out, "--paths", paths, "--json").json
    dataset = PathDatasets([paths])
    labels = list(make_labels(dataset, "shortest"))
    loaded = load_router(out)
    model = PathModel.from_pretrained(dataset.model_id, dtype="float32", device="cpu")
    hits = 0
    for label in labels:  # by the policy itself, made to walk along the label's path
        (features,) = compute_here(
            model, [FeatureKey(label.question, label.task, False, label.path)], loaded.config.pooling
        )
        logits = [loaded.logits(layer, features[layer][None])[0] for layer in range(NUM_LAYERS)]
        hits += sum(int(row.argmax()) == action for row, action in zip(logits, label.path, strict=True))
    assert np.mean(found["layer_accuracy"]) == pytest.approx(hits / len(labels) / NUM_LAYERS)
    assert set(found["per_class"]) == {"skip", "execute", "repeat"}
    text = router("evaluate", "--router", out, "--paths", paths).stdout
    assert text.startswith(f"labels: macro-F1 {found['macro_f1']:.3f}")


def test_of_many_development_questions_every_folder_keeps_its_share(paths, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr("router.run.inputs.MAX_DEV_QUESTIONS", 10)
    folders = [path_folder(tmp_path / name, tiny_model, records(20, prefix=name)) for name in ("one", "two")]
    dev = [word for folder in folders for word in ("--dev", folder)]
    static = static_file(tmp_path / "F.json", tiny_model, SHALLOW)
    train = ("train", "--paths", paths, *dev, "--out", tmp_path / "r", "--static", static)
    found = router(*train, *SMALL, "--json").json
    ids = [f"{name}{number}" for name in ("one", "two") for number in range(20)]
    first = sorted(ids, key=lambda question_id: seeded_hash(0, question_id))[:10]
    expected = [sum(name.startswith(folder) for name in first) for folder in ("one", "two")]
    assert sorted(row["dev_questions"] for row in found["per_folder"]) == sorted(expected)
    assert min(expected) > 0
