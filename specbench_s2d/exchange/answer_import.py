"""Answer files of Spec-Bench, of EAGLE and of Medusa become a run's folder, which reports, comparisons and exports read
like any other.

The files hold no ids, no times but the whole call's, no drafts and no settings: what they lack is null in the records,
with `NOT_THERE` as the reason.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from specbench_s2d.decoding.spec import DecoderSpec, parse_decoder
from specbench_s2d.errors import RunFolderError, UnknownNameError, UserError
from specbench_s2d.exchange.spec_bench import FAILED_TURN, Answer, Choice, read_answers
from specbench_s2d.files import cause, remedy, replacing, why_no_folder
from specbench_s2d.runs.folder import RunStore, first_fault
from specbench_s2d.runs.record import SCHEMA_VERSION, Record
from specbench_s2d.suites import CUSTOM, Suite, custom_name, definitions, load_suite, suites_of

NOT_THERE = "not in Spec-Bench's files"
_NO_TOKENIZER = "import again with --tokenizer NAME"
_NO_LENGTHS = "the files hold no accept_lengths"
_MT_BENCH = range(81, 161)
"""MT-bench's question_ids; each of its categories has ten, in order (Zheng et al. 2023, arXiv 2306.05685)."""
_UNSPLIT = "accept_lengths of several turns, which neither steps nor tokens tell apart"
_LACKING = (
    "prompt_hash", "prompt_tokens", "stop", "output_ids", "prefill_s", "decode_s", "draft_s", "verify_s", "other_s",
    "bound_s", "target_passes", "drafted", "accepted", "drafted_per_step", "accepted_per_step", "levels_per_step",
    "exit_depths", "draft_layers", "nll_sum", "perplexity", "quality", "divergence", "tie_positions", "energy_j",
    "energy_net_j", "energy_trace_j", "energy_s", "seed", "device_id",
)  # fmt: skip


CountTokens = Callable[[str], int]
"""Text to the number of its tokens, encoded again, less one."""


@dataclass(frozen=True)
class Naming:
    """How files whose model_id is not TARGET-LABEL with a decoder's label are to be read.

    `targets`: a model_id belongs to the longest of them that it begins with, or to the only one. `labels`: model_id to
    label, where the rest of the model_id is not to be it. `lossy`: labels that may change the target's output. `suite`:
    of answers without a category.
    """

    targets: Sequence[str] = ()
    labels: Mapping[str, str] | None = None
    lossy: Sequence[str] = ()
    suite: str | None = None


@dataclass(frozen=True)
class AnswerFile:
    """Whose answers a file holds; `decoder` is None for a label that is none of ours."""

    target: str
    label: str
    decoder: DecoderSpec | None
    lossy: bool


@dataclass(frozen=True)
class _File:
    path: Path
    sha256: str
    lane: AnswerFile
    answers: list[Answer]
    places: list[tuple[str, str]]
    """Suite and category of each answer."""


