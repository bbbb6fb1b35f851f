"""The registry: lazy, open to other packages, helpful with a wrong name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from specbench_s2d import registry
from specbench_s2d.errors import UnknownNameError, UserError
from specbench_s2d.registry import Registry
from specbench_s2d.suites import definitions
from tests.plugins import Plugins


def test_every_builtin_name_loads() -> None:
    for kind in (registry.decoders, registry.drafters, registry.verifiers, definitions):
        for name in kind.names():
            assert kind.load(name) is not None


def test_an_unknown_name_gives_the_nearest_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown suite 'transalation'\. Did you mean 'translation'"):
        definitions.load("transalation")


def test_another_package_adds_a_name_but_takes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = Plugins(tmp_path / "site", monkeypatch)
    plugins.register("decoders", "mine", "json:dumps")
    plugins.register("decoders", "ar", "json:loads")
    parts = Registry("decoder", {"ar": "json:dump"})
    assert parts.load("mine") is json.dumps
    assert parts.load("ar") is json.dump


def test_a_registered_name_that_cannot_be_imported_says_so() -> None:
    with pytest.raises(UserError, match="'broken' is registered as 'no_such_module:X', which cannot be imported"):
        Registry("decoder", {"broken": "no_such_module:X"}).load("broken")
