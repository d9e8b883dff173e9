"""`router train`, `evaluate` and `show` on a tiny model, with hand-made records and features computed here."""

from __future__ import annotations

import pytest
from router_commands import (
    NUM_LAYERS,
    SHALLOW,
    SMALL,
    fill_features,
    path_folder,
    records,
    router,
    static_file,
)

PROMISED = {
    *("router", "method", "labels", "questions", "epochs", "macro_f1", "per_class", "off_full_share"),
    *("off_common_share", "routed_accuracy", "full_accuracy", "static_accuracy", "mean_depth", "seconds"),
    *("feature_seconds", "parameters", "parameter_share"),
}


@pytest.fixture(autouse=True)
def no_ray(monkeypatch):
    """Features are there already: nothing may start Ray."""

    def refuse(*args, **kwargs):
        raise AssertionError("this must not be reached")

    monkeypatch.setattr("router.feature_pass.connect", refuse)


@pytest.fixture(scope="module")
def paths(tmp_path_factory, tiny_model):
    """A folder of 24 questions, half of which skip the first layer and half repeat the second; features included."""
    out = path_folder(tmp_path_factory.mktemp("paths") / "run", tiny_model, records(24))
    fill_features(out, tiny_model)
    return out


def test_a_static_path_becomes_a_router(paths, tiny_model, tmp_path):
    static = static_file(tmp_path / "F.json", tiny_model, SHALLOW)
    answer = router("train", "--paths", paths, "--out", tmp_path / "r", "--static", static, *SMALL, "--json")
    assert answer.code == 0, answer.stderr
    found = answer.json
    assert set(found) >= PROMISED
    assert (found["method"], found["static_only"], found["mean_depth"]) == ("static", True, NUM_LAYERS - 1)
    assert (found["off_full_share"], found["off_common_share"], found["full_accuracy"]) == (1.0, 0.0, 0.0)
    assert found["routed_accuracy"] == found["static_accuracy"]
    shown = router("show", tmp_path / "r", "--json").json
    assert (shown["static_only"], shown["static_path"]) == (True, [0, 1, 1, 1, 1, 1])


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
