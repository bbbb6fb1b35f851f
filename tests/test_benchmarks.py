"""The scripts of benchmarks/ load: what they import of the package is there."""

from __future__ import annotations

import importlib
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_a_script_finds_what_it_imports(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    assert importlib.import_module(name).__doc__


def test_mutations_are_drawn_by_their_seed_and_change_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    mutations = importlib.import_module("mutations")
    value = {"a": [1, {"b": "text"}], "c": 2.5, "d": None}
    texts = [mutations.to_json(mutations.changed_value(value, random.Random(n))) for n in range(200)]
    assert texts == [mutations.to_json(mutations.changed_value(value, random.Random(n))) for n in range(200)]
    assert len(set(texts)) > 100 and value == {"a": [1, {"b": "text"}], "c": 2.5, "d": None}
    content = b'{"a": 1}\n{"a": 2}\n'
    files = [mutations.changed_bytes(content, random.Random(n)) for n in range(200)]
    assert files == [mutations.changed_bytes(content, random.Random(n)) for n in range(200)]
    assert sum(file != content for file in files) > 150
    words = [mutations.changed_words(["run", "a"], ["--out"], random.Random(n)) for n in range(50)]
    assert all(line[0] == "run" for line in words) and len(set(map(tuple, words))) > 30


@pytest.mark.slow  # a process that loads torch and makes three small runs first
def test_the_fuzzer_finds_nothing_in_a_few_inputs_of_every_kind(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(FOLDER / "fuzz.py"),
        "--cases",
        "64",
        "--seed",
        "1",
        "--out",
        str(tmp_path / "found"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=FOLDER.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found").read_text(encoding="utf-8"))
    assert found["cases"] == 64 and found["faults"] == 0 and len(found["outcomes"]) == 8
