"""Fixtures of the decoders' tests."""

from __future__ import annotations

import pytest

from tests.fakes import Clock


@pytest.fixture
def clock() -> Clock:
    """A clock that only working models move; `clocked.build_decoder` hands it to the decoder."""
    return Clock()
