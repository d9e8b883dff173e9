"""The file of static paths by divergence, read where those by accuracy are."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from router_commands import FULL, SHALLOW, divergence_file, static_file

from pathgen.bridges.info import BridgesInfo
from pathgen.errors import ArtefactError, InputError
from pathgen.fitting.options import BridgeOptions
from pathgen.fitting.result import BridgeResult, bridge_text
from pathgen.paths.layer_path import LayerPath
from pathgen.static.choice import static_text
from pathgen.static.divergence_paths import DivergencePaths
from pathgen.static.divergence_text import bar, divergence_text
from pathgen.static.options import StaticOptions
from pathgen.static.static_paths import StaticPaths, load_static

FOUR, FIVE = "--....", SHALLOW


@pytest.fixture
def file(tmp_path, tiny_model):
    return divergence_file(tmp_path / "F.json", tiny_model, FOUR, FIVE)


@pytest.fixture
def found(file) -> DivergencePaths:
    loaded = load_static(str(file))
    assert isinstance(loaded, DivergencePaths)
    return loaded


def text(path: LayerPath) -> str:
    return str(path)


def test_load_static_reads_both_kinds(file, found, tmp_path, tiny_model):
    assert found.to_json() == file.read_bytes()
    assert isinstance(load_static(str(static_file(tmp_path / "A.json", tiny_model, FIVE))), StaticPaths)


def test_at_depth_is_the_least_divergent_that_fits(found):
    assert [text(found.at_depth(depth)) for depth in (4, 5, 6, 9)] == [FOUR, FIVE, FULL, FULL]
    worse = replace(found, frontier=(found.frontier[0], replace(found.frontier[1], divergence=0.5)))
    assert text(worse.at_depth(5)) == FOUR
    with pytest.raises(InputError, match="no static path has depth 3 or less; the shallowest has 4"):
        found.at_depth(3)


def test_best_is_the_full_path_and_shallow_the_shallowest_that_nearly_always_agrees(found):
    assert text(found.best.path) == text(found.shallow.path) == FULL
    four, five = found.frontier
    assert replace(found, frontier=(four, replace(five, agreement=0.98))).shallow.depth == 5
    assert replace(found, frontier=(replace(four, agreement=0.99), five)).shallow.depth == 4
    assert found.chosen_on == ("ab", "cd")


def test_paths_of_other_models_or_bridges_are_refused(found):
    found.check_matches(found.fingerprint, 6, "F.json")
    found.check_bridges("any", "F.json")  # plain paths may run with bridges
    with pytest.raises(ArtefactError, match=r"F.json is of .* with 7 layers"):
        found.check_matches(found.fingerprint, 7, "F.json")
    bridged = replace(found, bridges="b1")
    bridged.check_bridges("b1", "F.json")
    for other, reason in ((None, "here no bridges run"), ("b2", "here bridges b2 run")):
        with pytest.raises(ArtefactError, match=f"F.json was found with bridges b1, and {reason}"):
            bridged.check_bridges(other, "F.json")


@pytest.mark.parametrize(
    "damage",
    [
        lambda stored: stored.pop("forward_tokens"),
        lambda stored: stored["frontier"][0].update(depth=3),
        lambda stored: stored["frontier"][0].update(path=[1, 1]),
        lambda stored: stored["full"].update(divergence=None),
        lambda stored: stored.update(full=stored["frontier"][0]),
        lambda stored: stored.update(schema_version=2),
    ],
)
def test_damaged_files_are_refused(file, damage):
    stored = json.loads(file.read_bytes())
    damage(stored)
    file.write_text(json.dumps(stored))
    with pytest.raises(ArtefactError, match=str(file)):
        load_static(str(file))


@pytest.mark.parametrize("content", ["", "[]", "7", '{"target": 1}', "[" * 5000])
def test_what_is_neither_kind_is_refused(tmp_path, content):
    (tmp_path / "F.json").write_text(content)
    with pytest.raises(ArtefactError):
        load_static(str(tmp_path / "F.json"))


def test_a_bar_grows_by_eighths():
    assert [bar(value, 1.0) for value in (0, 1 / 24, 1.5 / 24)] == ["", "█", "█▌"]
    assert len(bar(1, 1)) == 24
    assert bar(0, 0) == ""


RUN = {"out": "F.json", "paths": ("my run",)}


@pytest.mark.parametrize(
    ("bridges", "options", "shown"),
    [
        (None, RUN, ""),
        ("d" * 16, RUN, " --bridges 'my run'"),  # the run keeps a copy
        ("d" * 16, RUN | {"bridges": "b"}, " --bridges b"),
        ("d" * 16, {"out": "F.json", "text": ("q.jsonl",), "model": "m", "bridges": "b"}, " --bridges b"),
    ],
)
def test_the_next_command_of_a_bridged_path_exports_its_bridges(found, capsys, monkeypatch, bridges, options, shown):
    fitted = BridgesInfo("m", "f", 6, 32, 4, 0.1, (), 9, (0.5,) * 6, "d" * 16)
    monkeypatch.setattr("pathgen.static.divergence_text.folder_info", lambda folder: fitted)
    divergence_text(replace(found, bridges=bridges), StaticOptions(target="divergence", **options))
    assert (
        capsys.readouterr().out.splitlines()[-1] == f"next: infer export --static F.json --depth 5{shown} --out MODEL"
    )


def test_the_next_command_trains_over_bridges_that_the_runs_do_not_keep(tmp_path, tiny_model, capsys):
    by_accuracy = load_static(str(static_file(tmp_path / "A.json", tiny_model, FIVE)))
    assert isinstance(by_accuracy, StaticPaths)
    for given, shown in ({}, ""), ({"bridges": "my b"}, " --bridges 'my b'"):
        static_text(by_accuracy, StaticOptions(**RUN, **given))
        last = capsys.readouterr().out.splitlines()[-1]
        assert last == f"next: router train --method static --static F.json --paths 'my run'{shown} --out ROUTER"


@pytest.mark.parametrize(("chat", "shown"), [(False, ""), (True, " --chat")])
def test_the_next_command_of_a_fit_asks_as_the_fit_did(chat, shown):
    done = BridgeResult(
        "my b", "m", 2, tokens=9, rank=1, r2=(0.1, 0.9), seconds=1.0, parameters=5, parameter_share=0.1,
        distilled=None, actors=1, tokens_per_second=None,
    )  # fmt: skip
    last = bridge_text(done, BridgeOptions(out="my b", task="arc", chat=chat)).splitlines()[-1]
    wanted = f"--model m --bridges 'my b' --text QUESTIONS --task arc{shown} --out static.json"
    assert last == f"next: pathgen static --target divergence {wanted}"
