"""One launch of a run over several workers: the driver, which hands out blocks and alone writes the run's folder.

A block whose worker dies runs again elsewhere; records are whole conversations of a question, so nothing runs twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specbench_s2d.bench.blocks import Block, HandOut, cut
from specbench_s2d.bench.messages import Ask, Begin, End, Facts, Gone, Hello, Kept, Order, Refused, Said, Work, Workers
from specbench_s2d.bench.plan import Cell, Plan
from specbench_s2d.bench.preflight import check_folder, check_inputs
from specbench_s2d.bench.runner import Progress, Watcher, ended_at, record_of, repaired_text, widen
from specbench_s2d.errors import UserError
from specbench_s2d.measure.environment import device_id, software_facts
from specbench_s2d.models.file_hash import known_hashes
from specbench_s2d.runs.folder import RunStore, new_run_id
from specbench_s2d.runs.parts import differing_software, joined_parts, parts_of, software
from specbench_s2d.runs.record import ENERGY_FIELDS, Record

MOST_DEATHS = 3
"""Of workers on one block, or of one seat's before their first block."""
_HEAR_S = 1.0


def in_pool(
    make_workers: Callable[[], Workers], allow_mixed: bool = False
) -> Callable[[Plan, Path, Watcher, bool, bool], None]:
    """A launcher for `run_launches`: each launch begins with fresh workers, of `make_workers`."""

    def launch_in_pool(plan: Plan, folder: Path, watch: Watcher, retry_failed: bool, strict: bool) -> None:
        check_folder(plan, folder)
        work = work_of(plan)
        with RunStore(folder, plan.manifest(new_run_id(folder), {})) as store:
            progress = Progress(watch, plan.cells, store.keys - store.failed if retry_failed else store.keys)
            widen(store, plan)
            if store.repaired:
                progress.say(repaired_text(store))
            workers = make_workers()
            try:
                Pool(plan, store, progress, workers, work, strict, allow_mixed).run()
            finally:
                workers.close()

    return launch_in_pool


def work_of(plan: Plan) -> dict[str, float]:
    """What each target's cells take, in bytes that AR's steps read at most: enough to compare targets by.

    Raises `UserError` for models, templates or prompts that do not go together.
    """
    setups = check_inputs(plan)
    return {t: float(plan.cells_of(t) * plan.new_tokens * setup.memory[0].weights_bytes) for t, setup in setups.items()}


@dataclass
class _Seat:
    """What the driver knows of one place for a worker."""

    alive: bool = False
    waits: bool = False
    block: Block | None = None
    device_id: str | None = None
    deaths_unheard: int = 0
    asked: bool = False
    ended: bool = False


