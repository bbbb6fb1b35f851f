"""What a person sees while a run goes on: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable
from operator import add
from types import TracebackType
from typing import Any

import rich.live
from rich.console import Group, RenderableType

from specbench_s2d.analysis.metrics.pairs import cell_of
from specbench_s2d.analysis.metrics.speed import quotient_of_rates
from specbench_s2d.analysis.tables.naming import decoder_title, suite_title
from specbench_s2d.analysis.tables.text import NOTHING, Prose, TextTable, number
from specbench_s2d.bench.plan import Plan
from specbench_s2d.bench.runner import Event
from specbench_s2d.cli.hash_line import hashes_shown
from specbench_s2d.cli.screen import Screen
from specbench_s2d.display import visible
from specbench_s2d.runs.record import BASELINE, Record
from specbench_s2d.spelling import duration

_PLAIN_EVERY_S = 10.0


class Live:
    """A context manager whose `on_event` shows a run's events."""

    def __init__(self, console: Screen, plan: Plan) -> None:
        self._console, self._plan = console, plan
        self._so_far = SoFar()
        self._unsaid = plan.said  # until the run was checked: a mistake is one line
        self._text = ""
        self._last_line = 0.0
        self._live = rich.live.Live(console=console, refresh_per_second=4) if console.is_interactive else None
        self._hashes = hashes_shown(console, lambda text: self._rewrite(Prose(text)))

    def __enter__(self) -> Live:
        self._hashes.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hashes.__exit__(None, None, None)
        if self._live:
            self._live.stop()

    def on_event(self, event: Event) -> None:
        """Take in new records, and show where the run stands."""
        self._so_far.add(event.records)
        while self._unsaid:
            self._console.say(self._unsaid.pop(0))
        line = event.text or _line(event)
        if self._live:
            self._text = line
            self._rewrite(Group(self._table(), Prose(self._text)))
        elif event.text or event.done == event.cells or time.monotonic() - self._last_line > _PLAIN_EVERY_S:
            self._last_line = time.monotonic()
            self._console.say(line)

    def _rewrite(self, shown: RenderableType) -> None:
        if self._live:
            self._live.start()  # now: one that has shown nothing leaves an empty line
            self._live.update(shown)

    def _table(self) -> TextTable:
        """Decoder x suite for the target at work: speed-up so far."""
        so_far = self._so_far
        target = so_far.target or self._plan.targets[0]
        suites = list(self._plan.questions.by_suite)
        rows = []
        for label in self._plan.labels:
            values = (so_far.speedup(target, suite, label) for suite in suites)
            title = decoder_title(label, lossy=False, projected=so_far.projected.get(label))
            rows += [[title, *map(number, values)]] if label != BASELINE else []
        headings = ["Decoder", *(suite_title(suite, short=True) for suite in suites)]
        return TextTable(headings, rows, f"{visible(target)}, speed-up over {BASELINE} so far", elsewhere="summary.md")


class SoFar:
    """The speed-ups of the records seen so far, as `metrics.speed.speedup` gives them; a record is looked at once, when
    it comes. `target`: of the last record. `projected`: by label, why its cells are projections."""

    def __init__(self) -> None:
        self.target: str | None = None
        self.projected: dict[str, str] = {}
        self._sums: dict[tuple[str, str, str], list[float]] = {}
        self._baseline: dict[Hashable, tuple[float, float]] = {}
        self._waiting: dict[Hashable, list[tuple[str, float, float]]] = {}

    def add(self, records: Iterable[Record]) -> None:
        """Take in new records, in any order."""
        for r in records:
            self.target = r.target
            if r.projected:
                self.projected[r.label] = r.projected
            if r.status == "ok" and None not in (r.new_tokens, r.total_s, r.decode_s):
                self._pair(r, max((r.new_tokens or 0) - 1, 0), r.decode_s or 0.0)

    def _pair(self, r: Record, tokens: float, seconds: float) -> None:
        """Add a cell to its decoder's sums once AR's is there too."""
        cell = (cell_of(r), r.device_id)
        if r.label == BASELINE:
            self._baseline[cell] = tokens, seconds
            found = self._waiting.pop(cell, [])
        elif cell in self._baseline:
            found = [(r.label, tokens, seconds)]
        else:
            found = []
            self._waiting.setdefault(cell, []).append((r.label, tokens, seconds))
        for label, *ours in found:
            sums = self._sums.setdefault((r.target, r.suite, label), [0.0] * 4)
            sums[:] = map(add, sums, (*ours, *self._baseline[cell]))

    def speedup(self, target: str, suite: str, label: str) -> float | None:
        """Decode tokens/s over AR's, of the cells that both finished; None where there is none."""
        sums = self._sums.get((target, suite, label))
        return quotient_of_rates(sums, "decode rate").value if sums else None


