"""`router train --method cascade`, and what takes its router afterwards."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from path_runs import path, searched
from router_commands import FULL, NUM_LAYERS, SMALL, path_folder, router, static_file
from scipy.stats import binom
from typer.testing import CliRunner

from infer import RoutedModel
from infer.cli import app
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.errors import ArtefactError
from pathgen.evaluation.evaluator import Evaluator
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.tasks import find_task
from router.data.path_datasets import PathDatasets
from router.dev.cascade_choice import GAPS
from router.net.config import RouterConfig
from router.saved.loading import load_router

pytestmark = pytest.mark.usefixtures("no_ray")

CHEAP = ("...--.", "....-.")
COUNT = 16


@pytest.fixture(scope="module")
def asked(tmp_path_factory, tiny_model):
    """A run of questions of three choices, whose answers depend on the path."""
    rows = [
        searched(f"dev{n}", {FULL: 1.0}, choices=("ab", "cd", "no"), prompt=f"Is {n} like {7 * n}?")
        for n in range(COUNT)
    ]
    for row in rows:
        row.question_sha = row.question.sha
    return path_folder(tmp_path_factory.mktemp("dev") / "run", tiny_model, rows)


@pytest.fixture(scope="module")
def model(tiny_model):
    return PathModel.from_pretrained(str(tiny_model), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def measured(asked, model):
    """[Q] choices, and [Q] gaps of the token after the prompt, along a path, one question at a time."""
    task = find_task("arc")
    evaluator = Evaluator(model, task)
    questions = list(PathDatasets([asked]).questions())

    @cache
    def along(text):
        found = evaluator.evaluate([(evaluator.prepare(question), path(text)) for question in questions])
        gaps = []
        for question in questions:
            ids = torch.tensor([evaluator.prepare(question).prompt_ids])
            last = model.logits(ids, policy=FixedPaths([path(text)]))[0, -1].sort().values
            gaps.append(float(last[-1] - last[-2]))
        return np.array([np.argmax(each.choice_scores) for each in found]), np.array(gaps)

    return along


def trained(asked, tiny_model, out, *options):
    static = static_file(out / "F.json", tiny_model, *CHEAP)
    return router(
        "train", "--method", "cascade", "--paths", asked, "--static", static, "--out", out / "r", *SMALL, *options
    )


def expected(measured, stated, alpha):
    """(mean depth, path, gap, answers that differ) of the least deep cascade whose risk holds, by the formulas."""
    full, found = measured(FULL)[0], [(float(NUM_LAYERS), FULL, None, 0)]
    for text in CHEAP[::-1]:  # the deepest first
        choices, gaps = measured(text)
        passed = []
        for gap in GAPS:
            stands = gaps >= gap
            worse = int((stands & (choices != full)).sum())
            if binom.cdf(worse, COUNT, stated) > alpha / len(CHEAP):
                break
            depth = np.where(stands, text.count("."), text.count(".") + NUM_LAYERS - text.index("-")).mean()
            passed.append((float(depth), text, gap, worse))
        found += passed[-1:]
    return min(found, key=lambda each: each[0])


@pytest.mark.parametrize("stated", [0.05, 0.25, 0.45, 0.7])
def test_the_least_deep_cascade_that_holds_the_risk(asked, measured, tiny_model, tmp_path, stated):
    answer = trained(asked, tiny_model, tmp_path, "--risk", stated, "--confidence", 0.8, "--json")
    assert answer.code == 0, answer.stderr
    depth, text, gap, worse = expected(measured, stated, 0.2)
    found = answer.json["risk"]
    assert found["depth"] == pytest.approx(depth)
    assert (found["observed"], found["questions"], found["confidence"]) == (worse / COUNT, COUNT, 0.8)
    assert answer.json["mean_depth"] == pytest.approx(depth)
    shown = router("show", tmp_path / "r", "--json").json
    assert (shown["static_path"], shown["fall_back_below"]) == (list(path(text)), gap)
    assert shown["static_only"] == (gap is None)


def test_the_cases_above_are_not_all_alike(measured):
    found = [expected(measured, stated, 0.2) for stated in (0.05, 0.25, 0.45, 0.7)]
    assert len({each[1:3] for each in found}) == 4
    assert any(each[3] for each in found)


@pytest.fixture(scope="module")
def half(asked, measured, tiny_model, tmp_path_factory):
    """A cascade's folder that sends half of the questions back, and its gap."""
    out = tmp_path_factory.mktemp("half")
    assert trained(asked, tiny_model, out, "--risk", 0.9, "--confidence", 0.6, "--json").code == 0
    found = load_router(out / "r")
    gap = float(np.median(measured(CHEAP[0])[1]))
    config = replace(found.config, fall_back_below=gap)
    (out / "r" / "config.json").write_bytes(config.to_json())
    return out / "r"


