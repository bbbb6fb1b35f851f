"""Where a step's time goes: kernels, launches, copies and waits per step of AR, SD and S2D, by torch's profiler.

A generation of few tokens and one of many are profiled, and what the second has more is divided by the steps that it
has more: the prompt's own work and the profiler's fall out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from gpu_rows import published_s2d
from gpu_setting import Figures, Setting
from gpu_table import COMPILE, machine, write_whole
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity

from specbench_s2d import build_decoder
from specbench_s2d.decoding.decoder import Decoder

SHOWN = 20  # kernels and host functions of a list
CALLS = {
    "kernel_launches": (
        "cudaLaunchKernel",
        "cuLaunchKernel",
        "cudaLaunchCooperativeKernel",
        "cuLaunchCooperativeKernel",
    ),
    "graph_launches": ("cudaGraphLaunch", "cuGraphLaunch"),
    "memcpys": ("cudaMemcpy", "cuMemcpy"),
    "memsets": ("cudaMemset", "cuMemset"),
    "synchronizations": (
        "cudaStreamSynchronize",
        "cudaDeviceSynchronize",
        "cudaEventSynchronize",
        "cuStreamSynchronize",
    ),
    "host_reads": ("aten::_local_scalar_dense", "aten::nonzero"),
}
"""What is counted, by how the names of the runtime's and torch's calls begin; kernels inside a graph are not there."""
COPIES = {"copies_to_host": "Memcpy DtoH", "copies_to_device": "Memcpy HtoD"}
LAUNCHES = ("kernel_launches", "graph_launches", "memcpys", "memsets")


@dataclass(frozen=True)
class Use:
    """How often a function or kernel ran, and its own time on the host and on the device, in microseconds."""

    calls: float
    host_us: float
    device_us: float

    def over(self, other: Use | None, steps: int) -> Use:
        """Per step, what this has more than `other`."""
        less = other or Use(0, 0, 0)
        mine, theirs = (self.calls, self.host_us, self.device_us), (less.calls, less.host_us, less.device_us)
        return Use(*((a - b) / steps for a, b in zip(mine, theirs, strict=True)))


Uses = Mapping[tuple[str, bool], Use]
"""By name, and whether it is work on the device."""


def profile(s: Setting) -> Figures:
    """Profile every decoder and write the figures into a file beside the table, whole after each; the waits of each."""
    file = s.table.with_name(f"{s.table.stem}-profile-{'plain' if os.environ.get(COMPILE) == '0' else 'compiled'}.json")
    found: Figures = {}
    for name, decoder in _decoders(s):
        found[name] = profile_steps(s, decoder)
        facts = {"machine": machine(s.device), "setting": s.figures, "engines": s.engines}
        write_whole(file, {**facts, COMPILE: os.environ.get(COMPILE), "per_step": found})
    waits = {name: figures["synchronizations"] for name, figures in found.items()}
    return {"value": None, "file": file.name, "waits_per_step": waits}


def _decoders(s: Setting) -> Iterator[tuple[str, Decoder]]:
    yield "ar", build_decoder("ar", s.target)
    yield "s2d", build_decoder("s2d", s.target, s.nested)
    yield "s2d, published acceptances", published_s2d(s)
    yield "sd", build_decoder("sd", s.target, s.draft)


def profile_steps(s: Setting, decoder: Decoder) -> Figures:
    """One decoder: calls of each kind per step, and the kernels and host functions that take longest."""
    few, many = max(2, s.new_tokens // 4), s.new_tokens
    for _ in range(2):
        s.generate(decoder, new_tokens=many)
    (short, fewer), (long, more) = (_profiled(s, decoder, tokens) for tokens in (few, many))
    if more <= fewer:
        raise ValueError(f"{few} and {many} tokens take {fewer} and {more} steps: give more --new-tokens")
    return per_step(short, long, more - fewer)


def _profiled(s: Setting, decoder: Decoder, tokens: int) -> tuple[Uses, int]:
    on_gpu = s.device.startswith("cuda")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with torch.profiler.profile(activities=activities) as profiler:
        generation = s.generate(decoder, new_tokens=tokens)
        if on_gpu:
            torch.cuda.synchronize(s.device)
    return _uses(profiler), len(generation.steps)


def _uses(profiler: Any) -> Uses:
    return {
        (event.key, event.device_type != DeviceType.CPU): Use(
            event.count, event.self_cpu_time_total, event.self_device_time_total
        )
        for event in profiler.key_averages()
    }


def per_step(short: Uses, long: Uses, steps: int) -> Figures:
    """Figures of one step, of two profiles that lie so many steps apart."""
    uses = {key: use.over(short.get(key), steps) for key, use in long.items()}
    host = {name: use for (name, on_device), use in uses.items() if not on_device}
    device = {name: use for (name, on_device), use in uses.items() if on_device}
    counts = {kind: sum(u.calls for name, u in host.items() if name.startswith(of)) for kind, of in CALLS.items()}
    return {
        "steps": steps,
        **{kind: round(count, 3) for kind, count in counts.items()},
        "launches": round(sum(counts[kind] for kind in LAUNCHES), 3),
        "aten_calls": round(sum(use.calls for name, use in host.items() if name.startswith("aten::")), 3),
        **{kind: round(sum(u.calls for n, u in device.items() if n.startswith(of)), 3) for kind, of in COPIES.items()},
        "device_activities": round(sum(use.calls for use in device.values()), 3),
        "device_us": round(sum(use.device_us for use in device.values()), 3),
        "host_us": round(sum(use.host_us for use in host.values()), 3),
        "top_kernels": _top({name: (use.calls, use.device_us) for name, use in device.items()}, "device_us"),
        "top_host": _top({name: (use.calls, use.host_us) for name, use in host.items()}, "host_us"),
    }


def _top(uses: Mapping[str, tuple[float, float]], unit: str) -> list[Figures]:
    ordered = sorted(uses.items(), key=lambda item: -item[1][1])[:SHOWN]
    return [{"name": name, "calls": round(calls, 3), unit: round(us, 3)} for name, (calls, us) in ordered]
