"""What `pathgen` cannot use it refuses in one line, before a model is loaded or Ray is started."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from commands import pathgen, question, write_questions
from path_records import METADATA, make_record, no_guard
from tiny_checkpoint import save_tiny_model
from tiny_gguf import save_tiny_gguf
from transformers import BertConfig, BertModel, T5Config, T5ForConditionalGeneration

from cluster.connection.session import connect
from pathgen.generate.options import GenerateOptions
from pathgen.generate.run import GenerationRun
from pathgen.models.facts import file_digest
from pathgen.questions.loading import load_questions
from pathgen.search.settings import SearchSettings
from pathgen.store.provenance import VERSION_KEY
from pathgen.store.run_folder import RunDirectory
from pathgen.store.run_json import RunInfo
from pathgen.store.shards import commit_table, write_shard


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch):
    """Neither Ray nor the loading of a model may begin."""

    def refuse(*args, **kwargs):
        raise AssertionError("this must not be reached")

    monkeypatch.setattr("pathgen.actors.fleet_run.connect", refuse)
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", refuse)


@pytest.fixture
def source(tmp_path):
    """A good question file."""
    return write_questions(tmp_path / "good.jsonl", question("a"), question("b", "Which rusts?"))


@pytest.fixture
def refusal(tmp_path, tiny_model, source):
    """Calls `pathgen generate`, expects a refusal, checks that nothing was written, and gives the line."""

    def refused(*arguments, code=2, out=tmp_path / "run", env=None):
        before = snapshot(tmp_path)
        fixed = ("--model", tiny_model, "--questions", source, "--out", out, "--json")
        answer = pathgen("generate", *fixed, *arguments, env=env)
        assert answer.json["exit_code"] == answer.code == code, answer.stderr
        text = answer.json["error"]
        assert answer.stderr == f"error: {text}\n"
        assert snapshot(tmp_path) == before
        return text

    return refused


def snapshot(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def one_line(text):
    assert "\n" not in text
    return text


# --- questions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([question("a"), question("b"), question("a")], ["1 of 3", "line 3 (id 'a')", "has the id of line 1"]),
        ([question("a", answer="gold")], ["line 1 (id 'a')", "'gold' is not among the choices"]),
        ([question("a", answer=None)], ["answer is missing"]),
        ([question("a", choices=["cork"])], ["has 1 choices; 2 to 26 are needed"]),
        ([question("a", "  ")], ["question is empty"]),
        ([question("a", choices=["cork", ""])], ["choice 2 is empty"]),
        ([{"id": "a"}], ["no column for prompt", "the columns are id", "--columns prompt=COLUMN"]),
        ([question(str(i), "") for i in range(7)], ["7 of 7", "line 5", "and 2 more"]),
    ],
)
def test_questions_that_cannot_be_used(refusal, tmp_path, rows, says):
    path = write_questions(tmp_path / "bad.jsonl", *rows)
    text = one_line(refusal("--questions", path))
    assert text.startswith(str(path))
    for part in says:
        assert part in text


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("q.jsonl", b"", "no questions in it"),
        ("q.jsonl", b'{"id": 1\n', "line 1: not JSON"),
        ("q.jsonl", b"\xff\xfe\n", "not UTF-8"),
        ("q.json", b'{"id": "a"}', "must hold a list"),
        ("q.parquet", b"PAR1", "not readable as Parquet"),
        ("q.csv", b"id,question\n", ".jsonl, .json, .parquet"),
    ],
)
def test_files_that_cannot_be_read(refusal, tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    text = one_line(refusal("--questions", tmp_path / name))
    assert str(tmp_path / name) in text
    assert says in text


def test_questions_that_are_not_there(refusal):
    assert "no such file" in refusal("--questions", "/nowhere/q.jsonl")
    assert "builtin:train and builtin:test" in refusal("--questions", "builtin:dev")
    assert "builtin-math" in refusal("--task", "math", "--questions", "builtin")


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ("prompt", "'prompt' is not FIELD=COLUMN"),
        ("prompt=question,prompt=id", "prompt is given twice"),
        ("stem=question", "no field 'stem'; the fields are id, prompt"),
        ("prompt=stem", "no column 'stem' for prompt; the columns are id, question, choices, answer"),
    ],
)
def test_columns_that_are_wrong(refusal, columns, says):
    assert says in one_line(refusal("--columns", columns))


# --- model and task -------------------------------------------------------------------------------------


def test_tasks_and_models_that_do_not_exist(refusal, tmp_path):
    assert refusal("--task", "trivia").endswith("choose from arc, arc-letter, math")
    assert "smollm2-135m" in refusal("--model", "./no-such-folder")
    (tmp_path / "empty").mkdir()
    assert "holds no model" in refusal("--model", tmp_path / "empty")


def test_a_hub_id_that_the_hub_does_not_give(refusal, monkeypatch):
    def absent(*args, **kwargs):
        raise OSError("404")

    monkeypatch.setattr("huggingface_hub.snapshot_download", absent)
    assert "no alias (smollm2-135m), no local folder, and the hub does not provide it" in refusal("--model", "no/model")


def test_models_that_are_no_causal_language_models(refusal, tmp_path):
    small = BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    BertModel(small).save_pretrained(tmp_path / "bert")
    assert "BertModel is not a causal language model" in refusal("--model", tmp_path / "bert")
    small_t5 = T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=1)
    T5ForConditionalGeneration(small_t5).save_pretrained(tmp_path / "t5")
    assert "encoder-decoder" in refusal("--model", tmp_path / "t5")


@pytest.mark.parametrize("family", ["gemma3n", "mamba", "zaya"])
def test_families_that_cannot_be_run_along_paths_are_named_with_the_reason(refusal, tmp_path, family):
    folder = save_tiny_model(tmp_path / family)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": family}))
    assert f"{family} models cannot be run along paths: its" in one_line(refusal("--model", folder))


def test_weights_that_would_have_to_be_unpickled(refusal, tmp_path):
    folder = save_tiny_model(tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    assert "no *.safetensors weights" in refusal("--model", folder)


def test_chat_needs_a_template(refusal):
    assert "--chat needs a model whose tokenizer has a chat template" in one_line(refusal("--chat"))


# --- budgets and options --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--layer-budget", "5"], "--layer-budget must be at least 6"),
        (["--max-depth", "5"], "--max-depth must be at least 6"),
        (["--seconds-budget", "0"], "--seconds-budget must be a finite number above 0; got 0"),
        (["--seconds-budget", "-1"], "above 0; got -1"),
        (["--seconds-budget", "nan"], "above 0; got nan"),
        (["--question-timeout-s", "0"], "--question-timeout-s"),
        (["--start-timeout-s", "inf"], "--start-timeout-s"),
        (["--gpus-per-actor", "0"], "--gpus-per-actor"),
        (["--actors", "0"], "--actors must be auto or a positive number; got '0'"),
        (["--actors", "few"], "--actors must be auto"),
        (["--dtype", "int8"], "float32, bfloat16, float16; got 'int8'"),
        (["--device", "tpu"], "cpu or cuda; got 'tpu'"),
        (["--device", "cuda:1"], "CUDA_VISIBLE_DEVICES says which"),
    ],
)
def test_options_out_of_bounds(refusal, arguments, says):
    assert says in one_line(refusal(*arguments))


def test_an_address_where_no_ray_answers(refusal, monkeypatch):
    monkeypatch.setattr("pathgen.actors.fleet_run.connect", connect)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        for arguments in ((), ("--device", "cpu", "--dtype", "float32", "--dry-run")):
            error = one_line(refusal("--address", address, *arguments, code=1))
            assert f"no Ray cluster answers at {address}" in error
    assert "HOST:PORT" in refusal("--address", "http://ray")


# --- the folder -----------------------------------------------------------------------------------------


def test_places_that_cannot_be_a_run(refusal, source):
    assert f"--out {source} is a file" in refusal(out=source)
    assert "Not a directory" in one_line(refusal(out=source / "below"))
    assert "cannot be written" in one_line(refusal(out="/proc/run"))
    assert "holds good.jsonl but no run.json" in refusal(out=source.parent)


def test_urls_whose_package_is_missing(refusal, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules, "pathgen.store.s3", raising=False)
    assert "pip install 'layerpaths[s3]'" in one_line(refusal(out="s3://bucket/run"))
    assert "nope" in one_line(refusal(out="nope://bucket/run"))


def test_urls_where_no_run_can_be(refusal):
    assert "pathgen export --format hub" in one_line(refusal(out="hf://datasets/owner/name"))
    assert "cannot be reached" in one_line(refusal(out="ftp://127.0.0.1:1/run"))


@pytest.fixture
def finished(tmp_path, tiny_model, source):
    """A run's folder that holds one of the two questions, as `pathgen generate` would have left it."""
    run = GenerationRun(
        GenerateOptions(str(tmp_path / "run"), str(tiny_model), questions=str(source), device="cpu"), print
    )
    run.directory.create()
    run.directory.begin(run.info, no_guard)
    first = load_questions(str(source), needs="choices")[0]
    record = make_record("a", simulations=50, question_sha=first.sha, num_layers=6)
    write_shard(run.directory.fs, run.directory.paths, "w-0", 0, [record], METADATA, no_guard)
    return run.directory


