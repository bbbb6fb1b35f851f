"""What is wrong with a machine for benchmarking, and what to do: rules over the facts of `environment`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from specbench_s2d.measure.gpu import GpuProbe
from specbench_s2d.measure.machine import CpuWatch, memory_state

WINDOW_S = 0.25
# Above these a finding is made. Shares are of the cores this process may use, of memory, of the time between.
OTHER_LOAD_SHARE = 0.10
STOLEN_SHARE = 0.05
UTILIZATION_PERCENT = 5
HOT_C = 85
WARMED_C = 20
GPU_CLOCK_SHARE = 0.05
CPU_CLOCK_SHARE = 0.10
THROTTLED_SHARE = 0.01
SWAPPED_BYTES = 256 * 2**20
FREE_MEMORY_SHARE = 0.10
DISTURBED_SHARE = 0.05


@dataclass(frozen=True)
class Finding:
    """Something that makes a run's figures less trustworthy: what it is about, what was seen, what to do.

    `transient`: it comes and goes (other work, heat, clocks), so that two runs on one machine may differ by it. What is
    not transient is how the machine is set up. `unfit`: times measured so are wrong even beside others of the run; true
    of all that is transient, and of settings that slow some passes and not others (`--strict` stops on it).
    """

    about: str
    what: str
    advice: str
    transient: bool = False
    unfit: bool = False

    def __post_init__(self) -> None:
        if self.transient:
            object.__setattr__(self, "unfit", True)


def observe(device: str, gpu: GpuProbe | None = None) -> dict[str, Any]:
    """The facts that change during a run, in the sections of `environment`; takes a quarter of a second."""
    watch, began = CpuWatch(), time.monotonic()
    gpu_state = (gpu or GpuProbe(device)).state()
    time.sleep(max(0.0, WINDOW_S - (time.monotonic() - began)))
    return {"observed_unix_s": time.time(), "cpu": watch.state(), "memory": memory_state(), "gpu": gpu_state}


def findings(device: str, facts: dict[str, Any]) -> list[Finding]:
    """What is wrong for a run on `device`, from `environment`'s facts or `observe`'s; an unknown fact is no finding."""
    parts = ("cpu", "memory", "python_build", "torch", "settings", "gpu")
    sections = {part: _known(facts, part) for part in parts}
    if not device.startswith("cuda"):
        sections["gpu"] = {}
    rules = (_gpu_load, _gpu_limits, _cpu_load, _cpu_threads, _memory, _builds, _switches)
    return [finding for rule in rules for finding in rule(sections)]


def moved(before: dict[str, Any], after: dict[str, Any]) -> list[Finding]:
    """What changed between two `observe`s (or `environment`s) that a fair comparison needs unchanged."""
    elapsed_s = after.get("observed_unix_s", 0.0) - before.get("observed_unix_s", 0.0)
    found = [
        *_clocks_moved(before, after),
        *_gpu_warmed(_known(before, "gpu"), _known(after, "gpu")),
        *_throttled(_known(before, "gpu"), _known(after, "gpu"), elapsed_s),
    ]
    return [replace(finding, transient=True) for finding in found]


def _known(facts: dict[str, Any], part: str) -> dict[str, Any]:
    """A section's facts without those that could not be read."""
    return {name: value for name, value in (facts.get(part) or {}).items() if value is not None}


def _gpu_load(facts: dict[str, Any]) -> Iterator[Finding]:
    gpu = facts["gpu"]
    if "reason" in gpu:
        yield Finding("GPU", f"its state cannot be read ({gpu['reason']})", "check that nvidia-smi works here")
    if gpu.get("utilization_percent", 0) > UTILIZATION_PERCENT:
        yield Finding(
            "GPU", f"busy: {gpu['utilization_percent']} % before the run", "stop what else runs on it", transient=True
        )
    if others := gpu.get("other_processes", 0):
        yield Finding(
            "GPU",
            f"shared: {others} other compute process(es)",
            "stop them, or take another GPU (--device)",
            transient=True,
        )
    if reasons := gpu.get("throttle_reasons"):
        yield Finding(
            "GPU", f"clocks held down: {', '.join(reasons)}", "let it cool, or raise the power limit", transient=True
        )
    if gpu.get("temperature_c", 0) >= HOT_C:
        yield Finding(
            "GPU", f"hot: {gpu['temperature_c']} °C", "let it cool, and check its fans and air", transient=True
        )


