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


def refuse(*arguments: Any) -> Any:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


def replay_nvml(monkeypatch: pytest.MonkeyPatch, **changes: Callable[..., Any]) -> list[str]:
    """NVML's answers as an H100 gives them; returns the UUIDs that were asked for."""
    asked: list[str] = []

    def by_uuid(uuid: str) -> str:
        asked.append(uuid)
        return "handle"

    answers: dict[str, Callable[..., Any]] = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetHandleByUUID": by_uuid,
        "nvmlDeviceGetName": lambda handle: "NVIDIA H100",
        "nvmlDeviceGetUUID": lambda handle: asked[-1],
        "nvmlSystemGetDriverVersion": lambda: "550.1",
        "nvmlDeviceGetPowerManagementLimit": lambda handle: 700_000,  # milliwatts
        "nvmlDeviceGetClockInfo": lambda handle, kind: {pynvml.NVML_CLOCK_SM: 1980, pynvml.NVML_CLOCK_MEM: 2619}[kind],
        "nvmlDeviceGetTemperature": lambda handle, kind: 41,
        "nvmlDeviceGetUtilizationRates": lambda handle: type("Rates", (), {"gpu": 3})(),
    }
    for name, answer in {**answers, **changes}.items():
        monkeypatch.setattr(pynvml, name, answer)
    properties = type("Properties", (), {"uuid": "1234-ab"})()
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "H100 by torch")
    return asked


def test_a_gpu_is_found_by_the_uuid_that_torch_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by its index: CUDA_VISIBLE_DEVICES renumbers torch's devices and not NVML's."""
    asked = replay_nvml(monkeypatch)
    facts = gpu("cuda:0")
    assert asked == ["GPU-1234-ab"]
    assert facts == {
        "name": "NVIDIA H100",
        "uuid": "GPU-1234-ab",
        "driver": "550.1",
        "power_limit_w": 700.0,
        "sm_clock_mhz": 1980,
        "memory_clock_mhz": 2619,
        "temperature_c": 41,
        "utilization_percent": 3,
    }


def test_what_a_gpu_does_not_tell_is_none_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    replay_nvml(monkeypatch, nvmlDeviceGetTemperature=refuse)
    facts = gpu("cuda")
    assert facts["temperature_c"] is None
    assert "Not Supported" in facts["temperature_c_reason"]
    assert facts["sm_clock_mhz"] == 1980


def test_without_nvml_the_name_is_torchs_and_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    replay_nvml(monkeypatch, nvmlInit=refuse)
    facts = gpu("cuda")
    assert facts["name"] == "H100 by torch"
    assert facts["reason"].startswith("NVML: ")


def test_a_gpu_that_nvml_does_not_find_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    replay_nvml(monkeypatch, nvmlDeviceGetHandleByUUID=refuse)
    facts = gpu("cuda")
    assert facts["name"] == "H100 by torch"
    assert facts["reason"].startswith("NVML: ")
