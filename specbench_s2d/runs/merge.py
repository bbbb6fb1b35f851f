"""Joining the runs of shards to one run: the same plan, every cell once, and what each part ran on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specbench_s2d.errors import RunFolderError, UserError
from specbench_s2d.files import cause, partial_of, remedy, replacing, why_no_folder
from specbench_s2d.runs.folder import (
    ENERGY,
    MANIFEST,
    RECORDS,
    new_run_id,
    read_blocks,
    read_manifest,
    read_records,
    write_manifest_file,
)
from specbench_s2d.runs.identity import changed_identity
from specbench_s2d.runs.parts import PARTS, differing_software, joined_targets, parts_of, software
from specbench_s2d.runs.record import Record
from specbench_s2d.shards import Shard


@dataclass(frozen=True)
class Merged:
    """What was joined: records of the `cells` that the plan has, the devices that measured them, and the shards of the
    plan that were not given."""

    folder: Path
    records: int
    cells: int
    devices: int
    missing: Sequence[str]


def merge(runs: Sequence[Path], out: Path, allow_mixed: bool = False) -> Merged:
    """Join finished or stopped runs of one plan in the new folder `out`; the runs stay as they are.

    Raises `UserError` for runs of different plans, for a cell that two of them hold, for libraries, drivers, code or
    device models that differ (unless `allow_mixed`), for a run that is given twice, for one alone that is no shard, and
    where `out` holds anything.
    """
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise UserError(f"--out {out}: holds something already; give a new folder.")
    if why := why_no_folder(out):
        raise RunFolderError(f"--out {out}: {why}; give another.")
    _check_apart(runs, out, partial_of(out))
    _check_distinct(runs)
    parts = sorted(((run, read_manifest(run)) for run in runs), key=lambda part: _shard_of(part[1]).index)
    if len(parts) == 1 and _shard_of(parts[0][1]).of == 1:
        raise UserError(f"{runs[0]}: is the whole of its grid, no shard; there is nothing to merge it with.")
    _check_same_plan(parts)
    _check_same_cut(parts)
    if not allow_mixed:
        _check_same_software(parts)
    try:
        with replacing(out) as partial:
            partial.mkdir(parents=True)
            count, devices = _join_lines(parts, partial, new_run_id(out))
            manifest, missing = _joined_manifest([manifest for _, manifest in parts], new_run_id(out), count)
            write_manifest_file(partial / MANIFEST, manifest)
    except OSError as error:
        raise RunFolderError(
            f"--out {out}: cannot be written ({cause(error)}); the runs are untouched: {remedy(error, 'mend that')}, "
            "or give another --out."
        ) from error
    return Merged(out, count, manifest["cells"], devices, missing)


def _shard_of(manifest: Mapping[str, Any]) -> Shard:
    """The shard of a run; of a run of the whole grid, the only one."""
    return Shard.parse(manifest.get("shard") or "1/1")


def _check_distinct(runs: Sequence[Path]) -> None:
    """Raise `UserError` for a folder that is given twice, by whatever name."""
    first: dict[str, Path] = {}
    for run in runs:
        if other := first.get(os.path.realpath(run)):
            also = "" if other == run else f", as {other} too"
            raise UserError(f"{run}: is given twice{also}; give every run once.")
        first[os.path.realpath(run)] = run


def _check_apart(runs: Sequence[Path], out: Path, partial: Path) -> None:
    """Raise `UserError` for an `out` within a run that is merged, and where its folder in progress is another's."""
    for run in runs:
        if Path(os.path.realpath(run)) in Path(os.path.realpath(out)).parents:
            raise UserError(f"--out {out}: lies within {run}, which stays as it is; give a folder beside it.")
    if partial.exists():
        raise UserError(f"--out {out}: {partial} is in its way; remove that if a merge left it, or give another --out.")


def _check_same_cut(parts: Sequence[tuple[Path, dict[str, Any]]]) -> None:
    """Raise `UserError` for shards of different numbers of shards, which overlap or leave gaps."""
    (first, manifest), *others = parts
    for run, other in others:
        shard, wanted = _shard_of(other), _shard_of(manifest)
        if shard.of != wanted.of:
            raise UserError(
                f"{run}: is shard {shard}, and {first} is {wanted}; merge joins shards of one N, as they were run."
            )


def _check_same_plan(parts: Sequence[tuple[Path, dict[str, Any]]]) -> None:
    (first, wanted), *others = parts
    for run, manifest in others:
        if changed := changed_identity(wanted, manifest):
            raise UserError(
                f"{run}: differs from {first} in {', '.join(changed)}; merge joins parts of one plan. For two plans: "
                "`specbench-s2d report` takes several runs."
            )


def _check_same_software(parts: Sequence[tuple[Path, dict[str, Any]]]) -> None:
    (first, manifest), *others = parts
    wanted = software(manifest.get("environment") or {})
    for run, other in others:
        if differing := differing_software(other.get("environment") or {}, wanted):
            raise UserError(
                f"{run}: measured with {', '.join(differing)}, as {first} was; measure both alike, or give "
                "--allow-mixed."
            )


def _join_lines(parts: Sequence[tuple[Path, dict[str, Any]]], folder: Path, run_id: str) -> tuple[int, int]:
    """Write all records and metered blocks; the number of records, and of devices."""
    owners: dict[str, Path] = {}
    devices: set[str | None] = set()
    with (folder / RECORDS).open("w", encoding="utf-8") as file:
        for run, _ in parts:
            for record in read_records(run):
                if record.key in owners:
                    raise UserError(
                        f"{run}: holds {_cell_text(record)}, and so does {owners[record.key]}; merge runs that share "
                        "no cell."
                    )
                owners[record.key] = run
                devices.add(record.device_id)
                file.write(record.model_copy(update={"run_id": run_id}).model_dump_json() + "\n")
        file.flush()
        os.fsync(file.fileno())
    blocks = [block for run, _ in parts for block in read_blocks(run)]
    if blocks:
        (folder / ENERGY).write_text("".join(block.model_dump_json() + "\n" for block in blocks), encoding="utf-8")
    return len(owners), len(devices)


def _cell_text(record: Record) -> str:
    return f"{record.label} on {record.target}, question {record.question_id} ({record.suite}), turn {record.turn + 1}"


def _joined_manifest(
    manifests: Sequence[Mapping[str, Any]], run_id: str, records: int
) -> tuple[dict[str, Any], list[str]]:
    """The manifest of all parts together, and the shards that are missing."""
    first, shards = manifests[0], [_shard_of(manifest) for manifest in manifests]
    given, of = {str(shard) for shard in shards}, shards[0].of
    missing = [f"{i}/{of}" for i in range(1, of + 1) if f"{i}/{of}" not in given]
    cells = sum(manifest["cells"] for manifest in manifests)
    done = not missing and records >= cells and all(manifest.get("ended") for manifest in manifests)
    joined = {
        **{name: value for name, value in first.items() if name != "shard"},
        "run_id": run_id,
        "spec": {**first["spec"], "shard": None},
        "cells": cells,
        "conditions": [condition for manifest in manifests for condition in manifest.get("conditions") or ()],
        "started": min((manifest["started"] for manifest in manifests if manifest.get("started")), default=None),
        "ended": max(manifest["ended"] for manifest in manifests) if done else None,
        "targets": joined_targets(manifests),
        PARTS: [part for manifest in manifests for part in parts_of(manifest)],
    }
    return joined, missing
