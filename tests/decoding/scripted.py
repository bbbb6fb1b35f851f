"""Models that write a given script, so that what a decoder must do can be worked by hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tests.fakes import FakeModel

PROMPT = [9, 9]


class Scripted(FakeModel):
    """Its n-th token after PROMPT is `script[n]`, whatever stands before it; 0 beyond the script."""

    def __init__(self, script: Sequence[int], seed: int = 0, context: int = 64, eos: int | None = None) -> None:
        super().__init__(vocabulary=10, seed=seed, context=context, eos=eos)
        self._script = list(script)

    def logits_after(self, prefix: tuple[int, ...]) -> Tensor:
        at = len(prefix) - len(PROMPT)
        logits_V = torch.zeros(self.vocabulary)
        logits_V[self._script[at] if 0 <= at < len(self._script) else 0] = 4.0
        return logits_V
