"""The scripted verifier: the token rule's work at temperature 0, with acceptances from a script. A projection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor

from specbench_s2d.decoding.acceptance_trace import AcceptanceTrace, ScriptOptions, endless
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.tree import children
from specbench_s2d.decoding.types import Proposal, Verdict, fetch


class ScriptedVerifier:
    """Accepts as many tokens as a script says, at the token rule's cost: a projection, its output means nothing."""

    lossy: ClassVar[bool] = False
    projected: ClassVar[str] = "scripted acceptances"
    Options = ScriptOptions

    def __init__(self, options: ScriptOptions) -> None:
        self._counts: Iterator[int] = iter(())

    def follow(self, script: AcceptanceTrace) -> None:
        self._counts = endless(script.accepted, "acceptances")

    def judge(self, proposal: Proposal, logits_TV: Tensor, sampler: Sampler) -> Verdict:
        """The script's next count, at most what was proposed; then the target's argmax, whatever the temperature."""
        wanted = next(self._counts)
        drafted, (best,) = fetch(proposal, logits_TV.argmax(-1))  # one wait, as the token rule
        path = _path(drafted.above, wanted)
        last = path[-1] if path else -1
        return Verdict(len(path), int(best[last + 1]), None if proposal.tree is None else path, drafted)


def _path(parents: list[int], wanted: int) -> list[int]:
    """From the root to the draft's likeliest child, `wanted` times or as deep as the tree is."""
    below = children(parents)
    path: list[int] = []
    node = -1
    while len(path) < wanted and below.get(node):
        node = below[node][0]
        path.append(node)
    return path
