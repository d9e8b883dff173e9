"""`--version` and `--help` of every program."""

from __future__ import annotations

from functools import reduce
from importlib import import_module
from importlib.metadata import version

import pytest
import typer
from typer.testing import CliRunner

PROGRAMS = ("cluster", "pathgen", "router", "infer")


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_prints_its_version(program):
    answer = CliRunner().invoke(import_module(f"{program}.cli").app, ["--version"])
    assert (answer.exit_code, answer.stdout, answer.stderr) == (0, f"{program} {version('layerpaths')}\n", "")


def test_the_help_names_the_program_s_purpose_and_the_version():
    answer = CliRunner().invoke(import_module("router.cli").app, ["--help"])
    assert "Train routers on path shards" in answer.stdout
    assert "--version" in answer.stdout


@pytest.mark.parametrize(("program", "path"), [(name, []) for name in PROGRAMS] + [("cluster", ["manifest"])])
def test_the_help_tells_in_80_columns_what_each_command_does_and_cuts_nothing(program, path):
    app = import_module(f"{program}.cli").app
    answer = CliRunner().invoke(app, [*path, "--help"], terminal_width=80)
    assert max(map(len, answer.stdout.splitlines())) <= 80
    listed = "".join(answer.stdout.split("Commands:")[1].split())
    group = reduce(lambda found, name: found.commands[name], path, typer.main.get_command(app))
    assert len(group.commands) > 0
    for name, command in group.commands.items():
        assert name + "".join(command.help.split()) in listed
