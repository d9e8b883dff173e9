"""The page on faults names tests that exist, and counts that the stored results hold."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reliability.md").read_text()
NUMBERS = range(1, 45)
"""Of the faults and bad inputs that each must stand in the page."""


def rows() -> list[list[str]]:
    """The cells of the tables whose rows are numbered."""
    lines = (line for line in PAGE.splitlines() if re.match(r"\| [\d, ]+ \|", line))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_number_is_there():
    assert {int(number) for row in rows() for number in row[0].split(",")} == set(NUMBERS)


def test_every_test_exists():
    named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?", PAGE)
    assert len(named) > len(NUMBERS)
    for file, test in named:
        path = ROOT / file if file.startswith("benchmarks/") else ROOT / "tests" / file
        functions = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
        assert not test or test in functions, f"{file}::{test}"


def test_the_counts_are_those_of_the_results():
    kills, soak = (json.loads((ROOT / "benchmarks/results" / f"{name}.json").read_text()) for name in ("kills", "soak"))
    for target, tally in kills["by_target"].items():
        counts = f"{tally['tries']} | {tally['lost']} | {tally['doubled']} |"
        assert f"`benchmarks/faults/kills.py`, target `{target}` | {counts}" in PAGE
    for target, count in soak["strikes"].items():
        assert (
            f"`benchmarks/faults/soak.py`, strikes `{target}` | {count} | {soak['lost']} | {soak['doubled']} |" in PAGE
        )
