"""Parts that tell of committed runs: README's tables, drafting in the loop, and joint decoding."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd

from generated.text import ROOT, table
from specbench_s2d.analysis.compare.decoders import compare_decoders
from specbench_s2d.analysis.metrics.breakdown import breakdown
from specbench_s2d.analysis.metrics.columns import QUALITY, REPETITION, Column, columns_of
from specbench_s2d.analysis.metrics.pairs import pair
from specbench_s2d.analysis.report.write import read_run
from specbench_s2d.analysis.tables.summary import MEAN_TARGET, OVERALL, summary_table
from specbench_s2d.analysis.tables.text import number
from specbench_s2d.runs.record import BASELINE, Record

SMOLLM2_RUN = ROOT / "results" / "benchmarks" / "smollm2"
DEMO_RUN = ROOT / "results" / "baselines" / "demo"
JOINT_RUNS = [ROOT / "results" / "benchmarks" / name for name in ("smollm2_mjsd", "smollm2_mjsd_64")]
METHODS = {
    "ar": "AR, the reference",
    "sd": "vanilla speculative decoding",
    "lookup": "prompt lookup",
    "suffix": "suffix lookup",
    "s2d": "S2D",
    "mjgd": "MJGD",
    "mjsd": "MJSD",
}
NOT_IN_README = ("s2d-tree", "sd:gamma=2", "first(suffix|eagle", "mjsd:tau=0.9", "mjsd:draft")
"""How those of the run's labels begin that have no room there: the run's own page has them."""
TITLES = METHODS | {
    "recycling": "token recycling",
    "s2d-auto": "S2D by measured costs",
    "s2d-tree": "S2D, trees",
    "eagle": "EAGLE's head",
    "first": "suffix, else draft",
}


def smollm2_table() -> str:
    """The committed run of SmolLM2 over all suites, but for `NOT_IN_README`, and how near AR was to the bound."""
    rows = [row for row in summary_table(read_run(SMOLLM2_RUN)).to_dict("records") if row["suite"] == OVERALL]
    [ar] = [row for row in rows if row["label"] == "ar"]
    said = (
        f"AR decoded {ar['tokens_per_s']:.0f} tokens/s, {ar['percent_of_bound']:.0f} % of the speed that memory allows."
    )
    shown = [row for row in rows if not row["label"].startswith(NOT_IN_README)]
    titled = (_demo_row(TITLES[re.split("[:(]", row["label"])[0]], row) for row in shown)
    return table(["method", "speed-up over AR [95 %]", "accepted", "output"], titled) + "\n\n" + said


def demo_table() -> str:
    """The committed demo run: the four methods, mean over its targets, and how near AR was to the bound."""
    overall = [row for row in summary_table(read_run(DEMO_RUN)).to_dict("records") if row["suite"] == OVERALL]
    mean = {row["label"]: row for row in overall if row["target"] == MEAN_TARGET}
    shares = [r["percent_of_bound"] for r in overall if r["label"] == "ar" and r["target"] != MEAN_TARGET]
    said = (
        f"AR reached {min(shares):.0f} to {max(shares):.0f} % of the speed that memory allows; the target pass in "
        f"which `sd` checks five tokens took {mean['sd']['verify_ratio']:.1f} times as long as an AR step."
    )
    header = ["method", "speed-up over AR [95 %]", "accepted tokens per step", "output"]
    return (
        table(header, (_demo_row(title, mean[label]) for label, title in METHODS.items() if label in mean))
        + "\n\n"
        + said
    )


def _demo_row(title: str, row: dict[Any, Any]) -> list[str]:
    speed = f"{row['speedup']:.2f}"
    if row["label"] != "ar":
        speed += f" [{row['speedup_low']:.2f}–{row['speedup_high']:.2f}]"
    return [f"{title} (`{row['label']}`)", speed, f"{row['mat']:.2f}", "lossy" if row["lossy"] else "lossless"]


def drafting_in_the_loop() -> dict[tuple[str, str], float]:
    """Seconds of drafting a step in AR steps, by target and label, in the committed demo run."""
    by_lane: dict[tuple[str, str], list[Record]] = {}
    for record in read_run(DEMO_RUN):
        by_lane.setdefault((record.target, record.label), []).append(record)
    found = {lane: breakdown(pair(records, by_lane[lane[0], BASELINE]))[0] for lane, records in by_lane.items()}
    return {lane: parts.costs["draft"] for lane, parts in found.items() if parts}


def joint_tables() -> str:
    """Text, task quality and repetition of the committed runs of joint decoding; nothing where there is none."""
    return "\n\n".join(joint_section(folder) for folder in JOINT_RUNS if folder.is_dir())


def joint_section(folder: Path) -> str:
    """Two tables of a run: AR's values, and the others' with their change (`compare --against ar`) and its 95 %
    interval."""
    records = read_run(folder)
    values, changes = (
        rows.query(f"suite == '{OVERALL}' and target != '{MEAN_TARGET}'")
        for rows in (summary_table(records), compare_decoders(records, BASELINE).table)
    )
    by_key = {(row["target"], row["label"]): row for row in changes.to_dict("records")}
    columns = [c for c in columns_of(values.columns) if values[c.name].notna().any()]
    text = [c for c in columns if c.name == "perplexity" or c in REPETITION]
    quality = [c for c in columns if c.name.startswith(QUALITY)]
    shown = [row for row in values.to_dict("records") if row["lossy"] or row["label"] == BASELINE]
    parts = [f"### {folder.name}"]
    for picked in filter(None, (text, quality)):
        rows = (
            [
                r["target"],
                f"`{r['label']}`",
                *(_changed(r, by_key.get((r["target"], r["label"]), {}), c) for c in picked),
            ]
            for r in shown
        )
        parts.append(table(["target", "decoder", *(c.heading for c in picked)], rows))
    return "\n\n".join(parts)


def _changed(row: dict[Any, Any], change: dict[Any, Any], column: Column) -> str:
    """A value, and in brackets the interval of its ratio (perplexity) or difference to AR's."""
    name, mark = (f"{column.name}_ratio", "×") if column.name == "perplexity" else (f"{column.name}_difference", "")
    moved, low, high = (change.get(f"{name}{end}") for end in ("", "_low", "_high"))
    text = number(row[column.name], column.digits)
    if moved is None or pd.isna(moved):
        return text
    digits = ".2f" if mark else f"+{column.digits}"
    ends = "" if pd.isna(low) else f" [{low:{digits}} to {high:{digits}}]"
    return f"{text} ({mark}{moved:{digits}}{ends})"
