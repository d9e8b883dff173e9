"""`infer generate --out`: kept answers, gone on with, and used as text by `pathgen bridge` and `pathgen static`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Answer, pathgen
from harness_models import mixed_router
from typer.testing import CliRunner

from infer import RoutedModel
from infer.cli import app
from pathgen.bridges.folder import load_bridges
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.fitting.text import open_source
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.tasks import find_task
from pathgen.questions.written import read_written
from pathgen.static.static_paths import load_static

PROMPTS = [f"why does the cat sit on mat {number}?" for number in range(9)]
LONGEST = 12


def generate(model: Path, *arguments: object) -> Answer:
    common = ("--model", model, "--device", "cpu", "--max-new-tokens", LONGEST)
    command = ["generate", *map(str, (*common, *arguments))]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    return Answer(result.exit_code, result.stdout, result.stderr)


def rows_of(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def model(tiny_model) -> PathModel:
    return PathModel.from_pretrained(str(tiny_model), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def written(tiny_model, tmp_path_factory):
    """A file of the whole model's answers."""
    file = tmp_path_factory.mktemp("written") / "w.jsonl"
    answer = generate(tiny_model, *PROMPTS, "--out", file)
    assert answer.code == 0, answer.stderr
    assert f"{file}: answers to all {len(PROMPTS)} prompts" in answer.stdout
    assert f"pathgen bridge --model {tiny_model} --text {file}" in answer.stdout
    return file


def stock_answers(model: PathModel, prompts: list[str]) -> list[list[int]]:
    """Token ids of each prompt with its greedy answer, of the stock model alone."""
    found = []
    for prompt in prompts:
        ids = model.tokenizer(prompt, return_tensors="pt").input_ids
        found.append(model.hf_model.generate(input_ids=ids, do_sample=False, max_new_tokens=LONGEST)[0].tolist())
    return found


def test_without_a_router_it_is_the_stock_model(model, tiny_model, written):
    outputs = generate(tiny_model, *PROMPTS, "--json").json["outputs"]
    start = [len(model.tokenizer(prompt)["input_ids"]) for prompt in PROMPTS]
    stock = [ids[begin:] for begin, ids in zip(start, stock_answers(model, PROMPTS), strict=True)]
    assert [one["text"] for one in outputs] == [model.tokenizer.decode(ids, skip_special_tokens=True) for ids in stock]
    assert {tuple(one["path"]) for one in outputs} == {tuple(LayerPath.full(model.num_layers))}
    assert [row["prompt"] for row in rows_of(written)] == PROMPTS
    assert [row["text"] for row in rows_of(written)] == [one["text"] for one in outputs]


def test_the_same_command_goes_on_after_a_torn_line(tiny_model, written, tmp_path, monkeypatch):
    lines = written.read_text().splitlines(keepends=True)
    file = tmp_path / "w.jsonl"
    file.write_text("".join(lines[:4]) + lines[4][:30])
    asked: list[str] = []
    complete = RoutedModel.complete

    def noted(self, prompts, *arguments, **more):
        asked.extend(prompts)
        return complete(self, prompts, *arguments, **more)

    monkeypatch.setattr(RoutedModel, "complete", noted)
    answer = generate(tiny_model, *PROMPTS, "--out", file, "--json")
    assert asked == PROMPTS[4:]
    assert [one["text"] for one in answer.json["outputs"]] == [row["text"] for row in rows_of(written)]
    assert file.read_text() == written.read_text()
    assert generate(tiny_model, *PROMPTS, "--out", file, "--json").json == answer.json
    assert asked == PROMPTS[4:], "nothing is answered twice"


def test_a_whole_last_line_is_kept_and_ended(tiny_model, written, tmp_path):
    file = tmp_path / "w.jsonl"
    file.write_text(written.read_text().rstrip("\n"))
    assert generate(tiny_model, PROMPTS[0], PROMPTS[0], "one more", "--out", file).code == 0
    assert [row["prompt"] for row in rows_of(file)] == [*PROMPTS, "one more"]


def test_an_answer_that_ends_keeps_its_end_token(tiny_model, model, tmp_path, monkeypatch):
    """The fourth token that the model gives becomes one that ends a generation."""
    (ids,) = stock_answers(model, PROMPTS[:1])
    start = len(model.tokenizer(PROMPTS[0])["input_ids"])
    complete = RoutedModel.complete

    def ended(self, *arguments, **more):
        return complete(self, *arguments, **more, eos_token_id=[ids[start + 3]])

    monkeypatch.setattr(RoutedModel, "complete", ended)
    generate(tiny_model, PROMPTS[0], "--out", tmp_path / "w.jsonl")
    (row,) = rows_of(tmp_path / "w.jsonl")
    assert row["prompt_tokens"] + row["tokens"] == ids[: start + 4]
    assert row["new_tokens"] == 3


