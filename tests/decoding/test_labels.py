"""Option values as labels and tables write them."""

from __future__ import annotations

from typing import Any

import pytest

from specbench_s2d.decoding.labels import value_text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (0.5, "0.5"), (0.1234561, "0.1234561"), (4, "4"), ("heuristic", "heuristic"), (None, "None")],
)
def test_a_value_is_written_to_its_last_digit(value: Any, text: str) -> None:
    assert value_text(value) == text


@pytest.mark.parametrize("several", [(0.5, 0.5, 0.0), [0.5, 0.5, 0.0]])
def test_several_values_are_joined_whatever_holds_them(several: Any) -> None:
    assert value_text(several) == "0.5+0.5+0"
