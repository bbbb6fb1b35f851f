"""The most bytes that tensors hold at once, counted by their storages: on the meta device too, which holds none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Peak(TorchDispatchMode):
    """Counts what is made inside the block and still lives; `bytes` is the most of it."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self._living: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self._count(leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor))
        return out

    def _count(self, made: Iterable[torch.Tensor]) -> None:
        for tensor in made:
            storage = tensor.untyped_storage()
            self._living[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self._living = {key: entry for key, entry in self._living.items() if not entry[0].expired()}
        self.bytes = max(self.bytes, sum(size for _, size in self._living.values()))
