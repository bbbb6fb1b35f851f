"""`specbench-s2d decoders` and `suites`: where each name comes from, and which are broken, with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.cli.main import main
from specbench_s2d.decoding.drafters.none import NoDrafter
from specbench_s2d.suites import load_questions
from tests.plugins import Plugins


class Quiet(NoDrafter):
    __doc__ = None


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugins:
    return Plugins(tmp_path / "site", monkeypatch)


def listed(command: str, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    assert main([command, "--json"]) == 0
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)}


def test_decoders_say_where_they_come_from(plugins: Plugins, capsys: pytest.CaptureFixture[str]) -> None:
    plugins.register("drafters", "quiet", f"{__name__}:Quiet")
    rows = listed("decoders", capsys)
    assert rows["sd"]["from"] == rows["token"]["from"] == "built-in"
    assert rows["quiet"] == {
        "name": "quiet", "kind": "drafter", "from": "plugins 1", "output": None, "draft": "none", "options": "none",
        "what": "Quiet, which says nothing of itself.",
    }  # fmt: skip


def test_a_broken_plug_in_is_a_row_among_the_others(
    plugins: Plugins, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins.register("verifiers", "gone", "no_such_module:X")
    plugins.register("drafters", "chain", f"{__name__}:Quiet")
    rows = listed("decoders", capsys)
    assert rows["gone"]["what"].startswith("broken: verifier 'gone' is registered by plugins 1 as 'no_such_module:X'")
    assert rows["chain"]["what"].startswith("broken: drafter 'chain': it is built in, and plugins 1 registers that")
    assert rows["sorted"]["what"].startswith("Drafts gamma tokens")
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["decoders"]) == 0
    shown = capsys.readouterr().out
    assert "plugins 1" in shown and "broken: verifier 'gone'" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_suites_say_where_they_come_from_and_a_broken_one_breaks_no_other(
    plugins: Plugins, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugins.add_suite("poetry", ["sonnet"])
    plugins.register("suites", "gone", "no_such_module:X")
    rows = listed("suites", capsys)
    assert (rows["qa"]["from"], rows["poetry"]["from"]) == ("built-in", "plugins 1")
    assert "gone" not in rows
    assert main(["suites"]) == 0
    shown = capsys.readouterr().out
    assert "gone: broken: suite 'gone' is registered by plugins 1 as 'no_such_module:X', which cannot" in shown
    file = tmp_path / "q.jsonl"
    file.write_text(json.dumps({"question_id": 1, "category": "qa", "turns": ["Who?"]}), encoding="utf-8")
    assert len(load_questions(str(file), ["qa"])) == 1
