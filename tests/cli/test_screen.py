"""What reaches a terminal, a pipe or a log: names as they are, escapes for what would act, ASCII where no more goes."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Group
from rich.text import Text

from specbench_s2d.cli import screen
from specbench_s2d.cli.screen import PIPE_WIDTH, Screen, prepare_streams

HOSTILE = "x[/b] [red]model[v1] :x: \x1b[31m \x07 \u202e"
SHOWN = r"x[/b] [red]model[v1] :x: \x1b[31m \x07 \u202e"


def printed(*what: Any, encoding: str = "utf-8", **settings: Any) -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    made = Screen(file=file, **settings)
    for one in what:
        made.print(one)
    file.flush()
    return file.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]


def said(text: str, **settings: Any) -> str:
    file = io.StringIO()
    Screen(file=file, **settings).say(text)
    return file.getvalue()


@pytest.mark.parametrize("what", [HOSTILE, Text(HOSTILE.replace("\x07", r"\x07")), Group(HOSTILE)])
def test_every_string_is_data(what: Any) -> None:
    assert printed(what) == SHOWN + "\n"


def test_styles_still_reach_a_terminal() -> None:
    assert printed(Text("red", "red"), force_terminal=True, color_system="standard") == "\x1b[31mred\x1b[0m\n"


def test_an_encoding_without_our_symbols_gets_ascii() -> None:
    assert printed("1.5 × †", encoding="ascii") == "1.5 x +\n"


def test_a_line_breaks_between_words_on_a_terminal_and_nowhere_on_a_pipe() -> None:
    text = "wrote results/runs/20260101-000000/records.jsonl and others"
    path = "results/runs/20260101-000000/records.jsonl"
    assert said(text, width=20) == text + "\n"
    assert said(text, width=20, force_terminal=True).splitlines() == ["wrote", path, "and others"]
    assert said("a\nb") == "a\\nb\n", "one line, whatever the text holds"


def test_a_pipe_has_a_fixed_width_unless_columns_says_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert Screen(file=io.StringIO()).width == PIPE_WIDTH
    monkeypatch.setenv("COLUMNS", "90")
    assert Screen(file=io.StringIO()).width == 90


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Streams, logs and warnings as in the command, put back afterwards."""
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    before = logging.getLogRecordFactory()
    prepare_streams()
    yield
    logging.setLogRecordFactory(before)


@pytest.mark.parametrize("name", ["transformers.modeling", "huggingface_hub", "torch._dynamo", "ray", "another"])
def test_what_a_library_logs_is_visible_with_the_names_in_it(name: str, prepared: None) -> None:
    """Whatever handler and format the library has."""
    file, logger = io.StringIO(), logging.getLogger(name)
    logger.addHandler(handler := logging.StreamHandler(file))
    handler.setFormatter(logging.Formatter("[%(name)s] %(message)s"))
    try:
        logger.error("cannot read %s\n\tof it", HOSTILE)
        try:
            raise ValueError(HOSTILE)
        except ValueError:
            logger.exception("%s failed", "\x1b]0;title\x07")
    finally:
        logger.removeHandler(handler)
    first, second, *trace = file.getvalue().splitlines()
    assert (first, second) == (f"[{name}] cannot read {SHOWN}", "\tof it")
    assert trace[0] == f"[{name}] \\x1b]0;title\\x07 failed" and trace[-1] == f"ValueError: {SHOWN}"


def test_a_warning_of_a_library_is_one_line(prepared: None) -> None:
    shown = warnings.formatwarning(UserWarning("model \x1b[1m\nis odd"), UserWarning, "file.py", 3)
    assert shown == "warning: model \\x1b[1m\\nis odd (UserWarning)\n"


LOCALE = ("LC_ALL", "LC_CTYPE", "LANG", "PYTHONIOENCODING", "PYTHONUTF8")


@pytest.mark.parametrize(
    ("given", "encoding", "expected"),
    [
        ({"LC_ALL": "C.UTF-8"}, "utf-8", "×é\n".encode()),
        ({}, "utf-8", "×é\n".encode()),
        ({"LC_ALL": "C"}, "utf-8", b"x\\xe9\n"),
        ({"LANG": "POSIX"}, "utf-8", b"x\\xe9\n"),
        ({"LC_ALL": "C", "PYTHONIOENCODING": "utf-8"}, "utf-8", "×é\n".encode()),
        ({"LC_ALL": "C", "PYTHONUTF8": "1"}, "utf-8", "×é\n".encode()),
        ({"PYTHONIOENCODING": "ascii"}, "ascii", b"x\\xe9\n"),
        ({"LC_ALL": "de_DE.ISO-8859-1"}, "iso-8859-1", b"\xd7\xe9\n"),
    ],
)
def test_streams_take_any_text(
    given: dict[str, str], encoding: str, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What libraries print by themselves; what we print is ASCII first."""
    for name in LOCALE:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    for name in ("stdout", "stderr"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
        monkeypatch.setattr(sys, name, stream)
    prepare_streams()
    for stream in (sys.stdout, sys.stderr):
        print("×é", file=stream, flush=True)
        assert stream.buffer.getvalue() == expected  # type: ignore[attr-defined]
    screen.stdout().say("γ")
    assert sys.stdout.buffer.getvalue()[len(expected) :] in ("γ\n".encode(), b"gamma\n")  # type: ignore[attr-defined]
