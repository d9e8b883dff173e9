"""Each way to a router through the command line: static, imitate with each label policy, gates."""

from __future__ import annotations

import numpy as np
import pytest
from path_runs import path
from router_commands import (
    DEEP,
    FULL,
    IMITATE,
    NUM_LAYERS,
    SHALLOW,
    SMALL,
    divergence_file,
    fill_features,
    path_folder,
    records,
    router,
    same_files,
    static_file,
)

from pathgen.errors import InputError
from pathgen.paths.layer_path import LayerPath
from pathgen.static.draw import SCAN_SHARE
from pathgen.static.static_paths import load_static
from router.dev.dev_set import DevSet
from router.dev.routed_scores import RoutedScores

pytestmark = pytest.mark.usefixtures("no_ray")

PROMISED = {
    *("router", "method", "labels", "questions", "epochs", "macro_f1", "per_class", "off_full_share"),
    *("off_common_share", "routed_accuracy", "full_accuracy", "static_accuracy", "mean_depth", "seconds"),
    *("feature_seconds", "parameters", "parameter_share"),
}


def test_a_static_path_becomes_a_router(paths, tiny_model, tmp_path):
    static = static_file(tmp_path / "F.json", tiny_model, SHALLOW)
    answer = router(
        "train", "--paths", paths, "--out", tmp_path / "r", "--static", static, *SMALL, "--no-risk", "--json"
    )
    assert answer.code == 0, answer.stderr
    found = answer.json
    assert set(found) >= PROMISED
    assert (found["method"], found["static_only"], found["mean_depth"]) == ("static", True, NUM_LAYERS - 1)
    assert (found["off_full_share"], found["off_common_share"]) == (1.0, 0.0)
    assert found["routed_accuracy"] == found["static_accuracy"]
    assert found["chosen_on_dev"] == []
    shown = router("show", tmp_path / "r", "--json").json
    assert (shown["static_only"], shown["static_path"]) == (True, [0, 1, 1, 1, 1, 1])


@pytest.mark.parametrize(("target", "wanted"), [(("--no-risk",), FULL), (("--target-depth", 5), SHALLOW)])
def test_of_paths_by_divergence_the_full_one_or_one_of_a_depth_becomes_a_router(
    paths, tiny_model, tmp_path, target, wanted
):
    static = divergence_file(tmp_path / "F.json", tiny_model, "--....", SHALLOW)
    answer = router("train", "--paths", paths, "--out", tmp_path / "r", "--static", static, *SMALL, *target)
    assert answer.code == 0, answer.stderr
    shown = router("show", tmp_path / "r", "--json").json
    assert shown["static_path"] == list(LayerPath.parse(wanted))


def test_options_that_a_method_does_not_read_are_named(paths, tiny_model, tmp_path):
    static = static_file(tmp_path / "F.json", tiny_model, SHALLOW)
    train = ("train", "--paths", paths, "--out", tmp_path / "r", "--static", static, "--device", "cpu", "--quiet")
    answer = router(*train, "--labels", "value", "--batch-size", 4, "--rank", 2)
    assert answer.code == 0
    assert "warning: --method static does not read --labels, --batch-size, --rank\n" in answer.stderr
    assert "does not read" not in router(*train).stderr


def test_a_static_file_beside_gates_and_a_share_beside_dev_are_named_before_training(
    paths, tiny_model, tmp_path, monkeypatch
):
    def stop(inputs):
        raise InputError("training starts")

    monkeypatch.setattr("router.run.training_run.train_router", stop)
    dev = path_folder(tmp_path / "dev", tiny_model, records(8, prefix="dev"))
    train = ("train", "--paths", paths, "--out", tmp_path / "r", "--method", "gates", *SMALL)
    answer = router(*train, "--static", tmp_path / "any.json", "--dev", dev, "--dev-share", 0.3)
    assert answer.stderr.splitlines() == [
        "warning: --method gates does not read --width, --tracker, --static",
        "warning: --dev-share is not used, because --dev gives the development questions",
        "error: training starts",
    ]
    assert "--dev-share" not in router(*train, "--dev", dev).stderr


def test_without_a_static_file_the_path_is_looked_for_among_training_questions(tiny_model, tmp_path):
    many = path_folder(tmp_path / "paths", tiny_model, records(60))
    out = tmp_path / "r"
    answer = router("train", "--paths", many, "--out", out, *SMALL, "--no-risk", "--json")
    assert answer.code == 0, answer.stderr
    assert answer.json["static_only"]
    found = load_static(str(out / "static.json"))
    trained = answer.json["questions"]
    assert trained < 60
    assert found.questions == trained - trained // SCAN_SHARE
    assert router("show", out, "--json").json["static_path"] == list(found.best.path)


