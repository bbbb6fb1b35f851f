"""Kill commands at any moment, give them again, and hold what is there then to what an undisturbed command leaves.

    python benchmarks/kills.py [--kills 225] [--only NAME …] [--seed 0] [--out FILE]

A kill (SIGKILL) comes at a moment drawn by the seed between the start of a command and its usual end, to one process of
it: the command itself, a worker, or one of Ray's. Every fifth waits until a file is being written: a manifest, a
summary, a picture, weights. Then the same command is given again, and once more where it asks for that.

Afterwards: every cell is there once, with the tokens that an undisturbed run gives; records that were there before are
there still; tables, plots, exports and weights are those of an undisturbed command, byte for byte; nothing half-written
lies about; no process outlives its command by more than 5 s, or 90 s where it is Ray's own: a node's agents try for a
minute to reach the head that died with the command.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from figures import measured, show, write

from specbench_s2d.runs.folder import MANIFEST, RECORDS, read_manifest, read_records

RUN = ["run", "--target", "demo-tiny,demo-s", "--decoder", "ar,lookup", "--decoder", "sd:draft=demo-tiny", "--suite",
       "qa", "--limit", "2", "--launches", "2", "--max-new-tokens", "12", "--device", "cpu"]  # fmt: skip
ON_RAY = ["--ray", "--devices", "2", "--launches", "1"]
OUTLIVES_S, AGENT_OUTLIVES_S, WAIT_S, LONGEST_S, MOST_TRIES = 5.0, 90.0, 0.0005, 300.0, 3
OF_RAY = ("ray::DashboardAgent", "ray::RuntimeEnvAgent", "ray::IDLE")
PARTS = {"worker": "spawn_main", "ray worker": "ray::", "ray node": "raylet", "ray head": "gcs_server"}
"""What the command line of the process to be killed holds."""


@dataclass(frozen=True)
class Scenario:
    """A command and how it is killed. `command`: of the folder that it writes; `victim`: one of `PARTS`, or the command
    itself; `share`: its part of all kills; `same`: which files must be those of an undisturbed command, byte for
    byte, where it writes no run; `writing`: of each five kills, how many wait until a file is being written."""

    name: str
    command: Callable[[Path], list[str]]
    share: int
    victim: str | None = None
    same: str = ""
    writing: int = 1


@dataclass
class Outcome:
    """What became of one kill."""

    scenario: str
    moment_s: float
    writing: str | None
    alive: bool
    tries: int = 0
    faults: list[str] = field(default_factory=list)


def scenarios(base: Path, data: Path) -> list[Scenario]:
    """All of them; `base` is a finished run, `data` a file of chats."""

    def run(*more: str) -> Callable[[Path], list[str]]:
        return lambda folder: [*RUN, *more, "--out", str(folder)]

    def of_base(*command: str) -> Callable[[Path], list[str]]:
        return lambda folder: [*command, "--out", str(folder)]

    train = ["train", "eagle", "--target", "demo-tiny", "--data", str(data), "--tokens", "6000", "--length", "128",
             "--batch", "4", "--checkpoint-every", "2", "--validate-every", "6"]  # fmt: skip
    answers = sorted(map(str, (base / "answers").rglob("*.jsonl")))
    return [
        Scenario("run", run(), 45),
        Scenario("run --devices 2", run("--devices", "2"), 15),
        Scenario("run --devices 2, a worker", run("--devices", "2"), 15, "worker"),
        Scenario("run --ray", run(*ON_RAY), 15),
        Scenario("run --ray, a worker", run(*ON_RAY), 15, "ray worker"),
        Scenario("run --ray, the node", run(*ON_RAY), 10, "ray node"),
        Scenario("run --ray, the head", run(*ON_RAY), 10, "ray head"),
        Scenario("report", lambda folder: ["report", str(folder)], 40, same="*"),
        Scenario("report, while it writes", lambda folder: ["report", str(folder)], 25, same="*", writing=5),
        Scenario("export", of_base("export", str(base), "--format", "csv"), 20, same="*"),
        Scenario("import", of_base("import", *answers), 20),
        Scenario("train eagle", of_base(*train), 20, same="*.safetensors"),
    ]


def contents(folder: Path, pattern: str) -> dict[str, str]:
    """The files of a folder by a hash of what is in them."""
    paths = [path for path in folder.rglob(pattern) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)}


def cells(folder: Path) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """The output of every cell of a run; raises where one is there twice."""
    found: dict[tuple[Any, ...], tuple[int, ...]] = {}
    for r in read_records(folder):
        cell = (r.target, r.label, r.suite, r.question_id, r.turn, r.repeat, r.launch)
        if cell in found:
            raise ValueError(f"twice: {cell}")
        found[cell] = tuple(r.output_ids or ())
    return found


def start(command: list[str], log: Path) -> psutil.Popen:
    with log.open("ab") as said:
        return psutil.Popen([sys.executable, "-m", "specbench_s2d", *command], stdout=said, stderr=said,
                            start_new_session=True)  # fmt: skip


def undisturbed(scenario: Scenario, prepare: Callable[[Path], Any], folder: Path, log: Path) -> float:
    """Give the command once; its seconds."""
    prepare(folder)
    begun = time.monotonic()
    code = start(scenario.command(folder), log).wait(LONGEST_S)
    if code != 0:
        raise SystemExit(f"{scenario.name}: exit code {code} without any kill; see {log}")
    return time.monotonic() - begun


def killed(
    scenario: Scenario, folder: Path, moment_s: float, while_writing: bool, log: Path
) -> tuple[Outcome, list[psutil.Process]]:
    """Start the command and kill a process of it: after `moment_s`, or, from then on, as soon as a file is being
    written. Also the processes of Ray's own that are left."""
    process = start(scenario.command(folder), log)
    deadline, limit = time.monotonic() + moment_s, time.monotonic() + LONGEST_S
    writing, alive = None, False
    while process.poll() is None and time.monotonic() < limit:
        if time.monotonic() >= deadline:
            partial = next(_partials(folder), None)
            victim = _victim(process, scenario.victim) if partial or not while_writing else None
            if victim:
                victim.suspend()  # what is being written now stays so
                partial = next(_partials(folder), None)
                if partial or not while_writing:
                    victim.send_signal(signal.SIGKILL)
                    writing, alive = partial.name if partial else None, True
                    break
                victim.resume()
        time.sleep(WAIT_S)
    others = [] if scenario.victim else _family(process)
    process.wait(LONGEST_S)
    faults = []
    left = {other: _command_line(other) for other in psutil.wait_procs(others, OUTLIVES_S)[1]}
    agents = [other for other, line in left.items() if line in OF_RAY]
    faults += [
        f"lives {OUTLIVES_S:.0f} s after its command: {line}"
        for other, line in left.items()
        if other not in agents and _runs(other)
    ]
    return Outcome(scenario.name, moment_s, writing, alive, faults=faults), agents


