"""The house rules, read from the source tree: which way imports point, how long things are, what has a docstring."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from specbench_s2d import registry

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "specbench_s2d"
SOURCE_FOLDERS = ("specbench_s2d", "tests", "benchmarks")

# The corridor: suites and models, then decoding, bench, analysis. A module imports from its own place and from places
# before it. `training` makes checkpoints, so it stands beside `models`; `measure` times what `decoding` does.
CORRIDOR = ("", "suites", "models", "training", "decoding", "measure", "bench", "analysis", "cli")
# Neighbours that must not lean on each other, and what each part of the house must not know at all.
FORBIDDEN = {
    "suites": ("models", "training"),
    "models": ("suites",),
    "decoding": ("suites", "training"),
    "measure": ("suites", "training"),
    "bench": ("training",),
    "analysis": ("models", "training", "decoding", "measure"),
}
# Text alone, without torch: what pools the scores of answers is the library that scored them.
ALLOWED = {("analysis", "specbench_s2d.measure.quality")}
HEAVY = {"torch", "transformers"}
# `training` builds and saves checkpoints of its own with transformers' classes; it decodes nothing.
MAY_IMPORT_TRANSFORMERS = ("models", "training")
DOCUMENTED = ("analysis", "decoding", "models")
LONGEST_FUNCTION = 70
LONGEST_FILE = 450


@dataclass(frozen=True)
class Import:
    """One import statement: `module` as a dotted name, where it stands, and whether loading the file runs it."""

    module: str
    place: str
    at_load: bool


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    """The part of the package a module lies in: `models` for specbench_s2d.models.chat, '' for the foundations."""
    parts = module.split(".")[1:]
    return parts[0] if parts and parts[0] in CORRIDOR else ""


def imports_of(tree: ast.Module, module: str, place: str) -> list[Import]:
    """Every import of a file, deferred ones and those for type checkers included (`at_load` tells them apart)."""
    found: list[Import] = []

    def visit(node: ast.AST, at_load: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, f"{place}:{node.lineno}", at_load) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{place}:{node.lineno}: imports are absolute in this package"
            base = node.module or ""
            # `from package import name` may name a module, which then is what is imported.
            names = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules() else base for alias in node.names]
            found.extend(Import(name, f"{place}:{node.lineno}", at_load) for name in names)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            at_load = False
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                visit(child, False)
            for child in node.orelse:
                visit(child, at_load)
            return
        for child in ast.iter_child_nodes(node):
            visit(child, at_load)

    visit(tree, True)
    return found


@cache
def modules() -> dict[str, Path]:
    return {module_name(path): path for path in python_files("specbench_s2d")}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def imports(module: str) -> tuple[Import, ...]:
    path = modules()[module]
    return tuple(imports_of(tree_of(path), module, str(path.relative_to(ROOT))))


def against_the_corridor(module: str, imported: str) -> bool:
    """Whether `module` may not import `imported` (both of this package)."""
    here, there = room(module), room(imported)
    if (here, imported) in ALLOWED:
        return False
    return CORRIDOR.index(there) > CORRIDOR.index(here) or there in FORBIDDEN.get(here, ())


def loaded_with(module: str) -> Iterator[Import]:
    """Everything that importing `module` imports, through this package's own modules and their packages."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        parents = [".".join(name.split(".")[:i]) for i in range(1, name.count(".") + 2)]
        for part in parents:
            if part in seen or part not in modules():
                continue
            seen.add(part)
            for found in imports(part):
                if found.at_load:
                    yield found
                    waiting.append(found.module)


