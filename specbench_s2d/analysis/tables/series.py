"""Tables besides the summary: acceptance by draft position, exits, and rows of the summary table whose decoders differ
in one option, or share a draft length. Nothing is computed of the latter but the choice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from specbench_s2d.analysis.metrics import acceptance, drafts
from specbench_s2d.analysis.metrics.columns import QUALITY, columns_of
from specbench_s2d.analysis.metrics.pairs import Group, latest
from specbench_s2d.analysis.tables.naming import without_option
from specbench_s2d.analysis.tables.summary import MEAN_TARGET, OVERALL, row_groups
from specbench_s2d.decoding.labels import value_text
from specbench_s2d.runs.columns import Records
from specbench_s2d.runs.record import Record

_DECODER = ("target", "label", "decoder", "draft", "lossy", "projected")
POSITION_COLUMNS = (*_DECODER, "suite", "position", "reached", "accepted", "rate")
EXIT_COLUMNS = (*_DECODER, "exit_depth", "tokens", "share")
ABLATION_COLUMNS = (
    "target", "label", "variant", "lossy", "projected", "thresholds", "speedup", "speedup_low", "speedup_high", "mat",
    "launches",
)  # fmt: skip
_DRAWN = ("speedup", "mat", "tokens_per_pass", "accepted_per_pass", "perplexity", "energy_j_per_token")
_VALUES = tuple(name for column in columns_of(_DRAWN) for name in column.names)
SWEEP_COLUMNS = (
    "target", "variant", "label", "decoder", "draft", "gamma", "beams", "value", "lossy", "projected", "suite",
    "launches", *_VALUES,
)  # fmt: skip
GAMMA_COLUMNS = ("target", "label", "decoder", "draft", "gamma", "lossy", "projected", "suite", "launches", *_VALUES)


@dataclass(frozen=True)
class PlotTables:
    """What the plots are drawn from. `summary`: the summary table; the others hold rows of it, or further values of
    the same records."""

    summary: pd.DataFrame
    positions: pd.DataFrame
    exits: pd.DataFrame
    thresholds: pd.DataFrame
    by_k: pd.DataFrame
    by_tau: pd.DataFrame
    equal_gamma: pd.DataFrame

    @classmethod
    def of(cls, records: Iterable[Record], summary: pd.DataFrame) -> PlotTables:
        """All tables of the records that `summary` was made from."""
        return cls(
            summary=summary,
            positions=acceptance_by_position(records),
            exits=exit_depths(records),
            thresholds=threshold_ablation(records, summary),
            by_k=sweep(records, summary, "k"),
            by_tau=sweep(records, summary, "tau"),
            equal_gamma=equal_gamma(records, summary),
        )


def acceptance_by_position(records: Iterable[Record]) -> pd.DataFrame:
    """One row per target, label, suite and draft position; columns as in `POSITION_COLUMNS`."""
    rows = [
        (*_decoder(group), group.suite, p.position, p.reached, p.accepted, p.accepted / p.reached)
        for group in row_groups(latest(records))
        if group.target != MEAN_TARGET
        for p in acceptance.acceptance_by_position(group.records)
    ]
    return pd.DataFrame(rows, columns=list(POSITION_COLUMNS))


def exit_depths(records: Iterable[Record]) -> pd.DataFrame:
    """One row per target, label and exit, for decoders that choose their exits; columns as in `EXIT_COLUMNS`."""
    rows = [
        (*_decoder(group), e.exit_depth, e.tokens, e.share)
        for group in row_groups(latest(records))
        if group.target != MEAN_TARGET and group.suite == OVERALL
        if Records.of(group.records).distinct("decoder_options")[0].get("exit") is None
        for e in drafts.exit_histogram(group.records)
    ]
    return pd.DataFrame(rows, columns=list(EXIT_COLUMNS))


def _decoder(group: Group) -> tuple[object, ...]:
    return tuple(getattr(group, name) for name in _DECODER)


def threshold_ablation(records: Iterable[Record], table: pd.DataFrame) -> pd.DataFrame:
    """The summary table's `overall` rows of decoders that were run at several thresholds and differ in nothing else.

    One row per target (`MEAN_TARGET` included) and setting, the settings in rising order; columns as in
    `ABLATION_COLUMNS`, where `variant` is the label without its thresholds.
    """
    found = _option(records, "thresholds")
    thresholds = {label: tuple(each) for label, each in found.items() if each is not None}
    variants = _several(thresholds, "thresholds")
    labels = sorted(variants, key=lambda label: thresholds[label])
    rows = table[(table["suite"] == OVERALL) & table["label"].isin(labels)]
    texts = {label: value_text(thresholds[label]) for label in labels}
    rows = rows.assign(
        variant=rows["label"].map(variants), thresholds=rows["label"].map(texts), order=rows["label"].map(labels.index)
    )
    return rows.sort_values("order", kind="stable")[list(ABLATION_COLUMNS)].reset_index(drop=True)


def sweep(records: Iterable[Record], table: pd.DataFrame, option: str) -> pd.DataFrame:
    """The summary table's rows (every target and suite) of decoders that were run at several values of `option` and
    differ in nothing else; columns as in `SWEEP_COLUMNS`, then quality; ascending in `value`.

    `variant` is the label without the option; `value` the option's, defaults included; `gamma` and `beams` are null
    where the decoder has none, or none that is a number.
    """
    values = _numbers(records, option)
    variants = _several(values, option)
    rows = _rows(table, {label: values[label] for label in variants}, "value")
    rows = rows.assign(
        variant=rows["label"].map(variants).astype("object"),
        **{name: rows["label"].map(_numbers(records, name)).astype("float64") for name in ("gamma", "beams")},
    )
    return rows.reindex(columns=[*SWEEP_COLUMNS, *_quality(table)])


def equal_gamma(records: Iterable[Record], table: pd.DataFrame) -> pd.DataFrame:
    """The summary table's rows (every target and suite) of decoders that share one constant draft length with another;
    columns as in `GAMMA_COLUMNS`, then quality; ascending in `gamma`.

    A schedule, or a decoder that stops earlier than its `gamma` where that pays, has no constant length.
    """
    gammas = {label: gamma for label, gamma in _numbers(records, "gamma").items() if _constant(records, label, gamma)}
    shared = Counter(gammas.values())
    rows = _rows(table, {label: gamma for label, gamma in gammas.items() if shared[gamma] > 1}, "gamma")
    return rows.reindex(columns=[*GAMMA_COLUMNS, *_quality(table)])


def _several(labels: Iterable[str], option: str) -> dict[str, str]:
    """The variant of each label that has a partner which differs in this option alone."""
    variants = {label: without_option(label, option) for label in labels}
    sizes = Counter(variants.values())
    return {label: variant for label, variant in variants.items() if sizes[variant] > 1}


def _numbers(records: Iterable[Record], option: str) -> dict[str, float]:
    """The option's value by label, where the decoder has it and it is a number."""
    given = _option(records, option)
    return {k: float(v) for k, v in given.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _option(records: Iterable[Record], option: str) -> dict[str, Any]:
    """What each label's last record says of an option."""
    by_label = Records.of(records).by_value("label")
    return {label: mine.value("decoder_options", -1).get(option) for label, mine in by_label.items()}


def _constant(records: Iterable[Record], label: str, gamma: float) -> bool:
    """Whether every generation starts with proposals of `gamma` levels and never proposes more than before: near the
    end of the context a proposal is as long as there is room."""
    mine = Records.of(records).of_value("label", label).finished
    has_levels = mine.known("levels_per_step")
    found = False
    for field, of_field in (("levels_per_step", mine.take(has_levels)), ("drafted_per_step", mine.take(~has_levels))):
        [levels] = of_field.entries(field)
        lengths = np.nan_to_num(of_field.lengths(field)).astype(np.int64)
        starts = (np.cumsum(lengths) - lengths)[lengths > 0]
        rises = np.diff(levels) > 0
        rises[starts[1:] - 1] = False  # from one record to the next
        if rises.any() or (levels[starts] != gamma).any():
            return False
        found = found or len(starts) > 0
    return found


def _rows(table: pd.DataFrame, values: Mapping[str, float], column: str) -> pd.DataFrame:
    """The table's rows of the labels in `values`, with their value as a column, ascending in it."""
    rows = table[table["label"].isin(list(values))]
    rows = rows.assign(**{column: rows["label"].map(values).astype("float64")})
    return rows.sort_values(column, kind="stable", ignore_index=True)


def _quality(table: pd.DataFrame) -> list[str]:
    return [column for column in table.columns if column.startswith(QUALITY)]
