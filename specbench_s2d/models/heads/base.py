"""What all draft heads share: they draft for a target, and are no models by themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from specbench_s2d.errors import ModelError
from specbench_s2d.models.base import Identity, LanguageModel
from specbench_s2d.models.draft_vocabulary import DraftVocabulary
from specbench_s2d.models.heads.shape import HeadShape


class DraftHead(LanguageModel):
    """A network on a target's states; `head_shape`: what the folder holds."""

    def __init__(self, identity: Identity, shape: HeadShape, device: torch.device, dtype: torch.dtype) -> None:
        self.identity, self.head_shape = identity, shape
        self.eos_ids, self.exits = frozenset(), ()
        self.device, self.dtype = device, dtype

    def extend(
        self,
        inputs: Tensor,
        from_layer: int = 0,
        to_layer: int | None = None,
        mask: Tensor | None = None,
        *,
        last_only: bool = False,
        vocabulary: DraftVocabulary | None = None,
    ) -> Tensor:
        raise ModelError(
            f"{self.name} is a draft head, which reads a target's states; give it as --draft to {self._kind}, not as a "
            "model."
        )

    def head(self, hidden_BTD: Tensor, vocabulary: DraftVocabulary | None = None, *, final: bool = False) -> Tensor:
        raise ModelError(f"{self.name} is a draft head: only {self._kind} knows what its states mean.")

    @property
    def _kind(self) -> str:
        assert self.head_shape is not None, "subclasses set it"
        return self.head_shape.kind
