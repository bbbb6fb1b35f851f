"""The host: its processor, memory, Python and torch, and the load that other processes put on it."""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from specbench_s2d.cgroup import available_bytes, memory_limit_bytes, quota_cores

CPU_FOLDER = Path("/sys/devices/system/cpu")
_CONTAINER_MARKS = {"/.dockerenv": "docker", "/run/.containerenv": "podman"}
_SPIN_S = 0.02
BURST_SHARE = 0.25
"""Of the usable cores: what others use above it disturbs a lap of `LoadWatch`."""
_SETTINGS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OMP_PROC_BIND",
    "KMP_AFFINITY",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_LAUNCH_BLOCKING",
    "PYTORCH_NO_CUDA_MEMORY_CACHING",
)


def cpu_model() -> str | None:
    """The processor's name as the system gives it."""
    names = _cpuinfo("model name")
    return names[0] if names else platform.processor() or None


def cpu_facts(
    cores: Sequence[int] | None = None, find_quota: Callable[[], float | None] = quota_cores
) -> dict[str, Any]:
    """The processor, the `cores` of it that this process may use, and torch's threads on them."""
    cores, quota = usable_cores() if cores is None else cores, find_quota()
    return {
        "model": cpu_model(),
        "cores": os.cpu_count(),
        "physical_cores": psutil.cpu_count(logical=False),
        "usable_cores": len(cores),
        "quota_cores": quota,
        **({} if quota else {"quota_cores_reason": "no cgroup limits this process's CPU time"}),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        **governor(cores),
    }


