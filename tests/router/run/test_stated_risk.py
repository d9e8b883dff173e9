"""`router train --risk` and `--max-loss` through the command line."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
from path_runs import path, searched
from router_commands import (
    DEEP,
    FULL,
    IMITATE,
    NUM_LAYERS,
    SHALLOW,
    SMALL,
    fill_features,
    path_folder,
    records,
    router,
    static_file,
)
from scipy.stats import binom

from pathgen.engine.path_model import PathModel
from pathgen.evaluation.evaluator import Evaluator
from pathgen.questions.tasks import find_task
from router.data.path_datasets import PathDatasets
from router.data.split import held_out
from router.dev.dev_set import DevSet
from router.saved.loading import load_router

pytestmark = pytest.mark.usefixtures("no_ray")

FRONTIER = ("--....", SHALLOW, "--2.--", DEEP)


@pytest.fixture(scope="module")
def dev(tmp_path_factory, tiny_model):
    """Sixteen questions of three choices, whose answers depend on the path."""
    choices = ("one", "two and more", "no")
    rows = [searched(f"dev{n}", {FULL: 1.0}, choices=choices, prompt=f"Is {n} like {7 * n}?") for n in range(16)]
    for row in rows:
        row.question_sha = row.question.sha
    return path_folder(tmp_path_factory.mktemp("dev") / "run", tiny_model, rows)


@pytest.fixture(scope="module")
def scores(dev, tiny_model):
    """Choice scores [questions, 3] along a path, from the evaluator itself."""
    evaluator = Evaluator(PathModel.from_pretrained(str(tiny_model), dtype="float32", device="cpu"), find_task("arc"))
    asked = list(PathDatasets([dev]).questions())

    @cache
    def along(text):
        found = evaluator.evaluate([(evaluator.prepare(question), path(text)) for question in asked])
        return np.array([evaluation.choice_scores for evaluation in found])

    return along


def differing(scores, text):
    return int((scores(text).argmax(1) != scores(FULL).argmax(1)).sum())


def trained(paths, tiny_model, tmp_path, *options, static=FRONTIER, **changes):
    file = static_file(tmp_path / "F.json", tiny_model, *static, **changes)
    return router("train", "--paths", paths, "--out", tmp_path / "r", "--static", file, *SMALL, *options, "--json")


@pytest.mark.parametrize("stated", [0.05, 0.3, 0.6, 0.9])
def test_the_shallowest_path_that_holds_the_risk_is_deployed(paths, dev, scores, tiny_model, tmp_path, stated):
    answer = trained(paths, tiny_model, tmp_path, "--dev", dev, "--risk", stated, "--confidence", 0.8)
    assert answer.code == 0, answer.stderr
    expected = None
    for text in (SHALLOW, "--....", "--2.--"):  # the deepest first; what is as deep as the model is none of them
        p_value = binom.cdf(differing(scores, text), 16, stated)
        if p_value > 0.2:
            break
        expected = text, p_value
    found = answer.json["risk"]
    assert (found["stated"], found["kind"], found["confidence"], found["questions"]) == (
        stated,
        "disagreement",
        0.8,
        16,
    )
    shown = router("show", tmp_path / "r", "--json").json
    assert shown["static_path"] == list(path(expected[0] if expected else FULL))
    assert found["depth"] == answer.json["mean_depth"] == sum(shown["static_path"])
    if expected:
        assert found["observed"] == differing(scores, expected[0]) / 16
        assert found["p_value"] == pytest.approx(expected[1])
    else:
        assert (found["observed"], found["p_value"]) == (0, None)
        assert found["failed"]["observed"] == differing(scores, SHALLOW) / 16
    stored = json.loads((tmp_path / "r" / "training.json").read_text())
    assert stored["figures"]["risk"] == found
    assert answer.json["chosen_on_dev"] == ["depth"]
    seen = json.loads((tmp_path / "r" / "training_questions.json").read_text())
    assert seen == {"trained_on": [], "chosen_on": sorted(q.sha for q in PathDatasets([dev]).questions())}


def test_the_cases_above_are_not_all_alike(scores):
    counts = [differing(scores, text) for text in (SHALLOW, "--....", "--2.--")]
    passing = [[binom.cdf(count, 16, stated) <= 0.2 for count in counts] for stated in (0.05, 0.3, 0.6, 0.9)]
    assert len({tuple(row) for row in passing}) > 1


def test_the_loss_counts_right_answers_alone(paths, dev, tiny_model, tmp_path, monkeypatch):
    lost = {path(SHALLOW): 1, path("--...."): 9}
    monkeypatch.setattr(DevSet, "full", np.ones(16, dtype=bool))
    run = DevSet.run

    def made_up(self, taken):
        found = run(self, taken)
        found.correct[:] = np.arange(16) >= lost.get(taken[0], 0)
        return found

    monkeypatch.setattr(DevSet, "run", made_up)
    answer = trained(paths, tiny_model, tmp_path, "--dev", dev, "--max-loss", 0.3, "--confidence", 0.9)
    found = answer.json["risk"]
    assert (found["kind"], found["depth"], found["observed"], found["failed"]["observed"]) == (
        "loss",
        5,
        1 / 16,
        9 / 16,
    )
    assert found["p_value"] == pytest.approx(2 * binom.cdf(1, 16, 0.3))


def test_too_few_questions_deploy_full_depth_and_say_so(paths, tiny_model, tmp_path):
    static = static_file(tmp_path / "F.json", tiny_model, SHALLOW)
    out = tmp_path / "r"
    answer = router("train", "--paths", paths, "--out", out, "--static", static, *SMALL, "--risk", 0.02)
    assert answer.code == 0
    (line,) = [line for line in answer.stdout.splitlines() if line.startswith("stated risk: ")]
    assert "full depth is deployed, because on " in line
    assert " are needed" in line
    shown = router("show", out).stdout
    assert "stated risk" in shown
    assert "full depth is deployed" in shown
    assert "| stated_risk | full depth is deployed" in (out / "README.md").read_text()
    assert router("show", out, "--json").json["static_path"] == [1] * NUM_LAYERS


@pytest.mark.parametrize(("count", "deployed"), [(58, FULL), (59, SHALLOW)])
def test_without_options_five_percent_may_differ_and_all_questions_test_given_paths(
    tiny_model, tmp_path, monkeypatch, count, deployed
):
    """0.95^58 is above 0.05, and 0.95^59 below."""
    monkeypatch.setattr(DevSet, "agreement", lambda self, taken: np.ones(len(taken), dtype=bool))
    rows = records(count)
    for number, row in enumerate(rows):
        row.question_sha = f"{number:032x}"
    folder = path_folder(tmp_path / "paths", tiny_model, rows)
    answer = trained(folder, tiny_model, tmp_path, static=(SHALLOW,))
    assert answer.code == 0, answer.stderr
    found = answer.json["risk"]
    assert (found["kind"], found["stated"], found["confidence"]) == ("disagreement", 0.05, 0.95)
    assert (found["questions"], answer.json["dev_questions"]) == (count, count)
    assert answer.json["mean_depth"] == sum(path(deployed))
    if deployed == FULL:
        assert found["failed"]["questions_needed"] == 59
    answer = trained(folder, tiny_model, tmp_path, "--dev-share", 0.5, static=(SHALLOW,))
    assert answer.json["risk"]["questions"] == sum(held_out(row.question.id, 0.5) for row in rows)


@pytest.mark.parametrize("options", [("--no-risk",), ("--target-depth", 5)])
def test_no_risk_is_stated_where_it_is_not_wanted_or_the_depth_is_given(paths, tiny_model, tmp_path, options):
    answer = trained(paths, tiny_model, tmp_path, *options, static=(SHALLOW,))
    assert (answer.json["risk"], answer.json["mean_depth"]) == (None, NUM_LAYERS - 1)


def test_questions_that_chose_the_paths_do_not_test_them(paths, dev, tiny_model, tmp_path):
    shas = [question.sha for question in PathDatasets([dev]).questions()]
    options = ("--dev", dev, "--risk", 0.3)
    answer = trained(paths, tiny_model, tmp_path, *options, chosen_on=tuple(shas[:5]))
    assert answer.json["risk"]["questions"] == 11
    assert "5 development questions are left out of the test of the risk" in answer.stderr
    answer = trained(paths, tiny_model, tmp_path, *options, chosen_on=tuple(shas))
    assert (answer.json["risk"]["questions"], answer.json["mean_depth"]) == (0, NUM_LAYERS)
    answer = trained(paths, tiny_model, tmp_path, *options, static=(DEEP,))
    assert (answer.json["risk"]["failed"], answer.json["mean_depth"]) == (None, NUM_LAYERS)


def test_heads_go_from_full_depth_on_by_their_bias(tiny_model, tmp_path):
    rows = records(40)
    paths = path_folder(tmp_path / "paths", tiny_model, rows)
    fill_features(paths, tiny_model, actions=("skip", "execute"))
    options = ("--paths", paths, *IMITATE, "--actions", "skip,execute", "--dev-share", 0.5, "--json")
    train = ("train", *options, "--risk", 0.9, "--confidence", 0.6)
    answer = router(*train, "--out", tmp_path / "r")
    assert answer.code == 0, answer.stderr
    found = answer.json
    dev = [row.question.id for row in rows if held_out(row.question.id, 0.5)]
    tested = [name for name in dev if held_out(name, 0.5, seed=1)]  # the others chose epoch and scale
    assert (found["risk"]["questions"], found["dev_questions"]) == (len(tested), len(dev))
    assert 3 < len(tested) < len(dev)
    assert found["risk"]["depth"] < NUM_LAYERS
    assert found["risk"]["observed"] < 0.9
    assert load_router(tmp_path / "r").config.bias == found["bias"]
    assert "depth" in found["chosen_on_dev"]
    answer = router("train", *options, "--out", tmp_path / "s", "--max-loss", 0.001)
    assert (answer.json["mean_depth"], answer.json["static_only"], answer.json["bias"]) == (NUM_LAYERS, True, 0)


def test_gates_that_repeat_nothing_hold_a_risk(paths, tmp_path):
    train = ("train", "--paths", paths, "--out", tmp_path / "r", "--method", "gates", *SMALL, "--epochs", 1)
    answer = router(
        *train, "--dev-share", 0.4, "--actions", "skip,execute", "--risk", 0.8, "--confidence", 0.6, "--json"
    )
    assert answer.code == 0, answer.stderr
    assert answer.json["risk"]["depth"] <= NUM_LAYERS


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--risk", 0), "--risk must lie between 0 and 1; got 0"),
        (("--max-loss", 1), "--max-loss must lie between 0 and 1; got 1"),
        (("--risk", 0.1, "--max-loss", 0.1), "--risk bounds answers that differ, --max-loss accuracy lost; give one"),
        (("--risk", 0.1, "--confidence", 0.5), "--confidence must lie between 0.5 and 1; got 0.5"),
        (("--risk", "nan"), "--risk must lie between 0 and 1; got nan"),
        (("--risk", 0.1, "--no-risk"), "--no-risk and --risk exclude each other; give one"),
        (("--risk", 0.1, "--target-depth", 5), "--risk and --target-depth both set how deep to go; give one"),
        (("--risk", 0.1, "--bias", 1, "--method", "gates"), "--risk and --bias both set how deep to go; give one"),
        (
            ("--max-loss", 0.1, "--method", "gates"),
            "--max-loss tries biases from full depth on, and low ones repeat layers: give --actions skip,execute",
        ),
    ],
)
def test_options_that_cannot_be(paths, tmp_path, options, line):
    answer = router("train", "--paths", paths, "--out", tmp_path / "r", *options, "--json")
    assert (answer.code, answer.json["error"]) == (2, line)


def test_a_confidence_alone_is_warned_of(paths, tiny_model, tmp_path):
    answer = trained(paths, tiny_model, tmp_path, "--no-risk", "--confidence", 0.9)
    assert "warning: --confidence is not used without --risk or --max-loss\n" in answer.stderr
    assert answer.json["risk"] is None