def _line(event: Event) -> str:
    left = "" if event.seconds_left is None or event.done == event.cells else f", {duration(event.seconds_left)} left"
    return f"{event.done:,}/{event.cells:,} cells{left}"


def forecast_table(expected: dict[str, Any]) -> RenderableType:
    """What the dry run expects: a table of targets, then a line each for questions, memory, time and energy."""
    rows = [
        [
            row["target"], "\n".join(row["drafts"]) or NOTHING, row["template"], f"{row['cells']:,}",
            f"{row['memory_bytes'] / 1e9:.3f}", duration(row["expected_s"]),
        ]
        for row in expected["targets"]
    ]  # fmt: skip
    headings = ["target", "drafts", "template", "cells", "memory GB", "at least"]
    title = f"{expected['cells']:,} cells on {expected['device']} in {expected['dtype']}"
    decoders = ", ".join(expected["decoders"])
    launches = f", {expected['launches']} launches" if expected["launches"] > 1 else ""
    questions = f"{expected['questions']:,} questions{launches}; decoders: {decoders}"
    free = _free_line(expected["free_bytes_by_device"])
    models = {one["name"]: one for row in expected["targets"] for one in row["memory"]}
    energy = _energy_line(expected["energy"])
    lines = [free, expected["note"], energy, *_workers_lines(expected.get("workers"))]
    grid = TextTable(headings, rows, title, left=3, names=3, caption=questions)
    return Group(grid, *_memory_table(list(models.values())), *map(Prose, lines))


def _workers_lines(workers: dict[str, Any] | None) -> list[str]:
    """What the dry run expects of several devices."""
    if workers is None:
        return []
    blocks = ", ".join(f"{name} {count}" for name, count in workers["blocks_by_target"].items())
    memory = ", ".join(f"{size / 1e9:.3f}" for size in workers["memory_bytes_by_worker"])
    return [
        f"{workers['count']} workers: {workers['blocks']} blocks ({blocks}), the longest "
        f"{duration(workers['largest_block_s'])}; memory GB each: {memory}",
        f"at least {duration(workers['expected_s'])} on them, loading included; idle "
        f"{100 * workers['idle_share']:.0f} %",
    ]


def _memory_table(models: list[dict[str, Any]]) -> list[TextTable]:
    """Each model's memory in GB, part by part, without parts that take none; none where nothing takes a megabyte."""
    parts = ("weights", "cache", "graphs", "pool", "working", "buffers", "loading")
    sizes = {one["name"]: {part: f"{one[f'{part}_bytes'] / 1e9:.3f}" for part in parts} for one in models}
    taken = {name: of_model for name, of_model in sizes.items() if any(map(float, of_model.values()))}
    shown = [part for part in parts if any(float(of_model[part]) for of_model in taken.values())]
    rows = [[name, *(of_model[part] for part in shown)] for name, of_model in taken.items()]
    return [TextTable(["memory, GB", *shown], rows)] if rows else []


def _free_line(free: dict[str, int]) -> str:
    """What is free, on each device where there are several."""
    several = ", ".join(f"{device} {size / 1e9:.1f}" for device, size in free.items()) if len(free) > 1 else ""
    return f"memory: {sum(free.values()) / 1e9:.1f} GB are free" + (f" ({several})" if several else "")


def _energy_line(energy: dict[str, Any]) -> str:
    if energy["meter"] is None:
        return f"energy: {energy['reason']}"
    time = f"{duration(energy['least_s'])} on top"
    if not energy["blocks"]:
        return f"energy: {energy['meter']}, beside the timed windows; idle power: {time}"
    return f"energy: {energy['meter']}, in a pass of its own: {energy['blocks']} blocks, at least {time}"
