"""Records to tidy tables: one row per target x label x suite, one per draft position, one per exit, one per setting
of the thresholds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from specbench_s2d.analysis.metrics import audit, cost_model, drafts, energy, stats
from specbench_s2d.analysis.metrics import quality as grades
from specbench_s2d.analysis.metrics.bootstrap import RESAMPLES
from specbench_s2d.analysis.metrics.columns import Interval, Measure
from specbench_s2d.analysis.metrics.quotients import MAT, PERPLEXITY
from specbench_s2d.analysis.metrics.stats import Pair
from specbench_s2d.analysis.tables.naming import without_option
from specbench_s2d.config import SUITES
from specbench_s2d.decoding.labels import value_text
from specbench_s2d.runs.record import BASELINE, Record

OVERALL = "overall"
MEAN_TARGET = "mean over targets"
"""What stands as `target` in rows that average a run's targets; no checkpoint's name holds spaces like these."""
QUALITY = "quality_"

_TEXT = ("target", "label", "decoder", "draft", "options", "projected", "suite", "notes")
_COUNTS = (
    "records", "questions", "new_tokens", "steps", "pairs", "unpaired",
    "mismatches", "near_ties", "audited_tokens", "failed", "skipped", "truncated",
)  # fmt: skip
COLUMNS = (
    "target", "label", "decoder", "draft", "options", "lossy", "projected", "suite",
    "records", "questions", "new_tokens", "tokens_per_answer", "steps",
    "tokens_per_s", "percent_of_bound",
    "speedup", "speedup_low", "speedup_high", "speedup_e2e", "speedup_e2e_low", "speedup_e2e_high",
    "speedup_specbench", "speedup_specbench_low", "speedup_specbench_high", "speedup_predicted",
    "cost_ratio", "cost_ratio_low", "cost_ratio_high", "verify_ratio",
    "pairs", "unpaired",
    "mat", "mat_low", "mat_high", "mean_mat_per_question", "tokens_per_pass", "accepted_per_pass", "acceptance_rate",
    "draft_layers_per_token", "mean_exit_depth",
    "draft_s", "verify_s", "other_s", "perplexity", "perplexity_low", "perplexity_high",
    "energy_j_per_token", "energy_net_j_per_token",
    "mismatches", "near_ties", "audited_tokens", "auditable_share", "failed", "skipped", "truncated",
)  # fmt: skip
POSITION_COLUMNS = (
    "target", "label", "decoder", "draft", "lossy", "projected", "suite", "position", "reached", "accepted", "rate",
)  # fmt: skip
EXIT_COLUMNS = ("target", "label", "decoder", "draft", "lossy", "projected", "exit_depth", "tokens", "share")
ABLATION_COLUMNS = (
    "target", "label", "variant", "lossy", "projected", "thresholds", "speedup", "speedup_low", "speedup_high", "mat",
)  # fmt: skip
_UNMEASURED = "not measured in this run"
_OF_ONE_TARGET = Measure(None, "a figure of single targets")
# Of several targets these are averaged; counts and seconds are summed, and rates of single targets left out.
_AVERAGED = (
    "tokens_per_answer", "speedup_e2e", "speedup_specbench", "mat", "mean_mat_per_question", "tokens_per_pass",
    "accepted_per_pass", "acceptance_rate", "draft_layers_per_token", "mean_exit_depth",
    "energy_j_per_token", "energy_net_j_per_token", "auditable_share",
)  # fmt: skip


def tidy(records: Iterable[Record], resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """One row per target, label and suite, `overall` last; columns as in `COLUMNS`, then quality, then `notes`.

    Where there are several targets, rows of the target `MEAN_TARGET` follow: figures of merit are the arithmetic mean
    of the targets' own, counts and seconds their sums, tokens/s and perplexity null.
    Counts are nullable integers, other figures floats, both null where nothing can be said (`notes` says why).
    All records must be of one run on one device: that is what makes them comparable.
    """
    kept = latest(records)
    metrics = grades.metrics_of(kept)
    rows = [_row(group, kept, metrics, resamples, seed) for group in _groups(kept)]
    rows += _mean_rows(rows, kept, metrics, resamples, seed)
    columns = [*COLUMNS, *(QUALITY + name + end for name in metrics for end in ("", "_low", "_high")), "notes"]
    return _typed(pd.DataFrame(rows, columns=columns))


def acceptance_by_position(records: Iterable[Record]) -> pd.DataFrame:
    """One row per target, label, suite and draft position; columns as in `POSITION_COLUMNS`."""
    rows = [
        (
            *group.names,
            group.lossy,
            group.projected,
            group.suite,
            p.position,
            p.reached,
            p.accepted,
            p.accepted / p.reached,
        )
        for group in _groups(latest(records))
        for p in stats.acceptance_by_position(group.records)
    ]
    return pd.DataFrame(rows, columns=list(POSITION_COLUMNS))


def exit_depths(records: Iterable[Record]) -> pd.DataFrame:
    """One row per target, label and exit, for decoders that choose their exits; columns as in `EXIT_COLUMNS`."""
    rows = [
        (*group.names, group.lossy, group.projected, e.exit_depth, e.tokens, e.share)
        for group in _groups(latest(records))
        if group.suite == OVERALL and group.records[0].decoder_options.get("exit") is None
        for e in drafts.exit_histogram(group.records)
    ]
    return pd.DataFrame(rows, columns=list(EXIT_COLUMNS))


def threshold_ablation(records: Iterable[Record], table: pd.DataFrame) -> pd.DataFrame:
    """The tidy table's `overall` rows of decoders that were run at several thresholds and differ in nothing else.

    One row per target (`MEAN_TARGET` included) and setting, the settings in rising order; columns as in
    `ABLATION_COLUMNS`, where `variant` is the label without its thresholds.
    """
    thresholds = {r.label: tuple(r.decoder_options["thresholds"]) for r in records if _has_thresholds(r)}
    variants = {label: without_option(label, "thresholds") for label in thresholds}
    several = {variant for variant, n in Counter(variants.values()).items() if n > 1}
    labels = sorted((label for label in thresholds if variants[label] in several), key=lambda label: thresholds[label])
    rows = table[(table["suite"] == OVERALL) & table["label"].isin(labels)]
    texts = {label: value_text(thresholds[label]) for label in labels}
    rows = rows.assign(
        variant=rows["label"].map(variants), thresholds=rows["label"].map(texts), order=rows["label"].map(labels.index)
    )
    return rows.sort_values("order", kind="stable")[list(ABLATION_COLUMNS)].reset_index(drop=True)


def _has_thresholds(record: Record) -> bool:
    return record.decoder_options.get("thresholds") is not None


def latest(records: Iterable[Record]) -> list[Record]:
    """One record per cell: the last one written, which a retry of a failed cell appends."""
    return list({(r.target, r.label, r.suite, r.question_id, r.turn, r.repeat): r for r in records}.values())


class _Group:
    """The records of one row."""

    def __init__(self, target: str, label: str, suite: str, records: Sequence[Record]) -> None:
        self.target, self.label, self.suite, self.records = target, label, suite, records
        self.lossy = any(r.lossy for r in records)
        self.projected = projection_of(records)
        self.draft = ", ".join(dict.fromkeys(r.draft for r in records if r.draft)) or None  # targets may differ in it
        self.names = (target, label, records[0].decoder, self.draft)


def _groups(records: Sequence[Record]) -> list[_Group]:
    """Rows in reading order: targets as they first appear, AR first among labels and lossy ones last,
    Spec-Bench's suites first."""
    targets = dict.fromkeys(r.target for r in records)
    return [group for t in targets for group in _groups_of(t, [r for r in records if r.target == t])]


