"""Every command's screen, as a terminal or a pipe shows it, to be read by eye; what a program can see is marked.

    python benchmarks/screens.py --out DIR [--as PLACE …] [--only WORD …] [--without WORD …]

Each command runs in a fork of this process, which has loaded what they need, on a pseudo-terminal (`tty-…`) or into a
pipe (`pipe-…`), at 80 and 120 columns, in UTF-8, in the C locale and in latin-1; `DIR/PLACE.txt` gets the screens.
A live screen is kept as it stood at the end of a command. Below a screen stand its lines that are too wide, hold
characters that the encoding lacks, a doubled word or a number of seven digits, or come from a library's warning.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib
import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import struct
import sys
import termios
import time
from dataclasses import dataclass
from pathlib import Path

os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TERM": "xterm"}

from rich.cells import cell_len

ROOT = Path(__file__).resolve().parents[1]
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
_HELP = """run  merge  report
compare  check  export  project  import  suites  decoders  env  models  models pull  train
train tokenizer  train lm  train sft  train soft  train answers  train eagle  train medusa  train ranking  train demo"""
_COMMANDS = """--help
--version
suites
suites qa
suites --questions {out}/问题.jsonl
decoders
env
models
models pull smollm2-135n
run --target demo-tiny,demo-s --decoder ar,lookup {small} --out {run}/small
run --target demo-tiny,demo-s --decoder ar,lookup {small} --out {run}/small
run --target demo-s --decoder ar,sd,s2d,mjsd,mjgd,eagle {small} --repeats 2 --out {run}/six
run --target demo-tiny --decoder ar,lookup,suffix {small} --devices 2 --out {run}/pool
run --target demo-tiny --decoder ar,lookup {small} --temperature 1 --out {run}/warm
run --target demo-tiny --decoder ar,lookup {small} --max-new-tokens 1 --out {run}/one
run --target shape:demo-tiny --decoder ar,lookup {small} --ignore-eos --out {run}/shape
run --target {out}/模型🙂 --decoder ar,lookup {names} --out {run}/names
run --target demo-tiny --decoder ar,lookup {small} --seed 7 --max-new-tokens 13 --out {run}/small
run --dry-run --out {run}/dry
run demo/s2d --dry-run --out {run}/dry
run papers/s2d --dry-run --out {run}/dry
run demo/spec_bench --dry-run --devices 2 --device cpu --out {run}/dry
run --target demo-s --decoder ar,sd --dry-run --devices 2 --device cpu --out {run}/dry
run --target shape:llama-2-7b --decoder ar,lookup {small} --dry-run --out {run}/dry
report {run}/small
report {run}/six
report {run}/pool
report {run}/one
report {run}/warm
report {run}/shape
report {run}/names
report {out}/smollm2
report {out}/spec_bench
check {run}/small --baseline {run}/small
check {run}/six --baseline {run}/small
check {run}/small --baseline {run}/small --speed judge
check results/baselines/gate --baseline results/baselines/gate-2 --baseline results/baselines/gate-3
check results/baselines/demo --baseline results/baselines/gate
check results/benchmarks/s2d --baseline results/benchmarks/s2d --require-speed
compare {run}/small {run}/six
compare {run}/six {run}/six
compare {run}/six --against ar
compare {run}/six --against sd
compare {run}/small --against lookup
compare results/benchmarks/s2d results/benchmarks/spec_bench
compare results/benchmarks/smollm2 results/benchmarks/smollm2_spec_bench
compare results/baselines/gate results/baselines/gate-2
compare results/benchmarks/s2d published:s2d
compare results/benchmarks/mjsd published:mjsd
compare results/benchmarks/mjsd published:mjsd --as 'demo-l=mean over targets'
compare results/benchmarks/smollm2_spec_bench published:spec-bench
compare {run}/small published:spec-bench
compare {run}/small published:spec-bench --as demo-s=vicuna-7b-v1.3 --as demo-tiny=vicuna-13b-v1.3
compare results/benchmarks/spec_bench published:spec-bench --as demo-l=vicuna-7b-v1.3
compare results/benchmarks/s2d published:s2d --as demo-l=vicuna-7b --as demo-m=vicuna-7b
compare results/benchmarks/mjsd --against ar
compare results/benchmarks/smollm2 --against suffix
project --target demo-s --draft demo-draft --acceptance results/benchmarks/s2d {quick}
project --target demo-s --draft demo-draft --acceptance published:s2d {quick} --as demo-s=vicuna-7b
project --target demo-l --draft demo-tiny --acceptance results/benchmarks/mjsd {quick}
export {run}/small --format spec-bench --out {run}/e1
export {run}/six --format csv --out {run}/e2
export {run}/six --format latex --out {run}/e3
export {run}/six --format tikz --out {run}/e5
merge {run}/small {run}/six --out {run}/m
import {run}/e1/demo-s-ar-repeat-0.jsonl {run}/e1/demo-s-lookup-repeat-0.jsonl --out {run}/imported
report {run}/imported
import {out}/nothing.jsonl --out {run}/i
train tokenizer --data {out}/chats.jsonl --out {run}/tokenizer --vocabulary 300
train lm --data {out}/chats.jsonl --out {run}/lm --tokenizer demo-tiny --layers 1 --width 64 {steps}
train soft --data {out}/chats.jsonl --source demo-tiny --layers 2 --exits 1,2 --out {run}/soft {steps}
train eagle --data {out}/chats.jsonl --target demo-tiny --out {run}/eagle {steps}
train answers --data {out}/chats.jsonl --source demo-tiny --out {run}/answers.jsonl --limit 12 --max-new-tokens 12
train ranking --data {out}/chats.jsonl --draft {run}/soft
train lm --data suites/questions/qa.jsonl --tokens 4k --tokenizer demo-tiny --out {run}/bad
run --target demo-sx
run --decoder sq
run --suite qq
run --decoder sd:gama=3
run --temperature inf
run --tokens 5
run --limit 0
rnu
report {run}/none
report results
compare {run}/small
check {run}/small
compare {run}/small published:nothing
export {run}/small
project
run nothing.toml
run --target demo-tiny --draft demo-l --decoder sd --dry-run --out {run}/dry
run --device cuda --dry-run
run --target demo-tiny --decoder ar,eagle --dry-run --out {run}/dry
train lm
train nothing
models pull"""
_WORDS = {
    "small": "--suite qa --limit 2 --max-new-tokens 12 --device cpu",
    "names": "--questions {out}/问题.jsonl --max-new-tokens 12 --device cpu",
    "quick": "--device cpu --context 64 --gamma-max 4",
    "steps": "--tokens 6k --length 64 --batch 2 --micro-batch 2 --validate-every 20",
}
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
    how = f"exit {os.waitstatus_to_exitcode(status)}"
    return raw.decode(place.encoding, "backslashreplace"), time.monotonic() - began, how


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
            lines[row] = piece + lines[row][1 + len(piece) :] if lines[row].startswith("\r") else lines[row] + piece
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


def commands(out: Path, place: str) -> list[str]:
    """Every command line, with the folders of a place."""
    helps = [f"{name} --help" for name in re.split(r"\s{2,}|\n", _HELP)]
    words = {word: flags.format(out=out) for word, flags in _WORDS.items()}
    return [*helps, *(line.format(out=out, run=out / place, **words) for line in _COMMANDS.splitlines())]


def make_inputs(out: Path) -> None:
    """Questions and a model with names of many scripts, chats, and committed runs where a report may be written."""
    out.mkdir(parents=True, exist_ok=True)
    asked = [("数学🙂", f"What is {i}+2?") for i in range(2)] + [("ترجمة", "What is 4+2?")]
    rows = [{"question_id": i, "category": about, "turns": [text]} for i, (about, text) in enumerate(asked)]
    (out / "问题.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    say = "The river runs to the sea, and the sea gives it back as rain. "
    chats = [
        [{"role": "user", "content": f"Tell me of {i}."}, {"role": "assistant", "content": say * 3}] for i in range(80)
    ]
    (out / "chats.jsonl").write_text("".join(json.dumps({"messages": c}) + "\n" for c in chats), encoding="utf-8")
    shutil.copytree(ROOT / "specbench_s2d" / "demo" / "demo-tiny", out / "模型🙂", dirs_exist_ok=True)
    for name in ("smollm2", "spec_bench"):
        shutil.copytree(ROOT / "results" / "benchmarks" / name, out / name, dirs_exist_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--as", nargs="*", dest="places", default=list(PLACES), choices=list(PLACES))
    parser.add_argument("--only", nargs="*", default=[""], help="commands that hold one of these texts")
    parser.add_argument("--without", nargs="*", default=[], help="commands that hold none of these texts")
    given = parser.parse_args()
    make_inputs(given.out)
    sys.argv = ["specbench-s2d"]
    for module in _MODULES:
        importlib.import_module(module)
    for name in given.places:
        with (given.out / f"{name}.txt").open("w", encoding="utf-8") as file:
            for command in commands(given.out, name):
                if any(word in command for word in given.only) and not any(word in command for word in given.without):
                    argv = shlex.split(command)
                    raw, seconds, how = screen(argv, PLACES[name])
                    lines = settled(raw)
                    marked = (f"  >>> {one}\n" for one in blemishes(lines, PLACES[name], argv))
                    text = "\n".join(lines).rstrip()
                    file.write(f"{'=' * 30} $ {command}   ({seconds:.1f} s, {how})\n{text}\n{''.join(marked)}")
                    file.flush()


if __name__ == "__main__":
    main()
