"""Why a decoder is slower or faster than AR: its speed-up as a product of four measured factors.

AR's cost of a step is replaced, part by part, by the decoder's own; sums are over the paired cells. With E emitted
tokens, P target passes, D, V and L seconds of drafting, of target passes and of the loop (choosing, committing, rolling
back, and what else a step takes), and of AR d, v, l seconds of the same per pass, a together:

    factor_tokens  E / P                                   every pass at AR's price: what the acceptances promise
    factor_draft   P a / (D + P (v + l))                   with what drafting costs
    factor_passes  (D + P (v + l)) / (D + V + P l)         with target passes as wide as the proposals
    factor_loop    (D + V + P l) / (D + V + L)             with the loop's own cost

The product is E a / (D + V + L), the measured speed-up in decode tokens/s. A factor depends on the order, for a cost
weighs less on a step that is dear already; what decides is told by the seconds added, which do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from specbench_s2d.analysis.metrics.acceptance import draft_levels
from specbench_s2d.analysis.metrics.pairs import Group, Pair, Pairs, carrying, exact_sum, total
from specbench_s2d.analysis.metrics.speed import decode_tokens
from specbench_s2d.analysis.metrics.values import Measure
from specbench_s2d.runs.columns import Records
from specbench_s2d.runs.record import BASELINE

_FIELDS = ("draft_s", "verify_s", "target_passes", "emitted_per_step")
_PARTS = ("draft", "passes", "loop")
_NAMES = {"draft": ("drafting", "decides"), "passes": ("the target passes", "decide"), "loop": ("the loop", "decides")}
_EQUAL = 0.005  # a speed-up within it of 1 is printed as 1.00


@dataclass(frozen=True)
class Breakdown:
    """One decoder's step beside AR's.

    `factors`: `tokens`, `draft`, `passes`, `loop`. `costs` and `added`: seconds of each part but the tokens, of a step,
    in AR steps: in all, and beyond what AR takes for as many passes. `tokens`, `passes`, `draft_passes`: of a step.
    `rows`: positions that a target pass verifies; None where nothing was drafted, or nobody counted.
    """

    factors: Mapping[str, float]
    costs: Mapping[str, float]
    added: Mapping[str, float]
    tokens: float
    passes: float
    draft_passes: float
    rows: float | None

    @property
    def speedup(self) -> float:
        """The product of the factors."""
        return self.reached("loop")

    def reached(self, part: str) -> float:
        """What is left of the speed-up with this part's cost and all before it."""
        product = 1.0
        for name, factor in self.factors.items():
            product *= factor
            if name == part:
                break
        return product

    @property
    def dearest(self) -> str | None:
        """The part that adds the most time to a step; None where none adds any."""
        part = max(_PARTS, key=lambda name: self.added[name])
        return part if self.added[part] > 0 else None


def breakdown(pairs: Iterable[Pair]) -> tuple[Breakdown | None, str | None]:
    """The breakdown of one target's pairs, over the cells that its speed-up is of; else None with the reason."""
    of = Pairs.of(pairs)
    return of.once("breakdown", lambda: _breakdown(of))


def _breakdown(of: Pairs) -> tuple[Breakdown | None, str | None]:
    kept = of.take(of.ours.known("decode_s") & of.baseline.known("decode_s"))
    if not len(kept):
        return None, "no cell with a decode time that AR finished too"
    for side, whose in ((kept.ours, ""), (kept.baseline, f"{BASELINE}'s ")):
        _, note = carrying(side, *_FIELDS)
        if note:
            return None, f"{whose}{note}"
    mine, base = _Sums.of(kept.ours), _Sums.of(kept.baseline)
    if min(mine.tokens, mine.passes, sum(mine.seconds.values()), base.tokens, sum(base.seconds.values())) <= 0:
        return None, "no step after the prefill"
    return _broken_down(mine, base), None


