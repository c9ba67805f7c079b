"""The project's own promises: what is packaged, what an import costs, what the files say of each other."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

# Importing one of these takes longer than `pyrosparse --help` may.
HEAVY = ("arviz", "matplotlib", "onnx", "pandas", "pydantic", "pyro", "scipy", "sklearn", "torch")


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, Any]:
    return tomllib.loads((repository / "pyproject.toml").read_text())


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_every_package_is_listed(repository: Path, project: dict[str, Any]) -> None:
    setuptools = project["tool"]["setuptools"]
    folders = {repository / "pyrosparse": "pyrosparse"}
    folders |= {repository / folder: package for package, folder in setuptools["package-dir"].items()}
    found = set()
    for folder, package in folders.items():
        for init in folder.rglob("__init__.py"):
            found.add(".".join((package, *init.parent.relative_to(folder).parts)))
    assert set(setuptools["packages"]) == found


@pytest.mark.parametrize("package", ["pyrosparse.models", "pyrosparse.guides"])
def test_mapped_packages_are_importable(package: str) -> None:
    assert importlib.import_module(package).__name__ == package


def test_package_says_that_it_is_typed(repository: Path) -> None:
    assert (repository / "pyrosparse" / "py.typed").exists()


def test_version_is_the_same_everywhere(repository: Path, project: dict[str, Any]) -> None:
    version = project["project"]["version"]
    assert run_python("import pyrosparse; print(pyrosparse.__version__)") == version
    assert f"\nversion: {version}\n" in (repository / "CITATION.cff").read_text()
    assert f"## {version}" in (repository / "CHANGELOG.md").read_text()


def test_every_public_name_resolves() -> None:
    pyrosparse = importlib.import_module("pyrosparse")
    assert [name for name in pyrosparse.__all__ if getattr(pyrosparse, name, None) is None] == []
    assert set(pyrosparse.__all__) <= set(dir(pyrosparse))


@pytest.mark.parametrize("module", ["pyrosparse", "pyrosparse.cli"])
def test_import_is_light(module: str) -> None:
    loaded = run_python(f"import {module}, sys; print(*sys.modules)").split()
    assert [name for name in HEAVY if name in loaded] == []


def test_constraints_cover_the_direct_dependencies(repository: Path, project: dict[str, Any]) -> None:
    lines = (repository / "constraints.txt").read_text().splitlines()
    assert lines[0].startswith("torch=="), "torch comes first: it decides which build everything else finds"
    pinned = {line.split("==")[0] for line in lines if "==" in line}
    wanted = list(project["project"]["dependencies"])
    for extra in project["project"]["optional-dependencies"].values():
        wanted += extra
    names = {requirement.split(">")[0].split("[")[0] for requirement in wanted}
    assert names - pinned == set()


def test_no_file_leans_on_an_absolute_path(repository: Path) -> None:
    own = [*repository.glob("*.md"), *(repository / "docs").rglob("*.md"), *(repository / "examples").glob("*.py")]
    hits = [str(path) for path in own if re.search(r"/(home|root|opt)/", path.read_text())]
    assert hits == []
