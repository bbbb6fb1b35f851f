"""What a container or a job scheduler lets this process have: the CPU quota and the memory limit of its cgroups.

A cgroup (control group) is the Linux kernel's limit on what a group of processes may use; there are versions 1 and 2.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
_NO_LIMIT_BYTES = 2**60  # version 1 says "no limit" by a number near 2^63


def allowed_cores() -> int:
    """Cores that the scheduler lets this process run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_cores() -> int:
    """Of these, as many as the quota of its cgroups pays for; at least one."""
    return min(allowed_cores(), max(1, int(quota_cores() or allowed_cores())))


def quota_cores(root: Path = ROOT, membership: Path = MEMBERSHIP) -> float | None:
    """Cores' worth of CPU time per second that this process may use; None without a quota."""
    quotas = [_cores(text) for text in _settings(root, membership, "", "cpu.max")]
    for folder in _folders(root, membership, "cpu"):
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        quotas.append(_cores(f"{quota} {period}") if quota and period else None)
    return min((quota for quota in quotas if quota), default=None)


def memory_limit_bytes(root: Path = ROOT, membership: Path = MEMBERSHIP) -> int | None:
    """Bytes of memory that this process's cgroups allow; None without a limit."""
    texts = [
        *_settings(root, membership, "", "memory.max"),
        *_settings(root, membership, "memory", "memory.limit_in_bytes"),
    ]
    limits = [int(text) for text in texts if text.isdecimal()]
    return min((limit for limit in limits if limit < _NO_LIMIT_BYTES), default=None)


def available_bytes() -> int:
    """Bytes of memory that this process can still take without swapping."""
    return available_within(
        memory_limit_bytes(), int(psutil.virtual_memory().available), int(psutil.Process().memory_info().rss)
    )


def available_within(limit: int | None, available: int, held: int) -> int:
    """Of the machine's available bytes, those that a limit leaves to a process that holds so many."""
    return available if limit is None else min(available, max(0, limit - held))


def _cores(quota_and_period: str) -> float | None:
    """`max 100000` and `-1 100000` are no quota; `150000 100000` is one and a half cores."""
    quota, _, period = quota_and_period.partition(" ")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None


def _settings(root: Path, membership: Path, controller: str, name: str) -> list[str]:
    return [text for folder in _folders(root, membership, controller) if (text := _text(folder / name))]


def _folders(root: Path, membership: Path, controller: str) -> Iterator[Path]:
    """This process's cgroup and those above it, each of which may limit it; `controller` is empty for version 2.

    A container may see its cgroup under another path than the one listed; then those above it, which exist, remain.
    """
    for line in (_text(membership) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            place = Path(path.lstrip("/"))
            yield from (root / controller / above for above in (place, *place.parents))


def _text(path: Path) -> str | None:
    """A small file's text; None where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
