"""The manifest's environment: what is known, and why what is not known is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pynvml
import pytest
import torch

from specbench_s2d import __version__
from specbench_s2d.measure import environment as module
from specbench_s2d.measure.environment import environment, gpu


def test_code_libraries_and_machine_are_named() -> None:
    facts = environment("cpu")
    assert facts["code"]["version"] == __version__
    assert facts["libraries"]["torch"] == torch.__version__
    assert all(facts["libraries"].values())
    assert facts["cpu"]["threads"] == torch.get_num_threads()
    assert facts["cpu"]["cores"] >= 1
    assert json.loads(json.dumps(facts)) == facts


def test_without_a_gpu_there_is_a_reason() -> None:
    assert gpu("cpu") == {"name": None, "reason": "the run used cpu"}


def test_a_library_that_is_not_installed_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LIBRARIES", ("no-such-library", "torch"))
    assert environment("cpu")["libraries"] == {"no-such-library": None, "torch": torch.__version__}


def test_changed_files_mark_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"rev-parse": "abc123", "status": " M file.py"}
    monkeypatch.setattr(module, "_git", lambda root, command, *rest: said[command])
    monkeypatch.setattr(module.Path, "exists", lambda path: True)
    assert environment("cpu")["code"]["commit"] == "abc123+"
    said["status"] = ""
    assert environment("cpu")["code"]["commit"] == "abc123"


def test_without_git_the_commit_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_git(*arguments: Any) -> str:
        raise FileNotFoundError("git")

    monkeypatch.setattr(module, "_git", no_git)
    assert environment("cpu")["code"]["commit"] is None
