"""Benchmarks are scripts, not a package: tests import them as the scripts import each other."""

import sys
from pathlib import Path

import pytest
from tiny_checkpoint import save_tiny_model

from pathgen.model import PathModel

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save_tiny_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def model(folder):
    return PathModel.from_pretrained(folder)
