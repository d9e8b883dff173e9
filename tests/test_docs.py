"""What the pages say: every command parses, every Python block runs, and one walk through the pages is taken."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
import yaml
from harness_models import full_router
from s3_lab import s3_here
from tiny_checkpoint import save_tiny_model
from typer.testing import CliRunner

import cluster.cli
import infer.cli
import pathgen.cli
import router.cli
from cluster.program.errors import CommandError
from pathgen.store.provenance import ShardMetadata
from pathgen.store.run_json import RunInfo
from pathgen.store.schema import SCHEMA

ROOT = Path(__file__).parent.parent
APPS = {"pathgen": pathgen.cli.app, "router": router.cli.app, "infer": infer.cli.app, "cluster": cluster.cli.app}
PAGES = [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").glob("*.md") if page.name != "LOG.md")]
"""The log tells what was run in the past, under the options of its day."""
FOREIGN = ("export", "kubectl", "lm-eval")
REAL_MODEL = "smollm2-135m"
REAL_LAYERS = 30
SHORTER = {"--limit 48": "--limit 8", "--limit 96": "--limit 10", "--simulations 100": "--simulations 5"}
USES_RAY = ("generate", "train", "up", "submit", "status", "list", "logs", "stop", "down")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    text: str

    def lines(self) -> Iterator[list[str]]:
        """The words of each command, pipes, lists and redirections taken apart; comments left out."""
        for line in self.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words:
                end = next((at for at, word in enumerate(words) if word in ("|", ">", "&&")), len(words))
                if words[:end]:
                    yield words[:end]
                words = words[end + (2 if words[end : end + 1] == [">"] else 1) :]


def blocks(page: Path) -> list[Block]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [Block(page.name, language, text) for language, text in found]


BLOCKS = [block for page in PAGES for block in blocks(page)]
SHELL = [block for block in BLOCKS if block.language in ("sh", "bash", "shell")] + [
    block for block in BLOCKS if not block.language and block.text.startswith((*APPS, "make"))
]
COMMANDS = [(block.page, words) for block in SHELL for words in block.lines()]
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


def parse(command: typer.core.TyperCommand | typer.core.TyperGroup, words: list[str]) -> None:
    """Parse without running: unknown options, missing ones and values that do not fit raise."""
    context = command.make_context(command.name, list(words))
    if isinstance(command, typer.core.TyperGroup):
        _, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        parse(inner, rest)


def check(words: list[str]) -> None:
    """Whether a command line of a page is right."""
    program, *arguments = words
    if program in APPS:
        parse(typer.main.get_command(APPS[program]), arguments)
        if "manifest" in arguments:
            check(shlex.split(yaml.safe_load(run(words))["spec"]["entrypoint"]))
        elif program == "cluster" and "--" in arguments:
            check(arguments[arguments.index("--") + 1 :])
    elif program == "make":
        assert set(arguments) <= set(TARGETS), words
    elif program == ".":
        assert arguments == [".venv/bin/activate"], words
    elif program == "python":
        assert (ROOT / arguments[0]).is_file(), words
    elif program == "pip":
        extras = re.findall(r"layerpaths\[(\w+)\]", " ".join(arguments))
        assert all(f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text() for extra in extras), words
    else:
        assert program in FOREIGN, words


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda value: value if isinstance(value, str) else None)
def test_a_command_is_one_that_the_programs_take(page, words):
    check(words)


def test_a_wrong_command_would_be_found():
    for line in (
        "pathgen generate --limits 3 --out x",
        "pathgen generate",
        "cluster submit -- pathgen stat x",
        "make x",
    ):
        with pytest.raises((AssertionError, typer.exceptions.TyperException, CommandError)):
            check(shlex.split(line))


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
            assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"


def table(page: str, header: str) -> dict[str, list[str]]:
    """The rows of the table with this header, by the name in backticks that begins each."""
    lines = (ROOT / "docs" / page).read_text().split(f"{header}\n")[1].splitlines()[1:]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in iter_table(lines)]
    return {name: row[1:] for row in rows for name in re.findall(r"`([^`]+)`", row[0])}


def iter_table(lines: list[str]) -> Iterator[str]:
    for line in lines:
        if not line.startswith("|"):
            return
        yield line


def plain_type(field) -> str:
    """A column's type as the page writes it."""
    kind = str(field.type).replace("element: ", "").replace(" not null", "")
    return re.sub(r"struct<.*>>$", "struct>", kind) + ("?" if field.nullable else "")


