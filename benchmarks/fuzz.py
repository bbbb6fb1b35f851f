"""What becomes of damaged files and odd command lines: one line that says what is wrong, or something else.

    python benchmarks/fuzz.py [--cases 1000] [--seed 0] [--domain NAME …] [--save DIR] [--out FILE]
    python benchmarks/fuzz.py --replay FILE

Sound files are made once: runs of `demo-tiny`, their answers, a run file, questions. A case is one command with one of
them changed (`fuzz_inputs.py`, `mutations.py`), drawn by the seed, in a folder of its own. Nothing trains, and no plot
is drawn (but with `--plots`); a run that is gone on with decodes what it lacks, a few tokens. A case may take
`--limit` seconds of processor time.

An outcome is fine where the exit code is 0, 1, 2 or 3, an exit code of 2 comes with one line `error: …`, nothing on
stderr is a traceback, a warning of Python or `unexpected`, and no table that was written says `nan` or `inf`. Other
outcomes are counted by kind, with the innermost line of this package; `--save` keeps each such input, and `--replay`
runs one again and shows all.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import socket
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
os.environ.pop("SPECBENCH_DEBUG", None)

from fuzz_inputs import Case, Sound, domains, make_sound

AT_ONCE = 200
"""Cases that one process runs before a new one takes over."""
WALL = 6
"""A case that waits for others may take so many times its seconds of processor time."""
ROOM_BYTES = 6 * 2**30
"""Address space that a case may take beyond what is loaded."""
_LOADED = (
    "specbench_s2d.cli.main", "specbench_s2d.bench.launches", "specbench_s2d.bench.forecast", "specbench_s2d.cli.live",
    "specbench_s2d.analysis.report.write", "specbench_s2d.analysis.gate.judge", "specbench_s2d.training.init_model",
    "specbench_s2d.exchange.export", "specbench_s2d.exchange.answer_import", "specbench_s2d.bench.pass_costs",
    "specbench_s2d.analysis.projection.table", "specbench_s2d.analysis.compare.folders", "specbench_s2d.training.heads",
    "specbench_s2d.training.demo", "specbench_s2d.training.answers", "specbench_s2d.runs.merge", "transformers",
)  # fmt: skip


class Late(BaseException):
    """A case took longer than it may."""


@dataclass(frozen=True)
class Seen:
    """What one case did: its kind (`fine`, or what is wrong), where in the package, and what was said."""

    domain: str
    number: int
    kind: str
    code: int | None
    where: str
    said: str
    command: str
    seconds: float


def prepare(with_plots: bool = False) -> None:
    """Import what cases need, and leave out what takes long: plots, training, warm-ups, probes, the network."""
    for module in _LOADED:
        importlib.import_module(module)
    from specbench_s2d import resources
    from specbench_s2d.analysis.report.plots import draw
    from specbench_s2d.bench import forecast, pass_costs, session
    from specbench_s2d.bench.warm_up import WarmUp
    from specbench_s2d.errors import UserError
    from specbench_s2d.measure import bandwidth, conditions
    from specbench_s2d.measure import pass_costs as timed
    from specbench_s2d.training import answers, heads, jobs

    def one_run(run: Any) -> WarmUp:
        run()
        return WarmUp(1, 0.0, 0.0, stable=True)

    def stop(*_: Any, **__: Any) -> Any:
        raise UserError("the work would begin here.")

    def no_network(*_: Any, **__: Any) -> Any:
        raise OSError(101, "Network is unreachable")

    def as_if_timed(_: Any, targets: list[str], draft: str, __: Any, widths: Any, *___: Any) -> Iterator[Any]:
        cost = timed.Cost((1e-3, 1.1e-3))
        chains = tuple(timed.ChainCost(depth, cost, cost) for depth in (6, 9, 12))
        stages = tuple(timed.StageCost(depth, cost, cost, cost, cost) for depth in (6, 9, 12))
        for name in targets:
            costs = timed.PassCosts(8, cost, 1000, dict.fromkeys(widths, cost), chains, stages)
            yield pass_costs.PassRun(name, name, draft, costs, 1e9)

    resources._BUNDLED = Path("_data")  # of a case's own folder, where it has such files
    if not with_plots:
        draw.figures = lambda *_, **__: iter(())
    session.warm_up = one_run  # type: ignore[attr-defined]
    bandwidth.CPU_BUFFER_BYTES = bandwidth.CPU_ROUND_BYTES = forecast._PROBE_BYTES = 2**20
    conditions.WINDOW_S = 0.01
    jobs.claim = heads.claim = answers.write_answers = stop  # type: ignore[attr-defined]
    pass_costs.pass_runs = as_if_timed  # type: ignore[assignment]
    socket.socket.connect = socket.create_connection = no_network  # type: ignore[method-assign]


def run_cli(words: list[str]) -> int:
    from specbench_s2d.cli.main import main

    return main(words)


def commands() -> list[tuple[str, list[str]]]:
    """Every command as it is typed, with its flags."""
    import typer

    from specbench_s2d.cli.main import app

    found, waiting = [], [("", typer.main.get_command(app))]
    while waiting:
        name, command = waiting.pop()
        inner = getattr(command, "commands", {})
        waiting += [(f"{name} {word}".strip(), one) for word, one in sorted(inner.items())]
        found.append((name, [flag for one in command.params for flag in one.opts if flag.startswith("-")]))
    return found


def drawn(names: list[str], cases: int, seed: int, sound: Sound) -> Iterator[Case]:
    """`cases` inputs of the domains in turn, each by a draw of its own."""
    known = domains(commands())
    for number in range(cases):
        name = names[number % len(names)]
        case = known[name](sound, random.Random(f"{seed}/{name}/{number}"))
        yield replace(case, domain=name, number=number)


def seen(case: Case, limit_s: float, folder: Path) -> Seen:
    """Run a case in a folder of its own, which is removed."""
    folder.mkdir()
    for name, content in case.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    here, began = Path.cwd(), time.process_time()
    os.chdir(folder)
    _forget()
    try:
        code, said, where = _outcome(case.words, limit_s)
        odd = _odd_numbers(folder) if code == 0 else ""
    finally:
        os.chdir(here)
        shutil.rmtree(folder, ignore_errors=True)
    took = time.process_time() - began
    kind = "no number" if odd else _kind(code, said, where)
    shown = " ".join(word if len(word) < 60 else f"{word[:57]}..." for word in case.words)
    return Seen(case.domain, case.number, kind, code, odd or where, said[-600:], shown, round(took, 2))


def _forget() -> None:
    """Let the tables of published figures be read anew."""
    from specbench_s2d import paper_names, published
    from specbench_s2d.analysis.compare import draft_roles

    kept = (published.column_as, paper_names._models, paper_names._targets, paper_names._methods)
    for cached in (*kept, draft_roles._published_roles):
        cached.cache_clear()


def _odd_numbers(folder: Path) -> str:
    """The first table that was written to a folder and says `nan` or `inf`; none where no table does."""
    odd = re.compile(rb"(?<![\w.-])-?(nan|inf|NaN|Infinity)(?![\w.-])")
    found = (path for path in sorted(folder.rglob("*")) if path.suffix in (".csv", ".md", ".tex"))
    tables = (path for path in found if not path.is_relative_to(folder / "_data"))
    return next((f"{path.name}" for path in tables if odd.search(path.read_bytes())), "")


def _outcome(words: list[str], limit_s: float) -> tuple[int | None, str, str]:
    """The exit code, None where there was none; stderr; and the line of the package that raised last."""
    from specbench_s2d.cli import main as module

    raised: list[BaseException] = []
    explain = module._explain

    def noted(error: BaseException) -> int:
        raised.append(error)
        return explain(error)

    said, code = io.StringIO(), None
    module._explain = noted
    for timer, seconds in ((signal.ITIMER_PROF, limit_s), (signal.ITIMER_REAL, WALL * limit_s)):
        signal.setitimer(timer, seconds)
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = module.main(words)
    except Late as error:
        raised.append(error)
        said.write(f"more than {limit_s:g} s")
    except BaseException as error:
        raised.append(error)
        said.write("".join(traceback.format_exception_only(error)))
    finally:
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)
        module._explain = explain
    return code, said.getvalue(), _place(raised[-1]) if raised else ""


def _place(error: BaseException) -> str:
    """The type of an error, and the innermost line of this package that it went through."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "specbench_s2d/" in f.filename]
    inner = next((f for f in reversed(frames) if "cli/main.py" not in f.filename), None)
    at = f"{inner.filename.rpartition('specbench_s2d/')[2]}:{inner.lineno} {inner.name}" if inner else "elsewhere"
    return f"{type(error).__name__} at {at}"


