"""The manifest: what is read of it is held to what a run writes."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.analysis.gate import comparability
from specbench_s2d.analysis.report.html import audit, facts
from specbench_s2d.analysis.tables.head import manifest_doubts
from specbench_s2d.errors import RecordSchemaError, RunFolderError
from specbench_s2d.exchange import leaderboard
from specbench_s2d.runs.columns import Records
from specbench_s2d.runs.folder import MANIFEST, read_manifest
from specbench_s2d.runs.identity import changed_identity, identity
from specbench_s2d.runs.parts import joined_parts, parts_of, software
from tests.analysis.factory import ar
from tests.refusals import refused

BASELINES = Path(__file__).resolve().parents[2] / "results" / "baselines"
CONDITION = {"at": "start", "launch": 0, "about": "CPU", "what": "is busy", "advice": "wait", "transient": True,
             "unfit": False}  # fmt: skip
GONE = object()
VALUES: tuple[Any, ...] = (None, 3, -1, 0.5, "text", [], [1], {}, {"a": 1}, True, GONE)


@pytest.fixture(scope="module")
def sound() -> dict[str, Any]:
    """A committed manifest, cut to what is read of it, with what other releases and other ways of running add."""
    manifest = json.loads((BASELINES / "gate" / MANIFEST).read_text(encoding="utf-8"))
    read = {
        "environment": ("code", "libraries", "cpu", "gpu", "python"), "spec": ("launches", "temperature", "dtype"),
        "identity": ("settings", "repeats", "decoders"),
    }  # fmt: skip
    for name, kept in read.items():
        manifest[name] = {field: manifest[name][field] for field in kept}
    manifest["environment"] |= {"libraries": {"torch": "2"}, "cpu": {"model": "A Processor", "threads": 2}}
    manifest["identity"] |= {"versions": {"sd": {"drafter": 2}}, "questions": {"qa": "0" * 64}, "weights": {"t": "0"}}
    target = manifest["targets"]["demo-s"]
    for name in ("engines", "warm_up"):
        target[name] = dict([next(iter(target[name].items()))])
    target |= {"sources": {"demo-s": {"said": "from the package"}}, "heads": {"x": "eagle"}}
    target["decoders"], target["load"] = {"s2d-auto": {}}, {}
    manifest |= {"targets": {"demo-s": target}, "conditions": [CONDITION], "quality_metrics": {"f1": "rules"}}
    return {**manifest, "parts": [{"run_id": "r", "conditions": [], "harness": {}}], "imported": {"retokenized": True}}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside, of lists to the first alone."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, one in inner:
        yield (*path, key)
        yield from places(one, (*path, key))


def changed(value: Any, path: tuple[Any, ...], to: Any) -> Any:
    whole = copy.deepcopy(value)
    inner = whole
    for key in path[:-1]:
        inner = inner[key]
    if to is GONE:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    return whole


def read_or_refused(file: Path) -> dict[str, Any] | str:
    try:
        return read_manifest(file.parent)
    except (RunFolderError, RecordSchemaError) as error:
        return str(error)


RECORDS = Records.of([ar(1, 3, decode_s=1, target="demo-s")])


def read_everything(manifest: dict[str, Any], sound: dict[str, Any]) -> None:
    """All that reads manifests does so."""
    manifest_doubts(manifest)
    facts.device(manifest), facts.summary(manifest), facts.groups(manifest), facts.models(manifest)
    facts.suites(manifest), facts.run_file(manifest)
    audit.audit_reach(RECORDS, manifest.get("targets") or {})
    changed_identity(sound, manifest), identity(manifest), software(manifest.get("environment") or {})
    joined_parts(parts_of(manifest))
    leaderboard._caption("demo-s", "speedup", manifest)
    for ours, base in ((manifest, sound), (sound, manifest)):
        comparability.comparability(ours, base, RECORDS, RECORDS)
        comparability.other_machine(ours, base), comparability.unstable_reason(ours, base)
        comparability.measured_at_run_time(ours, base)


def test_a_field_of_another_type_is_refused_or_read(sound: dict[str, Any], tmp_path: Path) -> None:
    """Every value of a manifest, replaced by others and left out: what is read of what is accepted raises nothing."""
    file, refusals, accepted = tmp_path / MANIFEST, 0, 0
    for path in places(sound):
        for value in VALUES:
            file.write_text(json.dumps(changed(sound, path, value)), encoding="utf-8")
            manifest = read_or_refused(file)
            if isinstance(manifest, str):
                assert manifest.startswith(f"{file}:") and "\n" not in manifest, (path, value)
                refusals += 1
                continue
            try:
                read_everything(manifest, sound)
            except Exception as error:
                raise AssertionError(f"{path} {value!r}: {type(error).__name__}: {error}") from error
            accepted += 1
    assert refusals > 300 and accepted > 300


def test_a_refusal_names_the_field(sound: dict[str, Any], tmp_path: Path) -> None:
    for path, value, said in (
        (("conditions",), 3, "conditions: Input should be a valid list"),
        (("targets", "demo-s", "engines"), None, "targets.demo-s.engines: Input should be a valid dictionary"),
        (("started",), "soon", "started: it should be a time as ISO 8601 writes it"),
        (("cells",), -1, "cells: Input should be greater than or equal to 0"),
        (("cells",), "3", "cells: Input should be a valid integer"),
        (("run_id",), GONE, "run_id: Field required"),
    ):
        (tmp_path / MANIFEST).write_text(json.dumps(changed(sound, path, value)))
        with refused(RunFolderError, f"{tmp_path / MANIFEST}: no manifest of a run ({said}", "mend that"):
            read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "no manifest of a run (it is no JSON object)"),
        ('{"schema_version": 2,\n"run_id": }', ":2: no manifest of a run (not JSON: Expecting value, column 11)"),
        ("[" * 10**5 + "]" * 10**5, "no manifest of a run (lists or objects more than 64 deep)"),
        ('{"cells": NaN}', "no manifest of a run (NaN is no number)"),
        ('{"schema_version": true}', "schema version True; this code reads 1 and 2"),
    ],
)
def test_what_is_no_manifest_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with refused(RunFolderError if "manifest" in said else RecordSchemaError, said):  # type: ignore[arg-type]
        read_manifest(tmp_path)


def test_every_committed_manifest_is_read() -> None:
    found = sorted((BASELINES.parent).rglob(MANIFEST))
    assert len(found) > 5
    for path in found:
        read_manifest(path.parent)
