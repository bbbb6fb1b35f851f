"""A made-up run of the joint methods: the grid's chain and sorted decoders, MJGD by k, MJSD by tau, free pairs.

As in `grid`, figures are drawn from a seeded generator around what such a run might give.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pandas as pd

from specbench_s2d.analysis.metrics.columns import QUALITY
from specbench_s2d.config import SUITES
from specbench_s2d.runs.record import Record
from tests.analysis.factory import ar, decoded
from tests.analysis.report.grid import DRAFT, SFT, SUITE_EASE, TARGETS

NLL = {"demo-s": 1.75, "demo-m": 1.6, "demo-l": 1.55}  # of one token of AR's
ROUGE = {"rouge_1": 0.32, "rouge_2": 0.1, "rouge_l": 0.24}


@dataclass(frozen=True)
class Lane:
    """A decoder: how well it is accepted, its perplexity over AR's, what its step costs in target passes."""

    label: str
    options: dict[str, Any]
    ease: float = 1.0
    perplexity: float = 1.0
    cost: float = 1.3
    draft: str | None = SFT
    lengths: tuple[int, ...] = ()

    @property
    def lossy(self) -> bool:
        return "joint" in self.label or self.label.startswith("mj")


def mjgd(k: int) -> Lane:
    label = "mjgd" if k == 3 else f"mjgd:k={k}"
    return Lane(label, {"k": k, "beams": 8}, 0, 1 - 0.03 * (k - 1) ** 0.7, 1.5 * k, None, (0,))


def mjsd(tau: float, candidates: int = 1) -> Lane:
    changed = [f"{n}={v:g}" for n, v, default in (("candidates", candidates, 1), ("tau", tau, 0.5)) if v != default]
    label = f"mjsd:{','.join(changed)}" if changed else "mjsd"
    options = {"gamma": 4, "beams": 8, "candidates": candidates, "tau": tau, "draft": None}
    return Lane(label, options, 1.45 - 0.35 * tau + 0.03 * candidates, 1.18 - 0.24 * tau, 1.45 + 0.1 * candidates)


TAUS = (0.1, 0.3, 0.5, 0.7, 0.9)
LANES = (
    Lane("sd", {"gamma": 5}), Lane("sd:gamma=4", {"gamma": 4}, cost=1.25),
    Lane("s2d", {"gamma": 5, "thresholds": [0.5, 0.5, 0.0]}, 0.95, cost=1.15, draft=DRAFT),
    Lane("s2d:gamma=4", {"gamma": 4, "thresholds": [0.5, 0.5, 0.0]}, 0.95, cost=1.1, draft=DRAFT),
    Lane("s2d-auto", {"gamma": 8}, cost=1.05, draft=DRAFT, lengths=(2, 6, 3)),
    *(mjgd(k) for k in (1, 2, 3, 4)), *(mjsd(tau) for tau in TAUS), mjsd(0.5, 4),
    Lane("s2d+joint", {"gamma": 5, "tau": 0.5, "thresholds": [0.5, 0.5, 0.0]}, 1.2, 1.07, 1.25, DRAFT),
    Lane("beam+token", {"gamma": 4, "beams": 8}, 0.97, 1.0, 1.45),
    Lane("sd+joint", {"gamma": 5, "tau": 0.5}, 1.22, 1.08, 1.35),
)  # fmt: skip


def joint_run(questions: int = 2, seed: int = 0, targets: tuple[str, ...] = tuple(TARGETS)) -> list[Record]:
    """All records of the run; the same seed gives the same run."""
    rng = random.Random(seed)
    cells = [(t, s, q) for t in targets for s in SUITES for q in range(questions)]
    return [record for cell in cells for record in _round(rng, *cell)]


def _round(rng: random.Random, target: str, suite: str, question: int) -> list[Record]:
    ease, nll = SUITE_EASE[suite] * rng.uniform(0.85, 1.1), NLL[target] * rng.uniform(0.8, 1.2)
    seconds = 47 * TARGETS[target] * rng.uniform(0.97, 1.03)
    where = {"target": target, "suite": suite}
    quality = _rouge(rng, 1) if suite == "summarization" else None
    alone = ar(question, 48, decode_s=seconds, nll_sum=48 * nll, quality=quality, **where)
    return [alone, *(_cell(rng, lane, question, min(0.97, ease * lane.ease), nll, where) for lane in LANES)]


def _cell(rng: random.Random, lane: Lane, question: int, ease: float, nll: float, where: dict[str, Any]) -> Record:
    steps: list[tuple[int, int, int]] = []
    left = 47
    while left:
        length = lane.lengths[len(steps) % len(lane.lengths)] if lane.lengths else lane.options["gamma"]
        accepted = next((i for i in range(length) if rng.random() > ease), length)
        emitted = min(lane.options.get("k", accepted + 1), left)
        steps.append((length, accepted, emitted))
        left -= emitted
    seconds = len(steps) * lane.cost * TARGETS[where["target"]] * rng.uniform(0.97, 1.03)
    wander = rng.gauss(0, 0.02) if lane.lossy and lane.options.get("k") != 1 else 0
    return decoded(
        lane.label, question, steps, decode_s=seconds, draft=lane.draft, lossy=lane.lossy,
        nll_sum=48 * (nll + wander) * (1 if lane.perplexity == 1 else 1 + 0.55 * (lane.perplexity - 1)),
        quality=_rouge(rng, 1.1 - 0.05 * lane.perplexity) if where["suite"] == "summarization" else None,
        decoder_options=lane.options, **where,
    )  # fmt: skip


def _rouge(rng: random.Random, factor: float) -> dict[str, float | None]:
    return {name: value * factor * rng.uniform(0.95, 1.05) for name, value in ROUGE.items()}


def with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """The table with an interval of 5 % on either side of every figure that pictures draw with one."""
    quality = [c for c in table.columns if c.startswith(QUALITY) and not c.endswith(("_low", "_high", "_n"))]
    columns = ["mat", "perplexity", *quality]
    ends = {f"{c}{end}": table[c] * by for c in columns for end, by in (("_low", 0.95), ("_high", 1.05))}
    return table.assign(**ends)
