"""`infer generate`: its answers, and one line with the promised exit code for everything that is wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import Answer
from harness_models import full_router, mixed_router
from tiny_checkpoint import save_tiny_model
from transformers.utils import logging
from typer.testing import CliRunner

from infer import Completion, RoutedModel
from infer.cli import app
from pathgen.engine.path_model import PathModel
from pathgen.paths.layer_path import LayerPath

PROMPTS = ["the cat sat", "x", "why is the sky blue, and not green?"]
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def folders(tiny_model, tmp_path_factory):
    """What --model and --router are given."""
    return tiny_model, mixed_router(tiny_model, tmp_path_factory.mktemp("mixed") / "router")


@pytest.fixture(scope="module")
def expected(folders):
    return RoutedModel.from_pretrained(*folders).complete(PROMPTS, 5)


@pytest.fixture(autouse=True)
def no_library_bars():
    """As the program has it, whose environment speaks before transformers is imported."""
    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


def generate(folders, *arguments: object, stdin: bytes | None = None) -> Answer:
    model, router = folders
    command = ["generate", "--model", model, "--router", router, "--device", "cpu", *arguments]
    result = CliRunner().invoke(app, [str(word) for word in command], input=stdin, catch_exceptions=False)
    return Answer(result.exit_code, result.stdout, result.stderr)


def outputs(answers) -> list[dict]:
    return [
        {"text": answer.text, "path": list(answer.path), "depth": answer.depth, "new_tokens": answer.new_tokens}
        for answer in answers
    ]


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_json_holds_the_outputs_in_input_order(folders, expected, batch_size):
    answer = generate(folders, *PROMPTS, "--max-new-tokens", 5, "--batch-size", batch_size, "--json")
    assert answer.code == 0
    assert answer.json == {"outputs": outputs(expected)}
    assert answer.stderr == ""


def test_text_has_answers_on_stdout_and_paths_on_stderr(folders, expected):
    answer = generate(folders, *PROMPTS, "--max-new-tokens", 5)
    assert answer.stdout == "".join(f"{completion.text}\n" for completion in expected)
    lines = answer.stderr.splitlines()
    assert lines == [
        f"{LayerPath(completion.path)} depth {completion.depth} of 6, layers saved {6 - completion.depth}"
        for completion in expected
    ]
    quiet = generate(folders, *PROMPTS, "--max-new-tokens", 5, "--quiet")
    assert (quiet.stdout, quiet.stderr) == (answer.stdout, "")


def test_answers_come_before_all_are_done(folders, expected, monkeypatch):
    """In the order given, though a batch's prompts are run by length; a failure takes none of them back."""
    complete = RoutedModel.complete
    asked = []

    def until_the_last(self, prompts, *arguments, **more):
        asked.append(prompts)
        if PROMPTS[-1] in prompts:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return complete(self, prompts, *arguments, **more)

    monkeypatch.setattr(RoutedModel, "complete", until_the_last)
    monkeypatch.setattr("infer.routed.answering.PRINTED_BATCHES", 2)
    answer = generate(folders, *PROMPTS, "--max-new-tokens", 5, "--batch-size", 1, "--quiet")
    assert asked == [PROMPTS[:2], PROMPTS[2:]]
    assert answer.stdout == "".join(f"{completion.text}\n" for completion in expected[:2])
    assert (answer.code, answer.error) == (1, "out of memory: CUDA out of memory; give a smaller --batch-size")


def test_without_a_model_it_is_the_routers(folders, expected, tmp_path, monkeypatch):
    arguments = ["--device", "cpu", *PROMPTS, "--max-new-tokens", "5", "--json"]
    result = CliRunner().invoke(app, ["generate", "--router", str(folders[1]), *arguments], catch_exceptions=False)
    assert json.loads(result.stdout) == {"outputs": outputs(expected)}

    config = json.loads((folders[1] / "config.json").read_text())
    shutil.copytree(folders[1], tmp_path / "router")
    (tmp_path / "router" / "config.json").write_text(json.dumps(config | {"base_model": "./moved"}))
    result = CliRunner().invoke(app, ["generate", "--router", str(tmp_path / "router"), *arguments])
    assert result.exit_code == 2
    assert "is a router for ./moved, which is not found: " in result.stderr
    assert result.stderr.strip().endswith("give --model")


