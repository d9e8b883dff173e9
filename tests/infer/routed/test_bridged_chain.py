"""From bridges to answers: every step after the search takes the bridges of the run by itself."""

from __future__ import annotations

import json
import shutil

from commands import pathgen
from path_runs import write_run
from router_commands import router
from searched_runs import choice_questions
from typer.testing import CliRunner

from benchmarks.lab.in_process import InProcess, run_settings
from infer.cli import app
from pathgen.bridges.folder import FILES, load_bridges
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.evaluation.evaluator import Evaluator
from pathgen.models.facts import fingerprint
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.tasks import find_task
from pathgen.search.settings import SearchSettings
from router.saved.loading import load_router

PROMPT = "Which of 3 floats?"


def test_each_step_takes_the_bridges_of_the_run(tiny_model, tmp_path):
    text, bridges, static = tmp_path / "a.txt", tmp_path / "bridges", tmp_path / "static.json"
    text.write_text("Which of these floats on water, and which one sinks at once? " * 20)
    fitted = pathgen("bridge", "--model", tiny_model, "--text", text, "--tokens", 900, "--rank", 4, "--out", bridges)
    assert fitted.code == 0, fitted.stderr
    maps = load_bridges(bridges)
    model = PathModel.from_pretrained(str(tiny_model), dtype="float32", device="cpu")
    task, budget = find_task("arc"), SearchSettings(simulations=3)
    with model.bridged(maps):
        settings = run_settings(model, task, str(tiny_model), budget, seed=0, in_flight=4, threads=1)
        found = InProcess(settings, Evaluator(model, task)).search(choice_questions(12))
    records = [searched.record for searched in found]
    known = {"model_id": str(tiny_model), "fingerprint": fingerprint(tiny_model), "bridges": maps.digest}
    run = write_run(tmp_path / "run", records, **known)
    for name in FILES:
        shutil.copy(bridges / name, tmp_path / "run" / name)

    checked = pathgen("validate", run, "--replay", 20)
    assert checked.code == 0, checked.stdout + checked.stderr
    (tmp_path / "run" / FILES[-1]).rename(tmp_path / "aside")
    assert pathgen("validate", run, "--replay", 20).code != 0, "answers of skips cannot be repeated without the bridges"
    (tmp_path / "aside").rename(tmp_path / "run" / FILES[-1])

    common = ("--paths", run, "--quiet", "--json")
    found = pathgen("static", "--target", "divergence", "--depth", 4, "--threads", 1, "--out", static, *common).json
    assert found["bridges"] == maps.digest
    trained = router("train", "--static", static, "--target-depth", 4, "--out", tmp_path / "r", *common)
    assert trained.code == 0, trained.stderr
    deployed = load_router(tmp_path / "r")
    assert deployed.bridges is not None
    assert deployed.config.bridges == deployed.bridges.digest == maps.digest

    asked = ("generate", "--model", tiny_model, "--router", tmp_path / "r", "--max-new-tokens", 12, "--json", PROMPT)
    answered = CliRunner().invoke(app, [str(word) for word in asked], catch_exceptions=False)
    (output,) = json.loads(answered.stdout)["outputs"]
    assert model.tokenizer is not None
    ids = model.tokenizer([PROMPT], return_tensors="pt")
    path = LayerPath(output["path"])
    assert path.depth == 4
    plain, over = (
        model.generate(ids.input_ids, ids.attention_mask, policy=FixedPaths([path]), max_new_tokens=12)
        for placed in (None, maps)
        if model.use_bridges(placed) is None
    )
    start = ids.input_ids.shape[1]
    assert output["text"] == model.tokenizer.decode(over[0, start:], skip_special_tokens=True)
    assert over.tolist() != plain.tolist()
