"""What a pass of the native engine costs by its rows, beside streaming the bytes that it reads.

    python benchmarks/widths.py --target demo-l [--rows 1 --rows 6 …] [--cache 200 --cache 2000] [--threads 2 …]
        [--rounds 30] [--against FILE.c …] [--out FILE]

All widths are timed in one process in turns, and so is a stream over a block as large as what a pass of one row reads
(weights and cached positions), with the same threads. `--against` names other sources of the kernel, which run on the
same packed weights in the same turns. Beside the medians stand the least of all rounds, which other work on the machine
moves least. A ratio is of one round's times, its median and quartiles over the rounds.
"""

from __future__ import annotations

import ctypes
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer
from figures import measured, show, with_ends, write
from products import Run, interleaved, ratio

from specbench_s2d import load_model
from specbench_s2d.models.base import LanguageModel
from specbench_s2d.models.engines.native import NativeEngine
from specbench_s2d.models.engines.native_build import compile_kernel, find_compiler
from specbench_s2d.models.engines.native_memory import large_page_block, stream
from specbench_s2d.models.engines.threads import most_threads
from specbench_s2d.models.load import hide_progress_bars

OURS = "native"
STREAM = "stream"


def kernels_of(engine: NativeEngine, against: list[Path]) -> dict[str, ctypes.CDLL]:
    """The engine's own kernel, and those compiled from other sources, by name."""
    kernels = {OURS: engine._kernel}
    for source in against:
        with TemporaryDirectory() as folder:
            library = Path(folder) / "kernel.so"
            compile_kernel(find_compiler(), library, source)
            kernels[source.stem] = ctypes.CDLL(str(library))
    for kernel in kernels.values():
        kernel.scratch_floats.restype = ctypes.c_int64
    return kernels


def setting_rows(
    model: LanguageModel, kernels: dict[str, ctypes.CDLL], threads: int, cached: int, widths: list[int], rounds: int
) -> list[dict[str, Any]]:
    """One row per kernel and width, at `cached` positions before the pass and on `threads` threads."""
    engine: NativeEngine = model._engine  # type: ignore[attr-defined]
    engine._pass.threads, engine._scratch_for = threads, (0, 0)
    ids_BT = (torch.arange(cached + max(widths)) % (engine._vocabulary - 2) + 2)[None]
    model.reset()
    model.extend(ids_BT[:, :cached])
    before = model.read_bytes
    _pass(model, engine, kernels[OURS], ids_BT[:, :1], cached)
    step_bytes = model.read_bytes - before
    block, _ = large_page_block(step_bytes // 4, engine._kernel)
    block.fill_(1.0)  # unwritten pages are all one page of zeros, which a cache holds
    contenders: dict[str, Run] = {STREAM: partial(stream, block, threads, 1, kernels[OURS])}
    for name, kernel in kernels.items():
        for width in widths:
            contenders[f"{name} {width}"] = partial(_pass, model, engine, kernel, ids_BT[:, :width], cached)
    _reserve_scratch(engine, kernels, max(widths), cached + max(widths))
    seconds = interleaved(contenders, rounds)
    engine._kernel = kernels[OURS]
    facts = {"threads": threads, "cached": cached, "step_bytes": step_bytes}
    return [
        {**facts, "kernel": name, "rows": width, **_figures(seconds, name, width, min(widths))}
        for name in kernels
        for width in widths
    ]


def _reserve_scratch(engine: NativeEngine, kernels: dict[str, ctypes.CDLL], rows: int, length: int) -> None:
    """Scratch that is large enough for each of the kernels."""
    sizes = [ctypes.c_int64(size) for size in (rows, length, engine._pass.threads)]
    most = max(kernel.scratch_floats(engine._refs[0], *sizes) for kernel in kernels.values())
    engine._scratch, engine._scratch_for = torch.empty(most), (rows, length)
    engine._pass.scratch = engine._scratch.data_ptr()


def _pass(model: LanguageModel, engine: NativeEngine, kernel: ctypes.CDLL, ids_BT: torch.Tensor, cached: int) -> None:
    engine._kernel = kernel
    model.extend(ids_BT)
    model.rollback(cached)


def _figures(seconds: dict[str, list[float]], name: str, width: int, narrow: int) -> dict[str, float]:
    """Milliseconds, the ratio to the narrowest width, and what streaming one row's bytes takes of a pass."""
    own, one, streamed = seconds[f"{name} {width}"], seconds[f"{name} {narrow}"], seconds[STREAM]
    over, share = ratio(own, one), ratio(streamed, own)
    return {
        "ms": 1e3 * median(own), "least_ms": 1e3 * min(own), "stream_ms": 1e3 * median(streamed),
        "stream_least_ms": 1e3 * min(streamed), "over_one": over["value"], "over_one_low": over["low"],
        "over_one_high": over["high"], "over_one_least": min(own) / min(one), "stream_share": share["value"],
        "stream_share_low": share["low"], "stream_share_high": share["high"],
        "stream_share_least": min(streamed) / min(own),
    }  # fmt: skip


def show_setting(rows: list[dict[str, Any]]) -> None:
    """The rows of one setting."""
    first = rows[0]
    show(
        f"{first['threads']} threads, {first['cached']} cached positions: one row reads "
        f"{first['step_bytes'] / 1e6:,.1f} MB, streamed in {first['stream_ms']:.3f} ms "
        f"(least {first['stream_least_ms']:.3f}, {first['step_bytes'] / first['stream_least_ms'] / 1e6:.1f} GB/s)",
        ["kernel", "rows", "ms", "least", "over one row", "of the least", "stream / pass", "of the least"],
        (
            [row["kernel"], row["rows"], row["ms"], row["least_ms"],
             with_ends(row["over_one"], row["over_one_low"], row["over_one_high"]), row["over_one_least"],
             with_ends(row["stream_share"], row["stream_share_low"], row["stream_share_high"]),
             row["stream_share_least"]]
            for row in rows
        ),
    )  # fmt: skip


def main(
    target: str = "demo-l",
    rows: Annotated[list[int] | None, typer.Option(min=1, help="Rows of a pass; 1 to 12 and 16 by default.")] = None,
    cache: Annotated[list[int] | None, typer.Option(min=1, help="Cached positions; 200 and 2000 by default.")] = None,
    threads: Annotated[list[int] | None, typer.Option(min=1, help="1 and all by default.")] = None,
    rounds: Annotated[int, typer.Option(min=4)] = 30,
    against: Annotated[list[Path] | None, typer.Option(help="Another source of the kernel.")] = None,
    out: Annotated[Path | None, typer.Option(help="Figures as JSON.")] = None,
) -> None:
    """Measure, print and write what passes cost by their rows."""
    hide_progress_bars()
    found = list[dict[str, Any]]()
    counts = threads or sorted({1, most_threads()})
    model = load_model(target, device="cpu", dtype="float32", engine="native")
    kernels = kernels_of(model._engine, against or [])  # type: ignore[attr-defined]
    torch.set_num_threads(1)  # as while steps are taken
    for count in counts:
        for cached in cache or [200, 2000]:
            found += setting_rows(model, kernels, count, cached, rows or [*range(1, 13), 16], rounds)
            show_setting([row for row in found if (row["threads"], row["cached"]) == (count, cached)])
    if out:
        write(out, {**measured("see benchmarks/widths.py"), "target": target, "rows": found})


if __name__ == "__main__":
    typer.run(main)
