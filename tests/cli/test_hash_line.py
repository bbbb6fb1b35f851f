"""The line on a hash that takes long: rewritten on a terminal, plain now and then elsewhere, none of what is short."""

from __future__ import annotations

import io
from typing import Any

import pytest

from specbench_s2d.cli import hash_line
from specbench_s2d.cli.hash_line import hashes_shown
from specbench_s2d.cli.screen import Screen
from specbench_s2d.models import file_hash
from specbench_s2d.models.file_hash import Reading

READINGS = [Reading("vicuna\x1b[1m", done * 10**9, 65 * 10**9, 2.0 * done) for done in (1, 13, 65)]
FIRST = r"vicuna\x1b[1m: hash of its weights, once: 1.0 of 65.0 GB read, 2 min left"
SECOND = r"vicuna\x1b[1m: hash of its weights, once: 13.0 of 65.0 GB read, 104 s left"


def shown(readings: list[Reading], show: Any = None, **console: Any) -> str:
    file = io.StringIO()
    with hashes_shown(Screen(file=file, width=120, **console), show):
        for reading in readings:
            file_hash._watchers[-1](reading)
    assert not file_hash._watchers
    return file.getvalue()


def test_a_terminal_has_one_line_which_goes() -> None:
    text = shown(READINGS, force_terminal=True, force_interactive=True)
    assert FIRST in text and text.endswith("\x1b[2K")


def test_what_shows_something_already_takes_the_line() -> None:
    lines: list[str] = []
    assert shown(READINGS, lines.append, force_terminal=True, force_interactive=True) == ""
    assert lines == [FIRST.replace(r"\x1b", "\x1b"), SECOND.replace(r"\x1b", "\x1b"), ""]


@pytest.mark.parametrize(("between_s", "expected"), [(30.0, [FIRST]), (-1.0, [FIRST, SECOND])])
def test_elsewhere_there_are_plain_lines(
    between_s: float, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hash_line, "SECONDS_BETWEEN_LINES", between_s)
    assert shown(READINGS[:2]).splitlines() == expected


def test_what_is_short_has_no_line() -> None:
    assert shown([], force_terminal=True, force_interactive=True) == shown([]) == ""