def test_the_columns_are_those_of_a_shard():
    told = table("formats.md", "| column | type | what |")
    assert {name: row[0] for name, row in told.items()} == {field.name: plain_type(field) for field in SCHEMA}
    assert list(told) == SCHEMA.names
    told = table("formats.md", "| field of `evaluations` | type | what |")
    fields = SCHEMA.field("evaluations").type.value_type
    assert {name: row[0] for name, row in told.items()} == {field.name: plain_type(field) for field in fields}


def test_the_keys_are_those_of_the_files():
    run = json.loads(RunInfo({}, "m", "f", "arc", "builtin").to_json())
    assert set(table("formats.md", "| key | what |")) >= set(run)
    text = (ROOT / "docs/formats.md").read_text()
    for name in ShardMetadata("", "", "", "", "").key_values():
        assert f"`{name}`" in text


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder to run the pages in, with a tiny model as deep as the one they speak of, and a smaller appetite."""
    folder = tmp_path_factory.mktemp("docs")
    model = save_tiny_model(folder / "model", num_layers=REAL_LAYERS)
    token = folder / "token"
    token.write_text("0" * 64)
    less = {"SIMULATIONS": "3", "CANDIDATES": "4", "FOLDS": "3", "THREADS": "1", "MODEL": str(model), "QUIET": "1"}
    settings = {f"LAYERPATHS_{name}": value for name, value in less.items()}
    settings |= {"LAYERPATHS_CACHE": str(folder / "cache"), "HF_DATASETS_CACHE": str(folder / "datasets")}
    settings |= {"RAY_AUTH_TOKEN_PATH": str(token), "OMP_NUM_THREADS": "1"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in settings.items():
            patch.setenv(name, value)
        yield folder


def shortened(words: list[str], folder: Path) -> list[str]:
    """The same command on the tiny model and fewer questions."""
    text = shlex.join(words).replace(REAL_MODEL, str(folder / "model"))
    for long, short in SHORTER.items():
        text = text.replace(long, short)
    return shlex.split(text)


def replaced(words: list[str], names: dict[str, str]) -> list[str]:
    """The same command with other values."""
    return [names.get(word, word) for word in words]


def run(words: list[str]) -> str:
    """Run a command of ours; what starts Ray in a process of its own. Its stdout."""
    program, *arguments = words
    if arguments[0] not in USES_RAY:
        result = CliRunner().invoke(APPS[program], arguments, catch_exceptions=False)
        code, out, err = result.exit_code, result.stdout, result.stderr
    else:
        command = [sys.executable, "-m", program, *arguments]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        code, out, err = done.returncode, done.stdout, done.stderr
    assert code == 0, f"{shlex.join(words)}: {err}"
    return out


def shell(page: str, heading: str) -> list[list[str]]:
    """The commands of the first block under a heading."""
    text = (ROOT / "docs" / page).read_text().split(f"# {heading}\n")[1]
    return list(Block(page, "sh", re.findall(r"```sh\n(.*?)```", text, re.DOTALL)[0]).lines())


def test_the_readme_s_python_runs_as_it_stands(place):
    """With a tiny model, and a router for it where the shell's lines would have left one."""
    [use, _] = [block.text for block in blocks(ROOT / "README.md") if block.language == "python"]
    router = full_router(place / "model", place / "own_router")
    names: dict[str, object] = {}
    exec(use.replace(REAL_MODEL, str(place / "model")).replace("runs/router", str(router)), names)
    assert names["tokens"].shape == (2, names["input_ids"].shape[1] + 16)
    assert names["logits"].shape[:2] == names["input_ids"].shape


