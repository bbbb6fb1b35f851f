"""The rehearsed device as fixtures; where it cannot be had, tests skip with the reason, or fail for want of
the compiler that `SPECBENCH_REHEARSAL=required` asks for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache

import pytest

from specbench_s2d import load_model
from specbench_s2d.measure import bandwidth, gpu
from specbench_s2d.models.base import LanguageModel
from tests.rehearsal.counts import Counts
from tests.rehearsal.device import rehearsed
from tests.rehearsal.guard import why_no_guard, why_not_here


def _check() -> None:
    if reason := why_not_here():
        pytest.skip(reason)
    if reason := why_no_guard():
        if os.environ.get("SPECBENCH_REHEARSAL") == "required":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(autouse=True)
def quick_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandwidth, "GPU_BUFFER_BYTES", 2**20)
    monkeypatch.setattr(bandwidth, "GPU_ROUND_BYTES", 2**20)
    monkeypatch.setattr(gpu, "WAKE_S", 0.0)


@pytest.fixture
def counts() -> Iterator[Counts]:
    """One rehearsed device is there; what the host asks of it."""
    _check()
    with rehearsed() as counted:
        yield counted


@pytest.fixture(scope="module")
def shared_counts() -> Iterator[Counts]:
    """As `counts`, one device for all tests of a module: what is loaded there stays."""
    _check()
    with rehearsed() as counted:
        yield counted


@pytest.fixture(scope="module")
def load(shared_counts: Counts) -> Callable[..., LanguageModel]:
    """`load_model`, which loads, tries and captures each model once for all tests of a module."""
    return cache(load_model)


@pytest.fixture
def two_devices() -> Iterator[Counts]:
    _check()
    with rehearsed(devices=2) as counted:
        yield counted
