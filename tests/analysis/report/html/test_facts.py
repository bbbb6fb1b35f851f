"""What ran on what: facts with reasons, and a run file that is the run's own."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from specbench_s2d.analysis.report.html import facts
from specbench_s2d.analysis.report.html.facts import Fact
from specbench_s2d.config import RunSpec, load_spec
from tests.analysis.report.html.pages import manifest

DEMO = Path(__file__).resolve().parents[4] / "results" / "baselines" / "demo"


def test_facts_are_grouped_and_what_is_unknown_has_its_reason() -> None:
    groups = dict(facts.groups(manifest()))
    assert Fact("code · commit", "0123456789ab") in groups["Run"]
    assert groups["Machine"] == [
        Fact("cpu · model", "A Processor"), Fact("cpu · cores", "2"), Fact("gpu · name", None, "the run used cpu"),
    ]  # fmt: skip
    assert groups["Measured"] == [Fact("read rate bytes per s", None, "not measured by this release")]
    assert Fact("limit", None, "not set") in groups["Settings"]


def test_large_and_small_numbers_read_alike() -> None:
    measured = dict(facts.groups(manifest(read_rate_bytes_per_s=12_345_678_901.2, harness={"loading_s": 0.123456})))
    assert [fact.text for fact in measured["Measured"]] == ["12,345,678,901", "0.1235"]


def test_the_device_is_the_gpu_where_there_is_one() -> None:
    assert facts.device(manifest()) == "A Processor"
    assert facts.device(manifest(environment={"gpu": {"name": "A GPU"}, "cpu": {"model": "A Processor"}})) == "A GPU"
    assert facts.device({}) == "a device of unknown name"


def test_an_unstable_warm_up_is_named() -> None:
    (row,) = facts.models(manifest()).rows
    assert row[-1].text == "not stable: sd (spread 0.2)" and row[-1].tone == "bad"


def test_a_target_shows_the_rate_that_bounds_it_and_the_pages_it_lies_on() -> None:
    rate = {"bytes_per_s": 31.24e9, "low_bytes_per_s": 27.9e9, "high_bytes_per_s": 31.9e9, "buffer_bytes": 14.2e6,
            "rounds": 80}  # fmt: skip
    engines = {"t": {"engine": "native", "threads": 2, "large_pages": False}}
    (row,) = facts.models(manifest(targets={"t": {"read_rate": rate, "engines": engines}})).rows
    assert (row[-2].text, row[-2].small) == ("31.2 GB/s [27.9–31.9]", "over 14.2 MB, 80 rounds")
    assert "t: native, 2 threads, small pages" in [cell.text for cell in row]


def test_the_run_file_is_the_resolved_spec(tmp_path: Path) -> None:
    spec = RunSpec(target=["demo-s", 'a"b\\c'], temperature=1e-5, ignore_eos=True, template="päth\nx").resolved()
    text = facts.run_file({"spec": spec.model_dump()})
    assert RunSpec(**tomllib.loads(text)) == spec
    recorded = json.loads((DEMO / "manifest.json").read_text(encoding="utf-8"))
    (tmp_path / "run.toml").write_text(facts.run_file(recorded), encoding="utf-8")
    assert RunSpec(**load_spec(tmp_path / "run.toml")) == RunSpec(**recorded["spec"])