def _kind(code: int | None, said: str, where: str) -> str:
    """What is wrong with an outcome, or `fine`."""
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    if code is None:
        return "hang" if where.startswith("Late") else "raised"
    if "Traceback (most recent call last)" in said:
        return "traceback"
    if any(line.startswith("error: unexpected ") for line in errors):
        return "unexpected"
    if code not in (0, 1, 2, 3):
        return "exit code"
    if code == 2 and (len(errors) != 1 or said.rstrip("\n").rpartition("\n")[2] != errors[0]):
        return "no line" if not errors else "more lines"
    if re.search(r"^\S+:\d+: \w*Warning: ", said, re.MULTILINE):
        return "warning"
    if re.search(r"[\0-\x08\x0b-\x1f\x7f]", said):
        return "control character"
    return "fine"


def _listen() -> None:
    """Let timers end a case."""
    for name in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(name, _late)


def _late(*_: Any) -> None:
    raise Late


def _work(cases: list[Case], limit_s: float, work: Path, theirs: Connection) -> None:
    """Run cases one after another, and send what each did."""
    _listen()
    import torch

    torch.set_num_threads(1)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM_BYTES, resource.RLIM_INFINITY))
    for case in cases:
        theirs.send(seen(case, limit_s, work / f"{case.number}"))
    theirs.close()


