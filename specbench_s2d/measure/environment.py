"""What a run ran on: everything the manifest records of code, libraries, processor and GPU."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from specbench_s2d import __version__
from specbench_s2d.measure.attention import sdpa_facts
from specbench_s2d.measure.conditions import observe
from specbench_s2d.measure.gpu import gpu_facts
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


def environment(device: str) -> dict[str, Any]:
    """Code, libraries, machine, and how busy it is; what cannot be read is None, with the reason beside it.

    Ask before this process works on the device: its load is taken for that of others.
    """
    cpu, gpu = cpu_facts(), gpu_facts(device)
    now = observe(device)
    return {
        "code": {"version": __version__, "commit": _commit()},
        "libraries": {name: _library(name) for name in _LIBRARIES},
        "python": platform.python_version(),
        "python_build": python_facts(),
        "torch": torch_facts(),
        "attention": sdpa_facts(device),
        "settings": settings(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "host": host_facts(),
        **now,
        "cpu": {**cpu, **now["cpu"]},
        "gpu": {**gpu, **now["gpu"], "name": gpu["name"]},
    }


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
