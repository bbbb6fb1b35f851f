"""The table that `gpu.py` fills: its rows and sets of rows, and the file it stands in, whole after every row."""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gpu_setting import Figures, Setting

COMPILE = "SPECBENCH_COMPILE"
NOT_BEGUN, BEGUN, MEASURED, FAILED, LEFT_OUT = "not begun", "begun", "measured", "failed", "left out"
NOT_HERE = "cannot be here"
LIBRARIES = ("torch", "transformers", "triton", "safetensors", "numpy")


@dataclass(frozen=True)
class Row:
    """One line: `work` is `module:function`, loaded where it runs; `bound` is what to reach, from above where `most`.
    None: a row without such a figure."""

    name: str
    what: str
    work: str
    bound: float | None
    most: bool
    seconds: float

    @property
    def measure(self) -> Callable[[Setting], Figures]:
        module, _, function = self.work.partition(":")
        found: Callable[[Setting], Figures] = getattr(importlib.import_module(module), function)
        return found

    def reached(self, value: float | None) -> bool | None:
        if value is None or self.bound is None:
            return None
        return value <= self.bound if self.most else value >= self.bound

    def begin(self) -> Figures:
        bound = None if self.bound is None else f"{'<=' if self.most else '>='} {self.bound:g}"
        empty: Figures = dict.fromkeys(("value", "reached", "error", "seconds"))
        return {"row": self.name, "what": self.what, "to_reach": bound, "state": NOT_BEGUN, **empty, "engines": {}}


@dataclass(frozen=True)
class RowSet:
    """Rows measured in one environment. `compile`: what `SPECBENCH_COMPILE` is, None for what was given. `alone`: each
    row in a process of its own."""

    name: str
    rows: Sequence[Row]
    compile: str | None = None
    alone: bool = False
    needs_compiling: bool = False

    def why_not_here(self, device: str) -> str | None:
        """Why there is nothing to measure; None where there is."""
        if not self.needs_compiling:
            return None
        if os.environ.get(COMPILE) == "0":
            return f"{COMPILE}=0 was given"
        if not device.startswith("cuda"):
            return f"layers are compiled on a GPU alone, not on {device}"
        return None if importlib.util.find_spec("triton") else "triton is not installed"

    def environment(self) -> dict[str, str]:
        return os.environ | ({} if self.compile is None else {COMPILE: self.compile})


class Table:
    """The file: every row of every set from the start on, each with its state. Written to a file beside it and renamed,
    so that whoever stops the measurement finds it whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.facts: Figures = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def plan(self, setting: Figures, sets: Sequence[RowSet], device: str, minutes: float) -> None:
        """Start anew: every row, not begun, or with the reason why it cannot be on this device."""
        planned = {}
        for one in sets:
            why = one.why_not_here(device)
            not_here = {} if why is None else {"state": NOT_HERE, "error": why}
            planned[one.name] = {"compile": one.compile, "rows": [row.begin() | not_here for row in one.rows]}
        self.facts = {"started_unix_s": round(time.time()), "machine": {}, "minutes": minutes, "setting": setting}
        self.facts["sets"] = planned
        self.write()

    def row(self, name: str, row: str) -> Figures:
        found: Figures = next(figures for figures in self.facts["sets"][name]["rows"] if figures["row"] == row)
        return found

    def rows(self, *states: str, of: str | None = None) -> list[Figures]:
        """The rows in one of these states, of one set or of all."""
        sets = self.facts["sets"] if of is None else {of: self.facts["sets"][of]}
        return [row for one in sets.values() for row in one["rows"] if row["state"] in states]

    def put(self, name: str, row: str, **figures: Any) -> None:
        found = self.row(name, row)
        found.pop("stops_unix_s", None)
        found.update(figures)
        self.write()

    def reload(self) -> None:
        """Take over what another process wrote."""
        self.facts = json.loads(self.path.read_text(encoding="utf-8"))

    def write(self) -> None:
        write_whole(self.path, self.facts)


def write_whole(path: Path, facts: Figures) -> None:
    """Write JSON so that a reader finds the old file or the new one, never a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.partial")
    beside.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    beside.replace(path)


def machine(device: str) -> Figures:
    """The card, its driver, and versions; what is not there is None."""
    facts: Figures = {"device": device, **{name: _version(name) for name in LIBRARIES}}
    facts |= {"gpu": None, "driver": None, "cuda": None}
    if not device.startswith("cuda"):
        return facts
    import torch

    found = torch.cuda.get_device_properties(device)
    facts |= {"gpu": found.name, "memory_bytes": found.total_memory, "processors": found.multi_processor_count}
    return facts | {"capability": f"{found.major}.{found.minor}", "cuda": torch.version.cuda, **_driver()}


def _driver() -> Figures:
    """The driver's version by NVML (NVIDIA's management library), or why it is not known."""
    try:
        from specbench_s2d.measure.nvml import opened

        with opened() as nvml:
            return {"driver": nvml.driver()}
    except Exception as error:  # no package, no library, no permission: the figures are wanted all the same
        return {"driver": None, "driver_reason": f"{type(error).__name__}: {error}"}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
