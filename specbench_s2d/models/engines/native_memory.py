"""Memory as the native kernel wants it, on large pages, and how fast the kernel's threads read it."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

PANEL = 64
"""Floats of a row that the kernel reads at once."""
_STRIPS = 4  # sums that each thread leaves
_LARGE_PAGE_BYTES = 2 * 2**20


def large_page_block(floats: int, kernel: ctypes.CDLL) -> tuple[Tensor, bool]:
    """Room for `floats` float32, in full panels and not yet written; whether the system gives it large pages."""
    page = _LARGE_PAGE_BYTES // 4
    room = torch.empty(floats + 2 * page)
    first = -(room.data_ptr() // 4) % page
    block = room[first : first + -(-floats // PANEL) * PANEL]
    refused = kernel.want_large_pages(ctypes.c_void_p(block.data_ptr()), ctypes.c_size_t(block.nbytes))
    return block, not refused


def stream(block: Tensor, threads: int, passes: int, kernel: ctypes.CDLL) -> float:
    """Read a block of full panels `passes` times with the kernel's threads; the sum of its floats."""
    sums = torch.zeros(threads * _STRIPS)
    count = ctypes.c_int64(block.numel() // PANEL)
    kernel.stream(
        ctypes.c_void_p(block.data_ptr()), count, ctypes.c_int64(threads), ctypes.c_int64(passes),
        ctypes.c_void_p(sums.data_ptr()),
    )  # fmt: skip
    return float(sums.sum())
