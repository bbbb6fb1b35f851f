"""What the fields of a model may hold, read off their declarations: for those that check whole columns at once."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class Field:
    """One field.

    `kind`: the type of its values, or of a list's entries, text where they may be of several. `low`, `high`: the least
    and the greatest of them. `choices`: the only ones. `shortest`: the least length of a text. None where nothing is
    said.
    """

    kind: Any
    is_list: bool
    is_nullable: bool
    low: float | None
    high: float | None
    shortest: int | None
    choices: frozenset[Any] | None

    @classmethod
    def of(cls, info: FieldInfo) -> Field:
        """The field of a declaration such as `Annotated[float, Field(ge=0)] | None` or `list[int]`."""
        parts = [*_parts(info.annotation), *info.metadata]
        choices = [choice for part in parts if get_origin(part) is Literal for choice in get_args(part)]
        kinds = [part for part in parts if isinstance(part, type) and part not in (types.NoneType, list)]
        return cls(
            kind=kinds[0] if len(kinds) == 1 else type(choices[0]) if choices else str,
            is_list=list in parts,
            is_nullable=types.NoneType in parts,
            low=_of(parts, "ge"),
            high=_of(parts, "le"),
            shortest=_of(parts, "min_length"),
            choices=frozenset(choices) if choices else None,
        )


@cache
def fields_of(model: type[BaseModel]) -> dict[str, Field]:
    """Every field of a model, by name."""
    return {name: Field.of(info) for name, info in model.model_fields.items()}


def _parts(annotation: Any) -> Iterator[Any]:
    """The types, choices and constraints that an annotation is made of."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _parts(arguments[0])
        for constraint in arguments[1:]:
            yield from getattr(constraint, "metadata", [constraint])
    elif origin in (Union, types.UnionType):
        for one in arguments:
            yield from _parts(one)
    elif origin is list:
        yield list
        yield from _parts(arguments[0])
    else:
        yield origin if origin in (dict, tuple) else annotation


def _of(parts: list[Any], name: str) -> Any:
    return next((value for part in parts if (value := getattr(part, name, None)) is not None), None)