def test_the_routed_model_takes_full_depth_where_it_is_unsure(half, tiny_model, model):
    prompts = [f"Question: Is {n} like {7 * n}?\nAnswer:" for n in range(12)]
    routed = RoutedModel.from_pretrained(tiny_model, half)
    cheap, gap = routed.policy.path, routed.policy.gap
    wanted = []
    for prompt in prompts:
        ids = torch.tensor([model.tokenizer(prompt).input_ids])
        best = model.logits(ids, policy=FixedPaths([cheap]))[0, -1].topk(2).values
        wanted.append(cheap if best[0] - best[1] >= gap else LayerPath.full(NUM_LAYERS))
    assert set(wanted) == {cheap, LayerPath.full(NUM_LAYERS)}
    assert routed.paths(prompts, chat=False) == wanted
    answers = routed.complete(prompts, max_new_tokens=6, batch_size=3, chat=False)
    assert [answer.path for answer in answers] == wanted
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.tensor([model.tokenizer(prompt).input_ids])
        alone = model.generate(ids, policy=FixedPaths([answer.path]), max_new_tokens=6)[0, ids.shape[1] :]
        assert answer.text == model.tokenizer.decode(alone, skip_special_tokens=True)
    ids = [model.tokenizer(prompt).input_ids for prompt in prompts]
    scores = routed.score(ids, [[5, 6]] * len(prompts))
    for row, score, taken in zip(ids, scores, wanted, strict=True):
        logits = model.logits(torch.tensor([[*row, 5]]), policy=FixedPaths([taken]))[0, -2:].log_softmax(-1)
        assert score.path == taken
        assert score.token_logprobs == pytest.approx([float(logits[0, 5]), float(logits[1, 6])], abs=1e-4)


def test_bench_evaluate_show_and_export(half, asked, tiny_model, tmp_path):
    def infer(*words):
        return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)

    questions = tmp_path / "q.jsonl"
    questions.write_text(
        "".join(
            json.dumps({"id": f"t{n}", "question": f"Is {n} unlike {5 * n}?", "choices": ["a", "no"], "answer": "A"})
            + "\n"
            for n in range(12)
        )
    )
    given = ("--model", tiny_model, "--router", half, "--questions", questions, "--systems", "full,router,shuffled")
    found = infer("bench", *given, "--json", "--quiet")
    assert found.exit_code == 0, found.output
    full, routed, _ = json.loads(found.stdout)["systems"]
    cheap = load_router(half).static_logits.argmax(1).tolist()
    depth, fork = sum(cheap), cheap.index(0)
    back = round(12 * (1 - routed["off_full_share"]))
    assert 0 < back < 12
    assert full["mean_depth"] == NUM_LAYERS
    assert routed["mean_depth"] == pytest.approx(depth + back * (NUM_LAYERS - fork) / 12)

    evaluated = router("evaluate", "--router", half, "--paths", asked, "--quiet", "--json")
    assert evaluated.code == 0, evaluated.stderr
    assert depth < evaluated.json["mean_depth"] < depth + NUM_LAYERS - fork
    shown = " ".join(router("show", half).stdout.split())
    assert "cascade: the path below" in shown
    assert f"{load_router(half).config.fall_back_below:g} nats" in shown
    refused = infer("export", "--router", half, "--out", tmp_path / "plain")
    assert refused.exit_code == 2
    assert "is a cascade: unsure questions take full depth, so it has no one path to export" in refused.output


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--no-risk",), "a cascade is as shallow as its risk allows: give --risk or --max-loss, not --no-risk"),
        (
            ("--target-depth", 4),
            "a cascade is as shallow as its risk allows: give --risk or --max-loss, not --target-depth",
        ),
        (("--bias", 1), "--bias shifts what heads or gates choose; method cascade has neither: give --risk"),
    ],
)
def test_options_that_cannot_be(asked, tiny_model, tmp_path, options, line):
    answer = trained(asked, tiny_model, tmp_path, *options, "--json")
    assert (answer.code, answer.json["error"]) == (2, line)


def test_without_static_paths_below_full_depth_it_is_deployed(asked, tiny_model, tmp_path):
    static = static_file(tmp_path / "F.json", tiny_model, FULL)
    train = ("train", "--method", "cascade", "--paths", asked, "--static", static, "--out", tmp_path / "r", *SMALL)
    answer = router(*train, "--json")
    assert answer.code == 0, answer.stderr
    assert (answer.json["mean_depth"], answer.json["static_only"]) == (NUM_LAYERS, True)


@pytest.mark.parametrize("gap", [-1.0, float("inf"), "1", float("nan")])
def test_a_gap_that_is_none_is_damage(half, tmp_path, gap):
    content = json.loads((half / "config.json").read_text()) | {"fall_back_below": gap}
    with pytest.raises(ArtefactError, match="fall_back_below must be a number of nats from 0"):
        RouterConfig.from_json(json.dumps(content).encode(), "config.json")
    headed = content | {"fall_back_below": 1.0, "head": "bottleneck", "scale": 1.0}
    with pytest.raises(ArtefactError, match="of a router without heads"):
        RouterConfig.from_json(json.dumps(headed).encode(), "config.json")
