"""Processor packages, by the energy counters that Linux shows as files (RAPL, running average power limit)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from specbench_s2d.measure.energy.meter import MeterError
from specbench_s2d.measure.energy.trace import SampledMeter

POWERCAP = Path("/sys/class/powercap")
MOST_WATTS = 1000.0
"""More than any one package draws, and so how soon a counter could wrap around."""
_UPDATE_S = 0.1  # a reading may be as old as this
# Whole zones only; `intel-rapl-mmio:N` counts the same package again, `intel-rapl:N:M` a part of it.
_ZONE = re.compile(r"(?:intel|amd)-rapl:\d+")


@dataclass
class _Package:
    """One package's counter without its wrap-arounds: `total_uj` grows by what was used since the last reading."""

    name: str
    file: Path
    range_uj: int
    last_uj: int | None = None
    read_at_s: float = 0.0
    total_uj: int = 0
    broken: str | None = None

    def restart(self) -> None:
        """Forget what was counted."""
        self.last_uj, self.total_uj, self.broken = None, 0, None

    def update(self, now_s: float) -> float:
        """Joules since the first reading. One wrap-around since the last reading is corrected.

        Raises `MeterError`, from then on until `restart`, where there could have been two, or where the counter moved
        further than any package does: it was reset.
        """
        raw_uj = _number(self.file)
        if self.last_uj is not None:
            self._add(raw_uj, now_s - self.read_at_s)
        if self.broken:
            raise MeterError(self.broken)
        self.last_uj, self.read_at_s = raw_uj, now_s
        return self.total_uj / 1e6

    def _add(self, raw_uj: int, gap_s: float) -> None:
        assert self.last_uj is not None
        moved_uj = raw_uj - self.last_uj
        used_uj = moved_uj if moved_uj >= 0 else moved_uj + self.range_uj
        if gap_s * MOST_WATTS * 1e6 >= self.range_uj:
            self.broken = self.broken or (
                f"{self.name}: {gap_s:.0f} s between two readings of a counter that may wrap more than once in "
                f"that time (it holds {self.range_uj / 1e6:,.0f} J)"
            )
        elif not 0 <= used_uj <= (gap_s + _UPDATE_S) * MOST_WATTS * 1e6:
            self.broken = self.broken or (
                f"{self.name}: the counter went from {self.last_uj / 1e6:,.3f} to {raw_uj / 1e6:,.3f} J in "
                f"{gap_s:.2f} s, further than a package draws: it was reset"
            )
        self.total_uj += used_uj


class RaplMeter(SampledMeter):
    """All processor packages, summed, with other processes' work on them.

    Packages have a counter and no sensor of power, so there is no trace to compare it with; the sampler's thread reads
    the counters often enough to notice each wrap-around. Raises `MeterError` where a package cannot be read.
    """

    no_trace = "processor packages count energy and have no sensor of power"

    def __init__(self, root: Path = POWERCAP, **sampling: Any) -> None:
        self._packages, self._lock = _find(root), Lock()
        super().__init__("rapl", tuple(package.name for package in self._packages), None, **sampling)
        self.counters_j()

    def start(self) -> None:
        """Open the window, and forget what was counted before it."""
        with self._lock:
            for package in self._packages:
                package.restart()
        super().start()

    def counters_j(self) -> tuple[float, ...]:
        """Joules since the window opened, by package."""
        with self._lock:
            now_s = self.clock()
            return tuple(package.update(now_s) for package in self._packages)

    def sample(self) -> None:
        """Read the counters, so that no wrap-around is missed."""
        self.counters_j()


def _find(root: Path) -> list[_Package]:
    zones = sorted(zone for zone in root.glob("*-rapl:*") if _ZONE.fullmatch(zone.name))
    packages = [
        _Package(name, zone / "energy_uj", _number(zone / "max_energy_range_uj"))
        for zone in zones
        if (name := _text(zone / "name")).startswith("package")  # others (psys) overlap with them
    ]
    if not packages:
        raise MeterError(f"{root}: the kernel shows no processor package's energy there")
    return packages


def _number(file: Path) -> int:
    text = _text(file)
    if not text.isdigit():
        raise MeterError(f"{file}: holds {text!r}, not a count")
    return int(text)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except PermissionError as error:
        raise MeterError(f"{file}: no permission to read it; as root, chmod a+r {file}") from error
    except OSError as error:
        raise MeterError(f"{file}: {error.strerror}") from error
