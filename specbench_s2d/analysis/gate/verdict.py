"""What the gate says: one `Check` per rule and row, and the exit code that follows from all of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Literal

from specbench_s2d.errors import UserError

Verdict = Literal["holds", "improved", "not judged", "incomplete", "incomparable", "regressed"]
HOLDS, REGRESSED, INCOMPARABLE = 0, 1, 3
"""Exit codes; 2 is the shell's usage error."""


@dataclass(frozen=True)
class Tolerances:
    """What the gate allows; shares unless said otherwise.

    `speed` and `cost`: how far a speed-up may fall and a cost ratio rise (and it must be more than chance gives, too,
    before that counts). `free_speed`: that of decoders that decide by measured times, and so differ from run to
    run. `mat`: mean accepted tokens, where they need not be equal. `perplexity`: where ids are
    equal; `moved_perplexity`: that and task quality where neither run carries ids. `moved_cells`: cells of a lossy
    decoder whose ids may differ. Raises `UserError` for what is no share: beyond "not a number" lies nothing.
    """

    speed: float = 0.10
    cost: float = 0.15
    mat: float = 0.01
    perplexity: float = 1e-4
    moved_perplexity: float = 0.02
    moved_cells: float = 0.02
    free_speed: float = 0.25

    def __post_init__(self) -> None:
        for name, share in asdict(self).items():
            if not (math.isfinite(share) and share >= 0):
                raise UserError(f"{name} tolerance {share}: give a share of 0 or more, such as 0.1 for 10 %.")


@dataclass(frozen=True)
class Check:
    """One rule on one target and label (empty where a rule is on the whole run): what was compared, and how it went.

    `detectable`: of times, the smallest change for the worse, as a share, that would have been found in 80 of 100 runs.
    """

    rule: str
    verdict: Verdict
    target: str = ""
    label: str = ""
    ours: str = ""
    baseline: str = ""
    why: str = ""
    detectable: float | None = None

    @property
    def where(self) -> str:
        return f"{self.target}, {self.label}" if self.label else self.target


@dataclass(frozen=True)
class Judgement:
    """All checks of a run against a baseline, and what to know besides."""

    run: str
    baseline: str
    checks: list[Check]
    notes: list[str] = field(default_factory=list)

    def of(self, *verdicts: Verdict) -> list[Check]:
        """The checks that went so."""
        return [check for check in self.checks if check.verdict in verdicts]

    @property
    def exit_code(self) -> int:
        """1 where anything regressed; else 3 where anything is incomparable or incomplete, or nothing was judged."""
        if self.of("regressed"):
            return REGRESSED
        judged = self.of("holds", "improved")
        return INCOMPARABLE if self.of("incomparable", "incomplete") or not judged else HOLDS

    @property
    def speedups(self) -> list[Check]:
        """What was said of each decoder's speed."""
        return [check for check in self.checks if check.rule == "speed-up"]

    @property
    def untimed(self) -> str | None:
        """Why speed was not judged, or not of all decoders; None where it was."""
        if not self.speedups:
            apart = self.of("incomparable")
            return "the runs cannot be compared" if apart else "the baseline has no decoder besides ar"
        reasons = Counter(check.why for check in self.speedups if check.verdict == "not judged")
        if len(reasons) == 1 and reasons.total() == len(self.speedups):
            return next(iter(reasons))
        counted = [f"{why} ({count} of {len(self.speedups)} decoders)" for why, count in reasons.items()]
        return "; ".join(counted) or None

    @property
    def sentence(self) -> str:
        """The verdict in one line, and that speed was not judged where it was not."""
        word = {HOLDS: "holds", REGRESSED: "regressed", INCOMPARABLE: "cannot be judged"}[self.exit_code]
        counts = _counts(check.verdict for check in self.checks)
        speed = f" Speed was not judged: {self.untimed}." if self.untimed else ""
        return f"{self.run} against {self.baseline}: {word} ({counts}).{speed}"

    @property
    def detectable(self) -> list[str]:
        """Per target, the smallest slow-down of each decoder that 80 of 100 such judgements would find."""
        by_target: dict[str, list[str]] = {}
        for check in sorted(self.speedups, key=lambda check: check.label):
            if check.detectable is not None:
                by_target.setdefault(check.target, []).append(f"{check.label} {100 * check.detectable:.0f} %")
        what = "the smallest slow-down that 80 of 100 such checks would find"
        return [f"{target}, {what}: {', '.join(of_decoders)}." for target, of_decoders in by_target.items()]


def _counts(verdicts: Iterable[str]) -> str:
    listed = list(verdicts)
    return ", ".join(f"{listed.count(verdict)} {verdict}" for verdict in dict.fromkeys(sorted(listed)))