@pytest.mark.parametrize("other", [("--max-new-tokens", 5), ("--router", "mixed"), ("--dtype", "bfloat16")])
def test_answers_of_other_settings_are_not_mixed(tiny_model, written, tmp_path, other):
    router = mixed_router(tiny_model, tmp_path / "mixed")
    before = written.read_bytes()
    answer = generate(
        tiny_model, *PROMPTS, "x", "--out", written, *(router if word == "mixed" else word for word in other)
    )
    assert (answer.code, written.read_bytes()) == (2, before)
    assert f"{written}, line 1: its answer was made with {other[0].strip('-').replace('-', '_')} " in answer.error
    assert "give another --out" in answer.error


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--out", "w.txt"), "ends in .jsonl"),
        (("--bridges", "b"), "give --router too"),
        (("--bias", 1.5), "give --router too"),
        (("--out", "none/w.jsonl"), "No such file or directory"),
    ],
)
def test_wrong_use_is_one_line(tiny_model, tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    answer = generate(tiny_model, "x", *arguments)
    assert answer.code == 2
    assert told in answer.error


@pytest.mark.parametrize(
    "content", ['{"question": "Why?"}\n', '{"prompt": "Why?"}', "why?", '{"prompt": 3, "text": ""}\n']
)
def test_a_file_of_something_else_is_left_as_it_is(tiny_model, tmp_path, content):
    file = tmp_path / "q.jsonl"
    file.write_text(content)
    answer = generate(tiny_model, "x", "--out", file)
    assert answer.code == 2
    assert "line 1 is no kept answer" in answer.error
    assert file.read_text() == content


def test_bridges_are_fitted_to_the_prompts_with_their_answers(model, written):
    """To the tokens that were written, though few of these random bytes are text."""
    pieces = list(open_source(str(written), find_task("arc"), chat=True, seed=0)(model))
    assert sorted(map(list, pieces)) == sorted(stock_answers(model, PROMPTS))


def test_paths_are_chosen_by_the_answers(model, tiny_model, written, tmp_path):
    """Divergence at every token of the answers, over the bridges, against one forward of each whole text."""
    bridges, static = tmp_path / "bridges", tmp_path / "static.json"
    fitted = pathgen("bridge", "--model", tiny_model, "--text", written, "--rank", 4, "--out", bridges, "--quiet")
    assert fitted.code == 0, fitted.stderr
    asked = ("--text", written, "--bridges", bridges, "--depth", 4, "--threads", 1, "--out", static)
    chosen = pathgen("static", "--target", "divergence", "--model", tiny_model, *asked)
    assert chosen.code == 0, chosen.stderr
    assert f"--along {static} --depth" in chosen.stdout.replace("\n", " ")
    assert f"--text {written}" in chosen.stdout.replace("\n", " ")
    found = load_static(str(static))
    assert (found.tasks, found.chat) == (("written",), False)
    read = read_written(str(written))
    questions = {question.sha: question for question in read.questions}
    held_out = [read.task.encode(questions[sha], model.tokenizer, False) for sha in found.judged_on]
    for entry in found.frontier:
        divergences = []
        for prompt, (answer,) in held_out:
            ids = torch.tensor([[*prompt, *answer]])
            scored = slice(len(prompt) - 1, -1)
            with torch.inference_mode():
                full = model.hf_model(input_ids=ids).logits[0, scored].double().log_softmax(-1)
                with model.bridged(load_bridges(bridges)):
                    along = model.logits(ids, policy=FixedPaths([entry.path]))[0, scored].double().log_softmax(-1)
            divergences.append(float((full.exp() * (full - along)).sum(-1).mean()))
        assert entry.divergence == pytest.approx(np.mean(divergences), rel=1e-3, abs=1e-6)


def test_the_next_command_takes_other_answers(tiny_model, written, tmp_path):
    common = ("--model", tiny_model, "--text", written, "--rank", 4, "--quiet")
    last = pathgen("bridge", *common, "--out", tmp_path / "b").stdout.splitlines()[-1]
    assert last.endswith(f"--bridges {tmp_path / 'b'} --text OTHER_ANSWERS.jsonl --out static.json")
