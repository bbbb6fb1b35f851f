"""From a CSV file of prompts and a checkpoint folder to a report, a verdict and exports, as a person would type it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from specbench_s2d.bench.plan import make_plan
from specbench_s2d.bench.preflight import set_up
from specbench_s2d.cli.main import main
from specbench_s2d.config import RunSpec
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

    page = Path("mine/report.html").read_text(encoding="utf-8")
    assert "custom/place_names" in page and "Name river 3." not in page.partition("custom/place_names")[0]
    assert main(["check", "mine", "--baseline", "mine"]) in (0, 3), capsys.readouterr().out
    assert main(["compare", "mine", "--against", "ar"]) == 0
    for form in ("spec-bench", "csv", "parquet", "latex", "markdown"):
        assert main(["export", "mine", "--format", form, "--out", form]) == 0
    [tex] = Path("latex").glob("*.tex")
    assert "place\\_names" in tex.read_text(encoding="utf-8")
    answers = next(Path("spec-bench").glob("*-ar*.jsonl"))
    assert [json.loads(line)["category"] for line in answers.read_text().splitlines()][:2] == ["place_names"] * 2


def test_an_argument_of_the_template_changes_prompts_and_keys(given: list[str]) -> None:
    asked = {"target": ["checkpoint"], "decoder": ["ar"], "questions": "prompts.csv", "column": "prompt"}
    plain, thinking = (
        make_plan(RunSpec(**asked, template="mine.jinja", template_args=args, device="cpu"))
        for args in ([], ["enable_thinking=true"])
    )
    assert not plain.keys & thinking.keys
    question = plain.questions.questions[0]
    prompts = [set_up(plan, "checkpoint").prompts.lay_out(question, []) for plan in (plain, thinking)]
    assert prompts[0].hash != prompts[1].hash and len(prompts[0].ids) > len(prompts[1].ids)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--template-args", "thinking=1"], "--template-args thinking: the chat template of checkpoint ('mine.jin"),
        (["--column", "promt"], "prompts.csv:2: no column 'promt'. Did you mean 'prompt' or 'system_prompt'? T"),
        (["--suite", "custom/codes"], "prompts.csv: no questions of suite 'custom/codes'; it has custom/place"),
        (["--questions", "embedded"], "--column prompt: is for a question file; 'embedded' needs none."),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(
    given: list[str], more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*given, *more, "--dry-run"]) == 2
    captured = capsys.readouterr().err
    assert captured.startswith(f"error: {said}") and captured.count("\n") == 1


def test_a_system_prompt_that_the_template_drops_stops_the_run(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.jinja").write_text("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}")
    assert main([*given, "--dry-run"]) == 2
    assert capsys.readouterr().err.startswith("error: question 1 (custom/place_names) has a system prompt, which the")
