"""The shape of the house: which room may import which, and where heavy libraries may stand."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("cluster", "pathgen", "router", "infer")
"""Each may import those before it, and itself."""
FLOORS = {
    "cluster": ("program", "fleet local", "connection", "jobs", "kuberay status", "cli", "__main__"),
    "pathgen": (
        "errors faults",
        "artefacts identity",
        "questions",
        "paths models bridges hooks slots",
        "engine search store",
        "evaluation",
        "actors",
        "static report",
        "fitting",
        "generate exchange",
        "cli",
        "__main__",
    ),
    "router": (
        "net",
        "data saved",
        "labels features dev",
        "training gates",
        "run",
        "cli",
        "__main__",
    ),
    "infer": ("routed systems", "harness bench export", "report", "cli", "__main__"),
}
"""Rooms of each package, and files beside them: one may import those of the floors below, and itself."""
MOST_FILES = 15
"""In one folder."""
RAY_FILES = {"pathgen/actors/placement.py", "pathgen/generate/layer_costs.py"}
"""Outside cluster/: where actors are made, and the one remote task that times layers."""


def imports(file: Path) -> Iterator[tuple[str, str | None]]:
    """(module, name) of all imports in a file, relative ones resolved, those inside functions included."""
    package = file.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            yield from ((module, alias.name) for alias in node.names)


def imported(file: Path) -> set[str]:
    """Top-level names of all imports in a file."""
    return {module.split(".")[0] for module, _ in imports(file)}


def room(module: str) -> str:
    """The room of a module of ours, or the file beside the rooms; empty for a package itself."""
    return module.split(".")[1] if "." in module else ""


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package):
    later = set(PACKAGES[PACKAGES.index(package) + 1 :])
    assert files(package)
    for file in files(package):
        assert not imported(file) & later, f"{file} imports {imported(file) & later}"


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_import_from_floors_below(package):
    floor = {name: number for number, names in enumerate(FLOORS[package]) for name in names.split()}
    for file in files(package):
        here = room(module_of(file))
        assert not here or here in floor, f"{file} stands on no floor"
        for module, _ in imports(file):
            there = room(module) if module.split(".")[0] == package else ""
            if here and there and here != there:
                assert floor[there] < floor[here], f"{file} imports {module}"


def test_no_file_takes_part_in_a_circle_of_imports():
    modules = {module_of(file): file for package in PACKAGES for file in files(package)}
    graph = {
        name: {f"{module}.{what}" if f"{module}.{what}" in modules else module for module, what in imports(file)}
        - {name}
        for name, file in modules.items()
    }
    try:
        TopologicalSorter({name: found & set(modules) for name, found in graph.items()}).prepare()
    except CycleError as error:
        raise AssertionError(f"circle of imports: {' -> '.join(error.args[1])}") from error


def test_no_file_imports_private_names():
    for package in PACKAGES:
        for file in files(package):
            private = [name for _, name in imports(file) if name and name.startswith("_")]
            assert not private, f"{file} imports {private}"


def test_folders_are_small_and_say_what_they_are_for():
    for package in PACKAGES:
        for folder in {file.parent for file in files(package)}:
            assert len(list(folder.glob("*.py"))) <= MOST_FILES, folder
            assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), folder


def test_the_map_names_every_room_and_files_that_exist():
    page = (ROOT / "docs" / "architecture.md").read_text()
    for package in PACKAGES:
        for folder in sorted({file.parent for file in files(package)} - {ROOT / package}):
            assert f"`{folder.relative_to(ROOT)}/`" in page, folder
    rows = re.findall(r"^\| `([\w/]+)/` \|.*\| (.*) \|$", page, re.MULTILINE)
    named = [f"{room}/{file}" for room, cell in rows for file in re.findall(r"`(\w+\.py)`", cell)]
    named += re.findall(r"`((?:pathgen|router|infer|cluster)/[\w/]+\.py)`", page)
    assert len(named) > 30
    for file in named:
        assert (ROOT / file).is_file(), file


def test_cluster_knows_no_paths_and_no_tensors():
    for file in files("cluster"):
        assert not imported(file) & {"pathgen", "torch", "transformers", "pyarrow", "polars"}, file


def test_ray_stands_in_few_files():
    for package in PACKAGES[1:]:
        for file in files(package):
            if "ray" in imported(file):
                assert str(file.relative_to(ROOT)) in RAY_FILES, f"{file} imports ray"


@pytest.mark.parametrize(
    "module",
    [
        "pathgen.search.path_search",
        "pathgen.search.tree",
        "pathgen.engine.sharing",
        "pathgen.paths.cost",
        "pathgen.paths.layer_path",
    ],
)
def test_the_pure_modules_load_nothing_heavy(module):
    code = f"import {module}, sys; print(sorted({{'torch', 'ray', 'pyarrow', 'transformers'}} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize("program", ["pathgen", "cluster"])
def test_help_loads_nothing_heavy(program):
    heavy = {"torch", "ray", "pyarrow", "polars", "transformers"}
    code = f"import {program}.cli, sys; print(sorted({heavy} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert loaded.stdout.strip() == "[]"


def test_a_driver_leaves_torch_to_its_actors():
    modules = "pathgen.generate.run, pathgen.generate.fleet, pathgen.generate.layer_costs"
    code = f"import {modules}, sys; print({{'torch', 'ray'}} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert loaded.stdout.strip() == "set()"


def test_nothing_unpickles_or_trusts_remote_code():
    for package in PACKAGES:
        for file in files(package):
            text = file.read_text()
            assert not imported(file) & {"pickle", "dill", "cloudpickle", "joblib"}, file
            for word in ("trust_remote_code=True", "torch.load(", "yaml.load(", "shell=True"):
                assert word not in text, f"{file}: {word}"
