"""The GPU rows of the speed table, in under ten minutes; a row that fails says why, and the next runs.

    python benchmarks/gpu.py [--out FILE] [--rows NAME …] [--sets NAME …] [--minutes 9.5] [--profile]
    python benchmarks/gpu.py --device cpu --dtype float32 --target shape:demo-s --draft shape:demo-tiny \\
        --nested shape:demo-draft --prompt-tokens 24 --new-tokens 8 --rounds 1 --others 12

`gpu.sh` prepares a bare machine for it. There are three sets of rows: `plain` graphs (SPECBENCH_COMPILE=0), `compiled`
ones, and `apart`: the tests and whatever touches transformers' generation, each row in a process of its own, the one
that clears workspaces last. Every set has its processes: a row that fails, crashes or hangs costs that row alone. The
file holds all rows from the start and is whole after each; rows that no time was left for say so. `--profile` adds the
kernels, launches and waits of a step, in a file beside it.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from gpu_setting import Figures, Setting
from gpu_table import BEGUN, FAILED, LEFT_OUT, MEASURED, NOT_BEGUN, NOT_HERE, Row, RowSet, Table, machine

ROOT = Path(__file__).resolve().parent.parent
_LEAST_S = 5  # a row is not begun with less left
_AGAIN_S = 5  # an alarm that something swallowed rings again
_GRACE_S = 20  # a row that does not stop by itself is killed with its process
_APART_S = 180  # kept for the rows apart, or a third of the time where that is less
_ANEW = 4  # exit code of a process that ends because a row failed: the next rows want a fresh one

ENGINE_ROWS = (
    Row("ar", "AR, % of the bound", "gpu_rows:ar_of_bound", 85, False, 150),
    Row("verify", "a pass of 6 tokens over one of 1", "gpu_rows:verify_over_ar", 1.10, True, 60),
    Row("draft", "one draft pass, ms", "gpu_rows:draft_pass", 0.2, True, 60),
    Row("s2d", "S2D, published acceptances: measured over cost model", "gpu_rows:s2d_over_cost_model", 0.9, False, 120),
    Row("ids", "methods whose ids differ between engines", "gpu_rows:same_ids", 0, True, 120),
    Row("growth", "time per token after others over at first", "gpu_rows:growth", 1.02, True, 90),
)
PROFILE_ROWS = (Row("profile", "kernels, launches and waits of a step", "gpu_profile:profile", None, True, 120),)
APART_ROWS = (
    Row("eager", "AR over transformers generate", "gpu_peers:over_eager", 4, False, 90),
    Row("tests", "failing tests that want a GPU", "gpu_peers:gpu_tests", 0, True, 160),
    Row("static", "AR over transformers static cache", "gpu_peers:over_static", 1, False, 180),
)
SETS = (
    RowSet("plain", ENGINE_ROWS, compile="0"),
    RowSet("compiled", ENGINE_ROWS, needs_compiling=True),
    RowSet("profile_plain", PROFILE_ROWS, compile="0", alone=True),
    RowSet("profile_compiled", PROFILE_ROWS, alone=True, needs_compiling=True),
    RowSet("apart", APART_ROWS, alone=True),
)


class OutOfTimeError(BaseException):
    """A row took longer than its time. No `Exception`: what catches those to try something else must not catch this."""


def main(arguments: Sequence[str], sets: Sequence[RowSet] = SETS, script: Path = Path(__file__)) -> int:
    """Measure the rows asked for, each set in processes of its own that run `script`; exit 1 where one was not
    measured that could be here."""
    given = _parser(sets).parse_args(arguments)
    if given.process_of:
        [one] = [one for one in sets if one.name == given.process_of]
        return measure_rows(Table(given.out), one, given.rows, _setting(given), time.monotonic() + 60 * given.minutes)
    table, ends = Table(given.out), time.monotonic() + 60 * given.minutes
    asked = _asked(sets, given)
    table.plan(_setting(given).figures, asked, given.device, given.minutes)
    for one in asked:
        for row in table.rows(NOT_HERE, of=one.name)[:1]:
            print(f"{one.name:8} cannot be here: {row['error']}", flush=True)
        kept_s = 0 if one.name == "apart" else _kept_s(asked, given.minutes)
        _measure_set(table, one, [sys.executable, str(script), *arguments], ends - kept_s)
    return 1 if table.rows(FAILED, LEFT_OUT, NOT_BEGUN) else 0


def _asked(sets: Sequence[RowSet], given: argparse.Namespace) -> list[RowSet]:
    """The sets with the rows that were asked for; profiles where `--profile` was."""
    asked = []
    for one in sets:
        if one.name.startswith("profile_"):
            rows = list(one.rows) if given.profile else []
        elif given.sets is not None and one.name not in given.sets:
            rows = []
        else:
            rows = [row for row in one.rows if not given.rows or row.name in given.rows]
        if rows:
            asked.append(RowSet(one.name, rows, one.compile, one.alone, one.needs_compiling))
    return asked


def _kept_s(asked: Sequence[RowSet], minutes: float) -> float:
    """Seconds that sets before `apart` leave to it."""
    return min(_APART_S, 60 * minutes / 3) if any(one.name == "apart" for one in asked) else 0


def _measure_set(table: Table, one: RowSet, command: list[str], ends: float) -> None:
    """Run processes until no row of the set waits or its time is over; a row that one leaves begun failed with it."""
    while waiting := [row["row"] for row in table.rows(NOT_BEGUN, of=one.name)]:
        left_s = ends - time.monotonic()
        if left_s < _LEAST_S:
            why = f"no time was left: all rows together end after {table.facts['minutes']:g} minutes"
            _give_up(table, one, waiting, LEFT_OUT, why)
            return
        rows = waiting[:1] if one.alone else waiting
        code, ending = _run_process([*command, *_order(one.name, rows, left_s)], one, table)
        begun = [row["row"] for row in table.rows(BEGUN, of=one.name)]
        if code and rows == [row["row"] for row in table.rows(NOT_BEGUN, of=one.name)]:
            begun = rows[:1]  # it did not come so far as to begin
        _give_up(table, one, begun, FAILED, ending)


def _give_up(table: Table, one: RowSet, names: Sequence[str], state: str, why: str) -> None:
    for name in names:
        table.put(one.name, name, state=state, error=why)
        print(_line(one.name, table.row(one.name, name)), flush=True)


def _order(name: str, rows: list[str], left_s: float) -> list[str]:
    return ["--process-of", name, "--minutes", f"{left_s / 60:.3f}", "--rows", *rows]


def _run_process(command: list[str], one: RowSet, table: Table) -> tuple[int, str]:
    """Run a process and take over what it wrote; its exit code, and how it ended in words. It is killed where a row is
    `_GRACE_S` over its time."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(command, env=one.environment() | {"PYTHONPATH": os.pathsep.join(paths)})
    try:
        while True:
            try:
                code = process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                table.reload()
                if any(time.time() > row["stops_unix_s"] + _GRACE_S for row in table.rows(BEGUN, of=one.name)):
                    return -signal.SIGKILL, "it did not stop when its time was over, and was killed"
                continue
            table.reload()
            return code, f"its process ended with {code}" if code >= 0 else f"its process died of signal {-code}"
    finally:
        process.kill()
        process.wait()


