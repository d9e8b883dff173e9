"""Whether results hold on a GPU: the tests that need one, run in a process of their own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MARK = "mark.gpu"
MESSAGE_CHARACTERS = 400
"""Kept of what a failed test says."""


def gpu_tests() -> list[Path]:
    """The files that hold tests for a GPU; others are not even collected."""
    return [file for file in sorted((ROOT / "tests").rglob("test_*.py")) if MARK in file.read_text()]


def run_tests(files: Sequence[Path], seconds: float) -> dict[str, Any]:
    """Run the tests for a GPU in these files; how many passed, and what the failed ones say, by name."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", f"--junitxml={report}"]
        try:
            ended = subprocess.run(
                [*command, *map(str, files)], cwd=ROOT, capture_output=True, text=True, timeout=max(1.0, seconds)
            )
        except subprocess.TimeoutExpired as error:
            said = error.stdout.decode() if error.stdout else ""
            return {"ended": False, "allowed_seconds": seconds, "output": said[-MESSAGE_CHARACTERS:]}
        if not report.exists():
            said = ended.stdout + ended.stderr
            return {"ended": False, "exit_code": ended.returncode, "output": said[-MESSAGE_CHARACTERS:]}
        return {"ended": True, "exit_code": ended.returncode, **read_report(report)}


def read_report(report: Path) -> dict[str, Any]:
    """Counts and failures of a JUnit report."""
    counts, failures = {"passed": 0, "failed": 0, "skipped": 0}, {}
    for case in ET.parse(report).iter("testcase"):
        bad = next((case.find(kind) for kind in ("failure", "error") if case.find(kind) is not None), None)
        outcome = "failed" if bad is not None else "skipped" if case.find("skipped") is not None else "passed"
        counts[outcome] += 1
        if bad is not None:
            failures[f"{case.get('classname')}::{case.get('name')}"] = (bad.get("message") or "")[:MESSAGE_CHARACTERS]
    return {**counts, "failures": failures}
