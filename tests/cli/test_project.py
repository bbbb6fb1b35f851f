"""`specbench-s2d project`: end to end on the demo models, and one line for what cannot be projected."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from specbench_s2d.cli.main import main

BASELINE = Path(__file__).resolve().parents[2] / "results" / "baselines" / "demo"


def project(*more: str, target: str = "demo-l", draft: str = "demo-draft", acceptance: str = str(BASELINE)) -> int:
    short = ("--context", "32", "--gamma-max", "6", "--device", "cpu")
    return main(["project", "--target", target, "--draft", draft, "--acceptance", acceptance, *short, *more])


def test_a_recorded_run_is_projected_by_suite_and_by_gamma(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert project("--out", str(tmp_path / "out")) == 0
    printed = capsys.readouterr().out
    assert "projected best on this device" in printed and "Projected, not measured" in printed
    table = pd.read_csv(tmp_path / "out" / "projection.csv")
    recorded = table[table["role"] == "as recorded"]
    assert set(recorded["label"]) == {"s2d"} and set(recorded["suite"]) >= {"qa", "mt_bench", "overall"}
    assert (recorded["speedup"] > 0).all() and recorded["of_run"].notna().all()
    assert (recorded["low"].notna() == (recorded["n"] >= 5)).all() and recorded["n"].max() >= 12
    candidates = table[table["role"] == "candidate"]
    assert list(candidates["gamma"]) == [1, 2, 3, 4, 5, 6] and list(candidates["extrapolated"]) == [False] * 5 + [True]
    assert (tmp_path / "out" / "projection.md").read_text().startswith("# Projection")


def test_a_paper_s_acceptances_are_taken_for_the_target_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    stand_in = ("--as", "shape:demo-s=vicuna-7b")
    where = {"target": "shape:demo-s", "draft": "shape:demo-draft", "acceptance": "published:s2d"}
    assert project("--json", *stand_in, **where) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["label"] for row in rows} == {"S2D SoFT 6,9,12"}
    assert next(row for row in rows if row["suite"] == "mt_bench")["mat"] == pytest.approx(2.86)


@pytest.mark.parametrize(
    ("given", "acceptance", "message"),
    [
        (["demo-s=vicuna"], "published:s2d", "unknown target of the paper 'vicuna'. Did you mean 'vicuna-13b' or"),
        (["demo-m=vicuna-7b"], "published:s2d", "unknown --target 'demo-m'. Did you mean 'demo-s'? Known: demo-s."),
        (["demo-s=a=vicuna-7b"], "published:s2d", "unknown --target 'demo-s=a'. Did you mean 'demo-s'?"),
        (["demo-s"], "published:s2d", "--as demo-s: give TARGET=PAPER_TARGET."),
        (["=vicuna-7b"], "published:s2d", "--as =vicuna-7b: give TARGET=PAPER_TARGET."),
        (["demo-s="], "published:s2d", "--as demo-s=: give TARGET=PAPER_TARGET."),
        (["demo-s=vicuna-7b", "Demo_S=vicuna-13b"], "published:s2d", "Demo_S was given as vicuna-7b already; keep one"),
        (["demo-s=vicuna-7b"], str(BASELINE), "is a run's folder; leave it out, or give --acceptance published:PAPER."),
    ],
)  # fmt: skip
def test_a_stand_in_that_is_none_is_told_what_is_wrong_with_it(
    given: list[str], acceptance: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [word for pair in given for word in ("--as", pair)]
    assert project(*flags, target="demo-s", acceptance=acceptance) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_a_plain_draft_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert project("--json", draft="demo-draft-sft", target="demo-s") == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["label"] for row in rows} == {"sd"}
    assert all(row["projected"].startswith("projected") for row in rows)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"acceptance": "nowhere"}, "nowhere: no recorded run there"),
        ({"acceptance": "published:s2d"}, "of them: --as demo-l=vicuna-7b."),
        ({"acceptance": "published:nobody"}, "unknown paper 'nobody'"),
        ({"target": "demo-tiny"}, "nothing recorded on target demo-tiny; it has demo-l, demo-m, demo-s"),
        ({"draft": "demo-drat"}, "demo-drat"),
        ({"engine": "warp"}, "--engine: Input should be 'eager'"),
        ({"dtype": "int3"}, "--dtype: Input should be 'float32', 'bfloat16' or 'float16', got 'int3'."),
    ],
)
def test_what_cannot_be_projected_is_one_line(
    given: dict[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    named = {name: given[name] for name in given.keys() & {"target", "draft", "acceptance"}}
    flags = [word for name in given.keys() - named.keys() for word in (f"--{name}", given[name])]
    assert project(*flags, **named) == 2
    said = capsys.readouterr().err.strip()
    assert message in said and said.count("\n") == 0


def test_a_draft_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["project", "--target", "demo-l", "--acceptance", str(BASELINE)]) == 2
    assert "Missing option '--draft'" in capsys.readouterr().err
