"""The registry: lazy, open to other packages, helpful with a wrong name."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from specbench_s2d import registry
from specbench_s2d.errors import UnknownNameError, UserError
from specbench_s2d.registry import Registry


def test_every_builtin_name_loads() -> None:
    for kind in (registry.decoders, registry.drafters, registry.verifiers, registry.suites):
        for name in kind.names():
            assert kind.load(name) is not None


def test_an_unknown_name_gives_the_nearest_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown suite 'transalation'\. Did you mean 'translation'"):
        registry.suites.load("transalation")


def test_another_package_adds_a_name_but_takes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        EntryPoint("mine", "json:dumps", "specbench_s2d.decoders"),
        EntryPoint("ar", "json:loads", "specbench_s2d.decoders"),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries)
    import json

    parts = Registry("decoder", {"ar": "json:dump"})
    assert parts.load("mine") is json.dumps
    assert parts.load("ar") is json.dump


def test_a_registered_name_that_cannot_be_imported_says_so() -> None:
    with pytest.raises(UserError, match="'broken' is registered as 'no_such_module:X', which cannot be imported"):
        Registry("decoder", {"broken": "no_such_module:X"}).load("broken")
