"""A made-up run of the paper's grid: one draft for three targets, a dozen decoders, six suites.

Figures are drawn from a seeded generator around what such a run would give; they claim nothing about any model.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from specbench_s2d.config import SUITES
from specbench_s2d.runs.record import Record
from tests.analysis.factory import ar, decoded

DRAFT, SFT, TINY = "demo-draft", "demo-draft-sft", "demo-tiny"
# target: seconds of one pass; the draft's layer takes one.
TARGETS = {"demo-s": 8.0, "demo-m": 12.0, "demo-l": 20.0}
SUITE_EASE = dict(zip(SUITES, (0.62, 0.5, 0.68, 0.55, 0.78, 0.48), strict=True))


@dataclass(frozen=True)
class Lane:
    """A decoder: its label and options, how well it is accepted, and where its tokens leave the draft (weights)."""

    label: str
    draft: str
    ease: float
    exits: dict[int, float]
    options: dict[str, Any] = field(default_factory=dict)
    levels: int = 5
    drafted: int = 5
    plain: bool = False


LANES = (
    Lane("sd", SFT, 1.0, {4: 1}, plain=True),
    Lane("sd:draft=demo-draft-sft,exit=2", SFT, 0.6, {2: 1}, {"draft": SFT, "exit": 2}),
    Lane("sd:draft=demo-draft-sft,exit=3", SFT, 0.8, {3: 1}, {"draft": SFT, "exit": 3}),
    Lane("sd:exit=2", DRAFT, 0.86, {2: 1}, {"exit": 2}),
    Lane("sd:exit=3", DRAFT, 0.93, {3: 1}, {"exit": 3}),
    Lane("sd:exit=4", DRAFT, 0.98, {4: 1}, {"exit": 4}),
    Lane("sd:draft=demo-tiny", TINY, 0.7, {2: 1}, {"draft": TINY}, plain=True),
    Lane("s2d", DRAFT, 0.95, {2: 6, 3: 2, 4: 2}, {"thresholds": [0.5, 0.5, 0.0]}),
    Lane("s2d:thresholds=0.75+0.7+0", DRAFT, 0.96, {2: 4, 3: 3, 4: 3}, {"thresholds": [0.75, 0.7, 0.0]}),
    Lane("s2d:thresholds=0.9+0.85+0", DRAFT, 0.98, {2: 2, 3: 2, 4: 6}, {"thresholds": [0.9, 0.85, 0.0]}),
    Lane("s2d-tree", DRAFT, 1.25, {2: 5, 3: 3, 4: 2}, {"thresholds": [0.5, 0.5, 0.0]}, levels=4, drafted=30),
    Lane("s2d-auto", DRAFT, 1.0, {2: 7, 3: 2, 4: 1}, levels=6, drafted=6),
)


def grid_run(
    questions: int = 3, repeats: int = 1, seed: int = 0, targets: tuple[str, ...] = tuple(TARGETS)
) -> list[Record]:
    """All records of the grid; the same seed gives the same run."""
    rng = random.Random(seed)
    cells = [(t, s, q, r) for t in targets for s in SUITES for q in range(questions) for r in range(repeats)]
    return [record for cell in cells for record in _round(rng, *cell)]


def _round(rng: random.Random, target: str, suite: str, question: int, repeat: int) -> list[Record]:
    where = {"target": target, "suite": suite, "repeat": repeat}
    ease = SUITE_EASE[suite] * rng.uniform(0.85, 1.1)
    alone = ar(question, 48, decode_s=47 * TARGETS[target] * rng.uniform(0.97, 1.03), **where)
    return [alone, *(_cell(rng, lane, question, min(0.97, ease * lane.ease), where) for lane in LANES)]


def _cell(rng: random.Random, lane: Lane, question: int, ease: float, where: dict[str, Any]) -> Record:
    steps, left = [], 47
    while left:
        accepted = next((i for i in range(lane.levels) if rng.random() > ease), lane.levels)
        emitted = min(accepted + 1, left)
        steps.append((lane.drafted, accepted, emitted))
        left -= emitted
    drafted = lane.drafted * len(steps)
    depths = rng.choices(list(lane.exits), list(lane.exits.values()), k=drafted)
    layers = sum(depths) if lane.drafted < 30 else sum(depths) // 4
    seconds = (len(steps) * 1.15 * TARGETS[where["target"]] + 0.8 * layers) * rng.uniform(0.97, 1.03)
    return decoded(
        lane.label, question, steps, decode_s=seconds, draft=lane.draft, draft_layers=layers,
        levels_per_step=[lane.levels] * len(steps), exit_depths=[] if lane.plain else depths,
        decoder_options={"gamma": 5, "draft": None, "exit": None, **lane.options}, **where,
    )  # fmt: skip
