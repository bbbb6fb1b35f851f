"""The environment of a run, as its manifest records it: code, libraries, processor and GPU."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from specbench_s2d import __version__
from specbench_s2d.measure.attention import sdpa_facts
from specbench_s2d.measure.conditions import observe
from specbench_s2d.measure.gpu import GpuProbe
from specbench_s2d.measure.machine import cpu_facts, host_facts, python_facts, settings, torch_facts

_LIBRARIES = (
    "torch",
    "transformers",
    "tokenizers",
    "sentencepiece",
    "safetensors",
    "numpy",
    "pandas",
    "psutil",
    "nvidia-ml-py",
)


def environment(device: str, gpu: GpuProbe | None = None) -> dict[str, Any]:
    """Code, libraries, machine and its load; what cannot be read is None, with the reason beside it.

    To be called before this process works on the device, for its load would count as that of others. `gpu`: what reads
    the GPU, if not a probe of `device`.
    """
    gpu = gpu or GpuProbe(device)
    on_cpu, on_gpu = cpu_facts(), gpu.facts()
    now = observe(device, gpu)
    return {
        **software_facts(),
        "python": platform.python_version(),
        "python_build": python_facts(),
        "torch": torch_facts(),
        "attention": sdpa_facts(device),
        "settings": settings(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "host": host_facts(),
        **now,
        "cpu": {**on_cpu, **now["cpu"]},
        "gpu": {**on_gpu, **now["gpu"], "name": on_gpu["name"]},
    }


def software_facts() -> dict[str, Any]:
    """The code and the libraries: the part of an environment that needs no device."""
    return {
        "code": {"version": __version__, "commit": commit_of(Path(__file__).resolve().parents[2])},
        "libraries": {name: library_version(name) for name in _LIBRARIES},
    }


def device_id(facts: Mapping[str, Any]) -> str:
    """What tells the device of an `environment` from others: the GPU's UUID, or of a processor a hash of its host."""
    if uuid := (facts.get("gpu") or {}).get("uuid"):
        return str(uuid)
    return f"cpu:{hashlib.sha256(platform.node().encode()).hexdigest()[:12]}"


def library_version(name: str) -> str | None:
    """The installed version of a distribution; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def commit_of(root: Path) -> str | None:
    """A checkout's commit, with `+` when files differ from it; None outside a checkout, or without git."""
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
