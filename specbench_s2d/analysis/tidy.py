"""Records to tidy tables: one row per target x label x suite, and one per draft position."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from specbench_s2d.analysis import stats
from specbench_s2d.analysis.stats import RESAMPLES, Interval, Measure
from specbench_s2d.bench.records import BASELINE, Record
from specbench_s2d.config import SUITES

OVERALL = "overall"
QUALITY = "quality_"

_TEXT = ("target", "label", "decoder", "draft", "suite", "notes")
_COUNTS = (
    "records", "questions", "new_tokens", "steps", "pairs", "unpaired",
    "mismatches", "near_ties", "failed", "skipped", "truncated",
)  # fmt: skip
COLUMNS = (
    "target", "label", "decoder", "draft", "lossy", "suite",
    "records", "questions", "new_tokens", "steps",
    "tokens_per_s", "percent_of_bound",
    "speedup", "speedup_low", "speedup_high", "speedup_e2e", "speedup_specbench", "speedup_predicted",
    "pairs", "unpaired",
    "mat", "mean_mat_per_question", "accepted_per_pass", "acceptance_rate",
    "draft_s", "verify_s", "other_s", "perplexity", "energy_j_per_token",
    "mismatches", "near_ties", "failed", "skipped", "truncated",
)  # fmt: skip
POSITION_COLUMNS = ("target", "label", "lossy", "suite", "position", "reached", "accepted", "rate")
_UNMEASURED = "not measured in this run"


def tidy(records: Iterable[Record], resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """One row per target, label and suite, `overall` last; columns as in `COLUMNS`, then quality, then `notes`.

    Counts are nullable integers, other figures floats, both null where nothing can be said (`notes` says why).
    All records must be of one run on one device: that is what makes them comparable.
    """
    kept = latest(records)
    metrics = sorted({name for r in kept for name in r.quality or {}})
    rows = [_row(group, kept, metrics, resamples, seed) for group in _groups(kept)]
    columns = [*COLUMNS, *(QUALITY + name for name in metrics), "notes"]
    return _typed(pd.DataFrame(rows, columns=columns))


def acceptance_by_position(records: Iterable[Record]) -> pd.DataFrame:
    """One row per target, label, suite and draft position; columns as in `POSITION_COLUMNS`."""
    rows = [
        (group.target, group.label, group.lossy, group.suite, p.position, p.reached, p.accepted, p.accepted / p.reached)
        for group in _groups(latest(records))
        for p in stats.acceptance_by_position(group.records)
    ]
    return pd.DataFrame(rows, columns=list(POSITION_COLUMNS))


def latest(records: Iterable[Record]) -> list[Record]:
    """One record per cell: the last one written, which a retry of a failed cell appends."""
    return list({(r.target, r.label, r.suite, r.question_id, r.turn, r.repeat): r for r in records}.values())


class _Group:
    """The records of one row."""

    def __init__(self, target: str, label: str, suite: str, records: Sequence[Record]) -> None:
        self.target, self.label, self.suite, self.records = target, label, suite, records
        self.lossy = any(r.lossy for r in records)


def _groups(records: Sequence[Record]) -> list[_Group]:
    """Rows in reading order: targets as they first appear, AR first among labels and lossy ones last,
    Spec-Bench's suites first."""
    groups = []
    for target in dict.fromkeys(r.target for r in records):
        of_target = [r for r in records if r.target == target]
        labels = {r.label: r.lossy for r in of_target}
        for label, _ in sorted(labels.items(), key=_label_order):
            mine = [r for r in of_target if r.label == label]
            suites = sorted(dict.fromkeys(r.suite for r in mine), key=_suite_order)
            groups += [_Group(target, label, suite, [r for r in mine if r.suite == suite]) for suite in suites]
            groups.append(_Group(target, label, OVERALL, mine))
    return groups


def _label_order(item: tuple[str, bool]) -> tuple[bool, bool, list[tuple[bool, int, str]]]:
    """AR first, then the lossless, then the lossy; each by name, numbers by value (gamma=5 before gamma=10)."""
    label, lossy = item
    parts = re.findall(r"\d+|\D+", label)
    return label != BASELINE, lossy, [(p.isdigit(), int(p) if p.isdigit() else 0, p) for p in parts]