def test_lower_budgets_give_way_to_those_of_the_folder(finished, tiny_model, source):
    """Of a folder's questions all have the same."""
    told = []
    wanted = GenerateOptions(
        finished.out,
        str(tiny_model),
        questions=str(source),
        device="cpu",
        search=SearchSettings(simulations=5, layer_budget=500),
        seconds_budget=9.0,
    )
    run = GenerationRun(wanted, told.append)
    assert (run.options.search.simulations, run.options.search.layer_budget) == (50, None)
    assert run.options.seconds_budget is None
    assert run.info.settings["simulations"] == 50
    assert "larger budgets, which stay: simulations 50, layer_budget unlimited, seconds_budget unlimited" in told[0]


def test_a_dry_run_counts_what_a_run_would_do(finished, tiny_model, source):
    second = load_questions(str(source), needs="choices")[1]
    failed = make_record("b", status="failed", question_sha=second.sha, num_layers=6)
    write_shard(finished.fs, finished.paths, "w-0", 1, [failed], METADATA, no_guard)
    fixed = (
        "--model",
        tiny_model,
        "--questions",
        source,
        "--out",
        finished.out,
        "--device",
        "cpu",
        "--dry-run",
        "--json",
    )
    answer = pathgen("generate", *fixed)
    assert (answer.json["done_before"], answer.json["to_search"]) == (1, 1)
    answer = pathgen("generate", *fixed, "--no-retry-failed")
    assert (answer.json["done_before"], answer.json["to_search"]) == (1, 0)
    assert "1 failed and left alone" in answer.stderr