def test_of_a_static_file_the_best_path_of_allowed_actions_is_taken(paths, tiny_model, tmp_path):
    static = static_file(tmp_path / "F.json", tiny_model, DEEP, SHALLOW)
    train = ("train", "--paths", paths, "--out", tmp_path / "r", "--static", static, *SMALL, "--no-risk")
    assert router(*train, "--actions", "skip,execute", "--json").json["mean_depth"] == NUM_LAYERS - 1
    assert router(*train, "--json").json["mean_depth"] == NUM_LAYERS + 1


@pytest.mark.parametrize("labels", ["shortest", "margin", "consensus", "value"])
def test_labels_are_imitated(paths, tiny_model, tmp_path, labels):
    if labels != "shortest":
        fill_features(paths, tiny_model, labels)
    out = tmp_path / "r"
    answer = router(
        "train", "--paths", paths, "--out", out, "--method", "imitate", "--labels", labels, *SMALL, "--json"
    )
    assert answer.code == 0, answer.stderr
    found = answer.json
    assert set(found) >= PROMISED
    assert (found["labels"], found["epochs"], found["feature_seconds"]) == (labels, 2, 0)
    assert set(found["per_class"]) == {"skip", "execute", "repeat"}
    assert 0 <= found["macro_f1"] <= 1
    evaluated = router("evaluate", "--router", out, "--paths", paths, "--json").json
    assert evaluated["dev_questions"] == 24
    assert found["chosen_on_dev"] == ["epoch"]


def test_the_scale_over_a_static_path_may_be_nothing_at_all(paths, tiny_model, tmp_path, monkeypatch):
    static = static_file(tmp_path / "F.json", tiny_model, SHALLOW)
    monkeypatch.setattr(DevSet, "run", only_right_along(path(SHALLOW)))
    arguments = ("train", "--paths", paths, *IMITATE, "--static", static, "--epochs", 1)
    found = router(*arguments, "--out", tmp_path / "r")
    assert found.code == 0
    assert "imitate, static only: every question takes the same path" in found.stdout
    assert "every question takes the same path" in found.stdout.splitlines()
    assert "\nthese questions chose the scale among several: they flatter" in found.stdout
    assert "\n24 questions may be too few: " in found.stdout
    assert "development accuracy by scale of the part that reads the question: 0: 100.0%" in found.stderr
    shown = router("show", tmp_path / "r", "--json").json
    assert (shown["scale"], shown["static_only"], shown["static_path"]) == (0, True, [0, 1, 1, 1, 1, 1])
    assert "static only: every question takes the same path" in router("show", tmp_path / "r").stdout


def only_right_along(right):
    """In place of `DevSet.run`: a question is right along one path alone."""

    def run(self, paths):
        correct = np.array([taken == right for taken in paths])
        return RoutedScores(tuple(paths), correct)

    return run


@pytest.mark.parametrize("rank", [0, 2])
def test_gates_become_a_router(paths, tmp_path, rank):
    arguments = ("train", "--paths", paths, "--method", "gates", "--rank", rank, *SMALL, "--epochs", 1)
    answer = router(*arguments, "--out", tmp_path / "r", "--json")
    assert answer.code == 0, answer.stderr
    found = answer.json
    assert (found["method"], found["labels"], found["macro_f1"], found["epochs"]) == ("gates", None, None, 1)
    assert found["static_only"] == (rank == 0 or found["scale"] == 0)
    assert (found["parameters"] > 3 * NUM_LAYERS) == (rank > 0)
    assert found["chosen_on_dev"] == (["path", "scale"] if rank else ["path"])
    assert ("by scale of the part that reads" in answer.stderr) == (rank > 0)
    assert router("evaluate", "--router", tmp_path / "r", "--paths", paths, "--json").json["macro_f1"] is None
    again = router(*arguments, "--out", tmp_path / "s", "--json").json
    assert same_files(tmp_path / "r", tmp_path / "s")
    assert again["routed_accuracy"] == found["routed_accuracy"]


@pytest.mark.parametrize("actions", ["skip,execute", "execute,repeat", "execute"])
def test_gates_keep_to_the_actions(paths, tmp_path, actions):
    arguments = ("train", "--paths", paths, "--method", "gates", *SMALL, "--epochs", 1, "--compute-penalty", 50)
    assert router(*arguments, "--actions", actions, "--out", tmp_path / "r").code == 0
    shown = router("show", tmp_path / "r", "--json").json
    assert {("skip", "execute", "repeat")[action] for action in shown["static_path"]} <= set(actions.split(","))


def test_gates_meet_a_target_depth(paths, tmp_path):
    arguments = ("train", "--paths", paths, "--method", "gates", *SMALL, "--epochs", 1)
    found = router(*arguments, "--target-depth", 4.5, "--out", tmp_path / "r", "--json").json
    assert found["mean_depth"] <= 4.5