def definitions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (n for n in ast.walk(tree_of(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def tracked_files() -> list[Path]:
    """What git tracks or would track; outside a checkout (a source archive), every file of the source folders."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        return [path for folder in SOURCE_FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def text_of(path: Path) -> str | None:
    """The file's text; None for what is not text (weights, pictures)."""
    if path.suffix in {".safetensors", ".png", ".parquet", ".gz"}:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def test_the_tree_is_read() -> None:
    """Guards the other tests: an empty listing would pass them all."""
    assert {"specbench_s2d.errors", "specbench_s2d.bench.records", "specbench_s2d.models"} <= modules().keys()
    assert any(found.module == "specbench_s2d.errors" for found in imports("specbench_s2d.registry"))


@pytest.mark.parametrize(
    ("module", "imported", "against"),
    [
        ("specbench_s2d.decoding.loop", "specbench_s2d.suites", True),
        ("specbench_s2d.decoding.loop", "specbench_s2d.bench.records", True),
        ("specbench_s2d.decoding.loop", "specbench_s2d.models.base", False),
        ("specbench_s2d.analysis.tidy", "specbench_s2d.bench.records", False),
        ("specbench_s2d.analysis.tidy", "specbench_s2d.decoding.loop", True),
        ("specbench_s2d.analysis.grades", "specbench_s2d.measure.quality", False),
        ("specbench_s2d.analysis.grades", "specbench_s2d.measure.scoring", True),
        ("specbench_s2d.errors", "specbench_s2d.models.chat", True),
        ("specbench_s2d.cli.run", "specbench_s2d.bench.runner", False),
    ],
)
def test_the_corridor_rule_itself(module: str, imported: str, against: bool) -> None:
    assert against_the_corridor(module, imported) is against


def test_every_import_points_back_along_the_corridor() -> None:
    wrong = [
        f"{found.place} imports {found.module}"
        for module in modules()
        # The package's own face (`from specbench_s2d import load_model`) looks into every room.
        if module not in ("specbench_s2d", "specbench_s2d.__main__")
        for found in imports(module)
        if found.module.split(".")[0] == "specbench_s2d" and against_the_corridor(module, found.module)
    ]
    assert not wrong, "\n".join(wrong)


def test_bench_names_no_method() -> None:
    """The bench asks the registry for decoders; it knows none by name."""
    kinds = (registry.decoders, registry.drafters, registry.verifiers)
    methods = {path.split(":")[0] for kind in kinds for path in kind.paths().values()}
    wrong = [
        f"{found.place} imports {found.module}"
        for module in modules()
        if room(module) == "bench"
        for found in imports(module)
        if found.module in methods
    ]
    assert not wrong, "\n".join(wrong)


def test_decoding_knows_no_files() -> None:
    wrong = [
        f"{found.place} imports {found.module}"
        for module in modules()
        if room(module) == "decoding"
        for found in imports(module)
        if found.module.split(".")[0] in {"csv", "io", "json", "os", "pathlib", "tomllib"}
    ]
    assert not wrong, "\n".join(wrong)


def test_analysis_needs_no_torch() -> None:
    """Neither by its own imports, deferred ones included, nor by loading any module that it loads."""
    analysis = [module for module in modules() if room(module) == "analysis"]
    own = [found for module in analysis for found in imports(module)]
    loaded = [found for module in analysis for found in loaded_with(module)]
    wrong = sorted(
        {f"{found.place} imports {found.module}" for found in own + loaded if found.module.split(".")[0] in HEAVY}
    )
    assert not wrong, "\n".join(wrong)


def test_only_models_and_training_import_transformers() -> None:
    wrong = [
        f"{found.place} imports {found.module}"
        for module in modules()
        if room(module) not in MAY_IMPORT_TRANSFORMERS
        for found in imports(module)
        if found.module.split(".")[0] == "transformers"
    ]
    assert not wrong, "\n".join(wrong)


def test_the_command_line_starts_without_torch() -> None:
    """`--help` and a mistyped option answer at once: torch and transformers load when a command needs them."""
    wrong = sorted(
        {
            f"{found.place} imports {found.module}"
            for found in loaded_with("specbench_s2d.cli.main")
            if found.module.split(".")[0] in HEAVY
        }
    )
    assert not wrong, "\n".join(wrong)


def test_functions_fit_a_screen() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {(node.end_lineno or 0) - node.lineno + 1} lines"
        for path in python_files(*SOURCE_FOLDERS)
        for node in definitions(path)
        if (node.end_lineno or 0) - node.lineno + 1 > LONGEST_FUNCTION
    ]
    assert not long, f"longer than {LONGEST_FUNCTION} lines:\n" + "\n".join(long)


def test_files_fit_a_sitting() -> None:
    lengths = {path: path.read_text(encoding="utf-8").count("\n") for path in python_files(*SOURCE_FOLDERS)}
    long = [f"{path.relative_to(ROOT)}: {lines} lines" for path, lines in lengths.items() if lines > LONGEST_FILE]
    assert not long, f"longer than {LONGEST_FILE} lines:\n" + "\n".join(long)


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


# Spelt in pieces, so that this file does not find itself.
MACHINE_FOLDERS = "|".join(["wo" + "rk", "ho" + "me", "ro" + "ot", "t" + "mp"])
MACHINE_PATH = re.compile(r"(?<![\w.~})\]>-])/(?:" + MACHINE_FOLDERS + r")(?:/\w|\b(?!/))")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see /" + "work/main/x.py", True),
        ('out = "/' + 'tmp"', True),
        ("cd /" + "root", True),
        ("https://example.org/" + "home/page", False),
        ("either/" + "work or play", False),
        ("$HOME/" + "work/x", False),
    ],
)
def test_machine_paths_are_told_from_other_slashes(text: str, found: bool) -> None:
    assert bool(MACHINE_PATH.search(text)) is found


def test_no_file_names_a_path_of_one_machine() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in tracked_files()
        if (text := text_of(path)) is not None and MACHINE_PATH.search(text)
        for number, line in enumerate(text.splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]
    assert not wrong, "\n".join(wrong)
