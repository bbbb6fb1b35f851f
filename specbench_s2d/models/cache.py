"""The key-value cache of the lean forward: allocated ahead, written in place, cut in O(1).

Shapes: see `models/base.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from specbench_s2d.models.transfer import to_device

_GROWTH = 512  # positions; capacities are multiples of this


def room_for(length: int, limit: int) -> int:
    """The capacity of a cache for `length` positions: a multiple of 512, at most `limit`."""
    return min(limit, -(-length // _GROWTH) * _GROWTH)


class KVCache:
    """Keys and values, one pair of (K, S, C) tensors per layer; the batch is 1.

    `lengths[l]`: positions in layer l; layers above an early exit may hold fewer than those below it. `capacity`:
    positions there is room for. All layers lie in one tensor, so that positions are moved in all of them at once; a
    subclass may use another layout (`_allocate`, `_move`).
    """

    _all_L2KSC: Tensor

    def __init__(
        self, layers: int, kv_heads: int, head_width: int, limit: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self._kv_heads, self._head_width, self._limit = kv_heads, head_width, limit
        self.device, self.dtype = device, dtype
        self.capacity = 0
        self.lengths = [0] * layers
        self.layers: list[tuple[Tensor, Tensor]] = []
        self._allocate(0)

    @property
    def position_bytes(self) -> int:
        """Bytes of one position's keys and values in one layer."""
        return 2 * self._kv_heads * self._head_width * self.dtype.itemsize

    def reserve(self, length: int) -> bool:
        """Make room for `length` positions, at most the limit; returns whether the tensors were allocated anew."""
        length = min(length, self._limit)
        if length <= self.capacity:
            return False
        self._allocate(room_for(length, self._limit))
        return True

    def write(self, layer: int, start: int, keys_TKC: Tensor, values_TKC: Tensor) -> tuple[Tensor, Tensor]:
        """Store T positions from `start` on; returns the layer's keys and values up to their end, (K, S, C) each."""
        keys_KSC, values_KSC = self.layers[layer]
        new = keys_TKC.shape[0]
        keys_KSC.narrow(1, start, new).copy_(keys_TKC.transpose(0, 1))
        values_KSC.narrow(1, start, new).copy_(values_TKC.transpose(0, 1))
        return keys_KSC.narrow(1, 0, start + new), values_KSC.narrow(1, 0, start + new)

    def rollback(self, length: int) -> None:
        """Cut every layer to its first `length` positions."""
        self.lengths = [min(length, own) for own in self.lengths]

    def keep_path(self, positions: Sequence[int], start: int) -> None:
        """Of the positions from `start` on, keep only `start + positions` (ascending), moved together.

        Each layer keeps those of them that it holds; positions already in place are not copied. In a layer that holds
        fewer, slots beyond its length are moved too, but never read.
        """
        placed = next((i for i, position in enumerate(positions) if position != i), len(positions))
        held = [sum(start + position < length for position in positions) for length in self.lengths]
        most = max(held, default=0)
        if most > placed:
            self._move([start + position for position in positions[placed:most]], start + placed)
        self.lengths = [min(length, start + own) for length, own in zip(self.lengths, held, strict=True)]

    def _allocate(self, size: int) -> None:
        """Allocate `size` positions in every layer, and copy what is cached."""
        shape = (len(self.lengths), 2, self._kv_heads, size, self._head_width)
        grown_L2KSC = torch.zeros(shape, device=self.device, dtype=self.dtype)
        if self.layers:
            grown_L2KSC[:, :, :, : self.capacity].copy_(self._all_L2KSC)
        self._all_L2KSC = grown_L2KSC
        self.layers = [(pair_2KSC[0], pair_2KSC[1]) for pair_2KSC in self._all_L2KSC]
        self.capacity = size

    def _move(self, positions: Sequence[int], to: int) -> None:
        """Copy the keys and values at `positions` to the slots from `to` on, in all layers."""
        moved_N = to_device(positions, self.device)
        self._all_L2KSC.narrow(3, to, len(positions)).copy_(self._all_L2KSC.index_select(3, moved_N))
