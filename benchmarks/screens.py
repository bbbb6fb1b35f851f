"""Every command's screen, as a terminal or a pipe shows it, to be read by eye; blemishes that a program can see are marked.

    python benchmarks/screens.py --out DIR [--only WORD …] [--as NAME …]

Each command runs in a fork of this process, which has loaded what they need, on a pseudo-terminal (`tty-…`) or into a
pipe (`pipe-…`), at 80 and 120 columns, in UTF-8, in the C locale and in latin-1; `DIR/NAME.txt` gets the screens of each
of these. A live screen is kept as it stood at its last update. After a screen stand the lines that are wider than it,
hold characters that the encoding lacks, a doubled word, a number of seven digits, or come from a library's warning.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib
import os
import pty
import re
import select
import shlex
import signal
import struct
import sys
import termios
import time
from dataclasses import dataclass
from pathlib import Path

os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TERM": "xterm"}

from rich.cells import cell_len

LIMIT_S = 900
_MODULES = (
    "specbench_s2d.cli.main", "specbench_s2d.bench.launches", "specbench_s2d.bench.forecast", "specbench_s2d.cli.live",
    "specbench_s2d.analysis.report.write", "specbench_s2d.analysis.gate.judge", "specbench_s2d.training.init_model",
    "specbench_s2d.exchange.export", "specbench_s2d.exchange.answer_import", "specbench_s2d.bench.pass_costs",
    "specbench_s2d.analysis.projection.table", "specbench_s2d.analysis.compare.folders", "specbench_s2d.training.heads",
    "specbench_s2d.training.trainer", "specbench_s2d.runs.merge", "transformers",
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where a screen is shown: its name, the columns, the encoding of the streams, and whether it is a terminal."""

    name: str
    columns: int
    encoding: str = "utf-8"
    environment: tuple[tuple[str, str], ...] = ()
    terminal: bool = True


