"""`--version` of every program."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version

import pytest
from typer.testing import CliRunner


@pytest.mark.parametrize("program", ["cluster", "pathgen", "router", "infer"])
def test_a_program_prints_its_version(program):
    answer = CliRunner().invoke(import_module(f"{program}.cli").app, ["--version"])
    assert (answer.exit_code, answer.stdout, answer.stderr) == (0, f"{program} {version('layerpaths')}\n", "")


def test_the_help_names_the_program_s_purpose_and_the_version():
    answer = CliRunner().invoke(import_module("router.cli").app, ["--help"])
    assert "Train routers on path shards" in answer.stdout
    assert "--version" in answer.stdout
