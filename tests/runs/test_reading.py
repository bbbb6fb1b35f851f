"""Records by column are those that `Record` reads, and what it refuses is refused, with its line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.errors import RecordSchemaError, RunFolderError
from specbench_s2d.runs import folder, reading
from specbench_s2d.runs.columns import Records
from specbench_s2d.runs.folder import MANIFEST, RECORDS, read_records
from specbench_s2d.runs.reading import read_columns, read_keys
from specbench_s2d.runs.record import Record
from tests.analysis.factory import ar, decoded, make_record
from tests.refusals import refused

RUN = [
    ar(1, 5, decode_s=4, output_ids=[3, 4, 5, 6, 2], output_text='a "b"\n', quality={"bleu": 1.5, "chrf": None}),
    decoded("sd", "q-1", [(5, 1, 2), (5, 0, 1)], decode_s=0.30000000000000004, output_ids=[3, 4, 5, 6, 2],
            decoder_options={"gamma": 5, "thresholds": [0.5, 0.0], "exit": None, "name": "{x}"}, exit_depths=[2, 3],
            divergence={"verdict": "near_tie", "position": 1, "margin": 1e-7}, tie_positions=[1], device_id="d"),
    make_record("sd", 2, status="failed", error="out of memory", reasons={"quality": "said: \"no\""}, seed=None),
    make_record("mjsd", -2, turn=0, launch=2, quality_counts={"bleu": [1, 2]}, output_text="ä\u2028ß", stop="eos"),
]  # fmt: skip


def lines_of(records: list[Record]) -> list[dict[str, Any]]:
    return [json.loads(record.model_dump_json()) for record in records]


def written(path: Path, rows: list[Any], to_text: Callable[[Any], str] = json.dumps) -> Path:
    path.mkdir(exist_ok=True)
    (path / RECORDS).write_text("".join(to_text(row) + "\n" for row in rows), encoding="utf-8")
    return path


def by_line(run: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Reads a run by column; the numbers of the blocks of lines that `Record` itself had to read."""
    read: list[int] = []
    parse = folder.parse_lines
    monkeypatch.setattr(reading, "parse_lines", lambda lines, path, n: read.append(n) or parse(lines, path, n))
    read_columns(run)
    return read


@pytest.mark.parametrize("form", ["compact", "spaced", "packed"])
def test_columns_hold_the_same_records(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compact = "".join(record.model_dump_json() + "\n" for record in RUN)
    run = written(tmp_path / form, lines_of(RUN)) if form == "spaced" else written(tmp_path / form, [])
    if form == "compact":
        (run / RECORDS).write_text(compact, encoding="utf-8")
    if form == "packed":
        import gzip

        (run / RECORDS).unlink()
        (run / f"{RECORDS}.gz").write_bytes(gzip.compress(compact.encode()))
    [records] = read_columns(run)
    assert list(records) == read_records(run) == list(Records.of(RUN)) == RUN
    assert by_line(run, monkeypatch) == []  # what this release writes is read by Arrow
    assert records.numbers("decode_s").tolist()[:2] == [4, 0.30000000000000004]
    assert records.equal("status", "ok").tolist() == [True, True, False, True]
    assert records.codes("output_ids")[0] == records.codes("output_ids")[1] >= 0 > records.codes("output_ids")[2]
    assert records.sums("emitted_per_step")[1] == 3 and records.value("question_id", 1) == "q-1"
    assert records.value("decoder_options", 1)["thresholds"] == [0.5, 0.0]


def test_older_records_lack_fields_that_have_defaults(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k not in ("launch", "replay_turns", "error")} for row in lines_of(RUN[:2])]
    [records] = read_columns(written(tmp_path, rows))
    assert list(records) == RUN[:2] and records.launches.tolist() == [0, 0]


