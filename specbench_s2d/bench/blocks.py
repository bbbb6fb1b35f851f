"""Blocks: a grid cut into what one device does at a time, and which of them a device gets next.

A block is some whole questions of one target, asked of every decoder, so that every speed-up pairs cells of one device.
Keys, seeds and the order of decoders are those of the whole grid.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from specbench_s2d.bench.plan import Cell, Plan

BLOCKS_PER_WORKER = 8
LOADING_S = 5.0
LOADING_BYTES_PER_S = 1e9


@dataclass(frozen=True)
class Block:
    """Questions of one target, from the first of these places to the last; `work` is in the unit of the target's."""

    target: str
    places: range
    work: float

    def cells(self, plan: Plan) -> Iterator[Cell]:
        """Its cells in the plan's launch."""
        for asked in plan.rounds(self.target, self.places):
            for cells in asked.conversations:
                yield from cells


def cut(plan: Plan, work: Mapping[str, float], workers: int, done: Collection[str] = ()) -> list[Block]:
    """The blocks of what is left of a plan's launch, target by target.

    Each is at most an eighth of one worker's even share of the `work` left (by target, of all its questions), and at
    least one question: so the end is balanced to about that much. `done`: the keys of cells that are there already.
    """
    left = {target: _places_left(plan, target, done) for target in plan.targets}
    work_left = {t: work[t] * len(places) / len(plan.places(t)) for t, places in left.items() if places}
    most = sum(work_left.values()) / (BLOCKS_PER_WORKER * workers)
    blocks = []
    for target, whole in work_left.items():
        places = left[target]
        each = max(1, int(len(places) * most / whole)) if whole else len(places)
        parts = ceil(len(places) / each)
        for i in range(parts):
            mine = places[len(places) * i // parts : len(places) * (i + 1) // parts]
            blocks.append(Block(target, range(mine[0], mine[-1] + 1), whole * len(mine) / len(places)))
    return blocks


def _places_left(plan: Plan, target: str, done: Collection[str]) -> list[int]:
    """The places of the questions of which some cell is not done."""
    places = plan.places(target)
    if not done:
        return list(places)
    return [place for place in places if not _is_done(plan, target, place, done)]


def _is_done(plan: Plan, target: str, place: int, done: Collection[str]) -> bool:
    return all(cell.key in done for cell in Block(target, range(place, place + 1), 0.0).cells(plan))


class HandOut:
    """Blocks that wait for a worker, and the target that each worker holds.

    A worker keeps its target while that has blocks. Else it takes the target with the most work left for each worker
    that would then be at it, unless those who hold that target are about to take its last blocks.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._waiting: dict[str, list[Block]] = {}
        for block in blocks:
            self._waiting.setdefault(block.target, []).append(block)
        self._held: dict[int, str] = {}

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def next(self, worker: int) -> Block | None:
        """The block that this worker does next; None while there is none for it."""
        target = self._held.get(worker)
        if target is None or not self._waiting[target]:
            target = self._another()
        if target is None:
            return None
        self._held[worker] = target
        return self._waiting[target].pop(0)

    def put_back(self, block: Block) -> None:
        """A block that was not finished waits again, before the others of its target."""
        self._waiting[block.target].insert(0, block)

    def leave(self, worker: int) -> None:
        """A worker is gone, and holds no target."""
        self._held.pop(worker, None)

    def _another(self) -> str | None:
        at = Counter(self._held.values())
        work = {t: sum(b.work for b in waiting) / (at[t] + 1) for t, waiting in self._waiting.items()}
        free = [target for target, waiting in self._waiting.items() if len(waiting) > at[target]]
        return max(free, key=work.__getitem__, default=None)


@dataclass(frozen=True)
class Expected:
    """A hand-out as it is expected to go: seconds until the last block ends, those that each worker works, and the
    targets that each loads."""

    seconds: float
    busy_s: list[float]
    loaded: list[list[str]]

    @property
    def idle_share(self) -> float:
        """Of all workers' time until the end."""
        return 1 - sum(self.busy_s) / (len(self.busy_s) * self.seconds) if self.seconds else 0.0


def simulate(blocks: Sequence[Block], workers: int, weights_bytes: Mapping[str, int]) -> Expected:
    """Hand out blocks, whose `work` is in seconds, to workers that need a while to load a target."""
    hand_out, now = HandOut(blocks), [(0.0, worker) for worker in range(workers)]
    busy_s, loaded = [0.0] * workers, [list[str]() for _ in range(workers)]
    while now:
        _, worker = heapq.heappop(now)
        if (block := hand_out.next(worker)) is None:
            continue  # what is left is taken by those who hold its target
        if block.target not in loaded[worker][-1:]:
            loaded[worker].append(block.target)
            busy_s[worker] += LOADING_S + weights_bytes[block.target] / LOADING_BYTES_PER_S
        busy_s[worker] += block.work
        heapq.heappush(now, (busy_s[worker], worker))
    return Expected(max(busy_s, default=0.0), busy_s, loaded)
