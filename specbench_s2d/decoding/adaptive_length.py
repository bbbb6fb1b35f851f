"""How many found tokens to propose: for drafters whose tokens cost nothing to draft, only to verify.

With `auto` a proposal is cut to the n tokens that maximise

    sum of survival_j, j <= n, less rate x (verify(n + 1) - verify(1))

where survival_j is the probability that token j and all before it (in a tree: above it) are accepted, `rate` the run's
tokens per second, and verify(w) the seconds of a target pass over w positions. Costs are measured as those of
`s2d-auto` (`costs.py`), and acceptance is learnt from the verdicts in the same way (`calibration.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from time import perf_counter
from typing import Annotated, Any, Literal

from pydantic import Field

from specbench_s2d.decoding.calibration import Calibration, FadingRate
from specbench_s2d.decoding.costs import RunRate, VerifyCosts, measure_verify
from specbench_s2d.decoding.tree import children
from specbench_s2d.decoding.types import Verdict
from specbench_s2d.models.base import LanguageModel, PassKind
from specbench_s2d.models.pass_timer import Now

AUTO = "auto"
LONGEST_AUTO = 16
"""The most tokens of a proposal with `gamma=auto`."""
MOST_FREE = 63
"""The most tokens of a chain, for which passes are prepared."""
LEARNING_STEPS = 24
"""So many first proposals are made uncut, so that a few early rejections do not decide."""
EXPLORE_EVERY = 32
"""After so many proposals in a row that were cut to nothing, one is made uncut."""
_WIDTHS = (*range(1, 18), 24, 32, 48, 64)
"""Positions of the passes that are timed, and the widest; between two of them costs are interpolated."""
_PRIOR = 0.6  # acceptance of a found token before any was judged

FreeGamma = Annotated[
    Annotated[int, Field(ge=1, le=MOST_FREE)] | Literal["auto"],
    Field(description=f"Most tokens proposed; auto: at most {LONGEST_AUTO}, fewer where that pays by measured costs."),
]


def free_passes(gamma: int | str) -> list[PassKind]:
    """The target passes that verify what was found, from nothing to the longest proposal."""
    return [PassKind(most_tokens(gamma, LONGEST_AUTO) + 1)]


def most_tokens(option: int | str, auto: int) -> int:
    """The most tokens of a proposal: the option's number, or what `auto` goes up to."""
    return auto if option == AUTO else int(option)


class MeasuredCosts:
    """The costs and the rate by which proposals are cut, and when one is made uncut all the same, to learn from it.

    `widest`: positions of the widest target pass. `now`: the clock.
    """

    def __init__(self, widest: int, now: Now = perf_counter) -> None:
        self._widest, self._now = widest, now
        self._rate = RunRate(now)
        self._costs: VerifyCosts | None = None
        self._proposals, self._unproposed = 0, 0

    @property
    def costs(self) -> VerifyCosts:
        assert self._costs is not None, "prepare() measures them"
        return self._costs

    def prepare(self, target: LanguageModel, prompt_ids: Sequence[int]) -> None:
        """Measure target passes by width, once."""
        if self._costs is None:
            widths = [width for width in _WIDTHS if width < self._widest]
            self._costs = measure_verify(target, prompt_ids, [*widths, self._widest], self._now)

    def start(self) -> None:
        """Begin a generation."""
        self._rate.start()

    def choose(self, survivals: Sequence[float]) -> int:
        """How many tokens to propose, of those with these survivals, highest first."""
        self._rate.lap(self.costs.level)
        count = 0
        if survivals:
            self._proposals += 1
            uncut = self._proposals <= LEARNING_STEPS or self._unproposed >= EXPLORE_EVERY
            count = len(survivals) if uncut else self.best_count(survivals)
            self._unproposed = 0 if count else self._unproposed + 1
        self._count, self._proposed_at = count, self._now()
        return count

    def best_count(self, survivals: Sequence[float]) -> int:
        """The n of the sum above; 0 where no proposal pays."""
        rate, alone = self._rate.per_second(self.costs), self.costs.verify(1)
        best, best_value, accepted = 0, 0.0, 0.0
        for n, survival in enumerate(survivals, start=1):
            accepted += survival
            value = accepted - rate * (self.costs.verify(n + 1) - alone)
            if value > best_value:
                best, best_value = n, value
        return best

    def observe(self, verdict: Verdict) -> None:
        """Record what the step took and gave."""
        self.costs.observe_verify(self._count + 1, self._now() - self._proposed_at)
        self._rate.emitted(verdict.accepted + 1)

    def facts(self) -> dict[str, Any]:
        """Pass costs and rate, for the manifest; empty before the first generation."""
        if self._costs is None:
            return {}
        return {"costs": self._costs.facts(), "tokens_per_s": self._rate.per_second(self._costs) / self._costs.level}


class AdaptiveLength:
    """Cuts chains to a constant length; `AutoLength` to the length that pays."""

    def __init__(self, longest: int) -> None:
        self.longest = longest

    @classmethod
    def of(cls, gamma: int | str, ways: int) -> AdaptiveLength:
        """The rule of the option `gamma`, for tokens that are found in so many ways."""
        return AutoLength(ways) if gamma == AUTO else cls(int(gamma))

    def prepare(self, target: LanguageModel, prompt_ids: Sequence[int]) -> None:
        """A constant needs no costs."""

    def start(self) -> None:
        """Begin a generation."""

    def cut(self, found: list[int], way: int, shares: Sequence[float] = ()) -> list[int]:
        """The ids to propose, of those that were found.

        `way`: how they were found, from 0; acceptance is learnt for each way. `shares`: of each, what speaks for it, as
        a prior of its acceptance.
        """
        return found

    def learn(self, verdict: Verdict) -> None:
        """A constant learns nothing."""

    def facts(self) -> dict[str, Any]:
        """What was measured and learnt, for the manifest."""
        return {}