@dataclass(frozen=True)
class _Sums:
    """What the records of one side add up to; `seconds` by part."""

    tokens: float
    steps: float
    passes: float
    draft_passes: float
    drafted: float
    seconds: Mapping[str, float]

    @classmethod
    def of(cls, records: Records) -> _Sums:
        draft_s, verify_s = total(records, "draft_s"), total(records, "verify_s")
        return cls(
            exact_sum(decode_tokens(records)),
            exact_sum(records.lengths("emitted_per_step")),
            total(records, "target_passes"),
            exact_sum(draft_levels(records)),
            exact_sum(np.nan_to_num(records.sums("drafted_per_step"))),
            {"draft": draft_s, "passes": verify_s, "loop": total(records, "decode_s") - draft_s - verify_s},
        )


def _broken_down(mine: _Sums, base: _Sums) -> Breakdown:
    step_s = sum(base.seconds.values()) / base.tokens
    spent = {part: base.seconds[part] / base.tokens * mine.passes for part in _PARTS}  # each pass at AR's price
    factors = {"tokens": mine.tokens / mine.passes}
    before = sum(spent.values())
    for part in _PARTS:
        spent[part] = mine.seconds[part]
        after = sum(spent.values())
        factors[part], before = before / after, after
    per_step = {part: seconds / mine.steps / step_s for part, seconds in mine.seconds.items()}
    passes = mine.passes / mine.steps
    ar_share = {part: seconds / base.tokens / step_s * passes for part, seconds in base.seconds.items()}
    return Breakdown(
        factors,
        per_step,
        {part: per_step[part] - ar_share[part] for part in _PARTS},
        mine.tokens / mine.steps,
        passes,
        mine.draft_passes / mine.steps,
        1 + mine.drafted / mine.passes if mine.drafted else None,
    )


def factor(pairs: Iterable[Pair], part: str) -> Measure:
    """One of the four factors."""
    found, reason = breakdown(pairs)
    return Measure(None, reason) if found is None else Measure(found.factors[part])


def why(group: Group) -> str | None:
    """What makes the decoder slower or faster than AR, from the measured parts of its steps: what its tokens promise;
    what drafting, target passes and the loop cost, in AR steps, and the speed-up that each leaves; which of them
    decides: the accepted tokens where it is faster, else the part that adds the most time."""
    if group.label == BASELINE or len(group.targets) > 1:
        return None
    found, _ = breakdown(group.pairs)
    if found is None:
        return None
    return f"{'projected: ' if group.projected else ''}{sentence(found)}"


def sentence(found: Breakdown) -> str:
    """A breakdown in words."""
    passes = f" in {_count(found.passes, 'pass', 'passes')}" if found.passes > 1 + _EQUAL else ""
    said = f"{found.tokens:.2f} tokens{passes} a step promise {found.reached('tokens'):.2f} ×; "
    if found.draft_passes or found.costs["draft"] >= _EQUAL:
        drafts = f" ({_count(found.draft_passes, 'pass', 'passes')})" if found.draft_passes else ""
        said += f"drafting{drafts} costs {found.costs['draft']:.2f} AR steps and takes it to {_left(found, 'draft')}, "
    rows = f" of {_count(found.rows, 'row', 'rows')}" if found.rows else ""
    said += f"target passes{rows} cost {found.costs['passes']:.2f} AR steps and take it to {_left(found, 'passes')}, "
    return f"{said}the loop costs {found.costs['loop']:.2f} and takes it to {_left(found, 'loop')}: {_verdict(found)}"


def _left(found: Breakdown, part: str) -> str:
    return f"{found.reached(part):.2f} ×"


def _count(number: float, one: str, many: str) -> str:
    """Two significant digits below 1, else one after the point, none where it is a whole number."""
    text = f"{number:.2g}" if number < 1 else f"{number:.1f}".removesuffix(".0")
    return f"{text} {one if text == '1' else many}"


def _verdict(found: Breakdown) -> str:
    """Which part decides; a tie with AR is told as one."""
    dearest, decides = _NAMES[found.dearest] if found.dearest else ("", "")
    if abs(found.speedup - 1) < _EQUAL:
        return "as fast as AR"
    if found.speedup < 1:
        said = f"{dearest} {decides}" if dearest else "too few tokens decide"
        return f"slower, {said}; {found.tokens / found.speedup:.2f} tokens a step would break even"
    most = f"; most of what they promise goes to {dearest}" if dearest else ""
    return f"faster, the accepted tokens decide{most}" if found.factors["tokens"] > 1 else "faster, by cheaper passes"