class Pool:
    """Workers at work on one launch."""

    def __init__(
        self,
        plan: Plan,
        store: RunStore,
        progress: Progress,
        workers: Workers,
        work: Mapping[str, float],
        strict: bool = False,
        allow_mixed: bool = False,
    ) -> None:
        self._plan, self._store, self._progress, self._workers, self._strict = plan, store, progress, workers, strict
        self._done, self._say, self._at_first = progress.done, progress.say, len(progress.done)
        blocks = cut(plan, work, workers.count, progress.done)
        self._hand_out, self._deaths = HandOut(blocks), Counter[Block]()
        self._seats = [_Seat() for _ in range(min(workers.count, len(blocks)))]
        own = software(software_facts())  # of the devices, what the first one has is wanted
        self._software = None if allow_mixed else {name: value for name, value in own.items() if value is not None}
        self._parts = _by_device(parts_of(store.manifest))
        self._why = ""

    def run(self) -> None:
        """Start a worker on every seat, and hand out blocks until none is left."""
        for seat in range(len(self._seats)):
            self._start(seat)
        while any(seat.alive for seat in self._seats):
            for seat, message in self._workers.hear(_HEAR_S):
                self._take(seat, message)
            self._serve()
        if self._left():
            raise UserError(
                f"{self._store.folder}: every worker died as it started ({self._why}); records so far are whole. "
                f"Go on with the same command and --out {self._store.folder}."
            )
        if ended := ended_at(self._store, len(self._done), len(self._done) > self._at_first):
            self._store.note(ended=ended)

    def _left(self) -> bool:
        return bool(len(self._hand_out)) or any(seat.block for seat in self._seats)

    def _start(self, number: int) -> None:
        order = Order(
            spec=self._plan.spec,
            identity=self._plan.identity(),
            schema=self._plan.key_schema,
            launch=self._plan.launch,
            folder=self._store.folder,
            cells=self._plan.cells,
            strict=self._strict,
            seat=number,
            hashes=known_hashes(),
        )
        self._seats[number] = _Seat(alive=True, deaths_unheard=self._seats[number].deaths_unheard)
        self._workers.start(self._workers.order(order))

    def _serve(self) -> None:
        """Hand blocks to those who wait; where nothing is left to do, end them. A worker stays while others work, for
        it may have to take over."""
        for number, seat in enumerate(self._seats):
            if seat.waits and (block := self._hand_out.next(number)):
                seat.block, seat.waits = block, False
                keys = (cell.key for cell in block.cells(self._plan) if cell.key in self._done)
                self._workers.tell(number, Work(block, [record for key in keys if (record := self._store.get(key))]))
        if self._left():
            return
        for number, seat in enumerate(self._seats):
            if seat.waits:
                seat.waits, seat.ended = False, True
                self._workers.tell(number, End())
            elif not seat.asked:
                seat.alive = False  # it has still to begin, and there is nothing left for it

    def _take(self, number: int, message: Any) -> None:
        seat = self._seats[number]
        match message:
            case Hello():
                self._greet(number, message)
            case Ask():
                self._finish(seat)
                seat.waits, seat.asked, seat.deaths_unheard = True, True, 0
            case Kept(records):
                self._keep(records)
            case Facts(part):
                self._note(seat, part)
            case Said(text):
                self._say(f"worker {number + 1}: {text}" if len(self._seats) > 1 else text)
            case Refused(error):
                raise error
            case Gone(why):
                self._bury(number, why)

    def _greet(self, number: int, hello: Hello) -> None:
        seat, environment = self._seats[number], hello.environment
        if self._software is not None:
            if differing := differing_software(environment, self._software):
                raise UserError(
                    f"worker {number + 1} has {', '.join(differing)}, as the driver or an earlier worker has; install "
                    "the same there, or give --allow-mixed."
                )
            self._software = {**software(environment), **self._software}
        seat.device_id = hello.device_id
        if not self._store.manifest.get("environment"):
            self._store.note(environment=environment)
        self._workers.tell(number, Begin(self._parts.get(hello.device_id, {})))

    def _finish(self, seat: _Seat) -> None:
        """The worker asks again, so its block is done; what it left out, whatever the reason, waits again."""
        block, seat.block = seat.block, None
        if block:
            self._put_back(block, "a worker left cells of it out")

    def _cells_left(self, block: Block) -> list[Cell]:
        return [cell for cell in block.cells(self._plan) if cell.key not in self._done]

    def _put_back(self, block: Block, why: str) -> None:
        """Let what is left of a block wait again, or fail it where too many workers died of it."""
        if not (left := self._cells_left(block)):
            return
        self._deaths[block] += 1
        if self._deaths[block] < MOST_DEATHS:
            self._hand_out.put_back(block)
            return
        text = f"{MOST_DEATHS} workers died at its block, the last one so: {why}"
        reasons, run_id = dict.fromkeys(ENERGY_FIELDS, "the cell was not decoded"), self._store.manifest["run_id"]
        self._say(f"{block.target}: {len(left)} cells failed: {text}")
        self._keep([record_of(self._plan, run_id, cell, "failed", text, reasons=reasons) for cell in left])

    def _bury(self, number: int, why: str) -> None:
        """A worker is gone: its block goes to another, and its seat to a new worker where there is work."""
        seat, self._why = self._seats[number], why
        block, seat.block, seat.alive, seat.waits = seat.block, None, False, False
        if seat.ended:
            return
        self._hand_out.leave(number)
        again = block and self._cells_left(block) and self._deaths[block] + 1 < MOST_DEATHS
        self._say(f"worker {number + 1} died ({why}){'; what is left of its block runs again' if again else ''}.")
        if block:
            self._put_back(block, why)
        else:
            seat.deaths_unheard += 1
        if self._left() and seat.deaths_unheard < MOST_DEATHS:
            self._start(number)

    def _keep(self, records: list[Record]) -> None:
        new = [record for record in records if record.key not in self._done]
        self._store.append(new)
        self._progress.add(new)

    def _note(self, seat: _Seat, part: dict[str, Any]) -> None:
        """Keep what a device says of itself, and what all say together."""
        assert seat.device_id
        self._parts[seat.device_id] = {**part, "device_id": seat.device_id}
        self._store.note(**joined_parts(list(self._parts.values())))


def _by_device(parts: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Parts by the id of their device; of several of one device each stays."""
    found: dict[str, dict[str, Any]] = {}
    for part in parts:
        own = str(part.get("device_id") or device_id(part["environment"]))
        found[own if own not in found else f"{own} {len(found)}"] = {**part, "device_id": own}
    return found
