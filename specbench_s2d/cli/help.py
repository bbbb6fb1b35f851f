"""`--help`: every flag whole, whatever the width; help beside short flags and below long ones."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import typer
from rich.cells import cell_len
from typer.core import TyperCommand, TyperGroup

from specbench_s2d.cli import screen
from specbench_s2d.display import shown, wrap

_WIDEST = 100  # of lines that are easy to read
_BESIDE = 26  # columns: longer flags have their help below
_GAP = "  "
_Function = TypeVar("_Function", bound=Callable[..., Any])


class App(typer.Typer):
    """A Typer application whose commands have the help of this file."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(cls=_Group, **settings)

    def command(self, name: str | None = None, **settings: Any) -> Callable[[_Function], _Function]:
        """As Typer's."""
        return super().command(name, cls=_Command, **settings)


class _Command(TyperCommand):
    def format_help(self, ctx: Any, formatter: Any) -> None:
        _print(self, ctx, [])


class _Group(TyperGroup):
    def format_help(self, ctx: Any, formatter: Any) -> None:
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        _print(self, ctx, [(name, _first_sentence(c.help or "")) for name, c in commands if c and not c.hidden])


def _first_sentence(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())


def _print(command: TyperCommand | TyperGroup, context: Any, commands: list[tuple[str, str]]) -> None:
    """Print the help at once: Typer then prints the empty rest."""
    out = screen.stdout()
    for line in page(command, context, commands, min(shutil.get_terminal_size().columns, _WIDEST), out.encoding):
        out.print(line)


def page(
    command: TyperCommand | TyperGroup, context: Any, commands: list[tuple[str, str]], width: int, encoding: str
) -> Iterator[str]:
    """The lines of a command's help: usage, what it does, arguments, options, and `commands` with what they do."""
    yield from wrap(shown(f"Usage: {context.command_path} {usage(command, context)}", encoding), width)
    for paragraph in (command.help or "").split("\n\n"):
        yield ""
        yield from wrap(shown(" ".join(paragraph.split()), encoding), width)
    parameters = command.get_params(context)
    for title, kind in (("Arguments", "argument"), ("Options", "option")):
        records = (p.get_help_record(context) for p in parameters if p.param_type_name == kind)
        yield from _section(title, map(plain_record, filter(None, records)), width, encoding)
    yield from _section("Commands", commands, width, encoding)


def usage(command: TyperCommand | TyperGroup, context: Any) -> str:
    """What follows a command's name: its arguments, those that may be left out in brackets."""
    pieces = " ".join(command.collect_usage_pieces(context))
    return pieces.replace("{", "").replace("}", "").replace("…...", "…").replace("[[", "[").replace("]]", "]")


def plain_record(record: tuple[str, str | None]) -> tuple[str, str]:
    """A flag and its help, of Typer: without Python's types, and with numbers as people write them."""
    name, text = record
    name = re.sub(r"<(?:list\[)?(\w+?)\]?(?: range)?>", lambda kind: f"<{kind[1].lower()}>", name)
    return name, re.sub(r"(?<=[=\[ ])\d{5,}(?=[<\];, ])", lambda digits: f"{int(digits[0]):,}", text or "")


def _section(title: str, records: Iterable[tuple[str, str | None]], width: int, encoding: str) -> Iterator[str]:
    """A heading, and below it each name with its help."""
    told = [(shown(name, encoding), shown(" ".join((text or "").split()), encoding)) for name, text in records]
    if not told:
        return
    yield from ("", f"{title}:")
    beside = max([cell_len(name) for name, _ in told if cell_len(name) <= _BESIDE], default=0)
    indent = " " * (len(_GAP) + beside + len(_GAP))
    for name, text in told:
        lines = wrap(text, width - len(indent))
        if cell_len(name) <= beside:
            yield f"{_GAP}{name}{' ' * (beside - cell_len(name))}{_GAP}{lines.pop(0)}".rstrip()
        else:
            yield from (f"{_GAP}{line}" for line in wrap(name, width - len(_GAP)))
        yield from (f"{indent}{line}" for line in lines if line)
