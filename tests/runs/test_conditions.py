"""Conditions in manifests, new and old."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from specbench_s2d.measure.conditions import Finding
from specbench_s2d.runs.conditions import is_transient

ENTRY = {"at": "start", "about": "CPU", "what": "busy", "advice": "stop it"}


@pytest.mark.parametrize("transient", [True, False])
def test_transient_is_read_as_it_is_written_and_by_its_old_name(transient: bool) -> None:
    assert is_transient({"at": "start", **asdict(Finding("CPU", "busy", "stop it", transient))}) is transient
    assert is_transient({**ENTRY, "passing": transient}) is transient


def test_an_entry_that_does_not_say_is_neither() -> None:
    assert is_transient(ENTRY) is None
