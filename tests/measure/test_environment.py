"""The manifest's environment: what is known, and why what is not known is not."""

from __future__ import annotations

import json
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from specbench_s2d import __version__
from specbench_s2d.measure import environment as module
from specbench_s2d.measure.environment import environment
from tests.measure.nvml import replay_nvml


def test_code_libraries_and_machine_are_named() -> None:
    facts = environment("cpu")
    assert facts["code"]["version"] == __version__
    assert facts["libraries"]["torch"] == version("torch")  # a CUDA build calls itself 2.13.0+cu130
    assert all(facts["libraries"].values())
    assert facts["cpu"]["threads"] == torch.get_num_threads()
    assert facts["cpu"]["cores"] >= facts["cpu"]["usable_cores"] >= 1
    assert facts["cpu"]["other_load_cores"] >= 0
    assert 0 < facts["memory"]["available_bytes"] < facts["memory"]["total_bytes"]
    assert facts["gpu"] == {"name": None, "reason": "the run used cpu"}
    assert json.loads(json.dumps(facts)) == facts


def test_a_gpus_load_is_read_before_its_clocks_are_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = replay_nvml(monkeypatch, nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=len(woken)))
    woken: list[str] = []
    monkeypatch.setattr("specbench_s2d.measure.gpu._wake", lambda device: woken.append(str(device)))
    facts = environment("cuda:0")["gpu"]
    assert len(asked) == 2 and woken == ["cuda:0"]
    assert (facts["utilization_percent"], facts["sm_clock_mhz"], facts["name"]) == (0, 1755, "NVIDIA H100")


def test_a_library_that_is_not_installed_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LIBRARIES", ("no-such-library", "torch"))
    assert environment("cpu")["libraries"] == {"no-such-library": None, "torch": version("torch")}


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
