"""A run beside figures that a paper printed as means over its targets, some of them over SD and not over AR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from specbench_s2d.analysis.compare.decoders import Block, of, with_interval
from specbench_s2d.analysis.compare.paper_methods import MethodPart, is_over_sd, sd_for
from specbench_s2d.analysis.metrics import stats
from specbench_s2d.analysis.metrics.columns import Interval, Measure
from specbench_s2d.analysis.metrics.quotients import ENERGY, PERPLEXITY
from specbench_s2d.analysis.tables.naming import decoder_title, option_symbol
from specbench_s2d.analysis.tables.summary import MEAN_TARGET, OVERALL, projection_of
from specbench_s2d.analysis.tables.text import absent, number
from specbench_s2d.runs.record import BASELINE, Record

Row = dict[str, Any]
# the paper's metric: what the figure is called
_METRICS = {
    "speedup": "speed, times",
    "perplexity_reduction_percent": "perplexity, % lower",
    "energy_ratio": "energy per token, times less",
}


def rows(
    figures: pd.DataFrame,
    methods: Mapping[str, Sequence[str]],
    found: Mapping[str, MethodPart],
    records: Sequence[Record],
    resamples: int,
) -> list[Row]:
    """Every such figure beside each of our labels that stands for its method, in the paper's order, as rows of
    `beside_papers`; ours is over the run's SD where theirs is, else over AR, and missing with a reason."""
    made = []
    for figure in figures[figures["metric"].isin(list(_METRICS))].to_dict("records"):
        for label in (label for label, names in methods.items() if figure["method"] in names):
            against = sd_for(label, found) if is_over_sd(str(figure["method"])) else BASELINE
            mine = [r for r in records if r.label == label and figure["suite"] in (r.suite, OVERALL)]
            if mine:
                value, interval = _ours(str(figure["metric"]), mine, records, against, resamples)
                made.append(_row(figure, mine, against, value, interval, records))
    return made


def _row(
    figure: Mapping[Any, Any],
    mine: Sequence[Record],
    against: str | None,
    value: Measure,
    interval: Interval,
    records: Sequence[Record],
) -> Row:
    targets = list(dict.fromkeys(r.target for r in records))
    return {
        "target": MEAN_TARGET if len(targets) > 1 else targets[0], "paper_target": figure["target"],
        "device": figure["device"], "label": mine[0].label, "lossy": mine[0].lossy,
        "projected": projection_of(mine), "against": against,
        "method": figure["method"], "suite": figure["suite"], "metric": figure["metric"],
        "ours": value.value, "ours_low": interval.low, "ours_high": interval.high, "ours_specbench": None,
        "reason": value.note, "published": figure["value"], "source": figure["source"],
    }  # fmt: skip


def _ours(
    metric: str, mine: Sequence[Record], records: Sequence[Record], against: str | None, resamples: int
) -> tuple[Measure, Interval]:
    """Our figure over the label `against`, each target weighing alike, with its interval."""
    if against is None:
        return Measure(None, "the run has no plain sd to compare with"), Interval(None, None)
    theirs = [r for r in records if r.label == against]
    groups = [stats.pair(of(mine, target), theirs) for target in dict.fromkeys(r.target for r in records)]
    if metric == "speedup":
        return stats.mean_speedup(groups), stats.mean_speedup_interval(groups, resamples)
    if metric == "energy_ratio":
        return _energy(groups, mine), Interval(None, None)
    return PERPLEXITY.compare(groups, "reduction_percent", resamples)


def _energy(groups: Sequence[Sequence[stats.Pair]], mine: Sequence[Record]) -> Measure:
    """How many times less energy a token takes; where it is not known, why the records do not carry it."""
    value, _ = ENERGY.compare(groups, "times_less", resamples=1)
    said = {r.reasons["energy_j"] for r in mine if "energy_j" in r.reasons}
    return Measure(None, "; ".join(sorted(said))) if value.value is None and said else value


def blocks(made: Sequence[Row]) -> list[Block]:
    """A table for each of the paper's figures that any of our decoders has."""
    by_figure: dict[tuple[str, str], list[Row]] = {}
    for row in made:
        by_figure.setdefault((row["method"], row["metric"]), []).append(row)
    return [_block(of_one) for of_one in by_figure.values() if not all(absent(row["ours"]) for row in of_one)]


def _block(of_one: Sequence[Row]) -> Block:
    first = of_one[0]
    title = f"{first['method']}, {_METRICS[first['metric']]}: {first['target']} beside the paper's {MEAN_TARGET}"
    lines = [
        [
            decoder_title(row["label"], row["lossy"], row["projected"]),
            row["against"] or number(None),
            with_interval(row["ours"], row["ours_low"], row["ours_high"]),
            number(row["published"]),
        ]
        for row in of_one
    ]
    return Block(title, ["Decoder", "over", "ours [95 %]", "paper"], lines)


def notes(made: Sequence[Row], found: Mapping[str, MethodPart]) -> list[str]:
    """How to read `blocks`: which of our decoders stand there, over what, and why figures are missing."""
    if not made:
        return []
    labels = list(dict.fromkeys(row["label"] for row in made))
    return [
        "The paper's figures are means over its own targets, on other models and other hardware than ours.",
        f"Standing for the paper's method: {'; '.join(f'{label} ({_settings(found[label])})' for label in labels)}.",
        "Each target weighs alike; the interval is a paired bootstrap over questions, drawn for all targets alike.",
        f"Speed: decode tokens/s. Perplexity: pooled over new tokens, {BASELINE}'s at the run's own temperature.",
        *dict.fromkeys(_missing(row) for row in made if absent(row["ours"])),
        *_other_gammas(made, found),
    ]


def _missing(row: Row) -> str:
    return (
        f"{row['method']}, {_METRICS[row['metric']]}: the paper's {number(row['published'])}; no ours: {row['reason']}."
    )


def _settings(part: MethodPart) -> str:
    known = [(option_symbol(name), part.options[name]) for name in ("tau", "gamma", "beams") if name in part.options]
    return ", ".join(f"{symbol} = {value}" for symbol, value in known)


def _other_gammas(made: Sequence[Row], found: Mapping[str, MethodPart]) -> list[str]:
    """A note for each pair of draft lengths that differ: the run has no SD of the decoder's own."""
    pairs = dict.fromkeys((row["label"], row["against"]) for row in made if row["against"] not in (None, BASELINE))
    gammas = [(label, other, *(found[x].options.get("gamma") for x in (label, other))) for label, other in pairs]
    return [
        f"{label} (γ = {own}) stands over {other} (γ = {its}): the run has no sd of the same draft length."
        for label, other, own, its in gammas
        if own != its
    ]
