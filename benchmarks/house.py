"""How far one has to walk in this house: sizes, and the ways that a question and a run's table take through the code.

    python benchmarks/house.py            # this checkout
    python benchmarks/house.py --list     # and every function on both ways, in the order of first entry

A way is the package's functions in the order in which they are first entered, each once: `calls` is their number,
`files` the files they stand in, `returns` how often the way goes to a file that it had left before. A question's way
runs from `execute` to its record: the functions that a run of eight questions enters more often than a run of one does,
once more for every question or oftener. Of decoding, measure and models only the functions that the bench itself calls
count, for what they do inside is theirs. The table's way runs from records to summary.csv and what is drawn from it.
"""

from __future__ import annotations

import argparse
import ast
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "specbench_s2d"
INNER = ("decoding", "measure", "models")
QUESTIONS, TRIALS = 8, 2
Stop = tuple[str, str]
"""File below the package, and function."""


def walked(run: Callable[[], Any], inner: tuple[str, ...]) -> Counter[Stop]:
    """How often each function of the package is entered, in the order of first entries; below `inner` only those that
    others call."""
    found: Counter[Stop] = Counter()

    def place(frame: FrameType | None) -> str | None:
        name = Path(frame.f_code.co_filename) if frame else None
        return name.relative_to(PACKAGE).as_posix() if name and PACKAGE in name.parents else None

    def caller(frame: FrameType) -> str | None:
        back = frame.f_back
        while back is not None and place(back) is None:
            back = back.f_back
        return place(back)

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        if event != "call" or (here := place(frame)) is None:
            return
        name = frame.f_code.co_name
        if name.startswith("<") or (here.startswith(inner) and (caller(frame) or "").startswith(inner)):
            return
        found[here, frame.f_code.co_qualname] += 1

    sys.setprofile(watch)
    try:
        run()
    finally:
        sys.setprofile(None)
    return found


def counts(way: list[Stop]) -> dict[str, int]:
    files, returns, seen = [file for file, _ in way], 0, set()
    for before, now in zip([None, *files], files, strict=False):
        returns += now != before and now in seen
        seen.add(now)
    return {"calls": len(way), "files": len(seen), "returns": returns}


def question_way() -> list[Stop]:
    """One question, two decoders, from `execute` to its records."""
    from specbench_s2d.bench.plan import make_plan
    from specbench_s2d.bench.runner import execute
    from specbench_s2d.config import RunSpec

    def entered(questions: int, folder: str) -> Counter[Stop]:
        decoders = ["ar", "sd:draft=demo-tiny"]
        spec = RunSpec(
            target=["demo-s"], decoder=decoders, suite=["qa"], limit=questions, max_new_tokens=4, device="cpu"
        )
        plan = make_plan(spec)
        assert plan.cells == questions * len(decoders)
        return walked(lambda: execute(plan, Path(folder) / str(questions)), INNER)

    one: Counter[Stop] = Counter()
    many: list[Counter[Stop]] = []
    for _ in range(TRIALS):  # a warm-up takes as many runs as it takes: what differs by chance is not the question's
        with tempfile.TemporaryDirectory() as folder:
            one |= entered(1, folder)
            many.append(entered(QUESTIONS, folder))
    more = QUESTIONS - 1
    return [stop for stop in one if all(of_many[stop] - one[stop] >= more for of_many in many)]


def table_way() -> list[Stop]:
    """The committed demo run's records to its tables."""
    from specbench_s2d.analysis.report.write import write_summary
    from specbench_s2d.runs.folder import read_records

    records = read_records(ROOT / "results" / "baselines" / "demo")
    with tempfile.TemporaryDirectory() as folder:
        return list(walked(lambda: write_summary(records, Path(folder)), ()))


def sizes() -> list[tuple[str, int, int]]:
    """(part, files, lines) of each part of the package, and of the package, tests and benchmarks whole."""
    parts = sorted(path for path in PACKAGE.iterdir() if path.is_dir() and (path / "__init__.py").exists())
    rows = [(f"specbench_s2d/{part.name}", *_size(part)) for part in parts]
    return [*rows, *((name, *_size(ROOT / name)) for name in ("specbench_s2d", "tests", "benchmarks"))]


def _size(folder: Path) -> tuple[int, int]:
    files = sorted(folder.rglob("*.py"))
    return len(files), sum(path.read_text(encoding="utf-8").count("\n") for path in files)


def longest() -> tuple[str, str]:
    """The package's longest function and longest file."""
    functions, files = [], []
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        where = path.relative_to(PACKAGE).as_posix()
        files.append((text.count("\n"), where))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                functions.append(((node.end_lineno or 0) - node.lineno + 1, f"{where}:{node.name}"))
    return tuple(f"{name}, {lines} lines" for lines, name in (max(functions), max(files)))  # type: ignore[return-value]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--list", action="store_true", help="every function on both ways")
    listed = parser.parse_args().list
    for part, files, lines in sizes():
        print(f"{part:28} {files:4} files {lines:6} lines")
    function, file = longest()
    print(f"longest function: {function}; longest file: {file}")
    flat = [path for path in (PACKAGE / "analysis").glob("*.py") if path.name != "__init__.py"]
    print(f"flat files in analysis: {len(flat)}")
    for name, way in (("a question", question_way()), ("a run's table", table_way())):
        print(f"the way of {name}:", ", ".join(f"{value} {what}" for what, value in counts(way).items()))
        for file, function in way if listed else ():
            print(f"  {file}:{function}")


if __name__ == "__main__":
    main()
