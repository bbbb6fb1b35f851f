"""The columns of summary.csv, one row each: what computes a value, what it is called, and how it is shown.

Tables, headings, definitions and means over targets are read off these rows. To add a column, write its function in
the metric's module and give it a row here; the first paragraph of the function's docstring is the definition.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any, Literal

import pandas as pd

from specbench_s2d.analysis.metrics import (
    acceptance,
    audit,
    breakdown,
    cost_model,
    drafts,
    energy,
    quality,
    repetition,
    speed,
)
from specbench_s2d.analysis.metrics.intervals import Statistic
from specbench_s2d.analysis.metrics.pairs import Group, Pair, full_sum
from specbench_s2d.analysis.metrics.values import Interval, Measure
from specbench_s2d.measure.quality import METRICS
from specbench_s2d.runs.record import Record

QUALITY = "quality_"
NOTES = "notes"
Kind = Literal["text", "flag", "count", "value"]
_DTYPES: Mapping[Kind, str] = {"flag": "bool", "count": "Int64", "value": "float64"}
RECORDS, PAIRS, BY_TARGET = attrgetter("records"), attrgetter("pairs"), attrgetter("pairs_by_target")
"""What a column's function takes of a row's `Group`: records, pairs, or pairs by target."""


@dataclass(frozen=True)
class Column:
    """One column of summary.csv.

    `function`: its value, as it is or as a `Measure`, from what `of` takes of a row's group, or from the group itself.
    `heading`: in the tables that people read, which leave out a column without one; `digits`: their format.
    `definition`: where the function's docstring gives none. `over_targets`: of several targets, the function of all
    `together`, the `mean` of the targets' own values, or `none`. `statistic`: gives both ends of an interval, which are
    columns too. `overview`: the short table of report.html that shows the column as well.
    """

    name: str
    function: Callable[[Any], Any]
    heading: str = ""
    digits: str = ".2f"
    unit: str = ""
    kind: Kind = "value"
    of: Callable[[Group], Any] | None = RECORDS
    definition: str = ""
    over_targets: Literal["together", "mean", "none"] = "mean"
    statistic: Statistic[Record] | Statistic[Pair] | None = None
    overview: Literal["speed", "effect"] | None = None

    @property
    def with_interval(self) -> tuple[str, str, str, str]:
        """Its own name, and those of its interval's ends and of the questions that these stand on."""
        return self.name, f"{self.name}_low", f"{self.name}_high", f"{self.name}_n"

    @property
    def names(self) -> tuple[str, ...]:
        """What it is called in summary.csv, with its interval."""
        return self.with_interval if self.statistic else (self.name,)

    @property
    def dtypes(self) -> dict[str, str]:
        """How pandas holds it and its interval; text as it comes."""
        own = dict.fromkeys(self.names, _DTYPES[self.kind]) if self.kind in _DTYPES else {}
        return own | ({self.with_interval[3]: _DTYPES["count"]} if self.statistic else {})

    @property
    def definitions(self) -> list[str]:
        """What each of `names` means."""
        text = self.definition or (inspect.getdoc(self.function) or "").split("\n\n")[0].rstrip(".")
        paired = "" if self.of is RECORDS else "paired "
        ends = [f"{end} end of the 95 % interval of `{self.name}`" for end in ("Lower", "Upper") if self.statistic]
        how = [f"{end}: {paired}over questions and, where there are several, over launches" for end in ends]
        how += [f"Questions that the interval of `{self.name}` stands on"] if self.statistic else []
        return [" ".join(text.split()) + (f". Unit: {self.unit}" if self.unit else ""), *how]

    def value(self, group: Group) -> Any:
        """Its value in a row."""
        if not group.parts or self.over_targets == "together":
            return self.function(self.of(group) if self.of else group)
        if self.over_targets == "none":
            return Measure(None, "a figure of single targets")
        known = [part[self.name] for part in group.parts if part.get(self.name) is not None]
        if len(known) < len(group.parts):
            return Measure(None, f"no mean: {len(group.parts) - len(known)} of {len(group.parts)} targets have none")
        return Measure(sum(known) / len(known))

    def interval(self, group: Group) -> Interval:
        """The interval of that value."""
        if self.statistic is None:
            return Interval(None, None)
        groups: Any = group.by_target if self.of is RECORDS else group.pairs_by_target
        return self.statistic.interval(groups)


