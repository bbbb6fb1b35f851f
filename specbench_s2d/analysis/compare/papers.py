"""A run compared with the values that a paper printed: a row per method, suite by suite.

`paper_targets` says which target goes with which, `paper_methods` which decoder stands for which method; values that
a paper printed as means over its targets are compared in `paper_means`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from specbench_s2d.analysis.compare import paper_means
from specbench_s2d.analysis.compare.comparison import Comparison, require_baseline
from specbench_s2d.analysis.compare.paper_methods import (
    DecoderFacts,
    decoders_of,
    exits_by_place,
    methods_of,
    other_settings,
    wanted,
    why_no_method,
)
from specbench_s2d.analysis.compare.paper_targets import match_targets, mean_notes, pairing_notes, read_given, unfit
from specbench_s2d.analysis.compare.rank_correlation import COLUMNS as RANK_COLUMNS
from specbench_s2d.analysis.compare.rank_correlation import add_correlations, correlation_line, correlation_notes
from specbench_s2d.analysis.metrics.pairs import latest
from specbench_s2d.analysis.tables.naming import row_title, suite_title
from specbench_s2d.analysis.tables.summary import MEAN_TARGET, OVERALL, Row, summary_table
from specbench_s2d.analysis.tables.text import TextTable, absent, number
from specbench_s2d.config import SUITES
from specbench_s2d.errors import UserError
from specbench_s2d.paper_names import paper_methods
from specbench_s2d.published import column_as, published
from specbench_s2d.runs.columns import Records
from specbench_s2d.runs.record import BASELINE, Record

# the paper's metric: what a table of it is called
_METRICS = {"speedup": "speed-up", "mean_accepted_tokens": "mean accepted tokens"}
_KEY = ["label", "method", "suite", "metric"]
_KEY_OF_TABLE = ["target", "paper_target", "device"]
COLUMNS = (
    "target", "paper_target", "device", "label", "lossy", "projected", "against", "method", "suite", "metric",
    "ours_column", "ours", "ours_low", "ours_high", "ours_n", "ours_specbench", "ours_decode", "reason", "published",
    "source", *RANK_COLUMNS,
)  # fmt: skip


def compare_published(
    records: Iterable[Record], name: str, paper: str, temperature: float, stand_ins: Sequence[str] = (),
    heads: Mapping[str, str] | None = None,
) -> Comparison:  # fmt: skip
    """A run of the given temperature compared with a paper's values.

    `stand_ins`: TARGET=PAPER_TARGET and LABEL=METHOD, in place of what the tables of `paper_names` say. `heads`: the
    kinds of the run's draft heads, by their names.
    Columns: target, paper_target, device (the paper's), label, lossy, projected, against (what ours is over),
    method, suite, metric, ours_column (the column of summary.csv that counts as the paper does), ours with its 95 %
    interval, ours_specbench and ours_decode (the speed-up by Spec-Bench's formula, and that of decode rates), reason
    (why ours is missing), published, source, and the rank correlation over the methods of the same target, device,
    suite and metric (`rank_correlation.COLUMNS`). Values that a paper gives as a mean over its targets are compared
    with the mean over those of ours that are among them.
    Raises `UserError` for an unknown paper, a temperature that it has no values at, a run without AR, a stand-in that
    either side does not have, and where the two share nothing.
    """
    values = published(paper)
    kept = latest(records)
    require_baseline(name, kept)
    values = _at_temperature(values[values["suite"].isin([*SUITES, OVERALL])], paper, temperature)
    decoders, targets = decoders_of(kept, heads), kept.distinct("target")
    labels, known = [label for label in decoders if label != BASELINE], set(values["method"])
    given = read_given(stand_ins, targets, list(dict.fromkeys(values["target"])), labels, sorted(known))
    methods = {label: given.methods.get(label) or methods_of(paper, decoders[label]) for label in labels}
    usable = values[values["method"].isin([m for listed in methods.values() for m in listed])]
    if usable.empty:
        raise UserError(_nothing(name, paper, methods, known))
    theirs = list(dict.fromkeys(usable["target"]))
    matched = match_targets(paper, targets, theirs, given.targets)
    if not matched:
        raise UserError(f"nothing in common: {unfit(paper, targets, theirs)}")
    alone = {ours: other for ours, other in matched.items() if other != MEAN_TARGET}
    table = summary_table(kept)
    rows = [row for ours, other in alone.items() for row in _rows(table, usable, methods, decoders, ours, other)]
    of_mean = kept.of_values("target", [ours for ours, other in matched.items() if other == MEAN_TARGET])
    means = paper_means.rows(usable[usable["target"] == MEAN_TARGET], methods, decoders, of_mean)
    if not rows and not means:
        raise UserError(_nothing(name, paper, methods, known))
    rows += _means(pd.DataFrame(rows, columns=list(COLUMNS)), table, paper)
    joined = add_correlations(
        pd.DataFrame([*rows, *means], columns=list(COLUMNS)).astype({"ours_n": "Int64"}),
        lambda label, method: not other_settings(paper, decoders[label], method),
    )
    by_target = joined.iloc[: len(rows)]
    left = [target for target in targets if target not in matched]
    notes = [
        *(_target_notes(by_target) if rows else []),
        *pairing_notes(paper, matched, given.targets),
        *([f"No counterpart: {unfit(paper, left, theirs)}"] if left else []),
        *(mean_notes(paper, MEAN_TARGET, matched) if means else []),
        *paper_means.notes(means, decoders),
        *_no_values(usable, methods, alone.values()),
        *_exit_notes(kept, methods),
        *_method_notes(paper, methods, known, decoders),
    ]
    shown = [*_shown(by_target), *paper_means.shown(means)]
    return Comparison(f"{name} compared with published:{paper}", joined, shown, notes)


def _nothing(name: str, paper: str, methods: Mapping[str, list[str]], known: set[str]) -> str:
    would = f" (as would {wanted(paper)})" if wanted(paper) else ""
    return (
        f"nothing in common: {name} has {', '.join(methods) or 'only ' + BASELINE}; published:{paper} has "
        f"{'; '.join(sorted(known))}: no decoder of the run stands for one of these{would}. "
        "Say which does: --as 'LABEL=METHOD'."
    )


def _at_temperature(values: pd.DataFrame, paper: str, temperature: float) -> pd.DataFrame:
    kept = values[values["temperature"].isna() | (values["temperature"] == temperature)]
    if values.empty:
        raise UserError(f"published:{paper} has no values of Spec-Bench's suites: nothing to compare.")
    if kept.empty:
        there = ", ".join(f"{t:g}" for t in sorted(set(values["temperature"])))
        raise UserError(
            f"published:{paper} has values at temperature {there}; the run was at {temperature:g}: nothing to compare."
        )
    return kept


def _rows(
    table: pd.DataFrame, values: pd.DataFrame, methods: Mapping[str, list[str]], decoders: Mapping[str, DecoderFacts],
    target: str, paper_target: str,
) -> list[Row]:  # fmt: skip
    """Every value of the paper's target that one of our rows is compared with, in the order of our labels."""
    ours = {(row["label"], row["suite"]): row for row in table[table["target"] == target].to_dict("records")}
    theirs = values[values["target"] == paper_target].to_dict("records")
    rows = []
    for label in dict.fromkeys(str(label) for label, _ in ours):
        for printed in theirs:
            row = ours.get((label, str(printed["suite"])))
            if row is None or printed["metric"] not in _METRICS or printed["method"] not in methods.get(label, ()):
                continue
            if _drafts_alike(printed, decoders[label].options):
                rows.append({"target": target, "paper_target": paper_target, **_compared(row, printed)})
    return rows


def _drafts_alike(printed: Mapping[Any, Any], options: Mapping[str, Any]) -> bool:
    """Whether the paper's draft picked its tokens as ours did: at temperature 0 both are greedy."""
    if not printed["draft_sampling"] or printed["temperature"] == 0:
        return True
    return bool((options.get("sampling") == "run") == (printed["draft_sampling"] == "sampling"))


def _compared(row: Mapping[Any, Any], printed: Mapping[Any, Any]) -> Row:
    fast = printed["metric"] == "speedup"
    column = column_as(str(printed["paper"]), str(printed["metric"]))
    return {
        "device": printed["device"], "label": row["label"], "lossy": row["lossy"], "projected": row["projected"],
        "against": BASELINE if fast else None, "method": printed["method"],
        "suite": row["suite"], "metric": printed["metric"], "ours_column": column, "ours": row[column],
        "ours_low": row[f"{column}_low"] if fast else None, "ours_high": row[f"{column}_high"] if fast else None,
        "ours_n": row[f"{column}_n"] if fast else None, "ours_specbench": row["speedup_specbench"] if fast else None,
        "ours_decode": row["speedup"] if fast else None, "published": printed["value"], "source": printed["source"],
    }  # fmt: skip


def _means(by_target: pd.DataFrame, table: pd.DataFrame, paper: str) -> list[Row]:
    """The mean over targets of both sides, on each device on which every matched target has the value; none for a
    single target."""
    ours = {(r["label"], r["suite"]): r for r in table[table["target"] == MEAN_TARGET].to_dict("records")}
    targets = list(dict.fromkeys(by_target["target"]))
    rows = []
    for key, part in by_target.groupby([*_KEY, "device"], sort=False, dropna=False):
        row = ours.get((key[0], key[2]))
        complete = list(part["target"]) == targets and len(set(table["target"])) == len(targets) + 1
        if row is not None and complete:
            value = float(part["published"].mean())
            printed = {**part.iloc[0].to_dict(), "paper": paper, "value": value, "source": "mean of the rows above"}
            theirs = f"mean of {', '.join(part['paper_target'])}"
            rows.append({"target": MEAN_TARGET, "paper_target": theirs, **_compared(row, printed)})
    return rows


def _shown(by_target: pd.DataFrame) -> list[TextTable]:
    """A table per target, device of the paper's, and metric."""
    found = []
    for (target, theirs, device), of_place in by_target.groupby(_KEY_OF_TABLE, sort=False, dropna=False):
        for metric, what in _METRICS.items():
            rows = of_place[of_place["metric"] == metric]
            suites = [s for s in (*SUITES, OVERALL) if s in set(rows["suite"])]
            headings = ["Decoder\npaper's row", *(suite_title(s, short=True) for s in suites)]
            lines = [_line(of_label, suites) for _, of_label in rows.groupby(_KEY[:2], sort=False)]
            on = "" if absent(device) else f" on {device}"
            if not lines:
                continue
            title = f"{target} compared with {theirs}{on}: {what} ({rows['ours_column'].iloc[0]})"
            lines += correlation_line(rows, suites)
            found.append(TextTable(headings, lines, title, spare=range(len(suites) - 1, 0, -1)))
    return found


def _line(rows: pd.DataFrame, suites: Iterable[str]) -> list[str]:
    by_suite: dict[str, Mapping[Any, Any]] = {str(row["suite"]): row for row in rows.to_dict("records")}
    first = rows.iloc[0].to_dict()
    cells = [f"{row_title(first)}\n{first['method']}"]
    for suite in suites:
        row = by_suite.get(suite, {})
        cells.append(f"{number(row.get('ours'))}\n{number(row.get('published'))}")
    return cells


def _target_notes(rows: pd.DataFrame) -> list[str]:
    counted = dict.fromkeys(zip(rows["metric"], rows["ours_column"], strict=True))
    columns = "; ".join(f"{_METRICS[metric]}: {column}" for metric, column in counted)
    return [
        "Each cell: ours above, the paper's below. Other hardware: the order of the rows can be compared, the values "
        "cannot.",
        f"Ours are counted as the paper counts, in these columns of summary.csv: {columns}. Speed-ups are over "
        f"{BASELINE}; those of decode rates are in the column ours_decode of --json and --out.",
        *correlation_notes(rows),
    ]


def _no_values(values: pd.DataFrame, methods: Mapping[str, list[str]], theirs: Iterable[str]) -> list[str]:
    """The decoders whose methods have values, but none for a target that the run is compared with."""
    there = {(target, method) for target, method in zip(values["target"], values["method"], strict=True)}
    notes = []
    for label, listed in methods.items():
        lone = [target for target in dict.fromkeys(theirs) if not any((target, method) in there for method in listed)]
        if lone and set(listed) & set(values["method"]):
            which = "it" if len(lone) == 1 else "them"
            said = f"the paper has no values of {', '.join(listed)} for {which}"
            notes.append(f"No row for {label} compared with {', '.join(lone)}: {said}.")
    return notes


def _exit_notes(records: Records, methods: Mapping[str, list[str]]) -> list[str]:
    """That exits went by place, where one of the decoders compared has such an exit."""
    pairs = exits_by_place(records.of_values("label", [label for label, listed in methods.items() if listed]))
    if not pairs:
        return []
    ours, theirs = (", ".join(map(str, sorted(exits))) for exits in (pairs, pairs.values()))
    return [f"Exits {ours} stand for the paper's {theirs}, by their place."]


def _method_notes(
    paper: str, methods: Mapping[str, list[str]], known: set[str], decoders: Mapping[str, DecoderFacts]
) -> list[str]:
    lone: dict[str, list[str]] = {}
    for label, listed in methods.items():
        if not known & set(listed):
            lone.setdefault(why_no_method(paper, decoders[label]), []).append(label)
    said = "; ".join(f"{', '.join(labels)} ({why})" for why, labels in lone.items())
    missing = sorted(known - {m for listed in methods.values() for m in listed})
    differs = {m.method: m.differs for m in paper_methods(paper) if m.differs}
    stood = dict.fromkeys(m for listed in methods.values() for m in listed)
    return [
        *_settings_notes(paper, methods, decoders),
        *(f"{method} in the paper's own code: {differs[method]}." for method in stood if method in differs),
        *([f"Without a row in published:{paper}: {said}. For one that stands for a method all the same: "
           "--as 'LABEL=METHOD'."] if lone else []),
        *([f"Rows of published:{paper} that the run has no decoder for: {'; '.join(missing)}."] if missing else []),
    ]  # fmt: skip


def _settings_notes(paper: str, methods: Mapping[str, list[str]], decoders: Mapping[str, DecoderFacts]) -> list[str]:
    """The settings behind the paper's values, with the labels that stand for its methods and have others."""
    labels: dict[str, dict[str, None]] = {}
    for label, listed in methods.items():
        for method in listed:
            for name, value in other_settings(paper, decoders[label], method).items():
                labels.setdefault(f"{name}={value}", {})[label] = None
    return [f"The paper ran with {setting}; not so {', '.join(of_setting)}." for setting, of_setting in labels.items()]
