"""Input that would run code, fill memory or break a reader of JSON: it is refused or fails alone."""

from __future__ import annotations

import json
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_checkpoint import save_tiny_model
from typer.testing import CliRunner

import cluster.cli
import infer.cli
import pathgen.cli
import router.cli
from pathgen.engine.path_model import PathModel
from pathgen.evaluation.evaluator import Evaluator, QuestionError
from pathgen.questions.question import Question
from pathgen.questions.tasks import find_task
from pathgen.store.files import open_folder
from pathgen.store.provenance import SHARD_VERSION, VERSION_KEY
from pathgen.store.schema import SCHEMA, UnreadableShard
from pathgen.store.shards import ShardName, _digest, read_shard

PROGRAMS = {"pathgen": pathgen.cli.app, "router": router.cli.app, "infer": infer.cli.app, "cluster": cluster.cli.app}


class Canary:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self._path = str(path)

    def __reduce__(self):
        return open, (self._path, "w")


def test_a_pickled_column_is_refused_and_never_unpickled(tmp_path):
    canary = tmp_path / "canary"
    extension = {b"ARROW:extension:name": b"ray.data.arrow_pickled_object", b"ARROW:extension:metadata": b""}
    fields = [pa.field(field.name, pa.binary(), metadata=extension) for field in SCHEMA]
    rows = pa.table([[pickle.dumps(Canary(canary))]] * len(fields), schema=pa.schema(fields))
    for store_schema in (True, False):
        raw = pa.BufferOutputStream()
        with pq.ParquetWriter(raw, rows.schema, write_page_checksum=True, store_schema=store_schema) as writer:
            writer.write_table(rows)
            writer.add_key_value_metadata({VERSION_KEY: str(SHARD_VERSION)})
        data = raw.getvalue().to_pybytes()
        shard = tmp_path / str(ShardName("w", int(store_schema), _digest(data)))
        shard.write_bytes(data)
        with pytest.raises(UnreadableShard, match="stored Arrow schema" if store_schema else "wrong type"):
            read_shard(open_folder(str(tmp_path))[0], str(shard))
    assert not canary.exists()
    pickle.loads(pickle.dumps(Canary(canary))).close()
    assert canary.exists(), "it would have sung"


def test_code_that_comes_with_a_model_is_not_run(tmp_path):
    canary = tmp_path / "canary"
    folder = save_tiny_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    classes = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "own", "auto_map": classes}))
    (folder / "own.py").write_text(f"open({str(canary)!r}, 'w')\n")
    answer = call("pathgen generate --model", folder, "--out", tmp_path / "run", "--device cpu --json")
    assert answer.exit_code == json.loads(answer.stdout)["exit_code"] == 2
    assert "needs code of its own, which is not run" in answer.stderr
    assert not canary.exists()
    assert not (tmp_path / "run").exists()


def test_a_question_of_a_megabyte_is_refused_by_its_length(tiny_model):
    evaluator = Evaluator(PathModel.from_pretrained(str(tiny_model)), find_task("arc"))
    with pytest.raises(QuestionError, match="context is 512"):
        evaluator.prepare(Question("long", "why " * 250_000, ("a", "b"), 0))


@pytest.mark.parametrize(
    "command",
    [
        "pathgen generate --out {nowhere}/run --questions {nowhere}/q.jsonl",
        "pathgen stats {nowhere}",
        "pathgen show {nowhere} q",
        "pathgen validate {nowhere}",
        "pathgen static --paths {nowhere} --out {nowhere}/f.json",
        "pathgen export {nowhere} --format jsonl --out {nowhere}/f",
        "pathgen import {nowhere}/f --format jsonl --model {nowhere} --task arc --out {nowhere}/run",
        "router train --paths {nowhere} --out {nowhere}/router",
        "router evaluate --router {nowhere} --paths {nowhere}",
        "router show {nowhere}",
        "infer generate --router {nowhere} prompt",
        "infer bench --router {nowhere} --questions {nowhere}/q.jsonl",
        "infer harness --router {nowhere} -- --tasks none",
        "cluster status --address 127.0.0.1:1",
        "cluster list --address http://127.0.0.1:1",
        "cluster logs job --address http://127.0.0.1:1",
        "cluster stop job --address http://127.0.0.1:1",
        "cluster submit --address http://127.0.0.1:1 -- pathgen stats {nowhere}",
        "cluster manifest kuberay --image i --out {nowhere} -- pathgen generate",
    ],
)
def test_a_command_that_fails_prints_one_json_object_and_one_line(tmp_path, monkeypatch, command):
    monkeypatch.setenv("LAYERPATHS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    words = command.format(nowhere=tmp_path / "nowhere").split()
    place = words.index("--") if "--" in words else len(words)
    answer = call(*words[:place], "--json", *words[place:])
    found = json.loads(answer.stdout)
    assert found.keys() == {"error", "exit_code"}
    assert found["exit_code"] == answer.exit_code != 0
    assert answer.stderr.splitlines()[-1] == f"error: {found['error']}"
    assert not (tmp_path / "nowhere").exists()


def call(*words: object):
    """A command in this process; words may hold several."""
    program, *arguments = (word for text in words for word in str(text).split())
    return CliRunner().invoke(PROGRAMS[program], arguments, catch_exceptions=False)