def import_files(
    paths: Sequence[Path], out: Path, naming: Naming, temperature: float | None = None, count: CountTokens | None = None
) -> list[Record]:
    """Read answer files into a new run's folder `out`, all of it or nothing; returns its records.

    `temperature`: what the answers were sampled at, None where nobody said. `count`: gives the retokenized tokens.
    Raises `UserError` for a file that cannot be read or placed, and for a folder that is there and not empty.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise RunFolderError(f"--out {out}: is there already and not empty; give a new folder.")
    if why := why_no_folder(out):
        raise RunFolderError(f"--out {out}: {why}; give another.")
    files = [_read(path, naming) for path in paths]
    _refuse_twins(files)
    _refuse_unused(files, naming)
    digest = hashlib.sha256(" ".join(file.sha256 for file in files).encode()).hexdigest()
    records = _records(files, f"imported-{digest[:12]}", count)
    _write(out, _manifest(files, records, temperature, count is not None), records)
    return records


def lane_of(model_id: str, naming: Naming) -> AnswerFile:
    """Whose answers a model_id names; raises `UserError` that says what to pass where it cannot be told."""
    target, rest, known = _split(model_id, naming)
    label = (naming.labels or {}).get(model_id)
    decoder = known if label is None else _known(label)
    return AnswerFile(
        target, label or rest, decoder, (label or rest) in naming.lossy or (decoder is not None and decoder.kind.lossy)
    )


def _split(model_id: str, naming: Naming) -> tuple[str, str, DecoderSpec | None]:
    """Target, rest, and the decoder that the rest is the label of: by the targets named, else by our labels, else all
    of it is the label on the only target named."""
    named = [t for t in naming.targets if model_id.startswith(f"{t}-") and len(model_id) > len(t) + 1]
    if named:
        target = max(named, key=len)
        rest = model_id[len(target) + 1 :]
        return target, rest, _known(rest)
    for i in (i for i, mark in enumerate(model_id) if mark == "-" and i):
        if (decoder := _known(model_id[i + 1 :])) is not None:
            return model_id[:i], decoder.label, decoder
    if len(naming.targets) == 1:
        return naming.targets[0], model_id, None
    if naming.targets:
        raise UserError(
            f"model_id {model_id!r}: begins with none of the targets {', '.join(naming.targets)}; "
            "pass the --target that it belongs to, or import the files of each target apart."
        )
    raise UserError(
        f"model_id {model_id!r}: ends with no label of a decoder known here, so nothing says where the target's name "
        "ends; pass --target NAME (and --baseline MODEL_ID for the autoregressive one)."
    )


def _known(label: str) -> DecoderSpec | None:
    """The decoder of ours that writes its label so; None for any other text."""
    try:
        found = parse_decoder(label)
    except UserError:
        return None
    return found if found.label == label else None


def _read(path: Path, naming: Naming) -> _File:
    answers = read_answers(path)
    lane = lane_of(answers[0].model_id, naming)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return _File(path, digest, lane, answers, _places(path, answers, naming.suite))


def _places(path: Path, answers: Sequence[Answer], given: str | None) -> list[tuple[str, str]]:
    """Suite and category of each answer: as a question file's, by its category and its turns, or by a suite's own name;
    of answers without a category in the suite `given`, or in MT-bench by their question_ids."""
    unplaced = [answer for answer in answers if answer.category is None]
    other = next((answer for answer in unplaced if answer.question_id not in _MT_BENCH), None)
    if other is not None and given is None:
        raise UserError(
            f"{path}: question_id {other.question_id!r} has no category, and is none of MT-bench's (81 to 160); say "
            "whose questions these are with --suite NAME."
        )
    asked = [_suite(given)] if given is not None else []
    own = asked[0].name.removeprefix(CUSTOM) if asked else ""
    suites = suites_of([(answer.category or own, len(answer.choices[0].turns)) for answer in answers], own, asked)

    def place(answer: Answer, suite: str) -> tuple[str, str]:
        if answer.category is None and given is None:
            categories = load_suite("mt_bench").definition.categories
            return "mt_bench", categories[_MT_BENCH.index(int(answer.question_id)) // 10]
        if answer.category is None:
            return asked[0].name, own
        return answer.category if answer.category in definitions.entries() else suite, answer.category

    return [place(answer, suite) for answer, suite in zip(answers, suites, strict=True)]


def _suite(name: str) -> Suite:
    """A registered suite, or one of the answers' own."""
    return load_suite(name if name in definitions.entries() else custom_name(name.removeprefix(CUSTOM)))


def _refuse_twins(files: Sequence[_File]) -> None:
    """A file given twice would pass for a repeat; two model_ids of one label would too."""
    seen: dict[str, Path] = {}
    model_ids: dict[tuple[str, str], str] = {}
    for file in files:
        if file.sha256 in seen:
            raise UserError(f"{file.path}: holds the same as {seen[file.sha256]}; give each file once.")
        seen[file.sha256] = file.path
        mine = file.answers[0].model_id
        other = model_ids.setdefault((file.lane.target, file.lane.label), mine)
        if other != mine:
            raise UserError(
                f"model_ids {other!r} and {mine!r} are both {file.lane.label!r} on {file.lane.target}; "
                "tell them apart with --label MODEL_ID=LABEL."
            )


def _refuse_unused(files: Sequence[_File], naming: Naming) -> None:
    """A name that no file has is a slip of the pen."""
    model_ids = {file.answers[0].model_id for file in files}
    for model_id in naming.labels or {}:
        if model_id not in model_ids:
            raise UnknownNameError.of("model_id", model_id, model_ids, "It names no file that was given.")
    labels = {file.lane.label for file in files}
    for label in naming.lossy:
        if label not in labels:
            raise UnknownNameError.of("label", label, labels, "Give --lossy a label of the files.")
    for target in naming.targets:
        if target not in (targets := {file.lane.target for file in files}):
            raise UnknownNameError.of("target", target, targets, "No file that was given is of it.")
    suites = {suite for file in files for suite, _ in file.places}
    if naming.suite is not None and _suite(naming.suite).name not in suites:
        raise UserError(
            f"--suite {naming.suite}: no answer belongs to it, for all have a category (they go to "
            f"{', '.join(sorted(suites))}); leave it out."
        )


def _records(files: Sequence[_File], run_id: str, count: CountTokens | None) -> list[Record]:
    """Every turn of every choice; files of one model_id that number their choices alike are repeats, in order."""
    repeats: dict[str, set[int]] = defaultdict(set)
    records = []
    for file in files:
        taken = repeats[file.answers[0].model_id]
        numbers = {choice.index for answer in file.answers for choice in answer.choices}
        shift = max(taken) + 1 if taken & numbers else 0
        taken |= {shift + number for number in numbers}
        records += [
            _record(file, run_id, answer, place, shift, fields)
            for answer, place in zip(file.answers, file.places, strict=True)
            for choice in answer.choices
            for fields in _turns(choice, count)
        ]
    return records