def _family(process: psutil.Popen) -> list[psutil.Process]:
    """The processes of a command's session but for itself."""
    found = []
    for other in psutil.process_iter():
        try:
            if other.pid != process.pid and os.getsid(other.pid) == process.pid:
                found.append(other)
        except (ProcessLookupError, PermissionError):
            continue
    return found


def _victim(process: psutil.Popen, wanted: str | None) -> psutil.Process | None:
    if wanted is None:
        return process
    for child in process.children(recursive=True):
        if PARTS[wanted] in _command_line(child):
            return child
    return None


def _runs(process: psutil.Process) -> bool:
    """Whether a process does anything still: one that has ended may wait for the system to take note."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _command_line(process: psutil.Process) -> str:
    """The command line of a process; empty of one that has ended."""
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.Error:
        return ""


def _partials(folder: Path) -> Iterator[Path]:
    for above in (folder, folder / "plots"):
        try:
            yield from (Path(each.path) for each in os.scandir(above) if each.name.endswith(".partial"))
        except OSError:
            continue
    beside = folder.with_name(folder.name + ".partial")
    if beside.exists():
        yield beside


def completed(scenario: Scenario, folder: Path, reference: Path, outcome: Outcome, log: Path) -> None:
    """Give the command again until it ends well, or refuses a folder in which all is done (`import`)."""
    while outcome.tries < MOST_TRIES:
        outcome.tries += 1
        code = start(scenario.command(folder), log).wait(LONGEST_S)
        if code == 0 or (code == 2 and not judged(scenario, folder, reference, b"")):
            return
    outcome.faults.append(f"exit code {code} after {MOST_TRIES} tries")


def judged(scenario: Scenario, folder: Path, reference: Path, before: bytes) -> list[str]:
    """What is wrong with a folder beside that of an undisturbed command."""
    faults = [f"left behind: {path.name}" for path in _partials(folder)]
    if scenario.same:
        ours, theirs = contents(folder, scenario.same), contents(reference, scenario.same)
        faults += [f"differs: {name}" for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)]
        return faults
    try:
        if cells(folder) != cells(reference):
            faults.append("other cells or tokens than an undisturbed run's")
    except Exception as error:
        faults.append(str(error))
    if (folder / RECORDS).exists() and not (folder / RECORDS).read_bytes().startswith(before):
        faults.append("records that were there before are changed")
    ours, theirs = read_manifest(folder), read_manifest(reference)
    missing = [name for name, value in theirs.items() if value is not None and ours.get(name) is None]
    faults += [f"the manifest lacks {name}" for name in missing]
    here = {path.name for path in folder.rglob("*")}
    faults += [f"missing: {path.name}" for path in reference.rglob("*") if path.name not in here]
    return faults


def whole_lines(folder: Path) -> bytes:
    """The records of a run up to the last line that is whole."""
    path = folder / RECORDS
    text = path.read_bytes() if path.exists() else b""
    return text[: text.rfind(b"\n") + 1]


def attacked(scenario: Scenario, kills: int, draw: random.Random, room: Path, base: Path) -> Iterator[Outcome]:
    """Kill a command so many times, each in a folder of its own."""
    reference, log = room / "reference", room / "log"

    def prepare(folder: Path) -> None:
        if scenario.name.startswith("report"):
            shutil.copytree(base, folder, ignore=shutil.ignore_patterns("answers", "plots", "summary.*", "report.html"))

    usual_s = undisturbed(scenario, prepare, reference, log)
    for number in range(kills):
        folder = room / f"{number}"
        folder = folder / "reference"  # the page of a run has the name of its folder
        folder.parent.mkdir()
        prepare(folder)
        while_writing = number % 5 >= 5 - scenario.writing and scenario.victim is None
        moment_s = draw.uniform(0, 0.3 if while_writing else 0.98) * usual_s
        outcome, agents = killed(scenario, folder, moment_s, while_writing, log)
        before = whole_lines(folder)
        completed(scenario, folder, reference, outcome, log)
        outcome.faults += judged(scenario, folder, reference, before)
        if psutil.wait_procs(agents, AGENT_OUTLIVES_S)[1]:
            outcome.faults.append(f"Ray's processes live {AGENT_OUTLIVES_S:.0f} s after their command")
        if not outcome.faults:
            shutil.rmtree(folder.parent)
        yield outcome


def show_all(outcomes: list[Outcome]) -> None:
    """A row for each command, then every fault."""
    rows = []
    for name in dict.fromkeys(outcome.scenario for outcome in outcomes):
        of = [outcome for outcome in outcomes if outcome.scenario == name and outcome.alive]
        rows.append([name, len(of), sum(bool(o.writing) for o in of), sum(bool(o.faults) for o in of)])
    show("killed commands, given again", ["command", "kills", "while writing", "faults"], rows)
    for outcome in outcomes:
        for fault in outcome.faults:
            print(f"{outcome.scenario}, killed after {outcome.moment_s:.2f} s: {fault}")


def main(
    kills: Annotated[int, typer.Option(min=1, help="Kills in all, shared among the commands.")] = 225,
    only: Annotated[list[str] | None, typer.Option(help="Scenarios by name.")] = None,
    seed: Annotated[int, typer.Option(help="Draws the moments.")] = 0,
    folder: Annotated[Path | None, typer.Option(help="Work here, and keep what shows faults.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the outcomes as JSON, beside those that it has of other scenarios.")
    ] = None,
) -> None:
    """Kill, go on, compare."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        room = folder or Path(temporary)
        base, data = room / "base", room / "chats.jsonl"
        _prepare(base, data, room / "log")
        chosen = [each for each in scenarios(base, data) if not only or each.name in only]
        outcomes: list[Outcome] = []
        for scenario in chosen:
            count = max(1, round(kills * scenario.share / sum(each.share for each in chosen)))
            place = room / scenario.name.replace(" ", "_").replace(",", "")
            place.mkdir()
            for outcome in attacked(scenario, count, random.Random(f"{seed} {scenario.name}"), place, base):
                outcomes.append(outcome)
                print(asdict(outcome), flush=True)
        show_all(outcomes)
    if out:
        merge_into(out, outcomes)
    raise SystemExit(int(any(outcome.faults for outcome in outcomes)))


