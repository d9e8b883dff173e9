"""How often a training, a search for static paths, and an evaluation read each shard of their folders."""

from collections import Counter

import pytest
from commands import pathgen
from router_commands import IMITATE, SMALL, fill_features, path_folder, records, router

from pathgen.store import index

MOST = 3
"""Passes over the shards of one folder, whatever is made of them."""


@pytest.fixture
def reads(monkeypatch):
    """Counts by path how often shards are read."""
    counts: Counter[str] = Counter()
    read_shard = index.read_shard

    def counted(fs, path, columns=None):
        counts[path] += 1
        return read_shard(fs, path, columns)

    monkeypatch.setattr(index, "read_shard", counted)
    return counts


@pytest.fixture
def paths(tmp_path, tiny_model):
    return path_folder(tmp_path / "paths", tiny_model, records(24))


def passes(reads, shards: int = 12) -> int:
    """The passes over so many shards, none of which was read more often than another."""
    assert len(reads) == shards
    (count,) = set(reads.values())
    return count


@pytest.mark.parametrize("labels", ["shortest", "value"])
def test_imitation_reads_shards_for_the_questions_and_for_the_labels(paths, tiny_model, tmp_path, reads, labels):
    fill_features(paths, tiny_model, labels)
    reads.clear()
    answer = router("train", "--paths", paths, "--out", tmp_path / "r", *IMITATE, "--labels", labels)
    assert answer.code == 0, answer.stderr
    assert passes(reads) == (3 if labels == "value" else 2) <= MOST


def test_development_paths_are_read_no_more_often(paths, tiny_model, tmp_path, reads):
    dev = path_folder(tmp_path / "dev", tiny_model, records(8, prefix="dev"))
    for folder in (paths, dev):
        fill_features(folder, tiny_model)
    reads.clear()
    answer = router("train", "--paths", paths, "--dev", dev, "--out", tmp_path / "r", *IMITATE)
    assert answer.code == 0, answer.stderr
    assert passes(reads, 16) == 2 <= MOST


def test_a_static_path_is_searched_for_with_two_passes_more(paths, tmp_path, reads):
    answer = router("train", "--paths", paths, "--out", tmp_path / "r", "--device", "cpu", "--quiet")
    assert answer.code == 0, answer.stderr
    assert passes(reads) == MOST
    reads.clear()
    answer = pathgen("static", "--paths", paths, "--out", tmp_path / "s.json", "--device", "cpu", "--quiet")
    assert answer.code == 0, answer.stderr
    assert passes(reads) == 2 <= MOST


def test_gates_read_each_shard_twice(paths, tmp_path, reads):
    answer = router("train", "--method", "gates", "--paths", paths, "--out", tmp_path / "r", *SMALL)
    assert answer.code == 0, answer.stderr
    assert passes(reads) == 2 <= MOST


def test_evaluation_reads_shards_for_the_questions_and_for_the_labels(paths, tiny_model, tmp_path, reads):
    fill_features(paths, tiny_model)
    assert router("train", "--paths", paths, "--out", tmp_path / "r", *IMITATE).code == 0
    reads.clear()
    assert router("evaluate", "--router", tmp_path / "r", "--paths", paths).code == 0
    assert passes(reads) == 2 <= MOST
