"""How often do the 95 % intervals of a speed-up hold the true one? By simulation, where the true one is known.

    python benchmarks/coverage.py [--trials 2000] [--out FILE]

A question's answer has a length (log-normal, or the same capped at 90 tokens as by --max-new-tokens), and a speed-up
of its own that grows with the length; cells vary by 5 %, launches by 3 % where there are several (one launch's interval
is held to that launch's own value, which is all that it speaks of). `percentile` is the bootstrap over questions that
this package used before, `jackknife` what it uses now (`analysis/metrics/intervals.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from figures import show, write

from specbench_s2d.analysis.metrics.intervals import interval, stacked, summed
from specbench_s2d.runs.columns import Asked, Floats

CAP = 90.0
QUESTIONS, LAUNCHES, LENGTHS = (5, 8, 12, 48, 480), (1, 3), ("capped", "skewed")
CELL_SD, LAUNCH_SD, RESAMPLES = 0.05, 0.03, 1000
Ends = tuple[float, float]


def draw(lengths: str, launches: int, questions: int, trials: int, seed: int) -> tuple[Floats, Floats]:
    """Seconds of a decoder and of AR, (trials, launches, questions) each, of the same tokens."""
    rng = np.random.default_rng(seed)
    shape = (trials, launches, questions)
    tokens = np.exp(rng.normal(4, 1, (trials, 1, questions)))
    tokens = np.maximum(2, np.round(np.minimum(tokens, CAP) if lengths == "capped" else tokens))
    own = np.exp(rng.normal(0.3, 0.35, tokens.shape) + 0.15 * (np.log(tokens) - 4))
    ar_s = tokens * np.exp(rng.normal(0, CELL_SD, shape))
    of_launch = np.exp(rng.normal(0, LAUNCH_SD if launches > 1 else 0, (trials, launches, 1)))
    return tokens / own * np.exp(rng.normal(0, CELL_SD, shape)) * of_launch, ar_s


def truth(lengths: str, launches: int) -> float:
    """The speed-up of endless questions, in one launch or in endless ones."""
    ours, ar = draw(lengths, 1, 4_000_000, 1, seed=1)
    return float(ar.sum() / ours.sum()) / (float(np.exp(LAUNCH_SD**2 / 2)) if launches > 1 else 1.0)


def jackknife(ours_LN: Floats, ar_LN: Floats) -> Ends:
    """The package's own interval."""
    launches, questions = np.indices(ours_LN.shape).reshape(2, -1)
    _, rows = stacked(ar_LN.ravel(), ours_LN.ravel())
    found = interval([summed(Asked.of(questions, launches), rows)], lambda sums_GCR: sums_GCR[0, 0] / sums_GCR[0, 1])
    assert found.low is not None and found.high is not None
    return found.low, found.high


def percentile(ours_LN: Floats, ar_LN: Floats) -> Ends:
    """Quantiles of resampled questions, launches pooled."""
    ours_N, ar_N = ours_LN.sum(axis=0), ar_LN.sum(axis=0)
    drawn_RN = np.random.default_rng(0).integers(len(ar_N), size=(RESAMPLES, len(ar_N)))
    low, high = np.quantile(ar_N[drawn_RN].sum(axis=1) / ours_N[drawn_RN].sum(axis=1), [0.025, 0.975])
    return float(low), float(high)


METHODS: dict[str, Callable[[Floats, Floats], Ends]] = {"percentile": percentile, "jackknife": jackknife}


def covered(lengths: str, launches: int, questions: int, trials: int) -> dict[str, Any]:
    """One row: the share of trials in which each method's interval holds the true value, and its median width."""
    true = truth(lengths, launches)
    ours, ar = draw(lengths, launches, questions, trials, seed=questions * 10 + launches)
    row: dict[str, Any] = {"lengths": lengths, "launches": launches, "questions": questions, "trials": trials}
    for name, method in METHODS.items():
        ends = np.array([method(ours[i], ar[i]) for i in range(trials)])
        row[name] = float(np.mean((ends[:, 0] <= true) & (true <= ends[:, 1])))
        row[f"{name}_width"] = float(np.median(ends[:, 1] / ends[:, 0]))
    return row


def main(
    trials: Annotated[int, typer.Option(min=100, help="Simulated runs a row; a quarter at 480 questions.")] = 2000,
    out: Annotated[Path, typer.Option(help="Write the rows as JSON.")] = Path("results/benchmarks/coverage.json"),
) -> None:
    """Simulate, print and write."""
    rows = [
        covered(lengths, launches, questions, trials if questions < 400 else trials // 4)
        for lengths in LENGTHS
        for launches in LAUNCHES
        for questions in QUESTIONS
    ]
    show(
        "share of 95 % intervals that hold the true speed-up (high end over low end)",
        ["lengths", "launches", "questions", *METHODS],
        (
            [row["lengths"], row["launches"], row["questions"],
             *(f"{row[name]:.3f} ({row[f'{name}_width']:.2f})" for name in METHODS)]
            for row in rows
        ),
    )  # fmt: skip
    write(out, {"what": "coverage of 95 % intervals, simulated; see benchmarks/coverage.py", "rows": rows})


if __name__ == "__main__":
    typer.run(main)
