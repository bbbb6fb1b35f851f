"""Fixtures of the decoders' tests."""

from __future__ import annotations

import pytest

from specbench_s2d.decoding import costs
from specbench_s2d.decoding.drafters import auto
from tests.fakes import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What `s2d-auto` reads instead of the time: it moves only when a model works."""
    clock = Clock()
    for module in (auto, costs):
        monkeypatch.setattr(module, "perf_counter", clock)
    return clock