def usable_cores() -> list[int]:
    """Numbers of the logical cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))  # macOS binds no process to a core


def governor(cores: Iterable[int], folder: Path = CPU_FOLDER) -> dict[str, Any]:
    """The governors (Linux's policies for clock frequencies) of `cores`: `performance`, `powersave` …, by comma."""
    files = [folder / f"cpu{core}" / "cpufreq" / "scaling_governor" for core in cores]
    names = sorted({file.read_text(encoding="utf-8").strip() for file in files if file.is_file()})
    if names:
        return {"governor": ", ".join(names)}
    return {"governor": None, "governor_reason": "the system shows no governor, as in most virtual machines"}


def memory_state() -> dict[str, Any]:
    """Bytes of memory now: in all, the container's limit, what is available, and what is swapped out."""
    limit = memory_limit_bytes()
    return {
        "total_bytes": psutil.virtual_memory().total,
        "limit_bytes": limit,
        **({} if limit else {"limit_bytes_reason": "no cgroup limits this process's memory"}),
        "available_bytes": available_bytes(),
        "swap_used_bytes": psutil.swap_memory().used,
    }


def python_facts() -> dict[str, Any]:
    """How the interpreter was built and started, where that makes Python slow."""
    return {
        "implementation": platform.python_implementation(),
        "debug_build": hasattr(sys, "gettotalrefcount"),
        "dev_mode": sys.flags.dev_mode,
        "traced": sys.gettrace() is not None or sys.getprofile() is not None,
        "sanitizers": sanitizers(str(sysconfig.get_config_var("CONFIG_ARGS")), os.environ.get("LD_PRELOAD", "")),
    }


def sanitizers(configured: str, preloaded: str) -> list[str]:
    """Sanitizers that Python was configured with, or that are loaded before every library."""
    kinds = {"address": "asan", "thread": "tsan", "memory": "msan", "undefined-behavior": "ubsan"}
    return [
        kind
        for kind, library in kinds.items()
        if f"--with-{kind}-sanitizer" in configured or f"lib{library}" in preloaded
    ]


def torch_facts() -> dict[str, Any]:
    """How torch was built, and its settings that trade exactness for speed."""
    return {
        "version": str(torch.__version__),
        "git": torch.version.git_version,
        "debug_build": torch.version.debug,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "mkl": torch.backends.mkl.is_available(),
        "onednn": torch.backends.mkldnn.is_available(),
        "openmp": torch.backends.openmp.is_available(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def settings() -> dict[str, str | None]:
    """The environment variables that set threads and launches; None where not set."""
    return {name: os.environ.get(name) for name in _SETTINGS}


def host_facts() -> dict[str, Any]:
    """Whether this is a container or a virtual machine, where the system shows it."""
    marks = [name for path, name in _CONTAINER_MARKS.items() if Path(path).exists()]
    flags = _cpuinfo("flags")
    return {
        "container": marks[0] if marks else os.environ.get("container"),  # noqa: SIM112 (systemd's name)
        "virtual_machine": "hypervisor" in flags[0].split() if flags else None,
    }


def cpu_times() -> Any:
    """Seconds since the start by logical core, of each kind of work."""
    return psutil.cpu_times(percpu=True)


def cpu_frequencies() -> Any:
    """MHz by logical core, now and at most; one entry for all cores where the system does not distinguish them."""
    return psutil.cpu_freq(percpu=True)


@dataclass(frozen=True)
class CpuReadings:
    """Where a `CpuWatch` reads times and clock frequencies of the cores, and two clocks in seconds: of this process's
    work, and of time as it passes."""

    times: Callable[[], Sequence[Any]] = cpu_times
    frequencies: Callable[[], Sequence[Any]] = cpu_frequencies
    process_s: Callable[[], float] = time.process_time
    now_s: Callable[[], float] = time.monotonic


class CpuWatch:
    """The load that other processes put on the cores that this one may use, from its creation to `state`."""

    def __init__(self, cores: Sequence[int] | None = None, readings: CpuReadings | None = None) -> None:
        self._cores, self._readings = usable_cores() if cores is None else cores, readings or CpuReadings()
        self._began_s = self._readings.now_s()
        self._before, self._own_s = self._busy_and_stolen_s(), self._readings.process_s()

    def state(self) -> dict[str, Any]:
        """Cores of time that others used meanwhile, or that the hypervisor withheld; clock and load average now."""
        return {
            "usable_cores": len(self._cores),
            **self.load(),
            "load_average_1_min": round(os.getloadavg()[0], 2),
            **clocks(self._cores, self._readings.frequencies),
        }

    @property
    def elapsed_s(self) -> float:
        """Seconds since its creation."""
        return self._readings.now_s() - self._began_s

    def load(self) -> dict[str, Any]:
        """Cores of time that others used since its creation, and that the hypervisor withheld; None with a reason."""
        elapsed_s = max(self.elapsed_s, 1e-6)
        after, own_s = self._busy_and_stolen_s(), self._readings.process_s() - self._own_s
        if self._before is None or after is None:
            names, reason = ("other_load_cores", "stolen_cores"), "the system does not show the cores' times"
            return {**dict.fromkeys(names), **{f"{name}_reason": reason for name in names}}
        busy_s, stolen_s = (now - then for now, then in zip(after, self._before, strict=True))
        return {
            "other_load_cores": round(max(0.0, (busy_s - own_s) / elapsed_s), 3),
            "stolen_cores": round(stolen_s / elapsed_s, 3),
        }

    def _busy_and_stolen_s(self) -> tuple[float, float] | None:
        """Seconds since the start that the cores worked, and that they waited for the hypervisor; None if not shown."""
        try:
            times = self._readings.times()
        except (OSError, psutil.Error):  # a sandbox may hide them
            return None
        chosen = [times[core] for core in self._cores if core < len(times)]
        busy_s = sum(t.user + t.nice + t.system + getattr(t, "irq", 0) + getattr(t, "softirq", 0) for t in chosen)
        return busy_s, sum(getattr(t, "steal", 0.0) for t in chosen)


class LoadWatch:
    """The load that other processes put on this one's cores through a stretch of work, in laps of a second or more.

    An average over minutes hides a burst of seconds, so the laps in which others were busy are counted too.
    """

    def __init__(self, cores: Sequence[int] | None = None, readings: CpuReadings | None = None) -> None:
        self._cores, self._readings = usable_cores() if cores is None else cores, readings or CpuReadings()
        self._whole = self._lap = CpuWatch(self._cores, self._readings)
        self._lap_s, self._disturbed_s, self._most = self._readings.now_s(), 0.0, 0.0

    def lap(self, least_s: float = 1.0) -> None:
        """End a lap where it is long enough: call this between one piece of work and the next."""
        now_s = self._readings.now_s()
        if (took_s := now_s - self._lap_s) < least_s:
            return
        other = self._lap.load()["other_load_cores"]
        if other is not None:
            self._most = max(self._most, other)
            self._disturbed_s += took_s if other > BURST_SHARE * len(self._cores) else 0.0
        self._lap, self._lap_s = CpuWatch(self._cores, self._readings), now_s

    def facts(self) -> dict[str, Any]:
        """Cores of time that others took on average and in the worst lap, and the share of the time in laps in which it
        was more than a quarter of the cores; the last lap included."""
        self.lap(least_s=0.2)  # ticks of the system are a hundredth of a second: less says nothing
        took_s, load = max(self._whole.elapsed_s, 1e-6), self._whole.load()
        unknown = load["other_load_cores"] is None
        return {
            "usable_cores": len(self._cores),
            "watched_s": round(took_s, 3),
            **load,
            "most_other_load_cores": None if unknown else self._most,
            "disturbed_share": None if unknown else round(self._disturbed_s / took_s, 4),
        }


def clocks(cores: Sequence[int], frequencies: Callable[[], Sequence[Any]] = cpu_frequencies) -> dict[str, Any]:
    """MHz of the fastest of `cores` while this process keeps one busy, and its maximum."""
    until = time.monotonic() + _SPIN_S
    while time.monotonic() < until:
        pass  # an idle core's frequency is not the one it works at
    try:
        each = frequencies()
    except (OSError, NotImplementedError, psutil.Error) as error:
        each, reason = [], str(error)
    else:
        reason = "the system shows no clock"
    chosen = [each[core] for core in cores if core < len(each)] or each
    known = {
        "clock_mhz": max((clock.current for clock in chosen), default=None),
        "max_clock_mhz": max((clock.max for clock in chosen), default=None) or None,
    }
    return known | {f"{name}_reason": reason for name, value in known.items() if value is None}


def _cpuinfo(field: str) -> list[str]:
    """Values of a field of /proc/cpuinfo, one per core; none where the system has no such file."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == field]
