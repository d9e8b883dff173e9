"""The tiny model that all tests of benchmarks share."""

import pytest
from tiny_checkpoint import save_tiny_model

from pathgen.engine.path_model import PathModel


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save_tiny_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def model(folder):
    return PathModel.from_pretrained(folder)
