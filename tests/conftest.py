from __future__ import annotations

import pytest
from tiny_checkpoint import save_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Folder of a random Llama of six layers, with a tokenizer of one token a byte and a context of 512."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))
