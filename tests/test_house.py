"""The shape of the house: who may import whom, and where heavy libraries may stand."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("cluster", "pathgen", "router", "infer")
"""Each may import those before it, and itself."""
RAY_FILES = {"pathgen/actors/placement.py", "pathgen/generate/layer_costs.py"}
"""Outside cluster/: where actors are made, and the one remote task that times layers."""


def imported(file: Path) -> set[str]:
    """Top-level names of all absolute imports in a file, those inside functions included."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package):
    later = set(PACKAGES[PACKAGES.index(package) + 1 :])
    assert files(package)
    for file in files(package):
        assert not imported(file) & later, f"{file} imports {imported(file) & later}"


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
