"""Graphs: what is captured is recorded with its storage, and replayed over the same storage."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from tests.rehearsal.rules import is_view


class Recording:
    """The operations of one capture, over the tensors' own data. What the host knew is all that a replay knows.

    `pool`: storages (by address) that the capture allocated; nothing outside may read them.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self.pool: dict[int, Tensor] = {}

    def add(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        if is_view(func):
            return
        results = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        taken = {0, *map(address, given)}
        self.pool |= {address(result): result for result in results if address(result) not in taken}
        in_place = all(any(result is leaf for leaf in given) for result in results)
        self.calls.append((func, args, kwargs, [] if in_place else results))

    def replay(self) -> None:
        """Run all of it again; results go where they went."""
        for func, args, kwargs, results in self.calls:
            again = func(*args, **kwargs)
            if len(results) == 1:
                results[0].copy_(again)
            elif results:
                for old, new in zip(results, again, strict=True):
                    old.copy_(new)


def address(tensor: Tensor) -> int:
    """Where a tensor's storage lies."""
    return tensor.untyped_storage().data_ptr()
