"""The scripted verifier: the token rule's work at temperature 0, with acceptances from a script. A projection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor

from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.scripts import Script, ScriptOptions, endless
from specbench_s2d.decoding.tree import children
from specbench_s2d.decoding.types import Proposal, Verdict


class ScriptedVerifier:
    """Accepts as many tokens as a script says, at the token rule's cost: a projection, its output means nothing."""

    lossy: ClassVar[bool] = False
    projected: ClassVar[str] = "scripted acceptances"
    Options = ScriptOptions

    def __init__(self, options: ScriptOptions) -> None:
        self._counts: Iterator[int] = iter(())

    def follow(self, script: Script) -> None:
        self._counts = endless(script.accepted, "acceptances")

    def judge(self, proposal: Proposal, logits_TV: Tensor, sampler: Sampler) -> Verdict:
        """The script's next count, at most what was proposed; then the target's argmax, whatever the temperature."""
        wanted = next(self._counts)
        if proposal.parents is not None:
            return _walk(proposal.parents, wanted, logits_TV)
        best = logits_TV.argmax(-1).tolist()
        accepted = min(wanted, len(proposal.ids_G.tolist()))  # read back, as the token rule does
        return Verdict(accepted, best[accepted])


def _walk(parents: list[int], wanted: int, logits_TV: Tensor) -> Verdict:
    """From the root to the draft's likeliest child, `wanted` times; a choice is read back at each node, as the token
    rule does."""
    below = children(parents)
    path: list[int] = []
    node = -1
    while True:
        next_id = int(logits_TV[node + 1].argmax())
        if len(path) == wanted or not below.get(node):
            return Verdict(len(path), next_id, path)
        node = below[node][0]
        path.append(node)
