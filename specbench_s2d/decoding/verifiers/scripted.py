"""The scripted verifier: the token rule's work at temperature 0, with acceptances from a trace: a projection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor

from specbench_s2d.decoding.acceptance_trace import AcceptanceTrace, TraceOptions, repeat_forever
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.tree import children
from specbench_s2d.decoding.types import Proposal, Verdict, fetch


class ScriptedVerifier:
    """Accepts as many tokens as a trace says, at the token rule's cost: a projection, its output means nothing."""

    lossy: ClassVar[bool] = False
    needs_likelihoods: ClassVar[bool] = False
    projected: ClassVar[str] = "scripted acceptances"
    Options = TraceOptions

    def __init__(self, options: TraceOptions) -> None:
        self._counts: Iterator[int] = iter(())

    def follow(self, trace: AcceptanceTrace) -> None:
        self._counts = repeat_forever(trace.accepted, "acceptances")

    def judge(self, proposal: Proposal, logits_TV: Tensor, sampler: Sampler) -> Verdict:
        """The trace's next count, at most what was proposed; then the target's argmax, whatever the temperature."""
        wanted = next(self._counts)
        drafted, (best,) = fetch(proposal, logits_TV.argmax(-1))  # one wait, as in the token rule
        path = _first_children(drafted.all_parents, wanted)
        last = path[-1] if path else -1
        return Verdict(len(path), int(best[last + 1]), None if proposal.tree is None else path, drafted)


def _first_children(parents: list[int], depth: int) -> list[int]:
    """The path of first children from the root, `depth` nodes long or as deep as the tree is."""
    below = children(parents)
    path: list[int] = []
    node = -1
    while len(path) < depth and below.get(node):
        node = below[node][0]
        path.append(node)
    return path