def _gpu_limits(facts: dict[str, Any]) -> Iterator[Finding]:
    gpu = facts["gpu"]
    limit, usual = gpu.get("power_limit_w"), gpu.get("default_power_limit_w")
    if limit and usual and limit < usual - 1:
        yield Finding(
            "GPU",
            f"power limit {limit:.0f} W, below the default of {usual:.0f} W",
            f"nvidia-smi -pl {usual:.0f}, or report the limit with the figures",
        )
    if gpu.get("mig") or str(gpu.get("uuid", "")).startswith("MIG-"):
        yield Finding(
            "GPU",
            "a part of a GPU (MIG): memory bandwidth and power are shared, energy cannot be metered",
            "take a whole GPU",
        )


def _cpu_load(facts: dict[str, Any]) -> Iterator[Finding]:
    cpu = facts["cpu"]
    cores = cpu.get("usable_cores", 1)
    other, stolen = cpu.get("other_load_cores", 0), cpu.get("stolen_cores", 0)
    if other > OTHER_LOAD_SHARE * cores:
        yield Finding(
            "CPU",
            f"busy: other processes use {other:.1f} of the {_cores(cores)} this one may use",
            "stop them, or bind the run to free cores (taskset -c)",
            transient=True,
        )
    if stolen > STOLEN_SHARE * cores:
        yield Finding(
            "CPU",
            f"the hypervisor withholds {stolen:.1f} of {_cores(cores)}",
            "take a machine with cores of its own",
            transient=True,
        )
    if (governor := cpu.get("governor", "performance")) != "performance":
        yield Finding("CPU", f"governor {governor}: clocks follow the load", "cpupower frequency-set -g performance")


def _cpu_threads(facts: dict[str, Any]) -> Iterator[Finding]:
    cpu = facts["cpu"]
    threads, cores, quota = cpu.get("threads", 1), cpu.get("usable_cores"), cpu.get("quota_cores")
    if cores and threads > cores:
        yield Finding(
            "CPU",
            f"{threads} threads on {cores} usable core{'' if cores == 1 else 's'}",
            f"set OMP_NUM_THREADS={cores}",
            unfit=True,
        )
    if quota and threads > quota:
        yield Finding(
            "CPU",
            f"{threads} threads, but a quota of {quota:g} cores: the system pauses them in every period",
            f"set OMP_NUM_THREADS={max(1, int(quota))}, or raise the container's quota",
            unfit=True,
        )


def _memory(facts: dict[str, Any]) -> Iterator[Finding]:
    memory = facts["memory"]
    if (swapped := memory.get("swap_used_bytes", 0)) > SWAPPED_BYTES:
        yield Finding("memory", f"{swapped / 2**30:.1f} GiB are swapped out", "free memory, then swapoff -a")
    available = memory.get("available_bytes")
    total = min((memory[name] for name in ("total_bytes", "limit_bytes") if name in memory), default=None)
    if total and available is not None and available < FREE_MEMORY_SHARE * total:
        yield Finding(
            "memory",
            f"{available / 2**30:.1f} of {total / 2**30:.1f} GiB are free",
            "stop what else holds memory, or raise the container's limit",
        )


def _builds(facts: dict[str, Any]) -> Iterator[Finding]:
    python, torch = facts["python_build"], facts["torch"]
    if python.get("debug_build"):
        yield Finding("Python", "a debug build", "use a release build: its checks slow every step", unfit=True)
    if sanitizers := python.get("sanitizers"):
        what = f"runs under sanitizers: {', '.join(sanitizers)}"
        yield Finding("Python", what, "use a build without them", unfit=True)
    if torch.get("debug_build"):
        yield Finding("torch", "a debug build", "install the release wheel", unfit=True)