def results(cases: list[Case], limit_s: float, work: Path) -> Iterator[Seen]:
    """What every case did, in forked processes: one that dies or does not answer costs its case alone."""
    context, left = multiprocessing.get_context("fork"), list(cases)
    while left:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(left[:AT_ONCE], limit_s, work, theirs))
        process.start()
        theirs.close()
        for _ in range(len(left[:AT_ONCE])):
            case, kind = left[0], ""
            if not ours.poll(WALL * limit_s + 20):
                kind = "hang"
            else:
                try:
                    yield ours.recv()
                except EOFError:
                    process.join()
                    kind = f"died ({process.exitcode})"
            left.pop(0)
            if kind:
                yield Seen(case.domain, case.number, kind, None, "", "", " ".join(case.words)[:200], limit_s)
                break
        process.kill()
        process.join()


def facts(rows: list[Seen], seed: int, limit_s: float) -> dict[str, Any]:
    """Counts by domain and kind, the faults by place, and the longest case."""
    names = list(dict.fromkeys(row.domain for row in rows))
    counts = {name: Counter(row.kind for row in rows if row.domain == name) for name in names}
    faults = [row for row in rows if row.kind != "fine"]
    places = Counter((row.domain, row.kind, row.where) for row in faults)
    codes = Counter(str(row.code) for row in rows)
    return {
        "seed": seed,
        "limit_s": limit_s,
        "cases": len(rows),
        "faults": len(faults),
        "longest_s": max((row.seconds for row in rows), default=0.0),
        "exit_codes": dict(sorted(codes.items())),
        "outcomes": {name: dict(sorted(of.items())) for name, of in counts.items()},
        "places": [{"domain": d, "kind": k, "where": w, "cases": n} for (d, k, w), n in places.most_common()],
    }


def replay(path: Path, limit_s: float) -> None:
    """Run a saved case again, in this process, with its traceback."""
    case = Case.read(path)
    print("specbench-s2d", *case.words)
    with TemporaryDirectory() as scratch:
        row = seen(case, limit_s, Path(scratch) / "case")
        print(f"{row.kind}, exit code {row.code}, {row.seconds} s, {row.where}\n{row.said}")
        if row.kind not in ("fine", "hang"):
            os.environ["SPECBENCH_DEBUG"] = "1"
            again = replace(case, words=[*case.words])
            print(seen(again, limit_s, Path(scratch) / "again").said)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--domain", action="append", help="one kind of input; repeatable; default: all in turn")
    parser.add_argument("--limit", type=float, default=5.0, help="seconds of processor time that a case may take")
    parser.add_argument("--plots", action="store_true", help="draw plots too; give --limit 30 with it")
    parser.add_argument("--save", type=Path, help="folder for the inputs whose outcome is not fine")
    parser.add_argument("--out", type=Path, help="JSON file of the counts")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one saved input")
    return parser.parse_args()


def run_all(names: list[str], cases: int, seed: int, limit_s: float, save: Path | None = None) -> list[Seen]:
    """Draw cases of the domains `names` and run them."""
    rows = []
    with TemporaryDirectory() as scratch:
        folder, work = Path(scratch) / "sound", Path(scratch) / "work"
        work.mkdir()
        maker = multiprocessing.get_context("fork").Process(target=_make, args=(folder,))
        maker.start()  # in a process of its own, for a fork takes no threads along
        maker.join()
        if maker.exitcode:
            raise SystemExit("the sound files could not be made")
        all_cases = list(drawn(names, cases, seed, Sound(folder)))
        for case, row in zip(all_cases, results(all_cases, limit_s, work), strict=True):
            rows.append(row)
            if row.kind == "fine":
                continue
            print(f"{row.domain} {row.number}: {row.kind}: {row.where}\n    {row.command}\n    {row.said[-300:]!r}")
            if save:
                save.mkdir(parents=True, exist_ok=True)
                (save / f"{row.domain.replace(' ', '-')}-{row.number}.json").write_text(case.json(), encoding="utf-8")
    return rows


def _make(folder: Path) -> None:
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            make_sound(folder, run_cli)
    except AssertionError as error:
        raise SystemExit(f"{error}: {said.getvalue()}") from None


def main() -> None:
    asked = _arguments()
    prepare(asked.plots)
    if asked.replay:
        _listen()
        replay(asked.replay, asked.limit)
        return
    names = asked.domain or list(domains(commands()))
    rows = run_all(names, asked.cases, asked.seed, asked.limit, asked.save)
    counted = facts(rows, asked.seed, asked.limit)
    print(f"{counted['cases']} inputs, {counted['faults']} not fine, longest {counted['longest_s']} s")
    for name, outcomes in counted["outcomes"].items():
        print(f"  {name:12}", ", ".join(f"{kind} {count}" for kind, count in outcomes.items()))
    for place in counted["places"]:
        print(f"  {place['cases']:5} {place['domain']:10} {place['kind']:12} {place['where']}")
    if asked.out:
        asked.out.write_text(json.dumps(counted, indent=1) + "\n", encoding="utf-8")
    sys.exit(1 if counted["faults"] else 0)


if __name__ == "__main__":
    main()