_C = (("LC_ALL", "C"),)
_LATIN = (("LC_ALL", "en_US.ISO-8859-1"), ("PYTHONIOENCODING", "latin-1"))
PLACES = {
    place.name: place
    for place in (
        Place("tty-120", 120),
        Place("tty-80", 80),
        Place("tty-120-c", 120, environment=_C),
        Place("tty-80-c", 80, environment=_C),
        Place("tty-120-latin-1", 120, "latin-1", _LATIN),
        Place("tty-80-latin-1", 80, "latin-1", _LATIN),
        Place("pipe-120", 120, terminal=False),
        Place("pipe-80-c", 80, environment=_C, terminal=False),
    )
}
_BENCH, _BASE = "results/benchmarks", "results/baselines"
_HELP = (
    "", "run", "merge", "report", "compare", "check", "export", "project", "import", "suites", "decoders", "env", "models",
    "models pull", "train", "train tokenizer", "train lm", "train sft", "train soft", "train answers", "train eagle",
    "train medusa", "train demo",
)  # fmt: skip
_SMALL = "--suite qa --limit 2 --max-new-tokens 12 --device cpu"
COMMANDS = (
    *(f"{name} --help".strip() for name in _HELP),
    "", "--version", "suites", "suites qa", "suites math", "decoders", "env", "models", "models pull smollm2-135n",
    f"run --target demo-tiny,demo-s --decoder ar,lookup {_SMALL} --out {{out}}/small",
    f"run --target demo-tiny,demo-s --decoder ar,lookup {_SMALL} --out {{out}}/small",
    f"run --target demo-s --decoder ar,sd,s2d,mjsd,mjgd,eagle {_SMALL} --repeats 2 --out {{out}}/six",
    f"run --target demo-tiny --decoder ar,lookup,suffix {_SMALL} --devices 2 --out {{out}}/pool",
    f"run --target demo-tiny --decoder ar,lookup {_SMALL} --temperature 1 --out {{out}}/warm",
    f"run --target demo-tiny --decoder ar,lookup --suite qa --limit 2 --max-new-tokens 1 --device cpu --out {{out}}/one",
    f"run --target shape:llama-68m --decoder ar,lookup {_SMALL} --out {{out}}/shape",
    f"run --target demo-tiny --decoder ar,lookup {_SMALL} --json --out {{out}}/json",
    f"run --target {{out}}/模型🙂 --decoder ar,lookup {_SMALL.replace('--suite qa', '--questions {out}/问题.jsonl')} --out {{out}}/names",
    "run --dry-run", "run demo/s2d --dry-run --out {out}/dry", "run demo/mjsd --dry-run --device cpu --out {out}/dry",
    "run papers/s2d --dry-run --out {out}/dry", "run demo/spec_bench --dry-run --devices 2 --device cpu --out {out}/dry",
    "run --target shape:llama-2-7b --decoder ar,lookup --suite qa --device cpu --dry-run --out {out}/dry",
    "report {out}/small", "report {out}/six", "report {out}/pool", "report {out}/one", "report {out}/warm",
    "report {out}/copy-s2d", "report {out}/copy-mjsd", "report {out}/copy-spec_bench", "report {out}/copy-smollm2",
    "report {out}/copy-h200", "report {out}/copy-demo", "report {out}/names",
    "check {out}/small --baseline {out}/small", "check {out}/six --baseline {out}/small",
    f"check {_BASE}/gate --baseline {_BASE}/gate-2 --baseline {_BASE}/gate-3", f"check {_BASE}/demo --baseline {_BASE}/gate",
    f"check {_BASE}/gate-2 --baseline {_BASE}/gate", f"check {_BENCH}/s2d --baseline {_BENCH}/s2d --require-speed",
    "compare {out}/small {out}/six", "compare {out}/six {out}/small", "compare {out}/six --against ar",
    f"compare {_BENCH}/s2d {_BENCH}/spec_bench", f"compare {_BENCH}/smollm2 {_BENCH}/smollm2_spec_bench",
    f"compare {_BASE}/gate {_BASE}/gate-2", f"compare {_BENCH}/s2d published:s2d", f"compare {_BENCH}/mjsd published:mjsd",
    f"compare {_BENCH}/spec_bench published:spec-bench", f"compare {_BENCH}/smollm2_s2d published:s2d",
    f"compare {_BENCH}/smollm2_spec_bench published:spec-bench", f"compare {_BENCH}/smollm2_mjsd published:mjsd",
    "compare {out}/small published:spec-bench",
    "compare {out}/small published:spec-bench --as demo-s=vicuna-7b-v1.3",
    f"compare {_BENCH}/spec_bench published:spec-bench --as demo-l=vicuna-7b-v1.3",
    f"compare {_BENCH}/s2d published:s2d --as demo-l=vicuna-7b --as demo-m=vicuna-7b",
    f"compare {_BENCH}/mjsd --against ar", f"compare {_BENCH}/smollm2 --against sd", f"compare {_BASE}/demo --against lookup",
    f"project --target demo-s --draft demo-draft --acceptance {_BENCH}/s2d --device cpu --context 64 --gamma-max 4",
    "project --target demo-s --target demo-m --draft demo-draft --acceptance published:s2d --device cpu --context 64 "
    "--gamma-max 4 --as demo-s=vicuna-7b --as demo-m=vicuna-13b",
    f"project --target demo-l --draft demo-draft-sft --acceptance {_BENCH}/mjsd --device cpu --context 64 --gamma-max 3",
    "project", f"project --target demo-l --draft demo-tiny --acceptance {_BENCH}/mjsd",
    "export {out}/small --format spec-bench --out {out}/e1-{place}", "export {out}/six --format csv --out {out}/e2-{place}",
    "export {out}/six --format latex --out {out}/e3-{place}", "export {out}/six --format markdown --out {out}/e4-{place}",
    "export {out}/six --format tikz --out {out}/e5-{place}", "merge {out}/small {out}/six --out {out}/m-{place}",
    "import {out}/nothing.jsonl --out {out}/i-{place}",
    "train lm --data suites/questions/qa.jsonl --out {out}/lm-{place} --tokenizer demo-tiny --layers 1 --width 32 --steps 8",
    "train tokenizer --data suites/questions/qa.jsonl --out {out}/tok-{place} --vocabulary 300",
    "run --target demo-sx", "run --decoder sq", "run --suite qq", "run --decoder sd:gama=3", "run --temperature inf",
    "run --tokens 5", "run --limit 0", "rnu", "report {out}/none", "report results", "compare {out}/small",
    "check {out}/small", "compare {out}/small published:nothing", "export {out}/small", "run nothing.toml",
    "run --target demo-tiny --draft demo-l --decoder sd --dry-run --out {out}/dry", "run --device cuda --dry-run",
    "run --target demo-tiny --decoder ar,eagle --dry-run --out {out}/dry", "train lm", "train nothing", "models pull",
)  # fmt: skip
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]")


