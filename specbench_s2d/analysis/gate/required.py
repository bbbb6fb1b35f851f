"""What whoever runs the gate asks of it besides: that speed was judged at all (`--require-speed`)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from specbench_s2d.analysis.gate.verdict import Check, Judgement

RULE = "speed judged"


def require_speed(judgement: Judgement) -> Judgement:
    """The judgement with one check more: incomplete, with the reason, unless the speed-up of every decoder was judged.

    Where it was not, the same reason is a note too, for those who read one line.
    """
    missing = _missing(judgement)
    if missing is None:
        judged = f"{len(_speedups(judgement))} decoders"
        return replace(judgement, checks=[*judgement.checks, Check(RULE, "holds", ours=judged)])
    check = Check(RULE, "incomplete", why=missing)
    note = f"Speed was not judged, and --require-speed asks for it: {missing}."
    return replace(judgement, checks=[*judgement.checks, check], notes=[*judgement.notes, note])


def _missing(judgement: Judgement) -> str | None:
    """Why speed was not judged, or not of all decoders; None where it was."""
    rows = _speedups(judgement)
    if not rows:
        apart = judgement.of("incomparable")
        return "the runs cannot be compared" if apart else "the baseline has no decoder besides ar"
    reasons = Counter(check.why for check in rows if check.verdict == "not judged")
    return "; ".join(f"{why} ({count} of {len(rows)} decoders)" for why, count in reasons.items()) or None


def _speedups(judgement: Judgement) -> list[Check]:
    return [check for check in judgement.checks if check.rule == "speed-up"]
