"""Models with a fixed output, so that the steps of a decoder can be worked by hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tests.fakes import FakeModel

PROMPT = [9, 9]


class FixedOutput(FakeModel):
    """Its n-th token after PROMPT is `output[n]`, whatever precedes it, and 0 beyond the output."""

    def __init__(self, output: Sequence[int], seed: int = 0, context: int = 64, eos: int | None = None) -> None:
        super().__init__(vocabulary=10, seed=seed, context=context, eos=eos)
        self._output = list(output)

    def logits_after(self, prefix: tuple[int, ...]) -> Tensor:
        at = len(prefix) - len(PROMPT)
        logits_V = torch.zeros(self.vocabulary)
        logits_V[self._output[at] if 0 <= at < len(self._output) else 0] = 4.0
        return logits_V
