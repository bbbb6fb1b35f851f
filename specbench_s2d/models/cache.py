"""The key-value cache of the lean forward: preallocated, written in place, cut in O(1).

Shapes: see `models/base.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_GROWTH = 512  # positions; a cache is as long as what has been asked of it, rounded up to this


class KVCache:
    """Keys and values, one pair of (K, S, C) tensors per layer; the batch is 1.

    `lengths[l]` counts layer l's positions: layers above an early exit may lag behind those below it.
    """

    def __init__(
        self, layers: int, kv_heads: int, head_width: int, limit: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self._limit = limit
        self._empty = torch.empty(kv_heads, 0, head_width, device=device, dtype=dtype)
        self.layers = [(self._empty, self._empty)] * layers
        self.lengths = [0] * layers

    @property
    def position_bytes(self) -> int:
        """Bytes of one position's keys and values in one layer."""
        kv_heads, _, head_width = self._empty.shape
        return 2 * kv_heads * head_width * self._empty.element_size()

    @property
    def capacity(self) -> int:
        """Positions there is room for."""
        return self.layers[0][0].shape[1]

    def reserve(self, length: int) -> None:
        """Make room for `length` positions; what is cached stays. Does nothing when there is room."""
        if length <= self.capacity:
            return
        size = min(self._limit, -(-length // _GROWTH) * _GROWTH)
        self.layers = [(self._grown(keys, size), self._grown(values, size)) for keys, values in self.layers]

    def write(self, layer: int, start: int, keys_TKC: Tensor, values_TKC: Tensor) -> tuple[Tensor, Tensor]:
        """Store T positions from `start` on; returns all of the layer's keys and values up to there, (K, S, C) each."""
        keys_KSC, values_KSC = self.layers[layer]
        new = keys_TKC.shape[0]
        keys_KSC.narrow(1, start, new).copy_(keys_TKC.transpose(0, 1))
        values_KSC.narrow(1, start, new).copy_(values_TKC.transpose(0, 1))
        return keys_KSC.narrow(1, 0, start + new), values_KSC.narrow(1, 0, start + new)

    def rollback(self, length: int) -> None:
        """Forget positions from `length` on, in every layer."""
        self.lengths = [min(length, own) for own in self.lengths]

    def keep(self, positions: Sequence[int], start: int) -> None:
        """Keep `start + positions` (ascending) of what lies from `start` on, moved together.

        Each layer keeps those of them that it holds; positions already in place are not copied.
        """
        placed = next((i for i, position in enumerate(positions) if position != i), len(positions))
        moved_N = torch.tensor(positions[placed:], device=self._empty.device) + start
        first = start + placed
        for layer, length in enumerate(self.lengths):
            held = sum(start + position < length for position in positions)
            if held > placed:
                for cached_KSC in self.layers[layer]:
                    cached_KSC[:, first : start + held] = cached_KSC.index_select(1, moved_N[: held - placed])
            self.lengths[layer] = min(length, start + held)

    def _grown(self, old_KSC: Tensor, size: int) -> Tensor:
        grown_KSC = self._empty.new_zeros(old_KSC.shape[0], size, old_KSC.shape[2])
        grown_KSC[:, : old_KSC.shape[1]] = old_KSC
        return grown_KSC
