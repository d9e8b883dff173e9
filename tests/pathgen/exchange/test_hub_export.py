"""A run as a dataset of the hub: the folder that would be uploaded, and what the hub's client is told."""

from __future__ import annotations

import huggingface_hub
import polars as pl
import pytest
import yaml
from commands import pathgen
from path_records import METADATA, make_record, no_guard

from pathgen.exchange import hub as hub_export
from pathgen.store.run_folder import RunDirectory
from pathgen.store.run_json import RunInfo
from pathgen.store.shards import write_shard

SECRET = "hf_" + "0123456789" * 4


@pytest.fixture
def run(tmp_path):
    """Three questions in two shards, one of them twice, one failed."""
    run = RunDirectory(str(tmp_path / "run"))
    run.create()
    run.begin(RunInfo({"simulations": 3}, "tiny", METADATA.fingerprint, "arc", "builtin", questions=3), no_guard)
    write_shard(run.fs, run.paths, "w-0", 0, [make_record("a", 1), make_record("b")], METADATA, no_guard)
    write_shard(run.fs, run.paths, "w-1", 0, [make_record("a"), make_record("c", status="failed")], METADATA, no_guard)
    return run


def export(run, target, *more):
    return pathgen("export", run.out, "--format", "hub", "--out", target, *more)


def test_the_folder_is_a_dataset_with_each_question_once(run, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", SECRET)
    target = tmp_path / "dataset"
    answer = export(run, target, "--json")
    assert (answer.code, answer.json["records"]) == (0, 3)
    data = "data/train-00000-of-00001.parquet"
    assert sorted(str(p.relative_to(target)) for p in target.rglob("*.*")) == ["README.md", data]
    assert answer.json["files"] == {name: (target / name).stat().st_size for name in ("README.md", data)}
    front = yaml.safe_load((target / "README.md").read_text().split("---\n")[1])
    assert front["configs"] == [{"config_name": "default", "data_files": "data/train-*.parquet"}]
    assert not any(SECRET.encode() in file.read_bytes() for file in target.rglob("*.*"))

    import datasets

    loaded = datasets.load_dataset(str(target), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]
    rows = loaded["train"]
    assert sorted(zip(rows["question_id"], rows["status"], strict=True)) == [
        ("a", "kept"),
        ("b", "kept"),
        ("c", "failed"),
    ]
    assert [len(evaluations) for evaluations in rows["evaluations"] if evaluations] == [4, 4]


def test_many_rows_become_several_files_that_know_their_number(run, tmp_path, monkeypatch):
    monkeypatch.setattr(hub_export, "FILE_BYTES", 1)
    target = tmp_path / "dataset"
    assert export(run, target).code == 0
    names = [file.name for file in sorted((target / "data").iterdir())]
    assert names == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    assert sorted(pl.read_parquet(target / "data/*.parquet")["question_id"]) == ["a", "b", "c"]


@pytest.mark.parametrize("target", ["new", "hf://datasets/me/paths"])
def test_a_dry_run_lists_the_files_and_writes_none(run, tmp_path, monkeypatch, target):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: pytest.fail("the hub is asked"))
    answer = export(run, target, "--dry-run")
    assert answer.code == 0
    lines = answer.stdout.splitlines()
    assert [line.split()[-1] for line in lines[:-1]] == ["README.md", "data/train-00000-of-00001.parquet"]
    assert lines[-1] == f"3 records in {target}; nothing was written"
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


class FakeHub:
    """In place of the hub's client: what it was told, and what it was given."""

    calls: list[tuple] = []
    error: Exception | None = None

    def create_repo(self, repository, **settings):
        if self.error:
            raise self.error
        self.calls.append(("create", repository, settings))

    def upload_folder(self, *, folder_path, **settings):
        names = sorted(str(p.relative_to(folder_path)) for p in folder_path.rglob("*.*"))
        self.calls.append(("upload", names, settings))


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(FakeHub, "calls", [])
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub)
    return FakeHub


@pytest.mark.parametrize(("flags", "private"), [((), True), (("--public",), False)])
def test_an_upload_is_one_commit_private_unless_asked(run, hub, flags, private):
    assert export(run, "hf://datasets/me/paths", *flags).code == 0
    create, upload = hub.calls
    assert create == ("create", "me/paths", {"repo_type": "dataset", "private": private, "exist_ok": True})
    assert upload[1] == ["README.md", "data/train-00000-of-00001.parquet"]
    assert upload[2]["delete_patterns"] == "data/*.parquet"  # an earlier export may have had more files
    assert (upload[2]["repo_id"], upload[2]["repo_type"]) == ("me/paths", "dataset")


def test_a_refusal_of_the_hub_is_one_line(run, hub, monkeypatch):
    monkeypatch.setattr(hub, "error", RuntimeError("401 Client Error\nmore"))
    answer = export(run, "hf://datasets/me/paths")
    assert (answer.code, answer.error) == (1, "the hub refused dataset me/paths: 401 Client Error")


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("run", "exists already; give a new folder, or hf://datasets/OWNER/NAME"),
        ("none/new", "there is no folder none"),
        ("hf://me/paths", "give a folder or hf://datasets/OWNER/NAME"),
        ("hf://datasets/paths", "give a folder or hf://datasets/OWNER/NAME"),
        ("hf://datasets/me/a--b", "give a folder or hf://datasets/OWNER/NAME"),
        ("s3://bucket/dataset", "give a folder or hf://datasets/OWNER/NAME"),
    ],
)
def test_targets_that_cannot_be(run, tmp_path, monkeypatch, target, says):
    monkeypatch.chdir(tmp_path)
    answer = export(run, target)
    assert answer.code == 2
    assert says in answer.error


def test_an_empty_run_is_no_dataset(tmp_path):
    run = RunDirectory(str(tmp_path / "run"))
    run.create()
    run.begin(RunInfo({}, "tiny", "f", "arc", "builtin"), no_guard)
    answer = export(run, tmp_path / "dataset")
    assert (answer.code, answer.error) == (2, f"{run.out} holds no records yet")
    assert not (tmp_path / "dataset").exists()


def test_the_options_of_the_hub_go_with_no_other_format(run, tmp_path):
    answer = pathgen("export", run.out, "--format", "jsonl", "--out", tmp_path / "f", "--dry-run")
    assert answer.code == 2
    assert "go with --format hub" in answer.error
