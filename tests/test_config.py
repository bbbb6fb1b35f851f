"""RunSpec: the same fields from flags and from a file; every bad one named in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.bench.plan import make_plan
from specbench_s2d.config import RunSpec, make_spec
from specbench_s2d.errors import UserError
from tests.refusals import refused


def test_without_arguments_a_run_is_the_demo_grid() -> None:
    spec = RunSpec().resolved()
    assert spec.target == ["demo-s", "demo-m", "demo-l"]
    assert spec.decoder[:7] == ["ar", "sd", "lookup", "suffix", "s2d", "s2d-tree", "s2d-auto"]
    assert spec.decoder[7:] == ["mjgd", "mjsd", "mjsd:candidates=4", "s2d+joint", "beam+token"]
    assert spec.draft == ["demo-draft-sft", "demo-draft"]
    assert len(spec.suite) == 6
    assert (spec.questions, spec.limit, spec.max_new_tokens) == ("embedded", 5, 48)


def test_drafts_or_targets_of_ones_own_take_the_decoders_that_any_draft_serves() -> None:
    assert RunSpec(draft=["demo-draft-sft"]).resolved().decoder == ["ar", "sd"]
    assert RunSpec(target=["lmsys/vicuna-7b-v1.3"]).resolved().decoder == ["ar", "sd"]


def test_other_targets_take_spec_benchs_settings() -> None:
    spec = RunSpec(target=["lmsys/vicuna-7b-v1.3"]).resolved()
    assert (spec.questions, spec.limit, spec.max_new_tokens, spec.draft) == ("spec-bench", None, 1024, [])


def test_energy_is_metered_where_it_can_be_but_for_the_demo_family_on_a_cpu() -> None:
    demo = RunSpec(target=["demo-m"]).resolved()
    assert demo.energy is None, "its device decides"
    assert make_plan(RunSpec(target=["demo-s"], device="cpu")).spec.energy == "off"
    assert RunSpec(target=["demo-m", "lmsys/vicuna-7b-v1.3"]).resolved().energy == "auto"
    assert RunSpec(energy="auto").resolved().energy == "auto"


def test_energy_in_blocks_needs_a_meter() -> None:
    assert RunSpec(energy_blocks=True).resolved().energy == "auto"
    with refused(UserError, "--energy-blocks", "--energy off", "auto"):
        RunSpec(energy_blocks=True, energy="off").resolved()


def test_a_question_file_is_asked_whole_unless_limited() -> None:
    assert RunSpec(questions="q.jsonl").resolved().limit is None
    assert RunSpec(questions="q.jsonl", limit=20).resolved().limit == 20


def test_a_question_file_is_asked_for_the_suites_that_it_has() -> None:
    assert RunSpec(questions="q.jsonl").resolved().suite == []
    assert RunSpec(questions="hub:a/b").resolved().suite == []
    assert RunSpec(questions="q.jsonl", suite=["custom/code"]).resolved().suite == ["custom/code"]
    assert len(RunSpec(questions="spec-bench").resolved().suite) == 6


@pytest.mark.parametrize(
    "given",
    [
        ["enable_thinking=false", "style=a, b", "n=3"],
        ["n=3,style=a, b,enable_thinking=False"],
        ['style="a, b", n=3', "enable_thinking=false"],
        {"enable_thinking": False, "n": 3, "style": "a, b"},
    ],
)
def test_arguments_of_the_template_are_written_alike(given: Any) -> None:
    spec = RunSpec(template_args=given)
    assert spec.template_args == ["enable_thinking=false", "n=3", 'style="a, b"']
    assert spec.template_values == {"enable_thinking": False, "n": 3, "style": "a, b"}
    assert RunSpec(**spec.model_dump()) == spec


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('target = "demo-s"\nsuite = ["qa"]\nmax_new_tokens = 9\n')
    spec = make_spec(file, {"max_new_tokens": 5})
    assert (spec.target, spec.suite, spec.max_new_tokens) == (["demo-s"], ["qa"], 5)


def test_targets_and_drafts_are_listed_by_comma_or_are_folders_with_one(tmp_path: Path) -> None:
    spec = make_spec(None, {"target": ["demo-s, demo-m", "demo-l,"], "draft": ["demo-s=a,demo-m=b", "c"]})
    assert spec.target == ["demo-s", "demo-m", "demo-l"] and spec.draft == ["demo-s=a", "demo-m=b", "c"]
    folder = tmp_path / "a,b"
    folder.mkdir()
    spec = make_spec(None, {"target": [str(folder)], "draft": [str(folder), f"{folder}=c", f"demo-s={folder}"]})
    assert spec.target == [str(folder)] and spec.draft == [str(folder), f"{folder}=c", f"demo-s={folder}"]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown field": ({"tmperature": 1}, "unknown option 'tmperature'. Did you mean 'temperature'"),
    "below range": ({"temperature": -1}, "temperature: Input should be greater than or equal to 0, got -1"),
    "above range": ({"top_p": 1.5}, "top-p: Input should be less than or equal to 1, got 1.5"),
    "not a number": ({"limit": "many"}, "limit: Input should be a valid integer"),
    "not a choice": (
        {"long_prompts": "drop"},
        "long-prompts: Input should be 'fail', 'skip' or 'truncate', got 'drop'",
    ),
    "zero repeats": ({"repeats": 0}, "repeats: Input should be greater than or equal to 1"),
    "no argument": ({"template_args": ["thinking"]}, "template-args: 'thinking' is not NAME=VALUE, got ['thinking']"),
    "no name": ({"template_args": ["a b=1"]}, "template-args: 'a b=1' is not NAME=VALUE"),
    "an argument twice": ({"template_args": ["a=1,a=2"]}, "template-args: 'a' is given twice"),
    "nothing in a text": ({"questions": ""}, "questions: Input should not be empty, got ''"),
    "beyond 64 bits": ({"seed": "1e30"}, "seed: Input should be less than 2^63, got '1e30'"),
    "beyond all use": ({"temperature": 1e300}, "temperature: Input should be less than 2^63, got 1e+300"),
    "unknown dtype": ({"dtype": "int3"}, "dtype: Input should be 'float32', 'bfloat16' or 'float16'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_field_is_one_line_that_says_what_is_allowed(case: str) -> None:
    fields, message = BAD[case]
    with pytest.raises(UserError) as caught:
        make_spec(None, fields)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bad_field_is_told_where_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("top_k = -1\nlimit = 2\n")
    with refused(UserError, f"{file}: top_k: Input should be greater than or equal to 0, got -1."):
        make_spec(file, {})
    with refused(UserError, "--limit: Input should be greater than or equal to 1, got 0."):
        make_spec(file, {"limit": 0, "top_k": 1})


@pytest.mark.parametrize(
    ("content", "message"), [(b"target = [", "not a readable TOML"), (b"\xff", "not a readable TOML")]
)
def test_a_file_that_is_no_run_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "run.toml"
    file.write_bytes(content)
    with pytest.raises(UserError, match=message):
        make_spec(file, {})
    with pytest.raises(UserError, match="no such run file"):
        make_spec(tmp_path / "missing.toml", {})