def _groups_of(target: str, records: Sequence[Record]) -> list[_Group]:
    groups = []
    labels = {r.label: r.lossy for r in records}
    for label, _ in sorted(labels.items(), key=_label_order):
        mine = [r for r in records if r.label == label]
        suites = sorted(dict.fromkeys(r.suite for r in mine), key=_suite_order)
        groups += [_Group(target, label, suite, [r for r in mine if r.suite == suite]) for suite in suites]
        groups.append(_Group(target, label, OVERALL, mine))
    return groups


def _label_order(item: tuple[str, bool]) -> tuple[bool, bool, list[tuple[bool, float, str]]]:
    """AR first, then the lossless, then the lossy; each by name, numbers by value (gamma=5 before gamma=10)."""
    label, lossy = item
    parts = re.findall(r"\d+(?:\.\d+)?|\D+", label)
    return label != BASELINE, lossy, [(p[0].isdigit(), float(p) if p[0].isdigit() else 0, p) for p in parts]


def _suite_order(suite: str) -> int:
    return SUITES.index(suite) if suite in SUITES else len(SUITES)


def _row(
    group: _Group, everything: Sequence[Record], metrics: Sequence[str], resamples: int, seed: int
) -> dict[str, Any]:
    pairs = _pairs(group, everything, [group.target])
    figures = {**_figures(group.records), **_speedups(pairs, resamples, seed)}
    figures["speedup_e2e"] = stats.speedup_e2e(pairs[0])
    figures["speedup_specbench"] = stats.speedup_specbench(pairs[0])
    for column, interval in (
        ("speedup_e2e", stats.speedup_e2e_interval),
        ("speedup_specbench", stats.speedup_specbench_interval),
    ):
        known = figures[column].value is not None
        figures |= _ends(column, interval(pairs[0], resamples, seed) if known else Interval(None, None))
    figures |= _ends("mat", MAT.interval([group.records], resamples, seed))
    figures |= _ends("perplexity", PERPLEXITY.interval([group.records], resamples, seed))
    for name in metrics:
        figures[QUALITY + name] = value = grades.quality(group.records, name)
        figures |= _quality_ends(name, value, [group.records], resamples, seed)
    return _filled(group, figures)