def test_what_arrow_cannot_read_and_a_record_can_is_read_by_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole number written as 5.0, and one as text, which pydantic takes for numbers."""
    rows = lines_of(RUN)
    rows[1] |= {"new_tokens": 4.0, "turn": "1"}
    run = written(tmp_path, rows)
    assert list(read_columns(run)[0]) == read_records(run) == RUN
    assert by_line(run, monkeypatch) == [1]


DAMAGES: dict[str, Callable[[str], str]] = {
    "an unknown field": lambda line: line.replace('"turn"', '"extra": 1, "turn"'),
    "an unknown field of the divergence": lambda line: line.replace('"margin"', '"extra": 1, "margin"'),
    "a missing field": lambda line: line.replace('"category": "qa", ', ""),
    "no seed": lambda line: line.replace('"seed": 0, ', ""),
    "a null where there must be a value": lambda line: line.replace('"launch": 0', '"launch": null'),
    "an infinity": lambda line: line.replace('"prefill_s": 1.0', '"prefill_s": Infinity'),
    "not a number": lambda line: line.replace('"prefill_s": 1.0', '"prefill_s": NaN'),
    "a text for a number": lambda line: line.replace('"prefill_s": 1.0', '"prefill_s": "soon"'),
    "another status": lambda line: line.replace('"status": "ok"', '"status": "fine"'),
    "another stop": lambda line: line.replace('"stop": "length"', '"stop": "tired"'),
    "another verdict": lambda line: line.replace('"near_tie"', '"maybe"'),
    "no output ids": lambda line: line.replace('"output_ids": [3, 4, 5, 6, 2]', '"output_ids": []'),
    "a text among ids": lambda line: line.replace('"output_ids": [3,', '"output_ids": ["x",'),
    "a null in a list": lambda line: line.replace('"exit_depths": [2,', '"exit_depths": [null,'),
    "a fraction in a list": lambda line: line.replace('"exit_depths": [2,', '"exit_depths": [2.5,'),
    "options that are no object": lambda line: re.sub(r'(?<="decoder_options": )\{.*?\}(?=, "lossy")', "1", line),
    "a score that is no number": lambda line: line.replace('"quality": null', '"quality": {"bleu": "x"}'),
    "a question's id that is neither": lambda line: line.replace('"question_id": "q-1"', '"question_id": 1.5'),
    "a negative time": lambda line: line.replace('"prefill_s": 1.0', '"prefill_s": -0.1'),
    "a time beyond all": lambda line: line.replace('"prefill_s": 1.0', '"prefill_s": 1e200'),
    "a time that is infinite": lambda line: line.replace('"prefill_s": 1.0', '"prefill_s": 1e999'),
    "a negative turn": lambda line: line.replace('"turn": 1', '"turn": -1'),
    "a number of 33 bits in a list": lambda line: line.replace('"exit_depths": [2,', '"exit_depths": [4294967296,'),
    "a Step of a million tokens": lambda line: line.replace('"emitted_per_step": [2,', '"emitted_per_step": [2000000,'),
    "a negative id": lambda line: line.replace('"output_ids": [3,', '"output_ids": [-3,'),
    "an id of 80 bits": lambda line: line.replace('"output_ids": [3,', '"output_ids": [999999999999999999999999,'),
    "a number of 80 bits": lambda line: line.replace('"new_tokens": 4', '"new_tokens": 999999999999999999999999'),
    "a number of 5,000 digits": lambda line: line.replace('"new_tokens": 4', f'"new_tokens": {"9" * 5000}'),
    "an option of 5,000 digits": lambda line: line.replace('"gamma": 5', f'"gamma": {"9" * 5000}'),
    "a question of 5,000 digits": lambda line: line.replace('"question_id": "q-1"', f'"question_id": {"9" * 5000}'),
    "lists of unequal length": lambda line: line.replace('"emitted_per_step": [2, 1]', '"emitted_per_step": [2, 1, 1]'),
    "no entry for a Step": lambda line: line.replace('"emitted_per_step": [2, 1]', '"emitted_per_step": []'),
    "more accepted than drafted": lambda line: line.replace('accepted_per_step": [1, 0]', 'accepted_per_step": [6, 0]'),
    "more levels than drafted": lambda line: line.replace('"levels_per_step": null', '"levels_per_step": [1, 9]'),
    "half of a surrogate pair": lambda line: line.replace('"output_text": null', '"output_text": "\\ud800"'),
    "the other half in a name": lambda line: line.replace('"target": "t"', '"target": "\\udc00"'),
    "the name of the rows over all suites": lambda line: line.replace('"suite": "qa"', '"suite": "overall"'),
    "the name of the mean": lambda line: line.replace('"target": "t"', '"target": "mean over targets"'),
    "no label": lambda line: line.replace('"label": "sd"', '"label": ""'),
    "a field named twice": lambda line: line.replace('"turn": 1', '"turn": 1, "turn": 0'),
    "an option named twice": lambda line: line.replace('"gamma": 5', '"gamma": 5, "gamma": 6'),
    "options nested deeply": lambda line: line.replace('"exit": null', f'"exit": {"[" * 100_000 + "]" * 100_000}'),
    "a text nested deeply": lambda line: line.replace('_text": null', f'_text": {"[" * 10**5 + "]" * 10**5}'),
    "a negative position": lambda line: line.replace('"position": 1', '"position": -1'),
    "a margin that is none": lambda line: line.replace('"margin": 1e-07', '"margin": NaN'),
    "an object cut short": lambda line: line[:-1],
    "two records on a line": lambda line: line + line,
    "null": lambda line: "null",
    "nothing": lambda line: "",
    "a list": lambda line: "[1]",
    "bytes that are no text": lambda line: line.replace("q-1", "q-\udcff"),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGES)
def test_a_line_that_is_no_record_is_refused_with_its_number(tmp_path: Path, what: str) -> None:
    text = json.dumps(lines_of(RUN)[1])
    damaged = DAMAGES[what](text)
    assert damaged != text
    lines = [json.dumps(row) for row in lines_of(RUN)]
    content = "".join(f"{line}\n" for line in (lines[0], damaged, *lines[2:]))
    (tmp_path / RECORDS).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(RunFolderError) as by_column:
        read_columns(tmp_path)
    with pytest.raises(RunFolderError) as by_record:
        read_records(tmp_path)
    assert str(by_column.value) == str(by_record.value)
    assert f"{RECORDS}:2: not a record (" in str(by_column.value)


def test_a_record_of_another_run_is_refused_with_its_line(tmp_path: Path) -> None:
    """By the manifest where there is one, else by the first record."""
    rows = lines_of(RUN)
    rows[2]["run_id"] = "other"
    for wanted, line, run_id in (("r", 3, "other"), (None, 3, "other"), ("other", 1, "r")):
        run = written(tmp_path / str(wanted), rows)
        if wanted:
            facts = {"schema_version": 2, "run_id": wanted, "identity": {}, "cells": 4}
            (run / MANIFEST).write_text(json.dumps(facts))
        for read in (read_columns, read_records):
            with refused(RunFolderError, f"{RECORDS}:{line}: a record of run {run_id} in the folder of run"):
                read(run)


def test_a_key_stands_for_one_cell(tmp_path: Path) -> None:
    """The record of a cell that ran again has its key; one that has a key of another cell would replace it."""
    rows = lines_of(RUN)
    for name, value in (("label", "x"), ("turn", 7), ("question_id", "1")):
        run = written(tmp_path / name, [*rows, {**rows[0], name: value}])
        for read in (read_columns, read_records):
            with refused(RunFolderError, f"{RECORDS}:5: its key, t/ar/qa/1/1/0, is that of another cell in line 1."):
                read(run)


def test_another_schema_version_is_refused_with_its_line(tmp_path: Path) -> None:
    rows = lines_of(RUN)
    rows[2]["schema_version"] = 99
    with pytest.raises(RecordSchemaError, match=r"records\.jsonl:3: schema version 99"):
        read_columns(written(tmp_path, rows))


def test_lines_are_counted_over_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few hundred bytes: each holds a part of a line, or few lines."""
    monkeypatch.setattr(folder, "_READ_BYTES", 700)
    run = written(tmp_path, [*lines_of(RUN), *({**row, "key": f"{row['key']}/again"} for row in lines_of(RUN))])
    assert [r.key for r in read_columns(run)[0]] == [r.key for r in read_records(run)]
    with (run / RECORDS).open("a") as file:
        file.write("{}\n")
    with pytest.raises(RecordSchemaError, match=r"records\.jsonl:9: schema version None"):
        read_columns(run)


def test_a_torn_last_line_is_left_out_and_a_cell_that_ran_again_counts_once(tmp_path: Path) -> None:
    retried = {**lines_of(RUN)[2], "status": "ok", "error": None}
    run = written(tmp_path, [*lines_of(RUN), retried])
    with (run / RECORDS).open("a") as file:
        file.write('{"run_id": "r", "complete": "but for its newline"}')
    [records] = read_columns(run)
    assert [(r.key, r.status) for r in records] == [(r.key, "ok") for r in RUN]
    assert read_keys(run) == {r.key for r in RUN}


def test_several_runs_share_their_columns(tmp_path: Path) -> None:
    """So that ids and prompts of a run and a baseline are compared by their codes."""
    runs = [written(tmp_path / name, lines_of(rows)) for name, rows in (("a", RUN), ("b", RUN[1:]), ("c", []))]
    first, second, none = read_columns(*runs)
    assert first.columns is second.columns and len(none) == 0
    assert list(first) == RUN and list(second) == RUN[1:]
    assert first.codes("output_ids")[1] == second.codes("output_ids")[0]
