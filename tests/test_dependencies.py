"""What the code imports is what pyproject.toml declares, and the other way round."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
OURS = {
    "specbench_s2d",
    "tests",
    *(path.stem for folder in ("benchmarks", "docs") for path in (ROOT / folder).glob("*.py")),
}
# Declared, and imported by a library of ours in our stead.
INDIRECT = {
    "protobuf": "transformers reads sentencepiece's description of a tokenizer.model with it",
    "sentencepiece": "transformers' tokenizers read a tokenizer.model with it",
}


def names(requirements: Iterable[str]) -> set[str]:
    """Distributions by their canonical name; of an extra of our own, what it holds."""
    found = set()
    for requirement in map(Requirement, requirements):
        if requirement.name == PROJECT["name"]:
            found |= names(line for extra in requirement.extras for line in EXTRAS[extra])
        else:
            found.add(canonicalize_name(requirement.name))
    return found


def modules(tree: ast.AST) -> Iterator[str]:
    """Every module that a file imports, inside functions and by `import_module` too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (word.value for word in node.args if isinstance(word, ast.Constant))


@cache
def imported(folder: str) -> dict[str, str]:
    """Distribution → a file of `folder` that imports it; a module that is not installed stands for itself."""
    owners = packages_distributions()
    found = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        for module in modules(ast.parse(path.read_text(encoding="utf-8"))):
            top = module.split(".")[0]
            if top not in sys.stdlib_module_names | OURS:
                found[canonicalize_name(owners.get(top, [top])[0])] = str(path.relative_to(ROOT))
    return found


def test_every_import_of_the_package_is_declared() -> None:
    found = imported("specbench_s2d")
    assert len(found) > 20
    declared = names(PROJECT["dependencies"]) | names(
        line for extra, lines in EXTRAS.items() if extra != "dev" for line in lines
    )
    assert not {name: path for name, path in found.items() if name not in declared}


@pytest.mark.parametrize("folder", ["tests", "benchmarks"])
def test_every_other_import_comes_with_the_dev_extra(folder: str) -> None:
    declared = names([*PROJECT["dependencies"], *EXTRAS["dev"]])
    assert not {name: path for name, path in imported(folder).items() if name not in declared}


def test_every_dependency_is_imported() -> None:
    used = imported("specbench_s2d").keys() | INDIRECT.keys()
    declared = names(PROJECT["dependencies"])
    assert declared - used == set()
    assert INDIRECT.keys() <= declared - imported("specbench_s2d").keys()  # the list holds nothing that is imported


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_every_extra_has_code_behind_it_and_is_part_of_dev(extra: str) -> None:
    assert names(EXTRAS[extra]) <= names(EXTRAS["dev"])
    assert extra == "dev" or names(EXTRAS[extra]) <= imported("specbench_s2d").keys()


def test_every_requirement_is_pinned_for_the_tests() -> None:
    pins = {canonicalize_name(line.split("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert names([*PROJECT["dependencies"], *EXTRAS["dev"]]) <= pins
