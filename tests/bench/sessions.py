"""Sessions handed to `execute` in place of the real one: that may not be opened, or of which a part is replaced."""

from __future__ import annotations

from typing import Any

import pytest

from specbench_s2d.bench.session import Session


def never(*_: Any, **__: Any) -> Any:
    """An `open_session`, or a `load`, that nothing may come to."""
    pytest.fail("nothing may be loaded")


def with_methods(**methods: Any) -> type[Session]:
    """`Session` with these methods in place of its own."""
    return type("ReplacedSession", (Session,), methods)
