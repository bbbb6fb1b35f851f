"""The parts of a run that several devices measured: what a manifest keeps of each, and what all say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

PARTS = "parts"
"""The manifest's list of what each device, or each run that was merged, says of itself."""
OF_A_PART = (
    "run_id", "shard", "device_id", "environment", "targets", "conditions", "harness", "energy", "idle_power_w",
    "idle_power", "reasons", "quality_metrics", "started", "ended",
)  # fmt: skip
"""What is kept of each."""


def parts_of(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parts of a manifest; of a run on one device the one that it is, none of a run that nothing measured yet."""
    parts = manifest.get(PARTS) or ([manifest] if manifest.get("environment") else [])
    return [{name: part[name] for name in OF_A_PART if name in part} for part in parts]


def software(environment: Mapping[str, Any]) -> dict[str, Any]:
    """What must be alike on all parts of a run, by the name that a person knows."""
    gpu, cpu = environment.get("gpu") or {}, environment.get("cpu") or {}
    return {
        "specbench-s2d": (environment.get("code") or {}).get("version"),
        "its commit": (environment.get("code") or {}).get("commit"),
        **(environment.get("libraries") or {}),
        "the GPU driver": gpu.get("driver"),
        "the device model": gpu.get("name") or cpu.get("model") or cpu.get("name"),
    }


def differing_software(environment: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """In what an environment differs from the wanted `software`, in words."""
    now = software(environment)
    return [f"{name} {now.get(name)} instead of {then}" for name, then in wanted.items() if now.get(name) != then]


def joined_targets(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is said of each target: by the first part that ran it."""
    joined: dict[str, Any] = {}
    for part in parts:
        joined = {**(part.get("targets") or {}), **joined}
    return joined


def joined_parts(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The facts of a manifest from those of its devices: conditions of all, seconds summed, else those of the first
    that says any."""
    facts: dict[str, Any] = {PARTS: list(parts), "targets": joined_targets(parts)}
    facts["conditions"] = [condition for part in parts for condition in part.get("conditions") or ()]
    for name in ("energy", "idle_power_w", "idle_power", "reasons", "quality_metrics"):
        facts |= {name: next(part[name] for part in parts if name in part)} if any(name in p for p in parts) else {}
    harness = [part["harness"] for part in parts if part.get("harness")]
    if harness:
        facts["harness"] = {name: sum(one.get(name, 0.0) for one in harness) for name in harness[0]}
    return facts
