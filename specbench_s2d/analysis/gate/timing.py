"""Times of a row compared with the baselines': its speed-up over AR, and the cost of a draft pass over an AR step's.

Unchanged runs differ from launch to launch by more than their questions do, and all launches ask the same questions.
So the gate compares launches: one value of each, from the quietest repeat of every turn, and how far launches differ
among themselves says how far two runs may differ by chance (a t-test of logarithms; Kalibera and Jones 2013). One
launch in a few is an outlier, so the spread is pooled over a target's decoders. A ratio counts only where it lies
beyond its margin and beyond what chance gives at a level widened for the number of comparisons (Bonferroni).
`benchmarks/gate_power.py` simulates false alarms and power.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from scipy.special import chdtri, stdtrit

from specbench_s2d.analysis.gate.verdict import Check, Verdict
from specbench_s2d.analysis.metrics.intervals import LEVEL, Statistic
from specbench_s2d.analysis.metrics.pairs import Pair, Pairs, exact_sum, sought, total
from specbench_s2d.analysis.metrics.speed import decode_tokens
from specbench_s2d.runs.columns import Ints, Records, joint
from specbench_s2d.runs.record import BASELINE, Record

POWER = 0.8
SHARED_WITH_AR = 0.8
"""How far the decoders of a launch are taken to vary together, for all are over one AR. Ten launches of sd and s2d on
demo-m and demo-l correlated by 0.67 to 0.96 (docs/notes.md)."""
_CAREFUL = 0.7
PACE = 0.15
"""How far AR's own rate may lie from the baselines' before the machine is taken to run at another pace. With the same
code 95 minutes apart it lay 16 % off on a virtual machine, and the speed-up of S2D 33 % (docs/notes.md)."""


@dataclass(frozen=True)
class Launch:
    """One launch of a run: of each target and label, the quietest repeat of each turn, in the order of `turns_of`."""

    turns: Mapping[tuple[str, str], Records]

    @classmethod
    def of(cls, records: Records) -> Launch:
        timed = records.finished.take(records.finished.known("decode_s"))
        groups = timed.groups("target", "label")
        return cls({(mine.value("target"), mine.value("label")): _quietest(mine) for mine in groups})


def turns_of(records: Records) -> Ints:
    """A number for each suite, question, turn and prompt."""
    columns = records.columns
    numbers: Ints = columns.once(
        "turns and prompts", lambda: joint([columns.questions, columns.numbers("turn"), columns.codes("prompt_hash")])
    )
    return numbers[records.rows]


def _quietest(records: Records) -> Records:
    """Of each turn, the repeat that decoded in the least time."""
    turns = turns_of(records)
    order = np.lexsort([records.numbers("decode_s"), turns])
    return records.take(order[np.unique(turns[order], return_index=True)[1]])


def launches_of(records: Iterable[Record], repeats: int) -> list[Launch]:
    """The launches of a run, each with its first `repeats` repeats."""
    of = Records.of(records)
    wanted = of.take(of.numbers("repeat") < repeats)
    return [Launch.of(wanted.take(wanted.launches == number)) for number in np.unique(of.launches)]


@dataclass(frozen=True)
class Sample:
    """One decoder's logarithms of a value, by launch of ours and of the baselines."""

    ours: Sequence[float]
    base: Sequence[float]

    @property
    def change(self) -> float:
        """The logarithm of our value over the baselines'."""
        return _mean(self.ours) - _mean(self.base)

    @property
    def squares(self) -> float:
        """Squared distances of launches from their own side's mean, summed."""
        return sum((value - _mean(side)) ** 2 for side in (self.ours, self.base) for value in side)

    @property
    def degrees(self) -> int:
        return len(self.ours) + len(self.base) - 2


def sample(
    statistic: Statistic[Pair], row: tuple[str, str], ours: Sequence[Launch], base: Sequence[Launch]
) -> Sample | str:
    """A row's value in every launch, over the turns that all of them finished; or why there is none."""
    sides = [[pairs for launch in side if len(pairs := _pairs(launch, row))] for side in (ours, base)]
    if not all(sides):
        return "no turn with times that this run and the baseline finished"
    common = _shared([turns_of(pairs.ours) for side in sides for pairs in side])
    if not len(common):
        return "no turn that all launches finished"
    sides = [[pairs.take(np.isin(turns_of(pairs.ours), common)) for pairs in side] for side in sides]
    logs = [[_log(statistic, pairs) for pairs in side] for side in sides]
    for whose, side, values in zip(("this run", "the baseline"), sides, logs, strict=True):
        if None in values:
            return _why_none(row[1], whose, side[values.index(None)])
    return Sample(*([value for value in side if value is not None] for side in logs))


def _why_none(label: str, whose: str, pairs: Pairs) -> str:
    """Why a launch gives no value, and what to do."""
    for one, records in ((label, pairs.ours), (BASELINE, pairs.baseline)):
        if not exact_sum(decode_tokens(records)):
            return (
                f"every answer of {one} in {whose} is one token, which the prefill gives, so there is no decoding to "
                "time; run both with more --max-new-tokens"
            )
    return f"a launch of {whose} has times of {label} or {BASELINE} that are 0 or missing; measure it again"


