"""What CUDA refuses, and which operations make the host wait for the device."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten

HOST_READS = frozenset({aten._local_scalar_dense.default, aten.equal.default, aten.is_nonzero.default})
"""Operations whose answer is the host's."""
SIZED_BY_DATA = frozenset(
    {
        aten.nonzero.default, aten.masked_select.default, aten._unique2.default, aten.unique_consecutive.default,
        aten.bincount.default, aten.repeat_interleave.Tensor,
    }
)  # fmt: skip
"""Operations whose result has as many elements as the data says: the host waits to know."""
COPIES = frozenset({aten._to_copy.default, aten.copy_.default})
_INDEXING = frozenset(
    {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._unsafe_index.Tensor,
     aten._index_put_impl_.default}
)  # fmt: skip
_TAKE_NUMBERS = frozenset({aten.fill_.Tensor, aten.masked_fill_.Tensor, aten.masked_fill.Tensor, *_INDEXING})
_FREE = frozenset({"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "set_", "resize_"})


class RefusedError(RuntimeError):
    """CUDA would refuse this, or give another answer."""


@cache
def is_view(func: Any) -> bool:
    """Whether an operation gives another look at the same memory."""
    alias = [r.alias_info for r in func._schema.returns]
    return any(info is not None and not info.is_write for info in alias)


@cache
def launches(func: Any) -> bool:
    """Whether an operation asks the device to work."""
    return not is_view(func) and func._schema.name.partition("::")[2] not in _FREE


@cache
def takes_numbers(func: Any) -> bool:
    """Whether a number of the host may stand beside tensors of the device."""
    return torch.Tag.pointwise in func.tags or func in _TAKE_NUMBERS


def check_devices(func: Any, tensors: Iterable[Tensor], index_tensors: Iterable[Tensor]) -> None:
    """Refuse operands on two devices, as CUDA does: numbers of the host pass where the operation goes element by
    element, and CPU indices where it indexes."""
    if func in COPIES:
        return
    skipped = {id(t) for t in index_tensors}
    seen: dict[torch.device, Tensor] = {}
    for tensor in tensors:
        if tensor.device.type == "cpu" and ((tensor.dim() == 0 and takes_numbers(func)) or id(tensor) in skipped):
            continue
        seen.setdefault(tensor.device, tensor)
    if len(seen) > 1:
        places = " and ".join(sorted(map(str, seen)))
        raise RefusedError(f"{func}: Expected all tensors to be on the same device, but found at least two, {places}")


def cpu_indices(func: Any, args: tuple[Any, ...]) -> list[Tensor]:
    """Tensors of the host that index one on the device: allowed, and a wait."""
    if func not in _INDEXING:
        return []
    return [t for t in args[1] if isinstance(t, Tensor) and t.device.type == "cpu"]


def waits_for_size(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether the host must wait to know how large the result is."""
    if func in SIZED_BY_DATA:
        return True
    masks = args[1] if func in _INDEXING else ()
    return any(isinstance(t, Tensor) and t.dtype in (torch.bool, torch.uint8) for t in masks)