def _which(name: str, definition: str, kind: Kind = "text") -> Column:
    """A column that says which row it is: the group's property of that name."""
    return Column(name, attrgetter(name), kind=kind, of=None, definition=definition, over_targets="together")


def _seconds(name: str, definition: str) -> Column:
    """A column that sums the records' field of its name."""
    total = partial(full_sum, field=name)
    return Column(name, total, unit="s", definition=definition, over_targets="together")


_count = partial(Column, kind="count", digits="d", over_targets="together")
_speed = partial(Column, overview="speed")
_over_ar = partial(_speed, of=BY_TARGET, over_targets="together")


def _factor(part: str, definition: str) -> Column:
    """One of the factors that multiply to the speed-up."""
    function = partial(breakdown.factor, part=part)
    return Column(f"factor_{part}", function, of=PAIRS, definition=definition, over_targets="none")


_WHICH = (
    _which("target", "The model that is sped up; in rows called `mean over targets`, values are the arithmetic mean of "
           "the targets' own, counts and seconds their sums"),
    _which("label", "The decoder's name with the options that differ from its defaults"),
    _which("decoder", "The decoder's name"),
    _which("draft", "The draft model, where the decoder has one"),
    _which("options", "Every option that the decoder ran with, defaults included"),
    _which("lossy", "Whether the decoder may change the target's output; read its speed-up beside perplexity and "
           "quality", kind="flag"),
    _which("projected", "Why the row is a projection and no measured run (random weights, scripted acceptances or "
           "exits); empty where it was measured"),
    _which("suite", "The suite of questions; `overall` pools all of a target's suites"),
)  # fmt: skip
_TOKENS = (
    _count("records", len, definition="Cells of this row: questions x turns x repeats, whatever became of them"),
    _count("questions", audit.questions, "questions"),
    _count("launches", audit.launches, "launches"),
    _count("devices", audit.devices),
    Column("device_spread", speed.device_spread, over_targets="none"),
    _count("new_tokens", speed.new_tokens),
    Column("tokens_per_answer", speed.tokens_per_answer, "tokens/answer", ".1f", unit="tokens"),
    _count("steps", acceptance.steps),
    _speed("tokens_per_s", speed.tokens_per_s, "tokens/s", ".1f", unit="tokens/s", over_targets="none"),
    _speed("percent_of_bound", speed.percent_of_bound, "% of bound", ".0f", unit="%", over_targets="none"),
)
_SPEEDUPS = (
    _over_ar("speedup", speed.speedup, "speed-up", statistic=speed.SPEEDUP),
    _speed("speedup_e2e", speed.speedup_e2e, "with prefill", of=PAIRS, statistic=speed.SPEEDUP_E2E),
    _speed("speedup_specbench", speed.speedup_specbench, "Spec-Bench's", of=PAIRS, statistic=speed.SPEEDUP_SPECBENCH),
    _over_ar("speedup_predicted", cost_model.speedup_predicted, "predicted"),
    _over_ar("cost_ratio", cost_model.cost_ratio, "cost ratio", ".3f", statistic=cost_model.COST_RATIO),
    _over_ar("verify_ratio", cost_model.verify_ratio, "verify ratio"),
    _count("pairs", len, of=PAIRS, definition="Cells that AR finished too, on the same target, question, turn and "
           "repeat: what the speed-ups stand on"),
    _count("unpaired", lambda group: len(group.records) - len(group.pairs), of=None, definition="Cells of this row "
           "outside the speed-ups, because they or AR's failed, were skipped or carry no times"),
)  # fmt: skip
_WHY = (
    _factor("tokens", "What the acceptances promise: tokens per target pass, every pass at the price of an AR step. "
            "The four factors multiply to `speedup`"),
    _factor("draft", "What drafting leaves of that: AR's seconds for as many passes, over the same with the decoder's "
            "drafting in place of AR's"),
    _factor("passes", "What target passes as wide as the proposals leave: the seconds so far, over the same with the "
            "decoder's target passes in place of AR's"),
    _factor("loop", "What the loop leaves (choosing, committing, rolling back): the seconds so far, over the decoder's "
            "own decode seconds"),
    Column("why", breakdown.why, kind="text", of=None, over_targets="together"),
)  # fmt: skip
_ACCEPTANCE = (
    Column("mat", acceptance.mat, "MAT", unit="tokens/step", statistic=acceptance.MAT, overview="effect"),
    Column("mat_specbench", acceptance.mat_specbench, "MAT, Spec-Bench's", unit="tokens/step"),
    Column("mat_uncut", acceptance.mat_uncut, "MAT, uncut", unit="tokens/step"),
    Column("mean_mat_per_question", acceptance.mean_mat_per_question, unit="tokens/step"),
    _speed("tokens_per_pass", acceptance.tokens_per_pass, "tokens/pass", unit="tokens/pass"),
    Column("accepted_per_pass", acceptance.accepted_per_pass, unit="tokens/pass"),
    _speed("acceptance_rate", acceptance.acceptance_rate, "acceptance"),
)
_DRAFTS = (
    _speed("draft_layers_per_token", drafts.draft_layers_per_token, "draft layers/token", unit="layers/token"),
    Column("mean_exit_depth", drafts.mean_exit_depth, unit="layers"),
)
REPETITION = (
    Column("distinct_1", repetition.distinct_1, "distinct-1", statistic=repetition.DISTINCT_1),
    Column("distinct_2", repetition.distinct_2, "distinct-2", statistic=repetition.DISTINCT_2),
    Column("loop_share", repetition.loop_share, "loops", statistic=repetition.LOOP_SHARE),
)
"""Shown where a decoder of the table may change the output."""
_TIMES_TEXT_ENERGY = (
    _seconds("draft_s", "Seconds spent drafting, summed over the row"),
    _seconds("verify_s", "Seconds spent in target passes that verify, summed over the row"),
    _seconds("other_s", "Seconds of decoding outside drafting and verifying, summed over the row"),
    Column("perplexity", quality.perplexity, "perplexity", over_targets="none", statistic=quality.PERPLEXITY,
           overview="effect"),
    *REPETITION,
    Column("energy_j_per_token", energy.energy_j_per_token, "J/token", ".3g", unit="J/token", overview="effect"),
    _speed("energy_net_j_per_token", energy.energy_net_j_per_token, "J/token, net of idle", ".3g", unit="J/token"),
    Column("tokens_per_joule", energy.tokens_per_joule, "tokens/J", ".3g", unit="tokens/J"),
    Column("energy_disagreement", energy.disagreement, "trace/counter − 1", "+.2f", over_targets="none"),
)  # fmt: skip
_OUTCOMES = (
    _count("mismatches", partial(audit.verdicts, verdict="mismatch"), "mismatches", definition="Audited outputs that "
           "differ from AR's by more than rounding explains"),
    _count("near_ties", partial(audit.verdicts, verdict="near_tie"), "near-ties", definition="Audited outputs that "
           "leave AR's where the two best logits differ by less than the noise bound"),
    _count("audited_tokens", audit.audited_tokens),
    Column("auditable_share", audit.auditable_share, "auditable", ".3f"),
    _count("failed", audit.failed, "failed"),
    _count("skipped", audit.skipped, "skipped"),
    _count("truncated", audit.truncated, "truncated"),
)  # fmt: skip
COLUMNS: tuple[Column, ...] = (
    *_WHICH, *_TOKENS, *_SPEEDUPS, *_WHY, *_ACCEPTANCE, *_DRAFTS, *_TIMES_TEXT_ENERGY, *_OUTCOMES,
)  # fmt: skip
"""In the order of summary.csv, in which columns of task quality and the notes follow."""
IN_NOTES = (*_WHICH, *_TOKENS, *_DRAFTS, *_ACCEPTANCE, *_TIMES_TEXT_ENERGY, *_OUTCOMES, *_SPEEDUPS, *_WHY)
"""The same in the order in which a row's notes mention them."""


