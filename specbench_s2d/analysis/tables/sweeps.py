"""Decoders that differ in one option, and decoders of one draft length: rows of the tidy table, chosen by the options
that the records carry. Nothing is computed here but the choice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from specbench_s2d.analysis.tables.naming import without_option
from specbench_s2d.analysis.tables.summary import QUALITY
from specbench_s2d.runs.record import Record

_FIGURES = (
    "speedup", "speedup_low", "speedup_high", "mat", "mat_low", "mat_high", "accepted_per_pass", "tokens_per_pass",
    "perplexity", "perplexity_low", "perplexity_high", "energy_j_per_token",
)  # fmt: skip
SWEEP_COLUMNS = (
    "target", "variant", "label", "decoder", "draft", "gamma", "beams", "value", "lossy", "projected", "suite",
    *_FIGURES,
)  # fmt: skip
GAMMA_COLUMNS = ("target", "label", "decoder", "draft", "gamma", "lossy", "projected", "suite", *_FIGURES)


def sweep(records: Sequence[Record], table: pd.DataFrame, option: str) -> pd.DataFrame:
    """The tidy table's rows (every target and suite) of decoders that were run at several values of `option` and
    differ in nothing else; columns as in `SWEEP_COLUMNS`, then quality; ascending in `value`.

    `variant` is the label without the option; `value` the option's, defaults included; `gamma` and `beams` are null
    where the decoder has none, or none that is a number.
    """
    values = _numbers(records, option)
    variants = {label: without_option(label, option) for label in values}
    sizes = Counter(variants.values())
    rows = _rows(table, {label: value for label, value in values.items() if sizes[variants[label]] > 1}, "value")
    rows = rows.assign(
        variant=rows["label"].map(variants).astype("object"),
        **{name: rows["label"].map(_numbers(records, name)).astype("float64") for name in ("gamma", "beams")},
    )
    return rows.reindex(columns=[*SWEEP_COLUMNS, *_quality(table)])


def equal_gamma(records: Sequence[Record], table: pd.DataFrame) -> pd.DataFrame:
    """The tidy table's rows (every target and suite) of decoders that share one constant draft length with another;
    columns as in `GAMMA_COLUMNS`, then quality; ascending in `gamma`.

    A schedule, or a decoder that stops earlier than its `gamma` where that pays, has no constant length.
    """
    gammas = {label: gamma for label, gamma in _numbers(records, "gamma").items() if _constant(records, label, gamma)}
    shared = Counter(gammas.values())
    rows = _rows(table, {label: gamma for label, gamma in gammas.items() if shared[gamma] > 1}, "gamma")
    return rows.reindex(columns=[*GAMMA_COLUMNS, *_quality(table)])


def _numbers(records: Sequence[Record], option: str) -> dict[str, float]:
    """The option's value by label, where the decoder has it and it is a number."""
    given = {r.label: r.decoder_options.get(option) for r in records}
    return {k: float(v) for k, v in given.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _constant(records: Sequence[Record], label: str, gamma: float) -> bool:
    """Whether every generation starts with proposals of `gamma` levels and never proposes more than before: near the
    end of the context a proposal is as long as there is room."""
    levels = [r.levels_per_step or r.drafted_per_step for r in records if r.label == label and r.status == "ok"]
    drafted = [steps for steps in levels if steps]
    return bool(drafted) and all(steps[0] == gamma and steps == sorted(steps, reverse=True) for steps in drafted)


def _rows(table: pd.DataFrame, values: Mapping[str, float], column: str) -> pd.DataFrame:
    """The table's rows of the labels in `values`, with their value as a column, ascending in it."""
    rows = table[table["label"].isin(list(values))]
    rows = rows.assign(**{column: rows["label"].map(values).astype("float64")})
    return rows.sort_values(column, kind="stable", ignore_index=True)


def _quality(table: pd.DataFrame) -> list[str]:
    return [column for column in table.columns if column.startswith(QUALITY)]
