"""A/A: AR against itself under another name, in fresh processes. How often does the 95 % interval hold 1.0?

    python benchmarks/aa.py [--launches 20] [--target demo-s …] [--folder DIR] [--out FILE]

`none+token` is AR's drafter and verifier put together by hand: the same computation in a lane of its own. One run of so
many launches; then as many intervals from each three launches in a row (in a circle), and from each launch alone. One
row per target and kind of interval: how many of them hold 1.0, how far the ratio lay from it, and the median width.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from figures import TARGETS, Targets, measured, show, write

from specbench_s2d.analysis.metrics.pairs import pair
from specbench_s2d.analysis.metrics.speed import SPEEDUP, speedup
from specbench_s2d.bench.launches import run_launches
from specbench_s2d.bench.plan import make_plan
from specbench_s2d.config import RunSpec
from specbench_s2d.runs.record import Record

TWIN = "none+token"
IN_A_ROW = (1, 3)


def rows(records: Sequence[Record], launches: int) -> Iterator[dict[str, Any]]:
    """Of each target, how the intervals of so many launches in a row hold 1.0."""
    for target in dict.fromkeys(r.target for r in records):
        of_target = [r for r in records if r.target == target]
        for count in IN_A_ROW:
            windows = [{(start + i) % launches for i in range(count)} for start in range(launches)]
            found = [_ratio([r for r in of_target if r.launch in window]) for window in windows]
            yield {
                "target": target,
                "launches_in_a_row": count,
                "intervals": len(found),
                "hold_1": sum(low <= 1 <= high for _, low, high in found),
                "lowest": min(ratio for ratio, _, _ in found),
                "highest": max(ratio for ratio, _, _ in found),
                "median_width": sorted(high / low for _, low, high in found)[len(found) // 2],
                "all": [[round(value, 4) for value in one] for one in found],
            }


def _ratio(records: Sequence[Record]) -> tuple[float, float, float]:
    """The twin over AR, with its interval."""
    pairs = pair([r for r in records if r.label == TWIN], [r for r in records if r.label == "ar"])
    value, found = speedup([pairs]).value, SPEEDUP.interval([pairs])
    assert value is not None and found.low is not None and found.high is not None
    return value, found.low, found.high


def main(
    launches: Annotated[int, typer.Option(min=4, help="Fresh processes.")] = 20,
    target: Targets = None,
    folder: Annotated[Path | None, typer.Option(help="The run's folder; a new temporary one by default.")] = None,
    out: Annotated[Path, typer.Option(help="Write the figures as JSON.")] = Path("results/benchmarks/aa.json"),
) -> None:
    """Run, print and write."""
    spec = RunSpec(target=target or TARGETS, decoder=["ar", TWIN], limit=2, device="cpu", launches=launches)
    with tempfile.TemporaryDirectory() as temporary:
        records = run_launches(make_plan(spec), folder or Path(temporary) / "run").records
    found = list(rows(records, launches))
    show(
        f"{TWIN} over ar: 95 % intervals that hold 1.0",
        ["target", "launches in a row", "hold 1.0", "ratios", "high over low end"],
        (
            [row["target"], row["launches_in_a_row"], f"{row['hold_1']} of {row['intervals']}",
             f"{row['lowest']:.3f}–{row['highest']:.3f}", row["median_width"]]
            for row in found
        ),
    )  # fmt: skip
    write(out, {**measured(f"{TWIN} over ar; see benchmarks/aa.py"), "launches": launches, "rows": found})


if __name__ == "__main__":
    typer.run(main)
