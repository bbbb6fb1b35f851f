"""Here probes are what is tested: they take the time they take."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def quick_probes() -> None:
    """In place of the one that makes them short everywhere else."""
