"""The GPU rows of the speed table, in under ten minutes, in one process; a row that fails says why, and the next runs.

    python benchmarks/gpu.py [--out FILE] [--rows NAME …] [--minutes 9.5]
    python benchmarks/gpu.py --device cpu --dtype float32 --target shape:demo-s --draft shape:demo-tiny \\
        --nested shape:demo-draft --prompt-tokens 24 --new-tokens 8 --rounds 1 --others 12

`gpu.sh` prepares a bare machine for it. Rows are ordered by how much they are wanted; each has a time of its own, after
which it is given up. The file is written anew after every row. Needs torch, transformers and what `gpu.sh` looks for.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from types import FrameType

import gpu_rows as rows
import torch
import transformers
from gpu_rows import Figures, Setting

from specbench_s2d.errors import first_line
from specbench_s2d.models.passes.compiled import VARIABLE

_LEAST_S = 5  # a row is not begun with less left
_WITH_LAYERS = ("ar", "verify", "draft", "s2d")  # rows that may be worth a second attempt


@dataclass(frozen=True)
class Row:
    """One line of the table: `bound` is what to reach, from above where `most`."""

    name: str
    what: str
    measure: Callable[[Setting], Figures]
    bound: float
    most: bool
    seconds: int


class OutOfTimeError(Exception):
    """A row took longer than its time."""


ROWS = (
    Row("ar", "AR, % of the bound", rows.ar_of_bound, 85, False, 150),
    Row("verify", "a pass of 6 tokens over one of 1", rows.verify_over_ar, 1.10, True, 60),
    Row("draft", "one draft pass, ms", rows.draft_pass, 0.2, True, 60),
    Row("s2d", "S2D, published acceptances: measured over cost model", rows.s2d_over_cost_model, 0.9, False, 120),
    Row("ids", "methods whose ids differ between engines", rows.same_ids, 0, True, 120),
    Row("eager", "AR over transformers generate", partial(rows.over_transformers, static=False), 4, False, 60),
    Row("static", "AR over transformers static cache", partial(rows.over_transformers, static=True), 1, False, 150),
    Row("growth", "time per token after others over at first", rows.growth, 1.02, True, 90),
    Row("tests", "failing tests that want a GPU", rows.gpu_tests, 0, True, 160),
)


def main(arguments: list[str]) -> int:
    """Measure the rows asked for; exit 1 where one failed to be measured."""
    given = _parser().parse_args(arguments)
    s = Setting(
        given.device, given.dtype, given.target, given.draft, given.nested,
        given.prompt_tokens, given.new_tokens, given.rounds, given.others,
    )  # fmt: skip
    ends, measured = monotonic() + 60 * given.minutes, list[Figures]()
    for row in ROWS:
        if not given.rows or row.name in given.rows:
            measured.append(measure(row, s, ends))
            _write(given.out, s, measured)
            print(_line(measured[-1]), flush=True)
    return 1 if any(figures["error"] for figures in measured) else 0


def measure(row: Row, s: Setting, ends: float) -> Figures:
    """The row's figures; where it fails with compiled layers and does with plain ones, theirs, and that is said."""
    base = {"row": row.name, "what": row.what, "to_reach": f"{'<=' if row.most else '>='} {row.bound:g}"}
    started = monotonic()
    figures = _attempt(row, s, ends)
    if figures["error"] and s.compiles and row.name in _WITH_LAYERS and ends - monotonic() > _LEAST_S:
        _compile_anew(s, "0")
        plain = _attempt(row, s, ends)
        if plain["error"]:  # compiling was not what it tripped over
            _compile_anew(s, None)
        else:
            figures = plain | {"without_compile_because": figures["error"]}
    value = figures.get("value")
    reached = None if value is None else value <= row.bound if row.most else value >= row.bound
    engines = {part: model.engine_facts for part, model in s.loaded.items()}
    return base | figures | {"reached": reached, "seconds": round(monotonic() - started, 1), "engines": engines}


def _attempt(row: Row, s: Setting, ends: float) -> Figures:
    left = min(row.seconds, ends - monotonic())
    if left < _LEAST_S:
        return {"error": "no time was left"}
    try:
        with _limited(left):
            return {"error": None, **row.measure(s)}
    except Exception as error:  # whatever a row trips over (memory, a compiler, a driver), the others are wanted
        return {"error": f"{type(error).__name__}: {first_line(error)[:300]}"}


def _compile_anew(s: Setting, switch: str | None) -> None:
    """Load models with compiled layers (None) or with plain ones ("0") from now on."""
    if switch is None:
        os.environ.pop(VARIABLE, None)
    else:
        os.environ[VARIABLE] = switch
    s.forget_models()
    if s.device != "cpu":
        torch.cuda.empty_cache()


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise `OutOfTimeError` inside when the time is over."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise OutOfTimeError(f"given up after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _write(out: Path, s: Setting, measured: list[Figures]) -> None:
    setting = {name: value for name, value in vars(s).items() if isinstance(value, str | int | float)}
    facts = {"machine": machine(s.device), "setting": setting, "rows": measured}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def machine(device: str) -> Figures:
    """Device, driver-side facts that torch knows, and versions."""
    facts: Figures = {"device": device, "torch": torch.__version__, "transformers": transformers.__version__}
    if device != "cpu":
        found = torch.cuda.get_device_properties(device)
        facts |= {"gpu": found.name, "memory_bytes": found.total_memory, "processors": found.multi_processor_count}
        facts |= {"cuda": torch.version.cuda}
    return facts


def _line(figures: Figures) -> str:
    said = figures["error"] or f"{figures['value']:.4g} ({'reached' if figures['reached'] else 'not reached'})"
    return f"{figures['row']:8} {figures['what']}: {said}; to reach {figures['to_reach']}; {figures['seconds']} s"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="The GPU rows of the speed table.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--target", default="shape:vicuna-7b")
    parser.add_argument("--draft", default="shape:vicuna-68m")
    parser.add_argument("--nested", default="shape:s2d-draft")
    for name, value in (("prompt-tokens", 128), ("new-tokens", 128), ("rounds", 5), ("others", 480)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--minutes", type=float, default=9.5)
    parser.add_argument("--rows", nargs="*", choices=[row.name for row in ROWS], default=[])
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "results/benchmarks")) / "gpu.json")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