def test_blank_answers_are_hinted_at_on_stderr(folders, monkeypatch):
    def complete(self, prompts, *arguments, **more):
        return [Completion("", LayerPath.full(6), 6, 0) for _ in prompts]

    monkeypatch.setattr(RoutedModel, "complete", complete)
    told = "2 of 2 answers are blank, as the model ends at once: it has no chat template and continues texts"
    assert told in generate(folders, "a", "b").stderr
    assert told not in generate(folders, "a", "b", "--quiet").stderr


def test_prompts_come_from_files_and_standard_input_too(folders, expected, tmp_path):
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
    lines = "".join(f"{prompt}\n" for prompt in PROMPTS)
    (tmp_path / "p.txt").write_text(lines)
    for file, stdin in ((tmp_path / "p.jsonl", None), (tmp_path / "p.txt", None), ("-", lines.encode())):
        answer = generate(folders, "--file", file, "--max-new-tokens", 5, "--json", stdin=stdin)
        assert answer.json == {"outputs": outputs(expected)}


def test_the_bias_makes_it_shallower(folders):
    depths = []
    for bias in ("-1e4", "1e4"):
        answer = generate(folders, "hello", "--max-new-tokens", 2, f"--bias={bias}", "--json")
        depths.append(answer.json["outputs"][0]["depth"])
    assert depths == [12, 0]


def test_help_loads_nothing_heavy_and_the_model_no_ray():
    code = (
        "import infer, infer.cli, sys\n"
        "print(sorted({'torch', 'ray', 'pyarrow', 'polars', 'transformers'} & set(sys.modules)))\n"
        "infer.RoutedModel\n"
        "print('torch' in sys.modules, 'ray' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout.splitlines() == ["[]", "True False"]


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ([], "no prompts: give them as arguments, or --file F"),
        (["a", ""], "1 of 2 prompts cannot be used: prompt 2: prompt is empty"),
        (["b" * 600], "prompt 1: 600 tokens and 32 new ones, the model's context is 512"),
        (["b" * 500, "--max-new-tokens", "13"], "500 tokens and 13 new ones"),
        (["a", "--batch-size", "0"], "--batch-size"),
        (["a", "--max-new-tokens", "0"], "--max-new-tokens"),
        (["a", "--bias", "nan"], "--bias must be a finite number"),
        (["a", "--chat"], "use --no-chat"),
        (["a", "--dtype", "int4"], "--dtype must be one of float32, bfloat16, float16"),
        (["a", "--device", "abacus"], "--device must be cpu, cuda or cuda:N; got 'abacus'"),
        (["a", "--file", "gone.txt"], "not both"),
        (["--file", "gone.txt"], "gone.txt: no such file"),
        (["a", "--model", "./nowhere"], "no local folder"),
        (["a", "--router", "./nowhere"], "there is no router folder"),
    ],
)
def test_wrong_use_ends_with_2_before_the_model_loads(folders, monkeypatch, arguments, wrong):
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", lambda *_, **__: pytest.fail("loaded"))
    answer = generate(folders, *arguments)
    assert answer.code == 2
    assert wrong in answer.error
    assert answer.stdout == ""


def test_bytes_that_are_no_text_are_named_by_line(folders):
    answer = generate(folders, "--file", "-", stdin=b"a\n\xff\n")
    assert answer.code == 2
    assert answer.error == "-: 1 of 2 prompts cannot be used: line 2: not UTF-8: byte 0xff at offset 0"


def test_a_router_of_another_model_ends_with_4(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(PathModel, "from_pretrained", lambda *_, **__: pytest.fail("the model was loaded"))
    other = save_tiny_model(tmp_path, seed=1)
    answer = generate((other, folders[1]), "a", "--json")
    assert answer.code == answer.json["exit_code"] == 4
    assert "the model at hand has" in answer.json["error"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("half", [True, False])
def test_a_half_written_router_ends_with_4(tiny_model, tmp_path, name, half):
    router = full_router(tiny_model, tmp_path / "router")
    content = (router / name).read_bytes()
    (router / name).unlink()
    if half:
        (router / name).write_bytes(content[: len(content) // 2])
    answer = generate((tiny_model, router), "a")
    assert answer.code == 4
    assert str(router) in answer.error
