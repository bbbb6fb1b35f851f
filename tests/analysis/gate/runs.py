"""A slice of a recorded demo run in two launches, and copies of it with something changed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

from specbench_s2d.analysis.gate.judge import Side, Speed, judge
from specbench_s2d.analysis.gate.verdict import Check, Judgement, Tolerances, Verdict
from specbench_s2d.runs.folder import read_manifest, read_records
from specbench_s2d.runs.record import Record
from tests.documents import OLD_RUN

TARGET = "demo-s"
Run = tuple[str, list[Record], dict[str, Any]]
LAUNCHES = 2
LABELS = ("ar", "sd", "s2d-auto", "mjgd", "mjsd")


@cache
def _demo() -> tuple[list[Record], dict[str, Any]]:
    once = [r for r in read_records(OLD_RUN) if r.target == TARGET and r.label in LABELS]
    manifest = read_manifest(OLD_RUN)
    manifest["spec"]["launches"] = LAUNCHES
    return [*once, *map(_again, once)], manifest


def _again(record: Record) -> Record:
    """The record of the second launch, in which all but AR took a hundredth longer."""
    scale = 1.0 if record.label == "ar" else 1.01
    times = {name: (getattr(record, name) or 0.0) * scale for name in ("decode_s", "draft_s", "verify_s")}
    return record.model_copy(update={**times, "launch": 1, "key": f"{record.key}/1"})


def baseline() -> Run:
    """AR, a lossless decoder, one that decides by measured times, and two lossy ones on one target."""
    records, manifest = _demo()
    return "baseline", records, copy.deepcopy(manifest)


def changed(
    change: Callable[[Record], dict[str, Any] | None], label: str = "", manifest: dict[str, Any] | None = None
) -> Run:
    """The baseline run with `change` (fields to set; None drops the record) on the records of `label`, or on all."""
    _, records, facts = baseline()
    kept: list[Record] = []
    for record in records:
        fields = change(record) if label in ("", record.label) else {}
        if fields is not None:
            kept.append(record.model_copy(update=fields))
    return "run", kept, {**facts, **(manifest or {})}


def unchanged(record: Record) -> dict[str, Any]:
    return {}


def judged(run: Side, times: Speed = "auto", **tolerances: float) -> Judgement:
    """The run against the baseline; tolerances as in `Tolerances`."""
    return judge(run, baseline(), Tolerances(**tolerances), times)


def only(judgement: Judgement, *verdicts: Verdict) -> list[tuple[str, str]]:
    """(rule, label) of the checks that went so."""
    return [(check.rule, check.label) for check in judgement.of(*verdicts)]


def found(judgement: Judgement, rule: str, label: str) -> Check:
    [check] = [c for c in judgement.checks if (c.rule, c.label) == (rule, label)]
    return check