def measure_rows(table: Table, one: RowSet, names: Sequence[str], s: Setting, ends: float) -> int:
    """Measure rows in this process until one fails (exit code 4, the others want a fresh process) or time is over."""
    for row in one.rows:
        if row.name not in names:
            continue
        left_s = min(row.seconds, ends - time.monotonic())
        if left_s < _LEAST_S:
            return 0
        table.put(one.name, row.name, state=BEGUN, stops_unix_s=time.time() + left_s)
        figures = measure(row, s, left_s)
        table.facts["machine"] = table.facts["machine"] or _machine(s.device)
        table.put(one.name, row.name, **figures)
        print(_line(one.name, table.row(one.name, row.name)), flush=True)
        if figures["state"] == FAILED:
            return _ANEW
    return 0


def measure(row: Row, s: Setting, seconds: float) -> Figures:
    """The row's figures, or why there are none."""
    started = time.monotonic()
    figures: Figures
    before = _eager_passes(s)
    try:
        with _limited(seconds):
            figures = {"state": MEASURED, "error": None, **row.measure(s)}
        if eager := _eager_passes(s) - before:
            why = f"{eager} passes ran eagerly, as nobody announced them: their figure is not the engine's"
            figures |= {"state": FAILED, "error": why}
    except OutOfTimeError as error:
        figures = {"state": FAILED, "error": f"{error}"}
    except Exception as error:  # whatever a row trips over (memory, a compiler, a driver), the others are wanted
        first = (str(error).strip().splitlines() or [""])[0]
        figures = {"state": FAILED, "error": f"{type(error).__name__}: {first[:300]}"}
    spent = {"reached": row.reached(figures.get("value")), "seconds": round(time.monotonic() - started, 1)}
    return {"engines": s.engines, **figures, **spent}


def _eager_passes(s: Setting) -> int:
    """Passes so far that no engine was told of, of all models that are loaded."""
    return sum(facts.get("unannounced", 0) for facts in s.engines.values())


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise `OutOfTimeError` inside when the time is over, again and again until it comes out."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise OutOfTimeError(f"given up after {seconds:.3g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _machine(device: str) -> Figures:
    try:
        return machine(device)
    except Exception as error:  # a device that cannot even be asked is the rows' to report
        return {"device": device, "error": f"{type(error).__name__}: {error}"}


def _line(name: str, figures: Figures) -> str:
    value = figures["value"]
    said = figures["error"] or ("done" if value is None else f"{value:.4g}")
    if figures["reached"] is not None:
        said += f" ({'reached' if figures['reached'] else 'not reached'}; to reach {figures['to_reach']})"
    took = "" if figures["seconds"] is None else f"; {figures['seconds']} s"
    return f"{name:8} {figures['row']:8} {figures['what']}: {said}{took}"


def _setting(given: argparse.Namespace) -> Setting:
    return Setting(
        given.device, given.dtype, given.target, given.draft, given.nested,
        given.prompt_tokens, given.new_tokens, given.rounds, given.others, given.out,
    )  # fmt: skip


def _parser(sets: Sequence[RowSet]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="The GPU rows of the speed table.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--target", default="shape:vicuna-7b")
    parser.add_argument("--draft", default="shape:vicuna-68m")
    parser.add_argument("--nested", default="shape:s2d-draft")
    for name, value in (("prompt-tokens", 128), ("new-tokens", 128), ("rounds", 5), ("others", 480)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--minutes", type=float, default=9.5, help="all rows together")
    names = dict.fromkeys(row.name for one in sets for row in one.rows)
    parser.add_argument("--rows", nargs="*", choices=list(names), default=[], help="all by default")
    sets_said = [one.name for one in sets if not one.name.startswith("profile_")]
    parser.add_argument("--sets", nargs="*", choices=sets_said, help="all by default; without a name, none")
    parser.add_argument("--profile", action="store_true", help="profile steps, too, into gpu-profile.json beside --out")
    parser.add_argument("--process-of", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "results/benchmarks")) / "gpu.json")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
