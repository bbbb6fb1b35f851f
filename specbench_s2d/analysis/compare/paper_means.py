"""A run compared with values that a paper printed as means over its targets, some of them over SD and not over AR."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from specbench_s2d.analysis.compare.paper_methods import DecoderFacts, is_over_sd, sd_for
from specbench_s2d.analysis.metrics.energy import ENERGY, energy_j_per_token
from specbench_s2d.analysis.metrics.pairs import Group
from specbench_s2d.analysis.metrics.quality import PERPLEXITY
from specbench_s2d.analysis.metrics.speed import SPEEDUP, speedup
from specbench_s2d.analysis.metrics.values import Interval, Measure
from specbench_s2d.analysis.tables.naming import option_symbol, row_title
from specbench_s2d.analysis.tables.summary import MEAN_TARGET, Row, row_groups
from specbench_s2d.analysis.tables.text import TextTable, absent, number, with_interval
from specbench_s2d.runs.columns import Records
from specbench_s2d.runs.record import BASELINE, Record

# the paper's metric: what the value is called
_METRICS = {
    "speedup": "speed, times",
    "perplexity_reduction_percent": "perplexity, % lower",
    "energy_ratio": "energy per token, times less",
}


def rows(
    values: pd.DataFrame,
    methods: Mapping[str, Sequence[str]],
    found: Mapping[str, DecoderFacts],
    records: Iterable[Record],
) -> list[Row]:
    """Every such value compared with each of our labels that stands for its method, in the paper's order, as rows of
    `papers`; ours is over the run's SD where theirs is, else over AR, and missing with a reason."""
    groups = {(g.label, g.suite): g for g in row_groups(records)}  # the mean over targets, where there are several
    made = []
    for printed in values[values["metric"].isin(list(_METRICS))].to_dict("records"):
        for label in (label for label, names in methods.items() if printed["method"] in names):
            group = groups.get((label, str(printed["suite"])))
            if group is not None:
                against = sd_for(label, found) if is_over_sd(str(printed["method"])) else BASELINE
                compared = group.against(Records.of(records).of_value("label", against))
                made.append(_row(printed, compared, against))
    return made


def _row(printed: Mapping[Any, Any], group: Group, against: str | None) -> Row:
    value, interval = Measure(None, "the run has no plain sd to compare with"), Interval(None, None)
    if against is not None:
        value, interval = _ours(str(printed["metric"]), group)
    return {
        "target": group.target, "paper_target": printed["target"], "device": printed["device"],
        "label": group.label, "lossy": group.lossy, "projected": group.projected, "against": against,
        "method": printed["method"], "suite": printed["suite"], "metric": printed["metric"], "ours_column": None,
        "ours": value.value, "ours_low": interval.low, "ours_high": interval.high,
        "ours_n": interval.questions or None, "ours_specbench": None,
        "reason": value.note, "published": printed["value"], "source": printed["source"],
    }  # fmt: skip


def _ours(metric: str, group: Group) -> tuple[Measure, Interval]:
    """Our value over the group's baseline, each target weighing alike, with its interval."""
    pairs = group.pairs_by_target
    if metric == "speedup":
        return speedup(pairs), SPEEDUP.interval(pairs)
    if metric == "perplexity_reduction_percent":
        return PERPLEXITY.compare(pairs, "reduction_percent")
    return _times_less_energy(group), Interval(None, None)


def _times_less_energy(group: Group) -> Measure:
    """How many times less energy a token takes than the baseline's, with the reason of the first side that has none."""
    reasons = Records.of(group.records).distinct("reasons")
    said = sorted({of_record["energy_j"] for of_record in reasons if "energy_j" in of_record})
    for pairs in group.pairs_by_target:
        for side in (pairs.baseline, pairs.ours):
            found = energy_j_per_token(side)
            if found.value is None:
                return Measure(None, "; ".join(said) or found.note)
    return ENERGY.compare(group.pairs_by_target, "times_less")[0]


def shown(made: Sequence[Row]) -> list[TextTable]:
    """A table for each of the paper's values that any of our decoders has."""
    by_value: dict[tuple[str, str], list[Row]] = {}
    for row in made:
        by_value.setdefault((row["method"], row["metric"]), []).append(row)
    return [_table(of_one) for of_one in by_value.values() if not all(absent(row["ours"]) for row in of_one)]


def _table(of_one: Sequence[Row]) -> TextTable:
    first = of_one[0]
    title = f"{first['method']}, {_METRICS[first['metric']]}: {first['target']} compared with the paper's {MEAN_TARGET}"
    lines = [
        [
            row_title(row),
            row["against"] or number(None),
            with_interval(row["ours"], row["ours_low"], row["ours_high"], row["ours_n"]),
            number(row["published"]),
        ]
        for row in of_one
    ]
    return TextTable(["Decoder", "over", "ours [95 %]", "paper"], lines, title)


def notes(made: Sequence[Row], found: Mapping[str, DecoderFacts]) -> list[str]:
    """How to read these tables: which of our decoders stand there, over what, and why values are missing."""
    if not made:
        return []
    labels = list(dict.fromkeys(row["label"] for row in made))
    return [
        "Other hardware than the paper's: the order of the rows can be compared, the values cannot.",
        f"Standing for the paper's method: {'; '.join(f'{label} ({_settings(found[label])})' for label in labels)}.",
        "Each target weighs alike; the interval is over questions, the same for all targets.",
        f"Speed: decode tokens/s. Perplexity: pooled over new tokens, {BASELINE}'s at the run's own temperature.",
        *_missing(row for row in made if absent(row["ours"])),
        *_other_settings(made, found),
    ]


def _missing(rows: Iterable[Row]) -> list[str]:
    """The paper's values that nothing of ours stands beside, by method, each reason once."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        value = f"{number(row['published'])} ({_METRICS[row['metric']]})"
        found.setdefault((row["method"], row["reason"]), {})[value] = None
    return [f"{method}: the paper's {', '.join(values)}; no ours: {why}." for (method, why), values in found.items()]


def _settings(facts: DecoderFacts) -> str:
    known = [(option_symbol(name), facts.options[name]) for name in ("tau", "gamma", "beams") if name in facts.options]
    return ", ".join(f"{symbol} = {value}" for symbol, value in known)


def _other_settings(made: Sequence[Row], found: Mapping[str, DecoderFacts]) -> list[str]:
    """A note for each decoder that is set over an SD of another draft or draft length: the run has none of its own."""
    pairs = dict.fromkeys((row["label"], row["against"]) for row in made if row["against"] not in (None, BASELINE))
    said = []
    for label, other in pairs:
        own, its = found[label], found[other]
        ours_theirs = {
            ("γ", "draft length"): (own.options.get("gamma"), its.options.get("gamma")),
            ("draft", "draft"): (own.draft_name, its.draft_name),
        }
        for (name, what), (mine, theirs) in ours_theirs.items():
            mark = f"{name} =" if name == "γ" else name
            if mine != theirs:
                over = f"{label} ({mark} {mine}) is set over {other} ({mark} {theirs})"
                said.append(f"{over}: the run has no sd of the same {what}.")
    return said