def _quality_ends(
    name: str, value: Measure, groups: Sequence[Sequence[Record]], resamples: int, seed: int
) -> dict[str, Measure]:
    """The interval of a metric; none, for the same reason, where there is no value."""
    if value.value is None:
        return _ends(QUALITY + name, Interval(None, None))
    return _ends(QUALITY + name, grades.quality_interval(groups, name, resamples, seed))


def _ends(column: str, interval: Interval) -> dict[str, Measure]:
    """Both ends as figures; the reason for missing ones is said once."""
    return {f"{column}_low": Measure(interval.low, interval.note), f"{column}_high": Measure(interval.high)}


def _mean_rows(
    rows: Sequence[Mapping[str, Any]], records: Sequence[Record], metrics: Sequence[str], resamples: int, seed: int
) -> list[dict[str, Any]]:
    """The rows of `MEAN_TARGET` from the targets' own; none where there is but one target."""
    targets = list(dict.fromkeys(r.target for r in records))
    of_target = {(row["target"], row["label"], row["suite"]): row for row in rows}
    made = []
    for group in _groups_of(MEAN_TARGET, records) if len(targets) > 1 else []:
        parts = [of_target.get((target, group.label, group.suite), {}) for target in targets]
        figures = {**_figures(group.records), **_speedups(_pairs(group, records, targets), resamples, seed)}
        figures |= dict.fromkeys(("tokens_per_s", "percent_of_bound", "perplexity"), _OF_ONE_TARGET)
        figures |= {column: _mean(parts, column) for column in (*_AVERAGED, *(QUALITY + name for name in metrics))}
        by_target = [[r for r in group.records if r.target == target] for target in targets]
        figures |= _ends("mat", MAT.interval(by_target, resamples, seed)) | _ends("perplexity", Interval(None, None))
        for name in metrics:
            figures |= _quality_ends(name, figures[QUALITY + name], by_target, resamples, seed)
        made.append(_filled(group, figures))
    return made


def _mean(parts: Sequence[Mapping[str, Any]], column: str) -> Measure:
    """The mean of one column over the targets' rows; None unless every target has it."""
    known = [part[column] for part in parts if part.get(column) is not None]
    if len(known) < len(parts):
        return Measure(None, f"no mean: {len(parts) - len(known)} of {len(parts)} targets have none")
    return Measure(sum(known) / len(known))


def _filled(group: _Group, figures: Mapping[str, Measure]) -> dict[str, Any]:
    """A row from its figures: the names and counts in front, the notes of what is missing at the end."""
    records = group.records
    # Notes are parted by semicolons: none stands within one.
    notes = [f"{column}: {figure.note.replace('; ', ', ')}" for column, figure in figures.items() if figure.note]
    return {
        "target": group.target, "label": group.label, "decoder": records[0].decoder, "draft": group.draft,
        "options": options_text(records[0].decoder_options), "lossy": group.lossy,
        "projected": group.projected, "suite": group.suite,
        **_counts(records),
        **{column: figure.value for column, figure in figures.items()},
        "unpaired": len(records) - int(figures["pairs"].value or 0),
        "notes": "; ".join(notes) or None,
    }  # fmt: skip


