"""What whoever runs the gate asks of it besides: that speed was judged at all (`--require-speed`)."""

from __future__ import annotations

from dataclasses import replace

from specbench_s2d.analysis.gate.verdict import Check, Judgement

RULE = "speed judged"


def require_speed(judgement: Judgement) -> Judgement:
    """The judgement with one check more: incomplete, with the reason, unless the speed-up of every decoder was
    judged."""
    if judgement.untimed is None:
        judged = f"{len(judgement.speedups)} decoders"
        return replace(judgement, checks=[*judgement.checks, Check(RULE, "holds", ours=judged)])
    return replace(judgement, checks=[*judgement.checks, Check(RULE, "incomplete", why=judgement.untimed)])