class AutoLength(AdaptiveLength):
    """Cuts chains to the length that pays; acceptance is learnt by way, position and share."""

    def __init__(self, ways: int, now: Now = perf_counter) -> None:
        super().__init__(LONGEST_AUTO)
        self.measured, self.calibration = MeasuredCosts(LONGEST_AUTO + 1, now), Calibration(ways)

    def prepare(self, target: LanguageModel, prompt_ids: Sequence[int]) -> None:
        self.measured.prepare(target, prompt_ids)

    def start(self) -> None:
        self.measured.start()

    def cut(self, found: list[int], way: int, shares: Sequence[float] = ()) -> list[int]:
        self._found, self._way, self._shares = found, way, shares or [_PRIOR] * len(found)
        return found[: self.measured.choose(self.survivals(way, self._shares))]

    def survivals(self, way: int, shares: Sequence[float]) -> list[float]:
        """The probability of each found token that it and all before it are accepted."""
        rates = (self.calibration.acceptance(way, n, share) for n, share in enumerate(shares, start=1))
        return list(accumulate(rates, mul))

    def learn(self, verdict: Verdict) -> None:
        """Record the acceptance of every token that was judged, and of the first one cut that the target's token
        follows."""
        self.measured.observe(verdict)
        for i, token in enumerate(self._found[: verdict.accepted + 1]):
            accepted = i < verdict.accepted or token == verdict.next_id
            self.calibration.observe(self._way, i + 1, self._shares[i], accepted)

    def facts(self) -> dict[str, Any]:
        known = self.measured.facts()
        return known and {**known, "calibration": self.calibration.facts()}


@dataclass(frozen=True)
class FoundTree:
    """A tree that was found: of each node its id, its parent (-1: the context), and its place in a static template."""

    ids: list[int]
    parents: list[int]
    places: list[int]

    def only(self, nodes: Sequence[int]) -> FoundTree:
        """The tree of these nodes, ascending; with a node, its parent is among them."""
        at = {node: i for i, node in enumerate(nodes)} | {-1: -1}
        return FoundTree(
            [self.ids[node] for node in nodes],
            [at[self.parents[node]] for node in nodes],
            [self.places[node] for node in nodes],
        )


class AdaptiveTree:
    """Leaves trees as they are found; `AutoTree` cuts them to the nodes that pay."""

    @classmethod
    def of(cls, tokens: int | str, priors: Sequence[float]) -> AdaptiveTree:
        """The rule of the option `tokens`; `priors` as in `AutoTree`."""
        return AutoTree(priors) if tokens == AUTO else cls()

    def prepare(self, target: LanguageModel, prompt_ids: Sequence[int]) -> None:
        """A constant needs no costs."""

    def start(self) -> None:
        """Begin a generation."""

    def cut(self, found: FoundTree) -> FoundTree:
        """The nodes to propose, of those that were found."""
        return found

    def learn(self, verdict: Verdict) -> None:
        """A constant learns nothing."""

    def facts(self) -> dict[str, Any]:
        """What was measured and learnt, for the manifest."""
        return {}


class AutoTree(AdaptiveTree):
    """Cuts trees to the nodes that pay; acceptance is learnt by place in the template.

    `priors`: by place, the assumed probability that a node is accepted after its parent.
    """

    def __init__(self, priors: Sequence[float], now: Now = perf_counter) -> None:
        self.measured = MeasuredCosts(len(priors) + 1, now)
        self._priors, self._rates = priors, [FadingRate() for _ in priors]

    def prepare(self, target: LanguageModel, prompt_ids: Sequence[int]) -> None:
        self.measured.prepare(target, prompt_ids)

    def start(self) -> None:
        self.measured.start()

    def cut(self, found: FoundTree) -> FoundTree:
        """The nodes of the highest survivals, as many as pay; none is likelier than its parent."""
        self._found, survivals = found, list[float]()
        for parent, place in zip(found.parents, found.places, strict=True):
            above = survivals[parent] if parent >= 0 else 1.0
            survivals.append(above * self._rates[place].mean(self._priors[place]))
        order = sorted(range(len(survivals)), key=lambda node: -survivals[node])
        count = self.measured.choose([survivals[node] for node in order])
        return found.only(sorted(order[:count]))

    def learn(self, verdict: Verdict) -> None:
        """Follow what the target chose down the found tree, its cut nodes too: at each node one child was right, or
        none was."""
        self.measured.observe(verdict)
        accepted = [verdict.drafted.ids[node] for node in verdict.accepted_path] if verdict.drafted else []
        below, node = children(self._found.parents), -1
        for chosen in (*accepted, verdict.next_id):
            right = -2
            for child in below.get(node, []):
                hit = self._found.ids[child] == chosen
                self._rates[self._found.places[child]].add(hit)
                right = child if hit else right
            if right < 0:
                return
            node = right

    def facts(self) -> dict[str, Any]:
        """Pass costs, rate, and observations by place in the template, for the manifest."""
        known = self.measured.facts()
        rows = [{"node": i, "seen": r.seen, "accepted": r.hits} for i, r in enumerate(self._rates) if r.seen]
        return known and {**known, "calibration": rows}