def projection_of(records: Iterable[Record]) -> str | None:
    """Why any of these records is a projection, each reason once; None where all were measured."""
    reasons = dict.fromkeys(part for r in records if r.projected for part in r.projected.split(", "))
    return ", ".join(reasons) or None


def options_text(options: Mapping[str, Any]) -> str:
    """Every option that a decoder ran with, defaults included, but for those that are not set."""
    return ", ".join(f"{name}={value_text(value)}" for name, value in options.items() if value is not None)


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
        "tokens_per_answer": stats.tokens_per_answer(records),
        "steps": _steps(records),
        "tokens_per_s": stats.tokens_per_s(records),
        "percent_of_bound": stats.percent_of_bound(records),
        "mat": stats.mat(records),
        "draft_layers_per_token": drafts.draft_layers_per_token(records),
        "mean_exit_depth": drafts.mean_exit_depth(records),
        "mean_mat_per_question": stats.mean_mat_per_question(records),
        "tokens_per_pass": stats.tokens_per_pass(records),
        "accepted_per_pass": stats.accepted_per_pass(records),
        "acceptance_rate": stats.acceptance_rate(records),
        **{field: stats.full_sum(records, field) for field in ("draft_s", "verify_s", "other_s")},
        "perplexity": stats.perplexity(records),
        "energy_j_per_token": energy.energy_j_per_token(records),
        "energy_net_j_per_token": energy.energy_net_j_per_token(records),
        "mismatches": _verdicts(records, "mismatch"),
        "near_ties": _verdicts(records, "near_tie"),
        "audited_tokens": audit.audited_tokens(records),
        "auditable_share": audit.auditable_share(records),
    }


def _pairs(group: _Group, everything: Sequence[Record], targets: Sequence[str]) -> list[list[Pair]]:
    """The row's cells beside AR's, target by target."""
    baseline = [r for r in everything if r.label == BASELINE]
    return [stats.pair([r for r in group.records if r.target == target], baseline) for target in targets]


def _speedups(pairs: Sequence[Sequence[Pair]], resamples: int, seed: int) -> dict[str, Measure]:
    """The speed-up over AR and what the cost model says of it, of one target or the mean of several."""
    cells = sum(map(len, pairs))
    interval = stats.mean_speedup_interval(pairs, resamples, seed=seed) if cells else Interval(None, None)
    cost = cost_model.cost_ratio(pairs)
    of_cost = cost_model.cost_ratio_interval(pairs, resamples, seed) if cost.value is not None else Interval(None, None)
    return {
        "pairs": Measure(cells),
        "speedup": stats.speedup(pairs[0]) if len(pairs) == 1 else stats.mean_speedup(pairs),
        "speedup_low": Measure(interval.low, interval.note),
        "speedup_high": Measure(interval.high, interval.note),
        "speedup_predicted": cost_model.speedup_predicted(pairs),
        "cost_ratio": cost,
        **_ends("cost_ratio", of_cost),
        "verify_ratio": cost_model.verify_ratio(pairs),
    }


def _steps(records: Sequence[Record]) -> Measure:
    kept, note = stats.carrying(records, "emitted_per_step")
    return Measure(None, note) if note else Measure(sum(len(r.emitted_per_step or []) for r in kept))


def _verdicts(records: Sequence[Record], verdict: str) -> Measure:
    """How many audited outputs got this verdict; None where none was audited."""
    audited: list[str] = [r.divergence.verdict for r in records if r.status == "ok" and r.divergence is not None]
    return Measure(audited.count(verdict)) if audited else Measure(None, audit.NOT_AUDITED)


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    for column in table.columns:
        if column in _COUNTS:
            table[column] = table[column].astype("Int64")
        elif column == "lossy":
            table[column] = table[column].astype("bool")
        elif column not in _TEXT:
            table[column] = table[column].astype("float64")
    return table
