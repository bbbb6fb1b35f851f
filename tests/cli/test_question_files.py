"""From a CSV file of prompts and a checkpoint folder to a report, a verdict and exports, as a person would type it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from specbench_s2d.cli.main import main
from specbench_s2d.runs.folder import read_manifest, read_records

TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}{% if not enable_thinking %}[quick]{% endif %}"
)
PROMPTS = "\ufeffprompt;reference;category;metric;system_prompt\r\n" + "".join(
    f"Name river {i}.;Nile;{category};{metric};Be brief.\r\n"
    for i, (category, metric) in enumerate([("place_names", "f1"), ("code", ""), ("", "")] * 2)
)


@pytest.fixture
def given(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """`run` with a checkpoint folder, a CSV file as a spreadsheet saves it, and a template that takes an argument."""
    monkeypatch.chdir(tmp_path)
    Path("prompts.csv").write_text(PROMPTS, encoding="utf-8", newline="")
    Path("mine.jinja").write_text(TEMPLATE, encoding="utf-8")
    Path("checkpoint").symlink_to(tiny_models / "tiny-target")
    return [
        "run", "--target", "checkpoint", "--decoder", "ar,lookup", "--questions", "prompts.csv", "--column", "prompt",
        "--template", "mine.jinja", "--max-new-tokens", "4", "--device", "cpu", "--energy", "off",
    ]  # fmt: skip


def test_from_a_csv_file_to_a_report(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*given, "--template-args", "enable_thinking=true", "--out", "mine"]) == 0
    said = capsys.readouterr().err
    assert "prompts.csv: questions by suite: 2 custom/place_names, 2 custom/code, 2 custom/prompts\n" in said
    manifest, records = read_manifest(Path("mine")), read_records(Path("mine"))
    assert manifest["spec"]["suite"] == ["custom/place_names", "custom/code", "custom/prompts"]
    assert (
        manifest["spec"]["template_args"]
        == manifest["identity"]["settings"]["template_args"]
        == ["enable_thinking=true"]
    )
    assert {(r.suite, r.category) for r in records} == {
        ("custom/place_names", "place_names"),
        ("custom/code", "code"),
        ("custom/prompts", "prompts"),
    }
    assert {r.suite for r in records if r.quality} == {"custom/place_names"}
    table = pd.read_csv("mine/summary.csv").set_index(["label", "suite"])
    assert [suite for label, suite in table.index if label == "ar"] == [*manifest["spec"]["suite"], "overall"]
    assert table.loc[("ar", "overall"), "questions"] == 6

    assert main(["report", "mine"]) == 0
    page = Path("mine/report.html").read_text(encoding="utf-8")
    assert "custom/place_names" in page and "Name river 3." not in page.partition("custom/place_names")[0]
    assert main(["check", "mine", "--baseline", "mine"]) in (0, 3), capsys.readouterr().out
    assert main(["compare", "mine", "--against", "ar"]) == 0
    for form in ("spec-bench", "csv", "parquet", "latex", "markdown"):
        assert main(["export", "mine", "--format", form, "--out", form]) == 0
    [tex] = Path("latex").glob("*.tex")
    assert "place\\_names" in tex.read_text(encoding="utf-8")
    [answers] = Path("spec-bench").glob("*ar.jsonl")
    assert [json.loads(line)["category"] for line in answers.read_text().splitlines()][:2] == ["place_names"] * 2


def test_an_argument_of_the_template_changes_the_prompts(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    one = [*given, "--suite", "custom/code", "--limit", "1"]
    assert main([*one, "--out", "plain"]) == 0
    assert main([*one, "--template-args", "enable_thinking=true", "--out", "thinking"]) == 0
    assert "1 custom/code; not asked for: 2 custom/place_names, 2 custom/prompts" in capsys.readouterr().err
    plain, thinking = (read_records(Path(folder))[0] for folder in ("plain", "thinking"))
    assert plain.prompt_hash != thinking.prompt_hash and plain.key != thinking.key
    assert (plain.prompt_tokens or 0) > (thinking.prompt_tokens or 0)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--template-args", "thinking=1"], "--template-args thinking: the chat template of tiny-target ('mine.jin"),
        (["--column", "promt"], "prompts.csv:2: no column 'promt'. Did you mean 'prompt'? There are 'prompt', 're"),
        (["--suite", "custom/codes"], "prompts.csv: no questions of suite 'custom/codes'; it has custom/place"),
        (["--questions", "embedded"], "--column prompt: is for a question file; 'embedded' needs none."),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(
    given: list[str], more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*given, *more, "--dry-run"]) == 2
    assert capsys.readouterr().err.replace("\n", " ").removeprefix("error: ").startswith(said)


def test_a_system_prompt_that_the_template_drops_stops_the_run(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.jinja").write_text("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}")
    assert main([*given, "--dry-run"]) == 2
    assert "question 1 (custom/place_names) has a system prompt" in capsys.readouterr().err
