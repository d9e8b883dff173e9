"""A fit shared by actors: each group counts once, whoever dies or stores late; two actors give one process's maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from commands import pathgen

from pathgen.actors.model_spec import ModelSpec
from pathgen.bridges.folder import load_bridges
from pathgen.engine.path_model import PathModel
from pathgen.errors import PathgenError
from pathgen.fitting import shares, states
from pathgen.fitting.fit import PartialFit, summed
from pathgen.fitting.shares import FitSettings, FitWorker, Share
from pathgen.fitting.states import Group, groups_of
from pathgen.models.facts import fingerprint

GROUPS = 6


@pytest.fixture(scope="module")
def model(tiny_model) -> PathModel:
    return PathModel.from_pretrained(str(tiny_model))


@pytest.fixture
def groups(model, monkeypatch) -> list[Group]:
    monkeypatch.setattr(states, "GROUP_TOKENS", 100)
    monkeypatch.setitem(states.BATCH_TOKENS, "cpu", 60)
    rng = np.random.default_rng(0)
    found = groups_of(model, [tuple(rng.integers(1, 200, 20).tolist()) for _ in range(36)])
    assert [len(group) for group in found] == [2] * GROUPS
    return found


@pytest.fixture
def partial(tmp_path) -> PartialFit:
    folder = tmp_path / ".b.fitting"
    folder.mkdir()
    return PartialFit(folder, "these settings")


@pytest.fixture
def work(tiny_model, partial, groups):
    """An actor in this process sums the groups of these numbers; what it told."""

    def sum_them(writer: str, *numbers: int) -> tuple[set[str], set[str]]:
        spec = ModelSpec(str(tiny_model), fingerprint(Path(tiny_model)), "float32", "cpu")
        worker = FitWorker(FitSettings(spec, str(partial.folder), partial.settings), writer)
        finished, durable = set(), set()
        for number in numbers:
            worker.extend([Share(number, groups[number])])
            while str(number) not in finished:
                report = worker.poll(5.0)
                finished |= set(report.finished)
                durable |= set(report.durable)
        return finished, durable | set(worker.drain().durable)

    return sum_them


def counted(model, groups, partial) -> tuple[list, list[int]]:
    """The sums over all groups, and the tokens of those that ran now."""
    ran: list[int] = []
    return summed(model, groups, partial, ran.append), ran


def assert_like_one_process(found, model, groups, tmp_path) -> None:
    alone = PartialFit(tmp_path / "alone", "others")
    alone.folder.mkdir()
    for one, wanted in zip(found, summed(model, groups, alone), strict=True):
        assert one.tokens == wanted.tokens > 600
        for name in ("gram", "cross"):
            torch.testing.assert_close(getattr(one, name), getattr(wanted, name), rtol=1e-12, atol=1e-9)


def test_the_sums_of_actors_are_those_of_one_process(model, groups, partial, work, tmp_path):
    for writer, numbers in {"w-a": (0, 3, 4), "w-b": (5, 1, 2)}.items():
        assert work(writer, *numbers) == ({*map(str, numbers)},) * 2
    found, ran = counted(model, groups, partial)
    assert ran == []
    assert_like_one_process(found, model, groups, tmp_path)


def test_a_group_that_two_actors_stored_counts_once(model, groups, partial, work, tmp_path):
    """An actor that was given up stored its sums late: its groups had been summed again by another."""
    work("w-late", 0, 1)
    work("w-new", 1, 2, 3)
    assert partial.files() == {"w-new": {1, 2, 3}}
    found, ran = counted(model, groups, partial)
    assert ran == [120] * 3
    assert_like_one_process(found, model, groups, tmp_path)
    again, ran = counted(model, groups, partial)
    assert ran == []
    assert torch.equal(again[3].gram, found[3].gram)


def test_sums_of_another_fit_are_left_alone(model, groups, partial, work, tmp_path):
    work("w-a", 0)
    other = PartialFit(partial.folder, "other settings")
    assert other.files() == {}
    _, ran = counted(model, groups, other)
    assert len(ran) == GROUPS


def test_an_actor_that_fails_within_a_group_stores_nothing_of_it(groups, partial, work, monkeypatch):
    add = shares.add_texts

    def fails(model, group, sums):
        add(model, group, sums)
        if group == groups[1]:
            raise PathgenError("layer 5: a state is not a finite number")

    monkeypatch.setattr(shares, "add_texts", fails)
    with pytest.raises(PathgenError, match="layer 5"):
        work("w-a", 0, 1)
    assert partial.files() == {}


@pytest.mark.ray
def test_two_actors_give_the_maps_of_one_process(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(states, "GROUP_TOKENS", 500)
    text = tmp_path / "a.txt"
    text.write_text("".join(np.random.default_rng(0).choice(list("abcdefgh .,\n"), 5000)))
    done = {}
    for actors in (1, 2):
        more = ("--text", text, "--rank", 4, "--tokens", 3000, "--threads", 1, "--actors", actors, "--quiet", "--json")
        answer = pathgen("bridge", "--model", tiny_model, "--out", tmp_path / f"b{actors}", *more)
        assert answer.code == 0, answer.stderr
        done[actors] = answer.json
    assert [done[actors]["actors"] for actors in done] == [1, 2]
    assert done[2]["tokens_per_second"] > 0
    assert done[2]["tokens"] == done[1]["tokens"]
    assert done[2]["r2"] == pytest.approx(done[1]["r2"], abs=1e-5)
    maps = [load_bridges(tmp_path / f"b{actors}").maps for actors in done]
    for one, other in zip(*maps, strict=True):
        torch.testing.assert_close(one.up @ one.down, other.up @ other.down, rtol=1e-4, atol=1e-5)
    assert not list(tmp_path.glob(".*"))
