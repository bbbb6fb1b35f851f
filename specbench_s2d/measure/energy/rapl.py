"""Processor packages, by the energy counters that Linux shows as files (RAPL, running average power limit)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specbench_s2d.measure.energy.meter import MeterError, Reading
from specbench_s2d.measure.energy.trace import SampledMeter

POWERCAP = Path("/sys/class/powercap")
MOST_WATTS = 1000.0
"""More than any one package draws, and so how soon a counter could wrap around."""
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

    def update(self, now_s: float) -> float:
        """Joules since the first reading. One wrap-around since the last reading is corrected; raises `MeterError`
        where there could have been two."""
        raw_uj, gap_s = _number(self.file), now_s - self.read_at_s
        if self.last_uj is not None:
            if gap_s * MOST_WATTS * 1e6 >= self.range_uj:
                raise MeterError(
                    f"{self.name}: {gap_s:.0f} s between two readings of a counter that may wrap more than once in "
                    f"that time (it holds {self.range_uj / 1e6:,.0f} J)"
                )
            used_uj = raw_uj - self.last_uj
            self.total_uj += used_uj if used_uj >= 0 else used_uj + self.range_uj
        self.last_uj, self.read_at_s = raw_uj, now_s
        return self.total_uj / 1e6


class RaplMeter(SampledMeter):
    """All processor packages, summed, with other processes' work on them.

    Packages have a counter and no sensor of power, so there is no trace to compare it with; the sampler's thread reads
    the counters often enough to notice each wrap-around. Raises `MeterError` where a package cannot be read.
    """

    def __init__(self, root: Path = POWERCAP, **sampling: Any) -> None:
        self._packages = _find(root)
        super().__init__("rapl", tuple(package.name for package in self._packages), None, **sampling)
        self.counters_j()

    def start(self) -> None:
        """Open the window, and forget what was counted before it."""
        for package in self._packages:
            package.last_uj, package.total_uj = None, 0
        super().start()

    def stop(self) -> Reading:
        """Close the window; the reading has no samples, and the reason."""
        self._trace_reason = self._trace_reason or "processor packages count energy and have no sensor of power"
        return super().stop()

    def close(self) -> None:
        """Nothing to close: files are open only while they are read."""

    def counters_j(self) -> tuple[float, ...]:
        """Joules since the window opened, by package."""
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