@pytest.mark.ray
def test_a_walk_from_questions_to_a_routed_model_and_a_resume(place):
    for words in shell("one-machine.md", "From questions to a routed model"):
        run(shortened(words, place))
    assert (place / "runs/report.html").stat().st_size > 1000
    first, more, further = (
        json.loads(run([*shortened(words, place), "--json"])) for words in shell("resume.md", "Resume")
    )
    assert (first["done_before"], first["searched"]) == (8, 0)
    assert (more["done_before"], more["searched"]) == (8, 2)
    assert (further["searched"], further["continued"]) == (10, 10)

    [_, read] = [block.text for block in blocks(ROOT / "README.md") if block.language == "python"]
    exec(read.replace("runs/arc", "runs/paths"), {})


@pytest.mark.ray
def test_a_job_on_the_cluster_that_the_page_starts(place):
    up, submit, status, listed, down = shell("ray-cluster.md", "A cluster on this machine")
    run(up)
    try:
        run(shortened(submit, place))
        assert "2 alive" in run(status)
        assert "SUCCEEDED" in run(listed)
    finally:
        run(down)
    assert len(list((place / "runs/paths/paths").glob("*.parquet"))) > 0


@pytest.mark.ray
def test_a_job_on_a_cluster_known_by_its_dashboard_that_writes_to_a_bucket(place, monkeypatch):
    """The cluster knows the model, the bucket and how little to do; the terminal knows dashboard and token."""
    pages = {"allenai/ai2_arc:ARC-Easy:train": "builtin", "org/model": str(place / "model")}
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("LAYERPATHS_LIMIT", "4")
    with s3_here():
        up = json.loads(run(["cluster", "up", "--num-cpus", "2", "--json"]))
        try:
            with monkeypatch.context() as terminal:
                terminal.setenv("LAYERPATHS_CACHE", str(place / "outside"))
                terminal.setenv("RAY_ADDRESS", up["dashboard"])
                terminal.setenv("RAY_AUTH_MODE", "token")
                terminal.setenv("RAY_AUTH_TOKEN_PATH", up["token_path"])
                said = [run(replaced(words, pages)) for words in shell("ray-cluster.md", "Another cluster")[2:]]
            assert said[0] == "arc-1\n"
            assert said[2] == "arc-1 SUCCEEDED\n"
            assert said[3].endswith(" SUCCEEDED\n")
        finally:
            run(["cluster", "down"])
        checked, stats = (run(replaced(words, pages)) for words in shell("kubernetes.md", "What the manifest sets"))
        assert checked == ""
        assert "done 4 of 4" in stats


def test_ones_own_questions_are_checked_and_nothing_is_started(place):
    [words] = shell("one-machine.md", "Your own questions and model")
    (place / "runs").mkdir(exist_ok=True)
    (place / "runs/my-model").symlink_to(place / "model")
    row = {"qid": 7, "stem": "What is wet?", "choices": ["water", "sand"], "label": 0}
    (place / "my.jsonl").write_text(json.dumps(row) + "\n")
    run([*words, "--json"])
    assert not (place / "runs/mine").exists()


@pytest.mark.parametrize("number", range(3))
def test_what_extends_works_as_it_stands(number, place):
    text = [block.text for block in blocks(ROOT / "docs/extending.md") if block.language == "python"][number]
    scope = {"__name__": "page"}
    exec(text.replace(REAL_MODEL, str(place / "model")), scope)
    if "logits" in scope:
        assert scope["logits"].shape == (2, 3, 99)


def test_every_page_is_reached_from_the_readme():
    text = (ROOT / "README.md").read_text()
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"(docs/{page.name})" not in text] == []
