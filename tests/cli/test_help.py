"""`--help` of every command: each flag whole, no line beyond the terminal, nothing but ASCII where no more goes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from rich.cells import cell_len

from specbench_s2d.cli.help import page
from specbench_s2d.cli.main import app, main


def commands(command: Any = None, parent: Any = None, name: str = "specbench-s2d") -> Iterator[tuple[Any, Any]]:
    """Every command with its context, groups and their commands too."""
    command = command or typer.main.get_command(app)
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    yield command, context
    for inner, sub in getattr(command, "commands", {}).items():
        yield from commands(sub, context, inner)


COMMANDS = {context.command_path: (command, context) for command, context in commands()}


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("width", [80, 120, 200])
@pytest.mark.parametrize("path", COMMANDS)
def test_every_flag_is_whole_and_no_line_is_too_long(path: str, width: int, encoding: str) -> None:
    command, context = COMMANDS[path]
    lines = list(page(command, context, [("name", "what it does")], width, encoding))
    words = {word for line in lines for word in line.split()}
    flags = [flag for p in command.get_params(context) for flag in (*p.opts, *p.secondary_opts) if flag[0] == "-"]
    assert len(flags) > 1
    assert {f for f in flags if f not in {w.rstrip(",") for w in words}} == set()
    assert [line for line in lines if cell_len(line) > width and len(line.split()) > 1] == []
    assert encoding == "utf-8" or "".join(lines).isascii()


def test_the_help_of_a_group_names_its_commands_with_what_they_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Usage: " in shown and " train [OPTIONS] COMMAND [ARGS]..." in shown
    assert "  soft       Sorted fine-tuning: a draft made of a model's first layers," in shown
    assert main(["train"]) == 2
    asked = capsys.readouterr()
    assert asked.out.strip() == shown.strip() and asked.err == ""


def test_help_shows_choices_defaults_and_what_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "--speed <auto|judge|skip>" in shown and "[default: auto]" in shown
    assert "Arguments: RUN <path> Folder that `run` wrote. [required]" in shown


@pytest.mark.slow
@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C.UTF-8"}])
def test_a_process_of_its_own_prints_it_in_any_locale(locale: dict[str, str]) -> None:
    """A process that starts under the locale: what Python itself makes of it."""
    kept = {k: v for k, v in os.environ.items() if k not in ("LC_ALL", "LANG", "PYTHONIOENCODING", "PYTHONUTF8")}
    done = subprocess.run(
        [sys.executable, "-m", "specbench_s2d", "run", "--help"],
        env={**kept, **locale},
        capture_output=True,
        check=True,
    )
    assert done.stdout.isascii() == (locale != {"LC_ALL": "C.UTF-8"})
    assert max(map(len, done.stdout.decode().splitlines())) <= 80


@pytest.mark.parametrize("path", COMMANDS)
def test_no_type_of_python_no_doubled_bracket_and_no_raw_number_is_shown(path: str) -> None:
    command, context = COMMANDS[path]
    text = "\n".join(page(command, context, [], 100, "utf-8"))
    assert re.findall(r"list\[|range>|\{|\[\[|…\.\.\.|\de\+|\d{5,}", text) == []
