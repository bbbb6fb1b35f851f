"""Cases of a test that `make test` leaves out and `make test-all` runs: more of what others of its cases show."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def slow_but(quick: Collection[str], cases: Iterable[Any]) -> list[Any]:
    """The cases, each a name or a tuple that begins with one; slow but for those of the `quick` names."""
    listed = [case if isinstance(case, tuple) else (case,) for case in cases]
    unknown = set(quick) - {case[0] for case in listed}
    assert not unknown, f"no such cases: {unknown}"
    return [pytest.param(*case, marks=() if case[0] in quick else pytest.mark.slow) for case in listed]