def quality_column(metric: str) -> Column:
    """The column of one metric of task quality."""
    known = METRICS.get(metric)
    return Column(
        QUALITY + metric, partial(quality.quality, metric=metric), known.title if known else metric,
        ".1f" if quality.is_pooled(metric) else ".2f", definition=known.what if known else _OTHERS[f"{QUALITY}*"],
        statistic=quality.quality_statistic(metric),
    )  # fmt: skip


def columns_of(names: Iterable[Any]) -> list[Column]:
    """The columns that a table has, by their names there, those of task quality at the end."""
    known = set(map(str, names))
    metrics = [name.removeprefix(QUALITY) for name in map(str, names) if name.startswith(QUALITY)]
    ends = {f"{metric}{end}" for metric in metrics for end in ("_low", "_high", "_n")}
    found = [column for column in COLUMNS if column.name in known]
    return [*found, *(quality_column(metric) for metric in metrics if metric not in ends)]


def shown_columns(table: pd.DataFrame) -> list[Column]:
    """The columns of a summary table that people read; those of repetition only beside a decoder that may change the
    output."""
    columns = [column for column in columns_of(table.columns) if column.heading]
    return columns if table["lossy"].any() else [column for column in columns if column not in REPETITION]


def of_text(columns: Iterable[Column], rows: Iterable[Mapping[str, Any]]) -> tuple[str, list[Column]]:
    """The columns of task quality and of repetition that some row has a value of, with the title of their table."""
    known = {name for row in rows for name, value in row.items() if not pd.isna(value)}
    quality = [column for column in columns if column.name.startswith(QUALITY) and column.name in known]
    repeated = [column for column in columns if column in REPETITION and column.name in known]
    parts = [name for name, part in (("task quality", quality), ("repetition", repeated)) if part]
    return " and ".join(parts), [*quality, *repeated]


_OTHERS = {
    "run": "The run folder, where several are reported together",
    f"{QUALITY}*": (
        "Task quality by the suite's metric over the cells that were scored: their mean, but BLEU and chrF those of "
        "all answers as one corpus; `_low` and `_high`: 95 % interval over `_n` questions"
    ),
    "position": "Draft position, from 1",
    "reached": "Proposals in which a token stood at this position and all before it were accepted",
    "accepted": "Of those, the proposals whose token at this position was accepted",
    "rate": "Acceptance rate by position: of the proposals that reached draft position i, the share accepted there",
    "exit_depth": "Layers of the draft that a drafted token went through before it was picked",
    "tokens": "Drafted tokens that left at this depth",
    "share": "Those tokens as a share of all that the decoder drafted",
    "variant": "The label without the option that was varied",
    "thresholds": "The confidence at each exit above which a token leaves there",
    "notes": "Why a value of this row is missing or partial",
}


def definitions() -> dict[str, str]:
    """What each column of the tables means, each metric of task quality its own."""
    metrics = {f"{QUALITY}{name}": metric.what for name, metric in METRICS.items()}
    own = {name: text for column in COLUMNS for name, text in zip(column.names, column.definitions, strict=True)}
    return {**own, **_OTHERS, **metrics}