def _suite_order(suite: str) -> int:
    return SUITES.index(suite) if suite in SUITES else len(SUITES)


def _row(
    group: _Group, everything: Sequence[Record], metrics: Sequence[str], resamples: int, seed: int
) -> dict[str, Any]:
    records = group.records
    figures = {**_figures(records), **_speedups(group, everything, resamples, seed)}
    figures.update({QUALITY + name: _quality(records, name) for name in metrics})
    notes = [f"{column}: {figure.note}" for column, figure in figures.items() if figure.note]
    return {
        "target": group.target, "label": group.label, "decoder": records[0].decoder, "draft": records[0].draft,
        "lossy": group.lossy, "suite": group.suite,
        **_counts(records),
        **{column: figure.value for column, figure in figures.items()},
        "unpaired": len(records) - int(figures["pairs"].value or 0),
        "notes": "; ".join(notes) or None,
    }  # fmt: skip


def _counts(records: Sequence[Record]) -> dict[str, int]:
    status = Counter(r.status for r in records)
    return {
        "records": len(records),
        "questions": len({stats.question_of(r) for r in records if r.status == "ok"}),
        "failed": status["failed"],
        "skipped": status["skipped"],
        "truncated": sum(r.prompt_truncated for r in records),
    }


def _figures(records: Sequence[Record]) -> dict[str, Measure]:
    """Every figure that the row's own records give."""
    return {
        "new_tokens": stats.new_tokens(records),
        "steps": _steps(records),
        "tokens_per_s": stats.tokens_per_s(records),
        "percent_of_bound": Measure(None, _UNMEASURED),
        "speedup_predicted": Measure(None, _UNMEASURED),
        "mat": stats.mat(records),
        "mean_mat_per_question": stats.mean_mat_per_question(records),
        "accepted_per_pass": stats.accepted_per_pass(records),
        "acceptance_rate": stats.acceptance_rate(records),
        **{field: stats.full_sum(records, field) for field in ("draft_s", "verify_s", "other_s")},
        "perplexity": stats.perplexity(records),
        "energy_j_per_token": Measure(None, _UNMEASURED),
        "mismatches": _verdicts(records, "mismatch"),
        "near_ties": _verdicts(records, "near_tie"),
    }


def _speedups(group: _Group, everything: Sequence[Record], resamples: int, seed: int) -> dict[str, Measure]:
    """Every figure that needs AR's records beside the row's own."""
    baseline = [r for r in everything if r.label == BASELINE and r.target == group.target]
    pairs = stats.pair(group.records, baseline)
    interval = stats.speedup_interval(pairs, resamples, seed=seed) if pairs else Interval(None, None)
    return {
        "pairs": Measure(len(pairs)),
        "speedup": stats.speedup(pairs),
        "speedup_low": Measure(interval.low, interval.note),
        "speedup_high": Measure(interval.high, interval.note),
        "speedup_e2e": stats.speedup_e2e(pairs),
        "speedup_specbench": stats.speedup_specbench(pairs),
    }


def _steps(records: Sequence[Record]) -> Measure:
    kept, note = stats.carrying(records, "emitted_per_step")
    return Measure(None, note) if note else Measure(sum(len(r.emitted_per_step or []) for r in kept))


def _verdicts(records: Sequence[Record], verdict: str) -> Measure:
    """How many audited outputs got this verdict; None where none was audited."""
    audited: list[str] = [r.divergence.verdict for r in records if r.status == "ok" and r.divergence is not None]
    return Measure(audited.count(verdict)) if audited else Measure(None, "no output was audited against AR's")


def _quality(records: Sequence[Record], metric: str) -> Measure:
    """The mean of one metric over the finished records that were scored by it."""
    scores = [(r.quality or {}).get(metric) for r in records if r.status == "ok"]
    known = [score for score in scores if score is not None]
    return Measure(sum(known) / len(known)) if known else Measure(None, "no cell was scored by it")


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    for column in table.columns:
        if column in _COUNTS:
            table[column] = table[column].astype("Int64")
        elif column == "lossy":
            table[column] = table[column].astype("bool")
        elif column not in _TEXT:
            table[column] = table[column].astype("float64")
    return table
