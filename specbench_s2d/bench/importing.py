"""A run's folder from answer files: ours, or those that Spec-Bench's own scripts wrote."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specbench_s2d.bench.exchange import read_answers, turn_records
from specbench_s2d.bench.records import BASELINE, SCHEMA_VERSION, Record
from specbench_s2d.bench.store import MANIFEST, RECORDS
from specbench_s2d.config import RunSpec
from specbench_s2d.decoding.spec import DecoderSpec, parse_decoders
from specbench_s2d.errors import UnknownNameError, UserError
from specbench_s2d.suites import category_owners

ABSENT = "not in Spec-Bench's files"
_NOT_CARRIED = (
    "prompt_hash", "prompt_tokens", "stop", "output_ids", "prefill_s", "decode_s", "draft_s", "verify_s", "other_s",
    "bound_s", "target_passes", "drafted", "accepted", "drafted_per_step", "accepted_per_step", "levels_per_step",
    "exit_depths", "draft_layers", "nll_sum", "perplexity", "quality", "quality_counts", "divergence", "tie_positions",
    "energy_j",
)  # fmt: skip
Counter = Callable[[str], int]
"""How many tokens a text has, less one: Spec-Bench's count of its baseline's tokens."""


@dataclass(frozen=True)
class Names:
    """How files are told apart: the target that every model_id begins with, and the model_id that is AR's.

    Without `target`, a model_id is taken apart where what follows a hyphen is a decoder of this package.
    """

    target: str | None = None
    baseline: str | None = None

    def split(self, model_id: str, file: Path) -> tuple[str, str]:
        """(target, label) of a model_id; raises `UserError` with what to give where it says too little."""
        if self.target is not None:
            if not model_id.startswith(self.target):
                raise UserError(f"{file}: model_id {model_id!r} does not begin with --target {self.target!r}.")
            rest = model_id.removeprefix(self.target).lstrip("-") or model_id
            return self.target, BASELINE if model_id == self.baseline else rest
        found = _own(model_id)
        if found is None:
            raise UserError(
                f"{file}: model_id {model_id!r} names no decoder of this package; say which part of it is the target "
                "(--target vicuna-7b-v1.3) and which model_id is plain decoding (--baseline MODEL_ID)."
            )
        return found


def import_files(
    files: Sequence[Path], out: Path, names: Names, temperature: float = 0.0, count: Counter | None = None
) -> list[Record]:
    """Write a run's folder from answer files; several files of one model_id, and several choices, are repeats.

    `count`, the target's tokenizer, gives `retokenized_tokens`. Nothing is written unless every file is whole. Raises
    `UserError` for a file, a category or a name that cannot be used, and for an `out` that holds something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: there is something already; give a new folder.")
    owners = category_owners([])
    repeats: dict[tuple[str, str], int] = defaultdict(int)
    records, sources = [], []
    for file in files:
        answers = read_answers(file)
        run = names.split(answers[0].model_id, file)
        shared = _shared(*run, out.name)
        for answer in answers:
            suite = owners.get(answer.category)
            if suite is None:
                raise UserError(f"{file}: {UnknownNameError.of('category', answer.category, owners)}")
            records += turn_records(answer, {**shared, "suite": suite}, repeats[run])
        repeats[run] += max(len(answer.choices) for answer in answers)
        sources.append({"file": file.name, "sha256": _sha256(file), "model_id": answers[0].model_id, "label": run[1]})
    _refuse_without_baseline(names, sources)
    if count:
        records = [_counted(record, count) for record in records]
    _write(out, records, _manifest(out.name, records, sources, temperature))
    return records


def _counted(record: Record, count: Counter) -> Record:
    reasons = {field: why for field, why in record.reasons.items() if field != "retokenized_tokens"}
    return record.model_copy(update={"retokenized_tokens": count(record.output_text or ""), "reasons": reasons})


def _own(model_id: str) -> tuple[str, str] | None:
    """(target, label) where a label of this package follows a hyphen: the longest such label."""
    for place, character in enumerate(model_id):
        if character == "-" and place and _decoder(model_id[place + 1 :]):
            return model_id[:place], model_id[place + 1 :]
    return None


def _decoder(label: str) -> DecoderSpec | None:
    """The decoder that a label stands for; None for one of another program."""
    try:
        [found] = parse_decoders([label])
    except (UserError, ValueError):
        return None
    return found


def _shared(target: str, label: str, run_id: str) -> dict[str, Any]:
    found = _decoder(label)
    reasons = dict.fromkeys((*_NOT_CARRIED, "retokenized_tokens"), ABSENT)
    return {
        "run_id": run_id,
        "target": target,
        "label": label,
        "decoder": found.name if found else label,
        "decoder_options": found.options.model_dump(mode="json") if found else {},
        "lossy": bool(found and found.kind.lossy),
        "reasons": reasons,
    }


def _refuse_without_baseline(names: Names, sources: Sequence[dict[str, str]]) -> None:
    given = [source["model_id"] for source in sources]
    if names.baseline is not None and names.baseline not in given:
        raise UserError(f"--baseline {names.baseline}: no file of that model_id; the files have {', '.join(given)}.")


def _manifest(
    run_id: str, records: Sequence[Record], sources: list[dict[str, str]], temperature: float
) -> dict[str, Any]:
    """What is known of an imported run; `imported` says from where."""
    questions: dict[str, set[str]] = defaultdict(set)
    for record in records:
        questions[record.suite].add(f"{record.question_id}/{record.turn}")
    settings = {**dict.fromkeys(("max_new_tokens", "device", "dtype", "engine", "seed")), "temperature": temperature}
    labels = list(dict.fromkeys(record.label for record in records))
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "identity": {
            "settings": settings,
            "targets": list(dict.fromkeys(record.target for record in records)),
            "decoders": labels,
            "drafts": [None for _ in labels],
            "repeats": 1 + max(record.repeat for record in records),
            "questions": {suite: _hash(sorted(found)) for suite, found in questions.items()},
            "weights": {},
        },
        "spec": RunSpec(temperature=temperature, decoder=labels).model_dump(),
        "questions": "imported",
        "cells": len(records),
        "quality_metrics": {},
        "environment": {},
        "reasons": {"environment": ABSENT},
        "imported": sources,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "ended": None,
        "targets": {},
    }


def _write(out: Path, records: Sequence[Record], manifest: dict[str, Any]) -> None:
    """Both files at once: the folder appears when it is whole."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        (partial / RECORDS).write_text("".join(r.model_dump_json() + "\n" for r in records), encoding="utf-8")
        partial.chmod(0o755)
        os.replace(partial, out)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
