"""Models with known probabilities: the test bed of every decoder."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from specbench_s2d.models.base import Identity, LanguageModel


class FakeModel(LanguageModel):
    """Next-token logits are a random but fixed function of the whole prefix; extending it costs nothing.

    `sharpness` spreads the logits; two fakes of different `seed` disagree as two models do.
    """

    def __init__(
        self, vocabulary: int = 5, seed: int = 0, sharpness: float = 1.0, context: int = 64, eos: int | None = None
    ) -> None:
        self.identity = Identity(name=f"fake-{seed}", source="test")
        self.vocabulary, self.depth, self.context, self.width = vocabulary, 1, context, 1
        self.eos_ids = frozenset() if eos is None else frozenset({eos})
        self.exits = ()
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.tokenizer: Any = SimpleNamespace(get_vocab=lambda: {str(i): i for i in range(vocabulary)})
        self._seed, self._sharpness = seed, sharpness
        self._ids: list[int] = []
        self._known: dict[tuple[int, ...], Tensor] = {}
        self.passes = 0

    @property
    def length(self) -> int:
        return len(self._ids)

    def logits_after(self, prefix: tuple[int, ...]) -> Tensor:
        """(V,) logits after a prefix, the same for ever."""
        if prefix not in self._known:
            generator = torch.Generator().manual_seed(hash((self._seed, *prefix)) % 2**31)
            self._known[prefix] = torch.randn(self.vocabulary, generator=generator) * self._sharpness
        return self._known[prefix]

    def extend(
        self,
        inputs: Tensor,
        from_layer: int = 0,
        to_layer: int | None = None,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        last_only: bool = False,
    ) -> Tensor:
        self.check_room(self.length, inputs.shape[1])
        self.passes += 1
        rows = []
        for token in inputs[0].tolist():
            self._ids.append(token)
            rows.append(self.logits_after(tuple(self._ids)))
        return torch.stack(rows[-1:] if last_only else rows)[None]

    def head(self, hidden_BTD: Tensor) -> Tensor:
        return hidden_BTD

    def rollback(self, length: int) -> None:
        del self._ids[length:]

    def keep(self, positions: Tensor, start: int) -> None:
        self._ids[start:] = [self._ids[start + int(p)] for p in positions]
