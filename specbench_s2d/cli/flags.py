"""Flags made from the fields of a pydantic model, so that a setting is declared once and `--help` is read off it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from specbench_s2d.decoding.labels import value_text

Command = Callable[..., Any]
SafeCsv = Annotated[
    bool,
    typer.Option(
        "--safe-csv", help="In CSV files, put ' before text that a spreadsheet would take for a formula (= + - @)."
    ),
]
_BOUNDS = (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))


def flags_from(
    fields: Mapping[str, FieldInfo],
    parameter: str,
    make: Callable[[dict[str, Any]], Any],
    defaults: Mapping[str, Any],
) -> Callable[[Command], Command]:
    """Give a command one flag per field, in the place of its `parameter`, which becomes `make(values by field name)`.

    `defaults`, by field name, are values of flags that are not given, in place of the fields' own; None there tells
    `make` that a flag was not given, and `--help` shows the field's default all the same.
    """

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def wrapper(**given: Any) -> Any:
            made = make({name: given.pop(name) for name in fields})
            return command(**given, **{parameter: made})

        flags = [_flag(name, field, defaults) for name, field in fields.items()]
        signature: list[inspect.Parameter] = []
        for own in inspect.signature(command, eval_str=True).parameters.values():
            signature += flags if own.name == parameter else [own.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
        wrapper.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in signature}
        return wrapper

    return decorate


def given_flags(values: dict[str, Any]) -> dict[str, Any]:
    """The values of flags that were given, for `flags_from` with None as every default."""
    return {name: value for name, value in values.items() if value not in (None, [])}


def flag_words(values: Mapping[str, Any]) -> list[str]:
    """The words of a command line that give these values, by field name: what `given_flags` holds, written again."""
    words: list[str] = []
    for name, value in values.items():
        flag = _flag_name(name)
        if isinstance(value, bool):
            words.append(flag if value else f"--no{flag[1:]}")
        else:
            words += [word for one in (value if isinstance(value, list) else [value]) for word in (flag, str(one))]
    return words


def _flag_name(name: str) -> str:
    return "--" + name.replace("_", "-")


def _flag(name: str, field: FieldInfo, defaults: Mapping[str, Any]) -> inspect.Parameter:
    """One field as a flag: all but switches and repeated flags reach pydantic as typed, which says what it allows."""
    kind: Any = field.annotation if field.annotation in (bool, list[str]) else str
    flag = _flag_name(name)
    names = f"{flag}/--no{flag[1:]}" if kind is bool else flag
    own = None if field.is_required() or field.default == () else field.default
    default = defaults.get(name, inspect.Parameter.empty if field.is_required() else own)
    shown = own if default is None else None  # any other default is shown by Typer itself
    option = typer.Option(names, help=_help(field, shown), metavar=_metavar(field.annotation) if kind is str else None)
    annotation: Any = Annotated[kind | None if default is None else kind, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _metavar(annotation: Any) -> str:
    """What stands for a flag's value in `--help`: the values of a `Literal`, else the type's name."""
    parts = get_args(annotation)
    kind = parts[0] if NoneType in parts else annotation  # X of `X | None`
    if get_origin(kind) is Literal:
        return f"<{'|'.join(get_args(kind))}>"
    return f"<{parts[0].__name__},…>" if get_origin(kind) is tuple else f"<{kind.__name__}>"


def _help(field: FieldInfo, default: Any) -> str:
    """The description, with the range of the values before its own words on the default, or before `default`."""
    bounds = [
        f"{word} {_bound(getattr(rule, end))}" for rule in field.metadata for end, word in _BOUNDS if hasattr(rule, end)
    ]
    what, words, of_default = str(field.description).removesuffix(".").partition("; default:")
    shown = [] if default is None or isinstance(default, bool | list) else [f"default: {value_text(default)}"]
    more = [*([", ".join(bounds)] if bounds else []), *shown]
    return "; ".join([what, *more]) + words + of_default + "." if more else str(field.description)


def _bound(number: float) -> str:
    """The end of a range: thousands are set apart, and those of the last integer in 64 bits are not written out."""
    if number == 2**63:
        return "2^63"
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"
