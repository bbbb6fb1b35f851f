"""A small vocabulary of a draft: the ids that it may propose, and the rows of its head that they need (FR-Spec, Zhao et
al. 2025, arXiv 2502.14856).

Shapes: see `models/base.py`; `N` ids of the small vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from specbench_s2d.models.transfer import to_device


@dataclass(frozen=True)
class DraftVocabulary:
    """N ids of a vocabulary of `full_size` ids; two with the same ids are equal.

    `ids`: ascending, so that of equal logits the first id is taken, as over the full vocabulary. `sha256`: a hash of
    `full_size` and the ids.
    """

    sha256: str
    full_size: int = field(compare=False)
    ids: tuple[int, ...] = field(compare=False, repr=False)
    _on_device: dict[torch.device, Tensor] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, ids: Iterable[int], full_size: int) -> DraftVocabulary:
        """From ids in any order, each once."""
        ascending = tuple(sorted(ids))
        said = f"{full_size}:{','.join(map(str, ascending))}"
        return cls(hashlib.sha256(said.encode()).hexdigest(), full_size, ascending)

    def __len__(self) -> int:
        return len(self.ids)

    def below(self, full_size: int) -> DraftVocabulary:
        """Those of the ids that a vocabulary of `full_size` ids has."""
        if full_size == self.full_size:
            return self
        return DraftVocabulary.of((token for token in self.ids if token < full_size), full_size)

    def ids_on(self, device: torch.device) -> Tensor:
        """The ids (N,) on a device, copied there once."""
        if device not in self._on_device:
            with torch.inference_mode(False):
                self._on_device[device] = to_device(self.ids, device)
        return self._on_device[device]

    def spread(self, logits_TN: Tensor) -> Tensor:
        """Logits (T, V) from those of the N ids: -inf elsewhere, so that a softmax renormalises over the N ids."""
        full_TV = logits_TN.new_full((logits_TN.shape[0], self.full_size), float("-inf"))
        return full_TV.index_copy_(1, self.ids_on(logits_TN.device), logits_TN)
