"""Declarations of fields, read for checks of whole columns."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel
from pydantic import Field as Declared

from specbench_s2d.runs.fields import Field, fields_of

Count = Annotated[int, Declared(ge=0, le=9)]


class Model(BaseModel):
    plain: int
    bounded: Count
    here: int = Declared(1, ge=-1)
    optional: Count | None = None
    many: list[Count] | None = None
    named: Annotated[str, Declared(min_length=1)]
    chosen: Literal["a", "b"] | None = None
    flag: bool = False
    either: Count | str = 1
    seconds: Annotated[float, Declared(ge=0, le=1e30)] | None = None


NOTHING: dict[str, Any] = {"is_list": False, "is_nullable": False, "low": None, "high": None, "shortest": None,
                           "choices": None}  # fmt: skip
EXPECTED: dict[str, dict[str, Any]] = {
    "plain": {"kind": int},
    "bounded": {"kind": int, "low": 0, "high": 9},
    "here": {"kind": int, "low": -1},
    "optional": {"kind": int, "low": 0, "high": 9, "is_nullable": True},
    "many": {"kind": int, "low": 0, "high": 9, "is_nullable": True, "is_list": True},
    "named": {"kind": str, "shortest": 1},
    "chosen": {"kind": str, "is_nullable": True, "choices": frozenset({"a", "b"})},
    "flag": {"kind": bool},
    "either": {"kind": str, "low": 0, "high": 9},
    "seconds": {"kind": float, "low": 0, "high": 1e30, "is_nullable": True},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_field_is_what_its_declaration_says(name: str) -> None:
    assert fields_of(Model)[name] == Field(**{**NOTHING, **EXPECTED[name]})
