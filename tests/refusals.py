"""How a test says that bad input is refused as the project refuses it: one line that names what was given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from specbench_s2d.errors import UserError


@contextmanager
def refused(kind: type[UserError], *parts: str) -> Iterator[None]:
    """The block raises `kind` with a one-line message that holds every one of `parts`."""
    with pytest.raises(kind) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