def _switches(facts: dict[str, Any]) -> Iterator[Finding]:
    if facts["python_build"].get("dev_mode"):
        yield Finding("Python", "development mode is on", "leave out -X dev and PYTHONDEVMODE", unfit=True)
    if facts["python_build"].get("traced"):
        what = "a debugger, profiler or coverage tool traces every call"
        yield Finding("Python", what, "run without it", unfit=True)
    if facts["torch"].get("deterministic"):
        yield Finding("torch", "deterministic algorithms are on: some kernels are slower ones", "leave them off")
    if facts["gpu"] and facts["settings"].get("CUDA_LAUNCH_BLOCKING", "0") != "0":
        what = "CUDA_LAUNCH_BLOCKING: the host waits for every kernel"
        yield Finding("torch", what, "unset CUDA_LAUNCH_BLOCKING", unfit=True)


def load_meanwhile(facts: dict[str, Any], work: str = "was timed") -> list[Finding]:
    """What other processes took of the cores while a target was timed, or did other `work`, from `LoadWatch.facts`."""
    cores, other, stolen = facts["usable_cores"], facts["other_load_cores"], facts["stolen_cores"]
    share, most = facts["disturbed_share"], facts["most_other_load_cores"]
    advice, found = "stop them, or bind the run to free cores (taskset -c)", []
    if other is not None and other > OTHER_LOAD_SHARE * cores:
        found.append(f"busy while it {work}: other processes used {other:.1f} of the {_cores(cores)} on average")
    elif share is not None and share > DISTURBED_SHARE:
        used = f"other processes used up to {most:.1f} of the {_cores(cores)}"
        found.append(f"busy for {100 * share:.0f} % of the time while it {work}: {used}")
    findings = [Finding("CPU", what, advice, transient=True) for what in found]
    if stolen is not None and stolen > STOLEN_SHARE * cores:
        what = f"withheld while it {work}: the hypervisor took {stolen:.1f} of the {_cores(cores)}"
        findings.append(Finding("CPU", what, "take a machine with cores of its own", transient=True))
    return findings


def _cores(count: int) -> str:
    return f"{count} core{'' if count == 1 else 's'}"


def restless(spreads: Mapping[str, float]) -> list[Finding]:
    """Warm-ups that never became steady, by decoder with the spread of their last runs."""
    if not spreads:
        return []
    named = ", ".join(f"{label} ({100 * spread:.0f} %)" for label, spread in spreads.items())
    what = f"never became steady, with the spread of the last runs: {named}"
    return [Finding("warm-up", what, "let the machine come to rest, and run again", transient=True)]


def _clocks_moved(before: dict[str, Any], after: dict[str, Any]) -> Iterator[Finding]:
    clocks = (
        ("GPU", "gpu", "sm_clock_mhz", GPU_CLOCK_SHARE, "lock them: nvidia-smi -lgc"),
        ("GPU memory", "gpu", "memory_clock_mhz", GPU_CLOCK_SHARE, "lock them: nvidia-smi -lmc"),
        ("CPU", "cpu", "clock_mhz", CPU_CLOCK_SHARE, "cpupower frequency-set -g performance, and check the cooling"),
    )
    for about, part, name, share, advice in clocks:
        was, now = _known(before, part).get(name), _known(after, part).get(name)
        if was and now and abs(now - was) > share * was:
            yield Finding(about, f"clocks moved from {was:,.0f} to {now:,.0f} MHz", advice)


def _gpu_warmed(before: dict[str, Any], after: dict[str, Any]) -> Iterator[Finding]:
    was, now = before.get("temperature_c"), after.get("temperature_c")
    if was is not None and now is not None and now - was > WARMED_C:
        yield Finding(
            "GPU",
            f"warmed from {was} to {now} °C",
            "warm it up before the run: a hot chip draws more power and may clock lower",
        )


def _throttled(before: dict[str, Any], after: dict[str, Any], elapsed_s: float) -> Iterator[Finding]:
    for name, cause, advice in (
        ("power_throttled_s", "its power limit", "raise the limit, or report it with the figures"),
        ("thermal_throttled_s", "heat", "let it cool, and check its fans and air"),
    ):
        if name in before and name in after:
            took_s = after[name] - before[name]
            if took_s > THROTTLED_SHARE * elapsed_s:
                yield Finding("GPU", f"held down by {cause} for {took_s:.1f} s of {elapsed_s:.0f} s", advice)
