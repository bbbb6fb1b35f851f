"""All launches of a run: each a fresh process that loads, warms up and measures the grid, into one folder.

Runs of one command differ by more than their questions do (memory layout, the clock a process happens to get), and
only processes that begin anew show by how much (Kalibera and Jones 2013, "Rigorous benchmarking in reasonable time").
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from specbench_s2d.bench.plan import Plan, make_plan
from specbench_s2d.bench.runner import Event, Outcome, Watcher, execute
from specbench_s2d.config import RunSpec
from specbench_s2d.errors import RunFolderError, UserError
from specbench_s2d.runs.folder import RECORDS, read_manifest, schema_of
from specbench_s2d.runs.reading import read_columns, read_keys

Launcher = Callable[[Plan, Path, int, Watcher, bool, bool], None]
"""Runs one launch of a plan into a folder: `in_fresh_process`, or in its place."""


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
        return execute(plan, folder, watch, retry_failed, strict=strict)
    for launch in range(plan.spec.launches):
        is_last = launch == plan.spec.launches - 1
        if retry_failed or plan.spec.energy_blocks or not _is_done(plan, folder, launch, is_last):
            if plan.spec.launches > 1:
                watch(Event(f"launch {launch + 1} of {plan.spec.launches}", *_progress(plan, folder)))
            (launcher or in_fresh_process)(plan, folder, launch, watch, retry_failed, strict)
    return Outcome(folder, read_columns(folder)[0])


def in_fresh_process(plan: Plan, folder: Path, launch: int, watch: Watcher, retry_failed: bool, strict: bool) -> None:
    """Run one launch in a new Python process, and pass its events on to `watch`."""
    context = multiprocessing.get_context("spawn")  # a fork would share this process's memory, threads and caches
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_launch, args=(plan.spec, folder, launch, retry_failed, strict, theirs))
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
            f"{folder}: launch {launch + 1} died (exit code {process.exitcode}); its records so far are whole. "
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


def _launch(spec: RunSpec, folder: Path, launch: int, retry_failed: bool, strict: bool, theirs: Connection) -> None:
    """What the fresh process does. Its plan is made anew: the folder refuses one that is not the same."""
    try:
        execute(make_plan(spec), folder, theirs.send, retry_failed, launch=launch, strict=strict)
    except UserError as error:
        theirs.send(error)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    finally:
        theirs.close()


def _is_done(plan: Plan, folder: Path, launch: int, is_last: bool) -> bool:
    """Whether the folder holds every cell of a launch, and for the last one says when the run ended."""
    if not (folder / RECORDS).is_file() or (is_last and not read_manifest(folder).get("ended")):
        return False
    of_launch = replace(plan, key_schema=schema_of(folder), launch=launch)
    return of_launch.keys <= read_keys(folder)


def _progress(plan: Plan, folder: Path) -> tuple[int, int]:
    return (len(read_keys(folder)) if (folder / RECORDS).is_file() else 0), plan.cells
