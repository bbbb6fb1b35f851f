"""All launches of a run: each a fresh process that loads, warms up and measures the grid, into one folder.

Runs of one command differ by more than their questions do (memory layout, the clock a process happens to get), and
only processes that begin anew show by how much (Kalibera and Jones 2013, "Rigorous benchmarking in reasonable time").
"""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from specbench_s2d.bench.local_process import begin_launch
from specbench_s2d.bench.plan import Plan, make_plan
from specbench_s2d.bench.runner import Event, Outcome, Watcher, execute
from specbench_s2d.config import RunSpec
from specbench_s2d.display import show_logs_and_warnings
from specbench_s2d.errors import RunFolderError, UserError
from specbench_s2d.models.file_hash import FileState, known_hashes, learn_hashes
from specbench_s2d.runs.folder import RECORDS, read_manifest
from specbench_s2d.runs.reading import read_keys

Launcher = Callable[[Plan, Path, Watcher, bool, bool], object]
"""Runs the launch of a plan into a folder, as `execute` does: `in_fresh_process`, or in its place."""


def run_launches(
    plan: Plan,
    folder: Path,
    watch: Watcher = lambda event: None,
    retry_failed: bool = False,
    strict: bool = False,
    launcher: Launcher | None = None,
) -> Outcome:
    """Run what is left of every launch, one after another, and return all records.

    A single launch runs in this process. `launcher`: in place of that, and of a fresh process for each of several.
    Raises what `execute` raises, and `RunFolderError` for a process that died.
    """
    if plan.spec.launches == 1 and launcher is None:
        return execute(plan, folder, watch, retry_failed, strict)
    done = read_keys(folder) if (folder / RECORDS).is_file() else set[str]()

    def note(event: Event) -> None:
        done.update(record.key for record in event.records)
        watch(event)

    for launch in range(plan.spec.launches):
        of_launch = plan.in_folder(folder, launch)
        is_done = bool(done) and of_launch.keys <= done and not _lacks_its_end(of_launch, folder)
        if retry_failed or plan.spec.energy_blocks or not is_done:
            if plan.spec.launches > 1:
                watch(Event(f"launch {launch + 1} of {plan.spec.launches}", len(done), plan.cells))
            (launcher or in_fresh_process)(of_launch, folder, note, retry_failed, strict)
    return Outcome(folder)


def in_fresh_process(plan: Plan, folder: Path, watch: Watcher, retry_failed: bool, strict: bool) -> None:
    """Run the plan's launch in a new Python process, and pass its events on to `watch`."""
    context = multiprocessing.get_context("spawn")  # a fork would share this process's memory, threads and caches
    ours, theirs = context.Pipe(duplex=False)
    arguments = plan.spec, folder, plan.launch, retry_failed, strict, known_hashes()
    process = context.Process(target=begin_launch, args=(pickle.dumps(arguments), theirs))
    process.start()
    theirs.close()
    try:
        error = _follow(ours, watch)
        process.join()
    except BaseException:  # Ctrl-C reaches both processes: the other one finishes its line
        process.join()
        raise
    if error is not None:
        raise error
    if process.exitcode:
        raise RunFolderError(
            f"{folder}: launch {plan.launch + 1} died (exit code {process.exitcode}); its records so far are whole. "
            f"Go on with the same command and --out {folder}."
        )


def _follow(ours: Connection, watch: Watcher) -> UserError | None:
    """Pass events on until the other end closes; the error that ended it, where one did."""
    while True:
        try:
            said = ours.recv()
        except EOFError:
            return None
        if isinstance(said, UserError):
            return said
        watch(said)


def launch_here(
    theirs: Connection,
    spec: RunSpec,
    folder: Path,
    launch: int,
    retry_failed: bool,
    strict: bool,
    hashes: Mapping[FileState, bytes],
) -> None:
    """What the fresh process does. Its plan is made anew, of files that are not read again (`hashes`); the folder
    refuses one that is not the same."""
    show_logs_and_warnings()
    learn_hashes(hashes)
    try:
        execute(replace(make_plan(spec), launch=launch), folder, theirs.send, retry_failed, strict)
    except UserError as error:
        theirs.send(error)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    finally:
        theirs.close()


def _lacks_its_end(plan: Plan, folder: Path) -> bool:
    """Whether the plan's launch is the last, and was killed before it said when the run ended."""
    return plan.launch == plan.spec.launches - 1 and not read_manifest(folder).get("ended")
