"""The soak, for a quarter of a minute."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"


@pytest.mark.ray
@pytest.mark.slow
def test_whatever_dies_every_question_is_there_once(tmp_path):
    out = tmp_path / "soak.json"
    brief = ("--minutes", "0.25", "--nodes", "2", "--questions", "24", "--simulations", "8", "--every-s", "2")
    process = subprocess.run(
        [sys.executable, SOAK, *brief, "--out", out], capture_output=True, text=True, cwd=tmp_path, timeout=280
    )
    assert process.returncode == 0, process.stderr[-2000:]
    found = json.loads(process.stdout.splitlines()[-1])
    assert found == json.loads(out.read_text())
    assert sum(found["strikes"].values()) > 0
    assert found["questions"] >= 24
    for name in ("lost", "doubled", "differing", "unfinished", "left_behind"):
        assert found[name] == 0, found
