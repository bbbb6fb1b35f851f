"""The house rules that ruff, mypy and import-linter do not check (`make check` runs those)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE_FOLDERS = ("specbench_s2d", "tests", "benchmarks")
DOCUMENTED = ("analysis", "decoding", "exchange", "measure", "models", "runs")
LONGEST_FUNCTION = 70
LONGEST_FILE = 450


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (n for n in ast.walk(tree_of(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def imported(path: Path) -> Iterator[str]:
    """Top-level names of everything that a file imports, inside functions too."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


def test_the_tree_is_read() -> None:
    """Guards the other tests: an empty listing would pass them all."""
    assert len(python_files("specbench_s2d")) > 100
    assert "torch" in imported(ROOT / "specbench_s2d" / "models" / "base.py")


def test_decoding_reads_and_writes_no_files() -> None:
    files = {"csv", "io", "json", "os", "pathlib", "tomllib"}
    wrong = [(path.name, files & set(imported(path))) for path in python_files("specbench_s2d/decoding")]
    assert not [found for found in wrong if found[1]]


def test_the_command_line_starts_without_torch() -> None:
    """`--help` and a mistyped option answer at once: torch and transformers load when a command needs them."""
    code = "import sys, specbench_s2d.cli.main; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_functions_fit_a_screen() -> None:
    lengths = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in python_files(*SOURCE_FOLDERS)
        for node in functions(path)
    }
    assert not {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION}


def test_files_are_read_at_one_go() -> None:
    lengths = {str(path): path.read_text(encoding="utf-8").count("\n") for path in python_files(*SOURCE_FOLDERS)}
    assert not {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE}


@pytest.mark.parametrize("part", DOCUMENTED)
def test_public_names_are_documented(part: str) -> None:
    """Functions and classes at the top of a module, and the module itself where it holds any code."""
    bare = []
    for path in python_files(f"specbench_s2d/{part}"):
        tree = tree_of(path)
        named = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and not n.name.startswith("_")]
        bare += [f"{path.relative_to(ROOT)}:{n.lineno} {n.name}" for n in named if not ast.get_docstring(n)]
        if tree.body and not ast.get_docstring(tree):
            bare.append(f"{path.relative_to(ROOT)}: the module")
    assert not bare, "without a docstring:\n" + "\n".join(bare)
