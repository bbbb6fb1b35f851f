"""Compiles and loads the device guard, once a process."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch

_SOURCE = Path(__file__).with_name("guard.cpp")


def why_not_here() -> str | None:
    """Why the rehearsed device has no place here; None where it has."""
    return "torch's CUDA build is here: the rehearsal stands in for CUDA on a CPU build" if torch.version.cuda else None


def why_no_guard() -> str | None:
    """Why the device guard cannot be had; None where it can."""
    return None if shutil.which("g++") else "no g++: the rehearsed device needs a device guard compiled"


@cache
def load_guard() -> ctypes.CDLL:
    """The guard; it stays registered for the life of the process, where nothing asks for it without a CUDA tensor."""
    root = Path(torch.__file__).parent
    key = hashlib.sha256(_SOURCE.read_bytes() + torch.__version__.encode() + str(root).encode()).hexdigest()[:16]
    built = Path(tempfile.gettempdir()) / f"specbench-rehearsal-{key}.so"
    if not built.exists():
        with tempfile.TemporaryDirectory(dir=built.parent) as folder:
            made = Path(folder) / built.name
            command = ["g++", "-std=c++20", "-fPIC", "-shared", f"-I{root / 'include'}", str(_SOURCE), "-o", str(made)]
            subprocess.run([*command, f"-L{root / 'lib'}", "-lc10"], check=True)
            made.replace(built)
    return ctypes.CDLL(str(built))
