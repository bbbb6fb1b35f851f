"""A run small enough to read: four decoders on one target, two suites, with a wrong, a failed and a wild output."""

from __future__ import annotations

from typing import Any

import pandas as pd

from specbench_s2d.analysis.report.html.page import Run
from specbench_s2d.analysis.tables.summary import summary_table
from specbench_s2d.runs.record import Record
from tests.analysis.factory import ar, decoded, make_record

WILD = "<script>alert(1)</script><img src=x onerror=\"document.title='broken into'\"> & so on"


def records() -> list[Record]:
    """AR decodes 1 token/s, `sd` 10, `mjsd` 0.5, `s2d` 0.25: letters and digits would sort them otherwise."""
    mismatch = {"verdict": "mismatch", "position": 3, "margin": 0.25}
    near = {"verdict": "near_tie", "position": 2, "margin": 3e-6}
    same = {"verdict": "identical"}
    return [
        ar(1, 9, decode_s=8, output_text="one two three four", divergence=same),
        ar(2, 9, decode_s=8, output_text="a b c", divergence=same, suite="rag"),
        decoded("sd", 1, [(5, 3, 4), (5, 3, 4)], decode_s=0.8, output_text="one two 3 four", divergence=mismatch),
        decoded("sd", 2, [(5, 3, 4), (5, 3, 4)], decode_s=0.8, output_text="a b c", divergence=same, suite="rag"),
        decoded("s2d", 1, [(5, 3, 4), (5, 3, 4)], decode_s=32, output_text="one two three", divergence=near),
        make_record("s2d", 2, status="failed", error="out of memory", suite="rag"),
        decoded("mjsd", 1, [(5, 3, 4), (5, 3, 4)], decode_s=16, output_text=WILD),
    ]


def manifest(**changes: Any) -> dict[str, Any]:
    """What a run on a busy machine records."""
    return {
        "run_id": "r1",
        "started": "2026-01-02T03:04:05+00:00",
        "spec": {"target": ["t"], "decoder": ["ar", "sd"], "limit": None, "temperature": 0.0, "dtype": "float32"},
        "environment": {
            "code": {"version": "9.9", "commit": "0123456789abcdef"},
            "libraries": {"torch": "2.0"},
            "cpu": {"model": "A Processor", "cores": 2},
            "gpu": {"name": None, "reason": "the run used cpu"},
        },
        "conditions": [{"at": "start", "about": "GPU", "what": "busy: 80 %", "advice": "End the other process."}],
        "read_rate_bytes_per_s": None,
        "reasons": {"read_rate_bytes_per_s": "not measured by this release"},
        "targets": {"t": {"context": 4096, "warm_up": {"sd": {"runs": 9, "spread": 0.2, "stable": False}}}},
        "identity": {"questions": {"qa": "abcdef0123456789"}},
        **changes,
    }


def table(of: list[Record] | None = None) -> pd.DataFrame:
    return summary_table(records() if of is None else of)


def run(**changes: Any) -> Run:
    given: dict[str, Any] = {"name": "small", "records": records(), "manifest": manifest(), "plots": (), **changes}
    return Run(table=table(given["records"]), **given)
