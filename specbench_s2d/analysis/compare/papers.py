"""A run beside the figures that a paper printed: a row per method, suite by suite. `methods` says which is which.

A target stands beside the paper's of the same name. Where no name matches, targets go by size: the run's, the fastest
under AR being the smallest, beside the paper's by their billions of parameters, from the smallest to the largest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from specbench_s2d.analysis.compare import paper_means as beside_means
from specbench_s2d.analysis.compare.decoders import Block, Comparison, of, require_baseline
from specbench_s2d.analysis.compare.paper_methods import SPS, MethodPart, is_sps_schedule, methods_of, parts, wanted
from specbench_s2d.analysis.metrics import stats
from specbench_s2d.analysis.metrics.bootstrap import RESAMPLES
from specbench_s2d.analysis.tables import summary as tidy
from specbench_s2d.analysis.tables.naming import decoder_title, suite_title
from specbench_s2d.analysis.tables.summary import MEAN_TARGET, OVERALL
from specbench_s2d.analysis.tables.text import absent, number
from specbench_s2d.config import SUITES
from specbench_s2d.errors import UserError
from specbench_s2d.published import published
from specbench_s2d.runs.record import BASELINE, Record

# the paper's metric: our column, and what a block of it is called
_METRICS = {"speedup": ("speedup", "speed-up"), "mean_accepted_tokens": ("mat", "mean accepted tokens")}
_KEY = ["label", "method", "suite", "metric"]
COLUMNS = (
    "target", "paper_target", "device", "label", "lossy", "projected", "against", "method", "suite", "metric",
    "ours", "ours_low", "ours_high", "ours_specbench", "reason", "published", "source",
)  # fmt: skip


def compare_published(
    records: Sequence[Record], name: str, paper: str, temperature: float, resamples: int = RESAMPLES
) -> Comparison:
    """A run of the given temperature beside a paper's figures.

    Columns: target, paper_target, device (the paper's), label, lossy, projected, against (what ours is over),
    method, suite, metric, ours with its 95 % interval, ours_specbench (the speed-up by Spec-Bench's formula, as the
    papers used), reason (why ours is missing), published, source. Figures that a paper gives as a mean over its targets
    stand beside our mean over targets, or our only one.
    Raises `UserError` for an unknown paper, a temperature that it has no figures at, a run without AR, and where the
    two share nothing.
    """
    figures = published(paper)
    kept = tidy.latest(records)
    require_baseline(name, kept)
    figures = _at_temperature(figures[figures["suite"].isin([*SUITES, OVERALL])], paper, temperature)
    found = parts(kept)
    methods = {label: methods_of(paper, part) for label, part in found.items() if label != BASELINE}
    known = set(figures["method"])
    usable = figures[figures["method"].isin([m for listed in methods.values() for m in listed])]
    of_means = usable["target"] == MEAN_TARGET
    beside = match_targets(kept, list(dict.fromkeys(usable[~of_means]["target"])))
    table = tidy.tidy(kept, resamples)
    rows = [row for target, other in beside.items() for row in _rows(table, usable, methods, kept, target, other)]
    means = beside_means.rows(usable[of_means], methods, found, kept, resamples)
    if not rows and not means:
        raise UserError(
            f"nothing in common: {name} has {', '.join(methods) or 'only ' + BASELINE}; published:{paper} has "
            f"{'; '.join(sorted(known))}: no decoder of the run stands for one of these"
            f"{f', as {wanted(paper)} would' if wanted(paper) else ''}."
        )
    by_target = pd.DataFrame(rows, columns=list(COLUMNS))
    by_target = pd.DataFrame([*rows, *_means(by_target, table)], columns=list(COLUMNS))
    blocks = [
        block
        for place, part in by_target.groupby(["target", "paper_target", "device"], sort=False, dropna=False)
        for block in _blocks([None if absent(p) else str(p) for p in place], part)
    ]
    joined = pd.DataFrame([*by_target.to_dict("records"), *means], columns=list(COLUMNS))
    notes = [
        *(_target_notes(beside, list(dict.fromkeys(r.target for r in kept)), by_target) if rows else []),
        *beside_means.notes(means, found),
        *_method_notes(paper, methods, known, found),
    ]
    return Comparison(f"{name} beside published:{paper}", joined, [*blocks, *beside_means.blocks(means)], notes)


def _at_temperature(figures: pd.DataFrame, paper: str, temperature: float) -> pd.DataFrame:
    kept = figures[figures["temperature"].isna() | (figures["temperature"] == temperature)]
    if kept.empty:
        there = ", ".join(f"{t:g}" for t in sorted(set(figures["temperature"])))
        raise UserError(
            f"published:{paper} has figures at temperature {there}; the run was at {temperature:g}: "
            "nothing to set side by side."
        )
    return kept


def match_targets(records: Sequence[Record], theirs: Sequence[str]) -> dict[str, str]:
    """Our targets to the paper's, by name where any matches, else by size; ours beyond theirs stay out."""
    ours = list(dict.fromkeys(r.target for r in records))
    by_name = {o: t for o in ours for t in sorted(theirs, key=len) if _plain(o).startswith(_plain(t))}
    if by_name or not theirs:
        return by_name
    rates = {o: stats.rate_e2e([r for r in of(records, o) if r.label == BASELINE]).value or 0.0 for o in ours}
    small_first = sorted(ours, key=lambda target: -rates[target])
    sizes = sorted(theirs, key=_billions)
    last = min(len(ours), len(sizes)) - 1
    places = [round(i * (len(sizes) - 1) / last) if last else 0 for i in range(last + 1)]
    return {target: sizes[place] for target, place in zip(small_first, places, strict=False)}


def _plain(name: str) -> str:
    return name.rpartition("/")[2].lower()


def _billions(target: str) -> float:
    found = re.search(r"(\d+(?:\.\d+)?)b\b", target.lower())
    return float(found[1]) if found else 0.0


def _rows(
    table: pd.DataFrame, figures: pd.DataFrame, methods: Mapping[str, list[str]], records: Sequence[Record],
    target: str, paper_target: str,
) -> list[dict[str, Any]]:  # fmt: skip
    """Every figure of the paper's target that one of our rows stands beside, in the order of our labels."""
    ours = {(row["label"], row["suite"]): row for row in table[table["target"] == target].to_dict("records")}
    theirs = figures[figures["target"] == paper_target].to_dict("records")
    options = {r.label: r.decoder_options for r in records}
    rows = []
    for label in dict.fromkeys(label for label, _ in ours):
        for figure in theirs:
            row = ours.get((label, str(figure["suite"])))
            if row is None or figure["metric"] not in _METRICS or figure["method"] not in methods.get(str(label), ()):
                continue
            if _drafts_alike(figure, options[str(label)]):
                rows.append({"target": target, "paper_target": paper_target, **_cell(row, figure)})
    return rows


def _drafts_alike(figure: Mapping[Any, Any], options: Mapping[str, Any]) -> bool:
    """Whether the paper's draft picked its tokens as ours did: at temperature 0 both are greedy."""
    if not figure["draft_sampling"] or figure["temperature"] == 0:
        return True
    return bool((options.get("sampling") == "run") == (figure["draft_sampling"] == "sampling"))


def _cell(row: Mapping[Any, Any], figure: Mapping[Any, Any]) -> dict[str, Any]:
    column = _METRICS[str(figure["metric"])][0]
    fast = column == "speedup"
    return {
        "device": figure["device"], "label": row["label"], "lossy": row["lossy"], "projected": row["projected"],
        "against": BASELINE if fast else None, "method": figure["method"],
        "suite": row["suite"], "metric": figure["metric"], "ours": row[column],
        "ours_low": row["speedup_low"] if fast else None, "ours_high": row["speedup_high"] if fast else None,
        "ours_specbench": row["speedup_specbench"] if fast else None,
        "published": figure["value"], "source": figure["source"],
    }  # fmt: skip


def _means(joined: pd.DataFrame, table: pd.DataFrame) -> list[dict[str, Any]]:
    """The mean over targets of both sides, where every matched target has the figure; none for a single target."""
    ours = {(r["label"], r["suite"]): r for r in table[table["target"] == MEAN_TARGET].to_dict("records")}
    targets = list(dict.fromkeys(joined["target"]))
    rows = []
    for key, part in joined.groupby(_KEY, sort=False):
        row = ours.get((key[0], key[2]))
        whole = list(part["target"]) == targets and len(set(table["target"])) == len(targets) + 1
        if row is not None and whole:
            value = float(part["published"].mean())
            figure = {**part.iloc[0].to_dict(), "value": value, "source": "mean of the rows above"}
            theirs = f"mean of {', '.join(part['paper_target'])}"
            rows.append({"target": MEAN_TARGET, "paper_target": theirs, **_cell(row, figure)})
    return rows


def _blocks(place: Sequence[str | None], rows: pd.DataFrame) -> list[Block]:
    target, paper_target, device = place
    found = []
    for metric, (_, what) in _METRICS.items():
        part = rows[rows["metric"] == metric]
        if part.empty:
            continue
        suites = [s for s in (*SUITES, OVERALL) if s in set(part["suite"])]
        title = f"{target} beside {paper_target}{f' on {device}' if device else ''}: {what}"
        headings = ["Decoder\npaper's row", *(suite_title(s, short=True) for s in suites)]
        found.append(Block(title, headings, [_line(lines, suites) for _, lines in part.groupby(_KEY[:2], sort=False)]))
    return found


def _line(rows: pd.DataFrame, suites: Iterable[str]) -> list[str]:
    by_suite: dict[str, Mapping[Any, Any]] = {str(row["suite"]): row for row in rows.to_dict("records")}
    first = rows.iloc[0]
    cells = [f"{decoder_title(first['label'], first['lossy'], first['projected'])}\n{first['method']}"]
    for suite in suites:
        row = by_suite.get(suite, {})
        ours = row.get("ours") if not absent(row.get("ours")) else row.get("ours_specbench")
        cells.append(f"{number(ours)}\n{number(row.get('published'))}")
    return cells


def _target_notes(beside: Mapping[str, str], of_run: Sequence[str], rows: pd.DataFrame) -> list[str]:
    untimed = list(dict.fromkeys(rows[rows["ours"].isna() & rows["ours_specbench"].notna()]["label"]))
    how = "by name" if any(_plain(o).startswith(_plain(t)) for o, t in beside.items()) else "by size, smallest first"
    left = [target for target in of_run if target not in beside]
    return [
        "Each cell: ours above, the paper's below. Other models and other hardware: the order of the rows can be "
        "compared, the figures cannot.",
        f"Targets stand beside the paper's {how}: {', '.join(f'{o} – {t}' for o, t in beside.items())}.",
        f"Speed-ups are over {BASELINE} in decode tokens/s; by Spec-Bench's formula ours are in the column "
        "ours_specbench of --json and --out.",
        *([f"Without decode times, ours is shown by Spec-Bench's formula: {', '.join(untimed)}."] if untimed else []),
        *([f"Targets without a counterpart: {', '.join(left)}."] if left else []),
    ]


def _method_notes(
    paper: str, methods: Mapping[str, list[str]], known: set[str], found: Mapping[str, MethodPart]
) -> list[str]:
    lone = [label for label, found in methods.items() if not known & set(found)]
    missing = sorted(known - {m for found in methods.values() for m in found})
    constant = [label for label, part in found.items() if SPS in methods.get(label, ()) and not is_sps_schedule(part)]
    return [
        *([f"{SPS} drafts by the schedule gamma=heuristic; not so {', '.join(constant)}."] if constant else []),
        *([f"Without a row in published:{paper}: {', '.join(lone)}."] if lone else []),
        *([f"Rows of published:{paper} that the run has no decoder for: {'; '.join(missing)}."] if missing else []),
    ]
