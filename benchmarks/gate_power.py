"""How often does the gate call an unchanged run slower, and how often does it find one that is? By simulation.

    python benchmarks/gate_power.py [--trials 2000] [--out FILE]

Launches of one command vary as ten real ones of ar, sd and s2d on demo-m and demo-l did (`docs/notes.md`): a target's
decoders vary by 3.3 %, 2.5 % or 1.5 %, and correlate by 0.5, 0.8 or 0.95, for all are over one AR; normally, or with
the heavy tails of Student's t with three degrees of freedom. A false alarm is any row called regressed, of all rows of
a judgement (speed-up and cost ratio). The power is that for one slower decoder of each target. The judgement itself is
the package's own (`analysis/gate/timing.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from figures import show, write

from specbench_s2d.analysis.gate.timing import Sample, Spread, judge
from specbench_s2d.analysis.gate.verdict import Check, Tolerances

SD = (0.033, 0.025, 0.015)
"""Of the three targets."""
MARGIN = Tolerances().speed
SLOWER = (0.0, 0.05, 0.10, 0.15, 0.20, 0.30)
CORRELATIONS, TAILS, LAUNCHES = (0.5, 0.8, 0.95), ("normal", "heavy"), ((3, 3), (2, 2), (3, 1), (5, 5))


@dataclass(frozen=True)
class Case:
    """Launches of the baseline and of the run, decoders of each target, and how launches vary."""

    base: int
    run: int
    decoders: int
    correlation: float
    tails: str


def launches(case: Case, sd: float, count: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Logarithms of a value, (decoders, launches)."""

    def draw(shape: tuple[int, int]) -> np.ndarray[Any, Any]:
        if case.tails == "normal":
            return rng.standard_normal(shape)
        return np.asarray(rng.standard_t(3, shape) / np.sqrt(3))

    common, own = draw((1, count)), draw((case.decoders, count))
    return np.asarray(sd * (np.sqrt(case.correlation) * common + np.sqrt(1 - case.correlation) * own))


def judged(case: Case, slower: float, margin: float, rng: np.random.Generator) -> Iterator[tuple[bool, Check]]:
    """Every check of one judgement, and whether its decoder was made slower: the first of each target."""
    tests = 2 * case.decoders * len(SD)
    for sd in SD:
        for worse in (-1, 1):  # speed-ups, and cost ratios, which nothing changes here
            ours, base = (launches(case, sd, count, rng) for count in (case.run, case.base))
            if worse < 0:
                ours[0] += np.log(1 - slower)
            samples = [Sample(list(one), list(other)) for one, other in zip(ours, base, strict=True)]
            spread = Spread.pooled(samples)
            assert spread is not None
            for place, one in enumerate(samples):
                changed = place == 0 and worse < 0 and slower > 0
                yield changed, judge("value", ("target", "decoder"), one, spread, margin, worse, tests)


def row(case: Case, trials: int) -> dict[str, Any]:
    """False alarms with the margin and without one, the power by slow-down, and of each target the smallest slow-down
    that the gate says it would find (the median of what it says), beside the one simulated."""
    rng = np.random.default_rng(0)
    found: dict[str, Any] = asdict(case)
    for name, margin in (("false_alarms", MARGIN), ("false_alarms_without_margin", 0.0)):
        alarms = [any(c.verdict == "regressed" for _, c in judged(case, 0.0, margin, rng)) for _ in range(trials)]
        found[name] = float(np.mean(alarms))
    for slower in SLOWER[1:]:
        hits = [hit for of_target in _hits(case, slower, trials // 4, rng) for hit in of_target]
        found[f"power_{round(100 * slower)}_percent"] = float(np.mean(hits))
    said = [[c.detectable or 0.0 for is_changed, c in judged(case, 0.01, MARGIN, rng) if is_changed]
            for _ in range(trials // 4)]  # fmt: skip
    found["said_percent"] = [round(100 * float(share), 1) for share in np.median(said, axis=0)]
    found["simulated_percent"] = _found_by_80_of_100(case, trials // 4, rng)
    return found


def _hits(case: Case, slower: float, trials: int, rng: np.random.Generator) -> list[list[bool]]:
    """Whether the slower decoder of each target was found, by trial."""
    return [
        [check.verdict == "regressed" for is_changed, check in judged(case, slower, MARGIN, rng) if is_changed]
        for _ in range(trials)
    ]


def _found_by_80_of_100(case: Case, trials: int, rng: np.random.Generator) -> list[float]:
    """The smallest slow-down in per cent, of each target, that is found in at least 80 of 100 judgements."""
    steps = [0.01 * i for i in range(8, 61)]
    smallest: dict[int, float] = {}
    for slower in steps:
        for target, power in enumerate(np.mean(_hits(case, slower, trials, rng), axis=0)):
            if power >= 0.8:
                smallest.setdefault(target, round(100 * slower, 1))
        if len(smallest) == len(SD):
            break
    return [smallest.get(target, float("nan")) for target in range(len(SD))]


def main(
    trials: Annotated[int, typer.Option(min=40, help="Simulated judgements a row.")] = 2000,
    out: Annotated[Path, typer.Option(help="Write the rows as JSON.")] = Path("results/benchmarks/gate_power.json"),
) -> None:
    """Simulate, print and write."""
    cases = [Case(3, 3, n, rho, tails) for n in (2, 9) for rho in CORRELATIONS for tails in TAILS]
    cases += [Case(*counts, 9, 0.8, "normal") for counts in LAUNCHES[1:]]
    rows = [row(case, trials) for case in cases]
    powers = [f"power_{round(100 * s)}_percent" for s in SLOWER[1:]]
    alarms = ("false_alarms", "false_alarms_without_margin")
    columns = ("base", "run", "decoders", "correlation", "tails", *alarms, *powers, "said_percent", "simulated_percent")
    headings = [column.replace("_", " ") for column in columns]
    cells = ([one[column] for column in columns] for one in rows)
    show("false alarms, and how often a slower decoder is found", headings, cells, left=0)
    what = "false alarms and power of the gate's times, simulated; see benchmarks/gate_power.py"
    write(out, {"what": what, "rows": rows})


if __name__ == "__main__":
    typer.run(main)
