"""Conditions in manifests, new and old."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from specbench_s2d.measure.conditions import Finding
from specbench_s2d.runs.conditions import is_transient, kinds

ENTRY = {"at": "start", "about": "CPU", "what": "busy", "advice": "stop it"}


@pytest.mark.parametrize("transient", [True, False])
def test_transient_is_read_as_it_is_written_and_by_its_old_name(transient: bool) -> None:
    assert is_transient({"at": "start", **asdict(Finding("CPU", "busy", "stop it", transient))}) is transient
    assert is_transient({**ENTRY, "passing": transient}) is transient


def test_an_entry_that_does_not_say_is_neither() -> None:
    assert is_transient(ENTRY) is None


def test_a_kind_of_condition_is_what_it_is_about_and_what_to_do() -> None:
    """The load while a target was timed stands for that at the start; of several targets the first."""
    at_start = {**ENTRY, "what": "busy: 1.9 of 2 cores", "transient": True}
    timed = [{**ENTRY, "at": at, "what": f"busy while it was timed: {n} of 2 cores", "transient": True}
             for at, n in (("a", 0.4), ("b", 0.6))]  # fmt: skip
    again = {**at_start, "at": "end", "what": "busy: 0.3 of 2 cores"}
    set_up = {**ENTRY, "what": "governor powersave", "advice": "change it", "transient": False}
    found = kinds([set_up, at_start, *timed, again])
    assert found == [[timed[0], at_start, timed[1], again], [set_up]]
