"""The registry: lazy, open to other packages, helpful with a wrong name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from specbench_s2d import registry
from specbench_s2d.decoding.types import Options
from specbench_s2d.errors import UnknownNameError, UserError
from specbench_s2d.registry import Registry
from specbench_s2d.suites import definitions
from tests.plugins import Plugins
from tests.refusals import refused


def test_every_builtin_name_loads() -> None:
    for kind in (registry.decoders, registry.drafters, registry.verifiers, registry.meters, definitions):
        for name in kind.names():
            assert kind.load(name) is not None


def test_an_unknown_name_gives_the_nearest_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown suite 'transalation'\. Did you mean 'translation'"):
        definitions.load("transalation")


def test_another_package_adds_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = Plugins(tmp_path / "site", monkeypatch)
    plugins.register("decoders", "mine", "json:dumps")
    plugins.register("decoders", "inner", "json:JSONDecoder.decode")
    parts = Registry("decoder", {"ar": "json:dump"})
    assert parts.load("mine") is json.dumps
    assert parts.load("inner") is json.JSONDecoder.decode
    assert {name: entry.origin for name, entry in parts.entries().items()} == {
        "ar": "built-in", "mine": "plugins 1", "inner": "plugins 1",
    }  # fmt: skip


def test_a_name_that_is_built_in_has_no_second_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = Plugins(tmp_path / "site", monkeypatch)
    plugins.register("decoders", "ar", "json:loads")
    plugins.register("decoders", "mine", "json:dumps")
    parts = Registry("decoder", {"ar": "json:dump", "sd": "json:load"})
    with refused(UserError, "decoder 'ar': it is built in", "plugins 1 registers that name too", "rename it there"):
        parts.load("ar")
    assert parts.load("sd") is json.load and parts.load("mine") is json.dumps


def test_two_packages_cannot_share_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Plugins(tmp_path / "b", monkeypatch, "beta").register("drafters", "mine", "json:dumps")
    alpha = Plugins(tmp_path / "a", monkeypatch, "alpha")
    alpha.register("drafters", "mine", "json:dumps")
    alpha.register("drafters", "twice", "json:dumps")
    alpha.register("drafters", "twice", "json:loads")
    parts = Registry("drafter", {})
    with refused(UserError, "drafter 'mine': alpha 1 and beta 1 both register that name; uninstall one of them."):
        parts.load("mine")
    with refused(UserError, "drafter 'twice': alpha 1 registers it twice, as different objects; rename one."):
        parts.load("twice")
    assert parts.entries()["mine"].origin == "alpha 1"


def test_a_registered_name_that_cannot_be_imported_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="'broken' is registered as 'no_such_module:X', which cannot be imported"):
        Registry("decoder", {"broken": "no_such_module:X"}).load("broken")
    plugins = Plugins(tmp_path / "site", monkeypatch)
    (plugins.folder / "raising_plugin.py").write_text("raise RuntimeError('no GPU here\\nnor there')", encoding="utf-8")
    plugins.register("drafters", "broken", "raising_plugin:X")
    plugins.register("drafters", "absent", "json:Absent")
    with refused(
        UserError, "is registered by plugins 1 as 'raising_plugin:X'", "cannot be imported (RuntimeError: no GPU here)"
    ):
        registry.drafters.load("broken")
    with refused(UserError, "by plugins 1 as 'json:Absent'", "has no attribute 'Absent'"):
        registry.drafters.load("absent")


class _Bare:
    """No drafter, verifier, decoder or meter."""


class _OddKind(_Bare):
    Options = Options
    draft_kind = "large"
    start = propose = commit = None


class _OddOptions(_OddKind):
    Options = dict  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("kind", "path", "told"),
    [
        (
            "drafter",
            "_Bare",
            "it has no Options, draft_kind, start, propose, commit; a drafter has Options, draft_kind",
        ),
        ("drafter", "_OddKind", "its draft_kind is 'large'; it is none, plain, nested, eagle or medusa"),
        ("drafter", "_OddOptions", "its Options is no subclass of specbench_s2d.decoding.types.Options"),
        ("verifier", "_Bare", "it has no Options, lossy, judge; a verifier has Options, lossy, judge"),
        ("decoder", "_Bare", "it has no Options, lossy, draft_kind, generate, make_ready, target_passes"),
        ("meter", "__name__", "it cannot be called; a meter is registered as a function of the device"),
    ],
)
def test_a_class_without_what_its_kind_has_is_refused_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, path: str, told: str
) -> None:
    Plugins(tmp_path / "site", monkeypatch).register(f"{kind}s", "mine", f"{__name__}:{path}")
    of_kind: Registry = getattr(registry, f"{kind}s")
    with refused(UserError, f"{kind} 'mine' is registered by plugins 1 as '{__name__}:{path}', which is none: {told}"):
        of_kind.load("mine")


def test_a_name_that_no_command_could_ask_for_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Plugins(tmp_path / "site", monkeypatch).register("meters", "mine+yours", "json:dumps")
    with refused(UserError, "meter 'mine+yours'", "its name may hold letters, digits, '-', '_' and '.' alone"):
        registry.meters.load("mine+yours")
