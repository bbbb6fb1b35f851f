"""Runs as one HTML page that needs nothing else: no network, no other file, no script but its own.

Nothing is computed here: the page shows the summary table, the records and the manifest.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from specbench_s2d.analysis.metrics.columns import definitions
from specbench_s2d.analysis.report.html import audit, facts, headline, outputs
from specbench_s2d.analysis.report.html.svg import inline_plots
from specbench_s2d.analysis.tables import remarks
from specbench_s2d.analysis.tables.head import head, manifest_doubts
from specbench_s2d.analysis.tables.naming import mark_notes
from specbench_s2d.display import visible
from specbench_s2d.files import write_whole
from specbench_s2d.runs.columns import Records
from specbench_s2d.runs.record import Record

_FOLDER = Path(__file__).resolve().parent
NO_MANIFEST = "The run's folder holds no manifest: what ran on what is not known."


@dataclass(frozen=True)
class Run:
    """One run as the page takes it: `table` is its summary table, `plots` the files that were drawn of it."""

    name: str
    records: Sequence[Record]
    table: pd.DataFrame
    manifest: facts.Manifest | None
    plots: Sequence[Path]


def write_page(runs: Sequence[Run], path: Path) -> None:
    """Write the page at once, or not at all; raises `OSError`."""
    write_whole(path, page(runs))


def page(runs: Sequence[Run]) -> str:
    """The page as text."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return visible(environment.get_template("report.html.j2").render(context(runs)), keep="\n\t")


def context(runs: Sequence[Run]) -> dict[str, Any]:
    """What the template gets."""
    script = _asset("report.js")
    return {
        "runs": [_run(run, f"run{number}") for number, run in enumerate(runs, start=1)],
        "definitions": definitions(),
        "css": _asset("report.css"),
        "script": script,
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "choice": outputs.CHOICE,
    }


def _asset(name: str) -> Markup:
    return Markup((_FOLDER / name).read_text(encoding="utf-8-sig"))


def _run(run: Run, key: str) -> dict[str, Any]:
    manifest = run.manifest or {}
    records = _in_order(run)
    found = outputs.examples(records)
    return {
        "key": key,
        "name": run.name,
        "device": facts.device(manifest),
        "summary": [*facts.summary(manifest), f"{len(records):,} turns", f"{run.table['label'].nunique()} decoders"],
        "head": [*head(run.table, manifest_doubts(manifest)), *([] if run.manifest else [NO_MANIFEST])],
        "facts": facts.groups(manifest),
        "models": facts.models(manifest),
        "suites": facts.suites(manifest),
        "decoders": remarks.decoder_facts(run.table),
        "targets": headline.targets(run.table),
        "mark_notes": mark_notes(run.table["lossy"], run.table["projected"]),
        "plots": inline_plots(run.plots, key),
        "verdicts": audit.audit_counts(records),
        "reach": audit.audit_reach(records, manifest.get("targets") or {}),
        "events": audit.audit_events(records),
        "lost": audit.lost_turns(records),
        "notes": remarks.missing_values(run.table),
        "outputs": {name: [e for e in found if e.target == name] for name in dict.fromkeys(e.target for e in found)},
        "run_file": facts.run_file(manifest),
        "code": {"version": None, "commit": None, **(manifest.get("environment") or {}).get("code", {})},
    }


def _in_order(run: Run) -> Records:
    """The records as the summary table stands: by target, decoder and suite; those of one row as they were written."""
    rows = zip(run.table["target"], run.table["label"], run.table["suite"], strict=True)
    places = {row: place for place, row in enumerate(rows)}
    groups = Records.of(run.records).groups("target", "label", "suite")
    groups.sort(key=lambda mine: places[mine.value("target"), mine.value("label"), mine.value("suite")])
    return Records.joined(groups)
