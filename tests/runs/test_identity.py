"""What a manifest says its run is, whatever release wrote it."""

from __future__ import annotations

from typing import Any

import pytest

from specbench_s2d.runs.identity import DEFAULTS, changed_identity, engine_name, identity, is_greedy_run


def test_a_setting_that_a_run_is_too_old_to_know_stands_at_its_default() -> None:
    settings = identity({"identity": {"settings": {"temperature": 1.0, "device": "cpu"}}})["settings"]
    assert settings == {**DEFAULTS, "temperature": 1.0, "device": "cpu"}


def test_what_nobody_recorded_of_an_imported_run_stays_unsaid() -> None:
    imported = identity({"identity": {"settings": {"temperature": None}}, "imported": {}})
    assert imported["settings"] == {"temperature": None}
    assert identity({})["settings"] == identity({})["weights"] == identity({})["versions"] == {}
    assert identity({})["repeats"] is None


@pytest.mark.parametrize(
    ("engine", "device", "means"),
    [
        ("graphs", "cpu", "native"),
        ("graphs", "cuda:1", "cuda-graphs"),
        ("graphs", "auto", "cuda-graphs"),
        ("graphs", None, "graphs"),
        ("native", "cpu", "native"),
        ("eager", "cuda", "eager"),
        (None, "cpu", None),
    ],
)
def test_an_engine_has_one_name_on_a_device(engine: str | None, device: str | None, means: str | None) -> None:
    assert engine_name(engine, device) == means


@pytest.mark.parametrize(
    ("settings", "greedy"),
    [
        ({"temperature": 0.0}, True),
        ({"temperature": 0.0, "top_k": None, "top_p": None}, True),
        ({"temperature": 1.0, "top_k": 1}, True),
        ({"temperature": 1.0, "top_k": 0, "top_p": 1.0}, False),
        ({"temperature": None}, False),
        ({}, False),
    ],
)
def test_a_run_is_greedy_where_its_settings_leave_no_choice(settings: dict[str, Any], greedy: bool) -> None:
    assert is_greedy_run(settings) is greedy


def test_what_changed_is_named_with_which_settings_questions_and_weights() -> None:
    def of(**parts: Any) -> dict[str, Any]:
        same = {"settings": {"seed": 0}, "weights": {"demo-s": "a"}, "decoders": ["ar"]}
        return {"identity": {**same, **parts}}

    assert changed_identity(of(), of()) == []
    other = of(settings={"seed": 7, "temperature": 1.0}, weights={"demo-m": "b"}, decoders=["ar", "sd"])
    assert changed_identity(of(), other) == ["decoders", "settings (temperature, seed)", "weights (demo-s, demo-m)"]
