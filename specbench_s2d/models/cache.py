"""The key-value cache of the lean forward: allocated once, written in place, cut in O(1)."""

from __future__ import annotations

import torch
from torch import Tensor

_GROWTH = 512  # positions; a cache is as long as what has been asked of it, rounded up to this


class KVCache:
    """Keys and values of all layers: (L, B=1, K, S, C) each.

    `lengths[l]` counts layer l's positions: layers above an early exit may lag behind those below it.
    """

    def __init__(
        self, layers: int, kv_heads: int, head_width: int, limit: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self._shape = (layers, 1, kv_heads, 0, head_width)
        self._limit = limit
        self.keys = torch.empty(self._shape, device=device, dtype=dtype)
        self.values = torch.empty(self._shape, device=device, dtype=dtype)
        self.lengths = [0] * layers

    @property
    def capacity(self) -> int:
        return self.keys.shape[3]

    def reserve(self, length: int) -> None:
        """Make room for `length` positions; what is cached stays. Does nothing when there is room."""
        if length <= self.capacity:
            return
        size = min(self._limit, -(-length // _GROWTH) * _GROWTH)
        used = max(self.lengths)
        grown_shape = (*self._shape[:3], size, self._shape[4])
        for name in ("keys", "values"):
            old: Tensor = getattr(self, name)
            grown = torch.zeros(grown_shape, device=old.device, dtype=old.dtype)
            grown[..., :used, :] = old[..., :used, :]
            setattr(self, name, grown)

    def rollback(self, length: int) -> None:
        self.lengths = [min(length, own) for own in self.lengths]

    def keep(self, positions: Tensor, start: int) -> None:
        source = positions + start
        end = start + len(positions)
        for cached in (self.keys, self.values):
            cached[..., start:end, :] = cached.index_select(3, source)
        self.lengths = [end] * len(self.lengths)