def _shared(turns: Sequence[Ints]) -> Ints:
    """The turns that stand in all of several lists."""
    return reduce(np.intersect1d, turns)


def pace(target: str, ours: Sequence[Launch], base: Sequence[Launch]) -> float | None:
    """The logarithm of AR's decode rate over the baselines', over the turns that all launches finished; None where
    there are none."""
    found = [[launch.turns.get((target, BASELINE)) for launch in side] for side in (ours, base)]
    sides = [[turns for turns in side if turns is not None and len(turns)] for side in found]
    if not all(sides):
        return None
    common = _shared([turns_of(turns) for side in sides for turns in side])
    rates = [[_log_rate(turns, common) for turns in side] for side in sides] if len(common) else []
    return _mean(rates[0]) - _mean(rates[1]) if rates else None


def _log_rate(turns: Records, common: Ints) -> float:
    kept = turns.take(np.isin(turns_of(turns), common))
    tokens = exact_sum(decode_tokens(kept))
    seconds = total(kept, "decode_s")
    return math.log(tokens / seconds) if tokens and seconds else 0.0


def _pairs(launch: Launch, row: tuple[str, str]) -> Pairs:
    """A row's turns, each with AR's of the launch."""
    own, ar = (launch.turns.get((row[0], label)) for label in (row[1], BASELINE))
    if own is None or ar is None:
        return Pairs.of([])
    found, places = sought(turns_of(own), turns_of(ar))
    return Pairs(own.take(found), ar.take(places))


def _log(statistic: Statistic[Pair], pairs: Pairs) -> float | None:
    sums = statistic.sums(pairs)
    value = statistic.value([sums]) if sums else math.nan
    return math.log(value) if math.isfinite(value) and value > 0 else None


@dataclass(frozen=True)
class Spread:
    """The standard deviation of a value's logarithm between launches, and its degrees of freedom."""

    sd: float
    degrees: float

    @classmethod
    def pooled(cls, samples: Sequence[Sample]) -> Spread | None:
        """Over the decoders of a target; None where no side has two launches."""
        degrees = sum(one.degrees for one in samples)
        if not degrees:
            return None
        return cls(math.sqrt(sum(one.squares for one in samples) / degrees), degrees * _independent(len(samples)))

    def at_least(self, own: Spread | None) -> Spread:
        """The same, but no smaller than a decoder's own: some differ by more than others of their target."""
        return Spread(max(self.sd, own.sd if own else 0.0), self.degrees)

    def error(self, one: Sample) -> float:
        """The standard error of the sample's change."""
        return self.sd * math.sqrt(1 / len(one.ours) + 1 / len(one.base))

    def careful(self) -> Spread:
        """The spread that seven of ten such estimates do not exceed: few launches tell it badly, and power must not be
        promised on a lucky estimate."""
        return Spread(self.sd * math.sqrt(self.degrees / float(chdtri(self.degrees, _CAREFUL))), self.degrees)

    def quantile(self, level: float) -> float:
        """Of Student's t."""
        return float(stdtrit(self.degrees, level))


def _independent(decoders: int) -> float:
    """What share of so many decoders counts on its own, `SHARED_WITH_AR` being common: the variances of a matrix whose
    entries correlate so have as many degrees of freedom."""
    common, own = 1 + (decoders - 1) * SHARED_WITH_AR, 1 - SHARED_WITH_AR
    return decoders / (common**2 + (decoders - 1) * own**2)


def judge(rule: str, row: tuple[str, str], one: Sample, spread: Spread, margin: float, worse: int, tests: int) -> Check:
    """One value of a row against the baselines': beyond the margin and beyond chance it regressed, on the `worse` side
    (-1 or 1), or improved. `tests`: how many such comparisons the judgement makes."""
    allowed = -math.log(1 - margin) if worse < 0 and margin < 1 else math.log(1 + margin)
    quantile = spread.quantile(1 - (1 - LEVEL) / max(1, tests))
    bar = max(allowed, quantile * spread.error(one))
    careful = spread.careful().error(one)
    seen = max(allowed, quantile * careful) + spread.quantile(POWER) * careful
    verdict: Verdict = "holds"
    if abs(one.change) > bar:
        verdict = "regressed" if one.change * worse > 0 else "improved"
    here, there = (f"{math.exp(_mean(side)):.4g}" for side in (one.ours, one.base))
    why = (
        f"{math.exp(one.change):.3f} of the baseline's; {'below' if worse < 0 else 'above'} "
        f"{math.exp(worse * bar):.2f} it regressed ({len(one.ours)} and {len(one.base)} launches, which differ by "
        f"{100 * spread.sd:.1f} %)"
    )
    return Check(rule, verdict, *row, here, there, why, detectable=abs(math.expm1(worse * seen)))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
