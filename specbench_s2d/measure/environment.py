"""What a run ran on: everything the manifest records of code, libraries, processor and GPU."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from specbench_s2d import __version__

_LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pandas", "nvidia-ml-py")


def environment(device: str) -> dict[str, Any]:
    """Code, libraries, machine; what cannot be read is None, with the reason beside it."""
    return {
        "code": {"version": __version__, "commit": _commit()},
        "libraries": {name: _library(name) for name in _LIBRARIES},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": {
            "model": cpu_model(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "capability": torch.backends.cpu.get_cpu_capability(),
        },
        "gpu": gpu(device),
    }


def cpu_model() -> str | None:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or None
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else None


def gpu(device: str) -> dict[str, Any]:
    """The run's GPU by NVML, found by its UUID; or why there is none."""
    if not device.startswith("cuda"):
        return {"name": None, "reason": f"the run used {device}"}
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return {"name": torch.cuda.get_device_name(device), "reason": f"NVML: {error}"}
    try:
        return _nvml_facts(str(torch.cuda.get_device_properties(device).uuid))
    except pynvml.NVMLError as error:  # NVML does not know the device
        return {"name": torch.cuda.get_device_name(device), "reason": f"NVML: {error}"}
    finally:
        pynvml.nvmlShutdown()


def _nvml_facts(uuid: str) -> dict[str, Any]:
    import pynvml

    handle = pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}")
    readings = {
        "name": lambda: pynvml.nvmlDeviceGetName(handle),
        "uuid": lambda: pynvml.nvmlDeviceGetUUID(handle),
        "driver": pynvml.nvmlSystemGetDriverVersion,
        "power_limit_w": lambda: pynvml.nvmlDeviceGetPowerManagementLimit(handle) / 1000,
        "sm_clock_mhz": lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
        "memory_clock_mhz": lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM),
        "temperature_c": lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
        "utilization_percent": lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu,
    }
    facts: dict[str, Any] = {}
    for name, read in readings.items():
        try:
            facts[name] = read()
        except pynvml.NVMLError as error:  # a virtual or MIG device may refuse any of them
            facts[name], facts[f"{name}_reason"] = None, str(error)
    return facts


def _library(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The checkout's commit, with `+` when files differ from it; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "HEAD")
        return head + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