def _turns(choice: Choice, count: CountTokens | None) -> list[dict[str, Any]]:
    """What the format says of each turn, as fields of a record."""
    derived = choice.accept_lengths is None
    parts = None if derived else choice.accept_lengths_by_turn()
    found = []
    for turn, text in enumerate(choice.turns):
        place = {"turn": turn, "repeat": choice.index}
        if text == FAILED_TURN:  # its other fields repeat the turn before
            found.append({**place, "status": "failed", "error": "Spec-Bench wrote ERROR for this turn"})
            continue
        reasons = dict.fromkeys(_LACKING, NOT_THERE)
        reasons |= {} if parts else {"emitted_per_step": _NO_LENGTHS if derived else _UNSPLIT}
        reasons |= {} if count else {"retokenized_tokens": _NO_TOKENIZER}
        found.append(
            {
                **place,
                "status": "ok",
                "new_tokens": choice.new_tokens[turn],
                "retokenized_tokens": count(text) if count else None,
                "output_text": text,
                "total_s": choice.wall_time[turn],
                "emitted_per_step": parts[turn] if parts else None,
                "target_passes": choice.iterations[turn] if derived else None,
                "reasons": {name: why for name, why in reasons.items() if not (derived and name == "target_passes")},
            }
        )
    return found


def _record(
    file: _File, run_id: str, answer: Answer, place: tuple[str, str], shift: int, fields: Mapping[str, Any]
) -> Record:  # fmt: skip
    lane, (suite, category) = file.lane, place
    repeat = fields["repeat"] + shift
    defining = [run_id, lane.target, lane.label, suite, answer.question_id, fields["turn"], repeat]
    row = {
        **fields,
        "run_id": run_id,
        "key": hashlib.sha256(json.dumps(defining).encode()).hexdigest()[:32],
        "target": lane.target,
        "decoder": lane.decoder.name if lane.decoder else lane.label,
        "label": lane.label,
        "draft": lane.decoder.draft if lane.decoder else None,
        "decoder_options": lane.decoder.options.model_dump() if lane.decoder else {},
        "lossy": lane.lossy,
        "suite": suite,
        "category": category,
        "question_id": answer.question_id,
        "repeat": repeat,
        "seed": None,
    }
    try:
        return Record.model_validate(row)
    except ValidationError as error:  # a name of the tables' own, numbers beyond what columns hold
        raise UserError(f"{file.path}: question_id {answer.question_id!r}: {first_fault(error)}.") from error


def _manifest(
    files: Sequence[_File], records: Sequence[Record], temperature: float | None, retokenized: bool
) -> dict[str, Any]:
    """Says that the run was imported and from what; it has no environment."""
    stamps = [answer.tstamp for file in files for answer in file.answers if answer.tstamp is not None]
    unknown = ("environment", "spec", "questions", "idle_power_w")
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": records[0].run_id,
        "identity": {
            "settings": {"temperature": temperature},
            "targets": list(dict.fromkeys(file.lane.target for file in files)),
            "decoders": list(dict.fromkeys(file.lane.label for file in files)),
            "drafts": [],
            "repeats": 1 + max(r.repeat for r in records),
            "questions": {},
            "weights": {},
        },
        "cells": len(records),
        **dict.fromkeys(unknown),
        "reasons": dict.fromkeys(unknown, NOT_THERE),
        "started": _time(min(stamps)) if stamps else None,
        "ended": _time(max(stamps)) if stamps else None,
        "targets": {},
        "imported": {
            "format": "spec-bench",
            "retokenized": retokenized,
            "files": [
                {
                    "name": file.path.name,
                    "sha256": file.sha256,
                    "model_id": file.answers[0].model_id,
                    "target": file.lane.target,
                    "label": file.lane.label,
                }
                for file in files
            ],
        },
    }


def _time(stamp: float) -> str:
    return datetime.fromtimestamp(stamp, UTC).isoformat(timespec="seconds")


def _write(out: Path, manifest: dict[str, Any], records: Sequence[Record]) -> None:
    """The folder beside its place first, then moved there whole."""
    try:
        with replacing(out) as partial:
            _fill(partial, manifest, records)
    except OSError as error:
        raise RunFolderError(
            f"--out {out}: cannot be written ({cause(error)}); {remedy(error, 'mend that')}, or give another folder."
        ) from error


def _fill(folder: Path, manifest: dict[str, Any], records: Sequence[Record]) -> None:
    """A run's folder; raises `OSError`, for what a store says of one would be to go on with the run."""
    try:
        with RunStore(folder, manifest) as store:
            store.append(records)
    except RunFolderError as error:
        raise (error.__cause__ if isinstance(error.__cause__, OSError) else error) from None