def screen(argv: list[str], place: Place) -> tuple[str, float, str]:
    """What a command shows at a place, its seconds, and how it ended; a live screen as it stood at the end."""
    began = time.monotonic()
    if place.terminal:
        child, master = pty.fork()
    else:
        master, writes = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(writes, 1), os.dup2(writes, 2)
        else:
            os.close(writes)
    if child == 0:
        _be(argv, place)
    parts = []
    while time.monotonic() - began < LIMIT_S:
        if select.select([master], [], [], 1)[0]:
            try:
                part = os.read(master, 65536)
            except OSError:
                break
            if not part:
                break
            parts.append(part)
    else:
        os.kill(child, signal.SIGKILL)
    os.close(master)
    status = os.waitpid(child, 0)[1]
    raw = b"".join(parts)
    return raw.decode(place.encoding, "backslashreplace"), time.monotonic() - began, f"exit {os.waitstatus_to_exitcode(status)}"


def _be(argv: list[str], place: Place) -> None:
    """The child: its environment and streams as those of a new process, then the command."""
    for name in ("LC_ALL", "LANG", "LC_CTYPE", "PYTHONUTF8", "PYTHONIOENCODING", "COLUMNS"):
        os.environ.pop(name, None)
    os.environ |= {"LANG": "C.UTF-8", **dict(place.environment)}
    if place.terminal:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 40, place.columns, 0, 0))
    else:
        os.environ["COLUMNS"] = str(place.columns)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = open(number, "w", encoding=place.encoding, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
    code = 1
    try:
        code = importlib.import_module("specbench_s2d.cli.main").main(argv)
    except SystemExit as left:
        code = int(left.code or 0)
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)


def settled(raw: str) -> list[str]:
    """The lines of a terminal after all that a program wrote: it moves up, erases, and returns to a line's start."""
    lines, row = [""], 0
    for piece in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\r\n|\n|\r)", raw):
        if piece in ("\r\n", "\n"):
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif piece == "\r":
            lines[row] = "\r" + lines[row].lstrip("\r")
        elif up := re.fullmatch(r"\x1b\[(\d*)A", piece):
            row = max(0, row - int(up[1] or 1))
        elif re.fullmatch(r"\x1b\[[0-2]?K", piece):
            lines[row] = ""
        elif piece and not _ESCAPE.fullmatch(piece):
            lines[row] = piece + lines[row][1 + len(piece):] if lines[row].startswith("\r") else lines[row] + piece
    return [line.lstrip("\r").rstrip() for line in lines]


def blemishes(lines: list[str], place: Place, argv: list[str]) -> list[str]:
    """Lines that no reader should meet, each with what is wrong."""
    found = []
    for line in lines:
        if cell_len(line) > place.columns and (place.terminal or "error" not in line):
            found.append(f"{cell_len(line)} columns: {line}")
        if place.encoding != "utf-8" or place.environment:
            found += [f"character: {line}"] if not line.isascii() else []
        if re.search(r"\b([a-z]{3,}) \1\b", line):
            found.append(f"doubled: {line}")
        if re.search(r"(?<![\w.#/-])\d{7,}(?![\w.-])", line) and "--json" not in argv:
            found.append(f"raw number: {line}")
        if re.search(r"Warning|Traceback|unexpected|\\x1b|\\u[0-9a-f]{4}|\bnan\b|None\b", line):
            found.append(f"suspect: {line}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=[], help="commands that hold one of these words")
    parser.add_argument("--as", nargs="*", dest="places", default=list(PLACES), choices=list(PLACES))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for module in _MODULES:
        importlib.import_module(module)
    for name in given.places:
        place = PLACES[name]
        with (given.out / f"{name}.txt").open("a", encoding="utf-8") as file:
            for command in dict.fromkeys(COMMANDS):
                if given.only and not any(word in command for word in given.only):
                    continue
                argv = shlex.split(command.format(out=given.out, place=name))
                if "run" in argv[:1] and "--out" in argv and "dry" not in argv[-1]:
                    argv[-1] += f"-{name}" if name != "tty-120" else ""
                raw, seconds, how = screen(argv, place)
                lines = settled(raw)
                file.write(f"{'=' * 30} $ specbench-s2d {shlex.join(argv)}   ({seconds:.1f} s, {how})\n")
                file.write("\n".join(lines).rstrip() + "\n")
                file.writelines(f"  >>> {one}\n" for one in blemishes(lines, place, argv))
                file.flush()


if __name__ == "__main__":
    main()