def merge_into(out: Path, outcomes: list[Outcome]) -> None:
    """Write the outcomes by their command, in place of those that the file has of the same commands."""
    kept = json.loads(out.read_text(encoding="utf-8"))["commands"] if out.exists() else {}
    names = dict.fromkeys(outcome.scenario for outcome in outcomes)
    found = {name: _facts([outcome for outcome in outcomes if outcome.scenario == name]) for name in names}
    write(out, {**measured("commands killed and given again; see benchmarks/kills.py"), "commands": {**kept, **found}})


def _facts(outcomes: list[Outcome]) -> dict[str, Any]:
    """Of one command: how often it was killed, after how many seconds, and every fault with its kill."""
    killed = [outcome for outcome in outcomes if outcome.alive]
    return {
        "kills": len(killed),
        "while_writing": sum(bool(outcome.writing) for outcome in killed),
        "had_ended": len(outcomes) - len(killed),
        "moments_s": [round(outcome.moment_s, 2) for outcome in killed],
        "with_faults": [asdict(outcome) for outcome in outcomes if outcome.faults],
    }


def _prepare(base: Path, data: Path, log: Path) -> None:
    """A finished run, its answer files, and chats to learn from."""
    steps = [
        [*RUN, "--out", str(base)],
        ["export", str(base), "--format", "spec-bench", "--out", str(base / "answers")],
    ]
    for command in steps:
        if start(command, log).wait(LONGEST_S) != 0:
            raise SystemExit(f"{' '.join(command)}: failed; see {log}")
    assert (base / MANIFEST).exists()
    texts = dict.fromkeys(r.output_text for r in read_records(base) if r.output_text)
    chats = [[{"role": "user", "content": "Go on."}, {"role": "assistant", "content": text}] for text in texts]
    data.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats * 20), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
