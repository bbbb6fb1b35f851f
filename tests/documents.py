"""The repository's places and documents, for the tests that read them."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DEMO_RUN = ROOT / "results" / "baselines" / "demo"
OLD_RUN = ROOT / "tests" / "runs" / "schema_1"
"""The demo grid of release 0.1.0: one launch, two questions a suite, records of schema 1, packed."""
OLD_RECORDS = OLD_RUN / "records.jsonl.gz"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


@cache
def generator() -> ModuleType:
    """docs/generate.py."""
    sys.path.insert(0, str(ROOT / "docs"))
    return importlib.import_module("generate")


@cache
def commands() -> dict[str, Any]:
    """Every command by what a person types."""
    found: dict[str, Any] = generator().commands()
    return found


def blocks(text: str, language: str) -> list[str]:
    """The fenced code blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def command_lines(script: str) -> list[list[str]]:
    """The words after `specbench-s2d` of each such command in a script; a shell's own marks end a command."""
    lines = script.replace("\\\n", " ").splitlines()
    found = [match[1] for line in lines if (match := re.match(r"\s*specbench-s2d( .*)", line))]
    return [shlex.split(re.sub(r"\s*(\|\||&&|>|\s#).*", "", line)) for line in found]


def check_words(words: list[str]) -> None:
    """Parse a command as the program would; raises what a person would be shown."""
    both = " ".join(words[:2])
    name = both if both in commands() else words[0]
    commands()[name].make_context(name, list(words[len(name.split()) :]))