@pytest.mark.parametrize(
    ("arguments", "row"),
    [
        (["--seed", "1"], "seed"),
        (["--max-edits", "3"], "max_edits"),
        (["--dtype", "bfloat16"], "dtype"),
        (["--task", "arc-letter"], "task"),
        (["--stop", "published"], "stop"),
        (["--cost", "flops"], "cost"),
        (["--parallel-leaves", "1"], "parallel_leaves"),
    ],
)
def test_a_folder_of_other_settings_is_refused_with_a_table(refusal, finished, arguments, row):
    first, header, *rows = refusal(*arguments, code=4).splitlines()
    assert finished.out in first
    assert header.split() == ["field", "stored", "wanted"]
    assert row in [line.split()[0] for line in rows]


def test_another_model_is_refused(refusal, finished, tmp_path):
    other = save_tiny_model(tmp_path / "other", seed=1)
    assert "model fingerprint" in refusal("--model", other, code=4)


def test_a_gguf_file_of_another_model_is_refused(refusal, finished, tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERPATHS_CACHE", str(tmp_path / "cache"))
    other = save_tiny_gguf(tmp_path / "other.gguf")
    save_tiny_model(tmp_path / "cache" / f"other-{file_digest(other)}", seed=1)  # as if converted
    assert "model fingerprint" in refusal("--model", other, code=4)


def test_an_edited_question_is_refused(refusal, finished, tmp_path):
    edited = write_questions(tmp_path / "edited.jsonl", question("a", "Which sinks?"))
    assert "1 questions were edited since they were searched (a)" in one_line(
        refusal("--questions", edited, "--dry-run", code=4)
    )


def test_a_shard_of_a_newer_schema_is_refused(refusal, finished):
    (old,) = Path(finished.paths).iterdir()
    table = pq.read_table(old)
    metadata = {**table.schema.metadata, VERSION_KEY.encode(): b"99"}
    old.unlink()
    newer = table.replace_schema_metadata(metadata)
    commit_table(finished.fs, finished.paths, "w-0", 0, newer, no_guard)
    assert "schema version 99" in one_line(refusal("--dry-run", code=4))
    for command in ("stats", "validate"):
        answer = pathgen(command, finished.out, "--json")
        assert answer.code == answer.json["exit_code"] == 4
        assert "schema version 99" in answer.error


def test_a_dry_run_tells_what_is_left_and_changes_nothing(tmp_path, tiny_model, source, finished):
    arguments = ("generate", "--model", tiny_model, "--questions", source, "--out", finished.out, "--dry-run")
    before = snapshot(tmp_path)
    answer = pathgen(*arguments, "--json")
    assert answer.json == {"out": finished.out, "questions": 2, "done_before": 1, "to_search": 1}
    assert pathgen(*arguments, "--simulations", "60", "--json").json["to_search"] == 2
    assert snapshot(tmp_path) == before

    (shard,) = Path(finished.paths).iterdir()
    shard.write_bytes(shard.read_bytes()[:-9])
    before = snapshot(tmp_path)
    answer = pathgen(*arguments, "--json")
    assert answer.json["to_search"] == 2
    assert f"warning: {shard.name}" in answer.stderr
    assert snapshot(tmp_path) == before


# --- readers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["stats"], ["show"], ["validate"]])
def test_a_folder_that_is_no_run(tmp_path, command):
    asked_for = ["a"] if command == ["show"] else []
    for folder in (tmp_path, tmp_path / "none", __file__):
        answer = pathgen(*command, folder, *asked_for, "--json")
        assert answer.code == answer.json["exit_code"] == 2
        assert "holds no run" in one_line(answer.error)


def test_a_question_that_the_run_does_not_hold(tmp_path):
    run = RunDirectory(str(tmp_path / "run"))
    run.create()
    run.begin(RunInfo({"simulations": 1}, "tiny", "f" * 16, "arc", "builtin"), no_guard)
    answer = pathgen("show", run.out, "a", "--json")
    assert (answer.code, answer.json["exit_code"]) == (2, 2)
    assert "no record of question 'a'; it has none yet" in one_line(answer.error)
    write_shard(run.fs, run.paths, "w-0", 0, [make_record("b")], METADATA, no_guard)
    assert "it has 1, for example b" in pathgen("show", run.out, "a").error


def test_a_damaged_run_json(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"schema_version": 1}))
    answer = pathgen("stats", tmp_path, "--json")
    assert answer.code == 4
    assert "run.json is damaged" in one_line(answer.error)
    assert os.listdir(tmp_path) == ["run.json"]
