"""The run folder: whole lines, one writer, nothing lost, nothing mixed up."""

from __future__ import annotations

import codecs
import errno
import gzip
import json
import lzma
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from specbench_s2d.errors import RecordSchemaError, RunFolderError
from specbench_s2d.runs.folder import (
    PACKED,
    RECORDS,
    RunStore,
    new_run_id,
    read_blocks,
    read_manifest,
    read_records,
    schema_of,
)
from specbench_s2d.runs.reading import read_columns
from specbench_s2d.runs.record import SCHEMA_VERSION, Record
from tests.analysis.factory import make_record
from tests.refusals import refused

XZ, GZ = PACKED


def manifest(**identity: Any) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, "run_id": "r", "cells": 3, "identity": {"targets": ["a"], **identity}}


def keyed(key: str, **fields: Any) -> Record:
    return make_record(**fields).model_copy(update={"key": key})


def test_records_come_back_as_they_were_appended(tmp_path: Path) -> None:
    records = [keyed("1"), keyed("2")]
    with RunStore(tmp_path / "run", manifest()) as store:
        store.append(records[:1])
        store.append(records[1:])
    assert read_records(tmp_path / "run") == records


def test_of_a_cell_that_ran_again_the_last_record_counts_once(tmp_path: Path) -> None:
    failed = keyed("1").model_copy(update={"status": "failed", "error": "out of memory"})
    with RunStore(tmp_path, manifest()) as store:
        store.append([failed, keyed("2")])
        store.append([keyed("1")])
    assert [(r.key, r.status) for r in read_records(tmp_path)] == [("1", "ok"), ("2", "ok")]


def test_a_store_reads_a_record_where_it_lies(tmp_path: Path) -> None:
    """The last of a cell that ran again, whatever its text is; at once, and when the run goes on."""
    failed = keyed("1").model_copy(update={"status": "failed", "error": "no memory: für 日本 \u2028 €"})
    with RunStore(tmp_path, manifest()) as store:
        store.append([])
        store.append([failed, keyed("2")])
        assert (store.get("1"), store.failed) == (failed, {"1"})
        store.append([keyed("3"), keyed("1")])
        assert (store.get("1"), store.get("2"), store.get("x")) == (keyed("1"), keyed("2"), None)
        assert (store.keys, store.failed) == ({"1", "2", "3"}, set())
    with RunStore(tmp_path, manifest()) as store:
        assert [store.get(key) for key in "123"] == [keyed(key) for key in "123"]
        assert list(store.records()) == [keyed(key) for key in "231"] and not store.failed


def test_a_store_takes_little_memory_for_a_record(tmp_path: Path) -> None:
    """A record of 256 tokens takes 10 KB as an object, and its line has as many characters."""
    records = (keyed(f"{n:032d}", output_text=f"{n}" * 2000) for n in range(300))
    with RunStore(tmp_path, manifest()) as store:
        store.append([next(records)])
        tracemalloc.start()
        for record in records:
            store.append([record])
        del record
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert taken < 500 * 299


@pytest.mark.parametrize(
    "torn", [b'{"run_id": "r", "sch', b"{", b'{"complete": "but without its newline"}', b'{"long": "' + b"x" * 200_000]
)
def test_a_torn_last_line_is_cut_off_and_nothing_else(tmp_path: Path, torn: bytes) -> None:
    with RunStore(tmp_path, manifest()) as store:
        store.append([keyed("1"), keyed("2")])
    whole = (tmp_path / "records.jsonl").read_bytes()
    (tmp_path / "records.jsonl").write_bytes(whole + torn)
    assert len(read_records(tmp_path)) == 2
    with RunStore(tmp_path, manifest()) as store:
        assert store.repaired == len(torn)
        store.append([keyed("3")])
    assert [r.key for r in read_records(tmp_path)] == ["1", "2", "3"]
    assert (tmp_path / "records.jsonl").read_bytes().startswith(whole)


def test_a_broken_line_in_the_middle_is_named_not_skipped(tmp_path: Path) -> None:
    with RunStore(tmp_path, manifest()) as store:
        store.append([keyed("1")])
    with (tmp_path / "records.jsonl").open("ab") as file:
        file.write(b"not json\n")
    with pytest.raises(RunFolderError, match=r"records\.jsonl:2: not a record"):
        read_records(tmp_path)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"stop": "nope"}, "stop: Input should be 'eos' or 'length'"),
        ({"output_ids": []}, "output_ids: List should have at least 1 item"),
        ({"decode_s": "nan"}, "decode_s: Input should be a finite number"),
        (None, "it is no JSON object"),
    ],
)
def test_a_line_that_is_no_record_is_named_with_what_to_do(
    tmp_path: Path, fields: dict[str, Any] | None, what: str
) -> None:
    """When the run goes on, too."""
    with RunStore(tmp_path, manifest()) as store:
        store.append([keyed("1")])
    row = None if fields is None else {**keyed("2").model_dump(), **fields}
    with (tmp_path / "records.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    with refused(RunFolderError, f"records.jsonl:2: not a record ({what}", "Take that line out"):
        read_records(tmp_path)
    with refused(RunFolderError, "records.jsonl:2"), RunStore(tmp_path, manifest()):
        pass


@pytest.mark.parametrize("fields", [{"stop": "nope"}, {"output_ids": []}, {"decode_s": float("nan")}, {"other": 1}])
def test_a_record_is_updated_by_validation(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        keyed("1").updated(**fields)
    expected = {**keyed("1").model_dump(), "stop": "eos", "decode_s": 2.0}
    assert keyed("1").updated(stop="eos", decode_s=2).model_dump() == expected


def test_the_same_run_goes_on_in_its_folder_under_its_first_manifest(tmp_path: Path) -> None:
    with RunStore(tmp_path, {**manifest(), "started": "2026-01-01"}):
        pass
    with RunStore(tmp_path, {**manifest(), "started": "2026-01-02"}) as store:
        assert store.manifest["started"] == "2026-01-01"


def test_another_run_is_refused_with_what_differs_and_what_to_do(tmp_path: Path) -> None:
    with RunStore(tmp_path, manifest()) as store:
        store.append([keyed("1")])
    with (
        pytest.raises(RunFolderError, match=r"differs in decoders; go on with .* or start anew with another --out"),
        RunStore(tmp_path, manifest(decoders=["sd"])),
    ):
        pass
    assert len(read_records(tmp_path)) == 1


def test_two_writers_at_once_are_refused(tmp_path: Path) -> None:
    refused = pytest.raises(RunFolderError, match="another process is writing")
    with RunStore(tmp_path, manifest()), refused, RunStore(tmp_path, manifest()):
        pass
    with RunStore(tmp_path, manifest()):
        pass


def test_an_unknown_schema_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    row = {**json.loads(keyed("1").model_dump_json()), "schema_version": 99}
    (tmp_path / "records.jsonl").write_text(json.dumps(row) + "\n")
    advice = ("schema version 99; this code reads 1 and 2.", "run again into another folder")
    with refused(RecordSchemaError, "records.jsonl:1", *advice):
        read_records(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"schema_version": 99}))
    with refused(RecordSchemaError, "manifest.json", *advice):
        read_manifest(tmp_path)
    with refused(RecordSchemaError, "manifest.json", *advice):
        schema_of(tmp_path)


def test_a_folder_keeps_its_schema_and_its_records_take_it(tmp_path: Path) -> None:
    assert schema_of(tmp_path) == SCHEMA_VERSION == 2
    with RunStore(tmp_path, {**manifest(), "schema_version": 1}) as store:
        store.append([keyed("1")])
    with RunStore(tmp_path, manifest()) as store:
        store.append([keyed("2")])
    assert schema_of(tmp_path) == 1
    assert [record.schema_version for record in read_records(tmp_path)] == [1, 1]


def test_a_setting_newer_than_the_folder_parts_no_run_from_it_at_its_default(tmp_path: Path) -> None:
    older = {"temperature": 0.5, "device": "cpu"}
    with RunStore(tmp_path, manifest(settings=older)):
        pass
    with RunStore(tmp_path, manifest(settings={**older, "replay_turns": "own"})):
        pass
    with (
        pytest.raises(RunFolderError, match="differs in settings"),
        RunStore(tmp_path, manifest(settings={**older, "replay_turns": "ar"})),
    ):
        pass


def test_a_full_disk_leaves_whole_records_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunStore(tmp_path, manifest()) as store:
        store.append([keyed("1")])
        before = (tmp_path / "records.jsonl").read_bytes()
        write = os.write

        def short_write(descriptor: int, content: bytes) -> int:
            write(descriptor, content[:100])  # part of it lands, then the disk is full
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", short_write)
        with pytest.raises(RunFolderError, match=r"No space left on device.*go on with the same command"):
            store.append([keyed("2")])
        assert (tmp_path / "records.jsonl").read_bytes() == before


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(RunFolderError, match=r"cannot be written.*another --out"),
        RunStore(tmp_path / "file" / "run", manifest()),
    ):
        pass


def test_a_folder_without_records_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="give the folder of a run"):
        read_records(tmp_path)
    with pytest.raises(RunFolderError, match="give the folder of a run"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(("name", "pack", "unpack"), [(XZ, lzma.compress, "unxz"), (GZ, gzip.compress, "gunzip")])
def test_packed_records_are_read_like_others_and_not_written_to(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes], unpack: str
) -> None:
    folder = tmp_path / "run"
    with RunStore(folder, manifest()) as store:
        store.append([keyed("1"), keyed("2")])
    before = read_records(folder)
    (folder / name).write_bytes(pack((folder / RECORDS).read_bytes()))
    (folder / RECORDS).unlink()
    assert read_records(folder) == before and len(before) == 2
    with refused(RunFolderError, "its records are packed", f"`{unpack} {folder / name}`"), RunStore(folder, manifest()):
        pass
    whole = (folder / name).read_bytes()
    half = len(whole) // 2
    for damaged in (whole[:-9], b"plain text", whole[:half] + bytes([whole[half] ^ 255]) + whole[half + 1 :]):
        (folder / name).write_bytes(damaged)
        with refused(RunFolderError, name, "cannot be read"):
            read_records(folder)


@pytest.mark.parametrize(
    ("folder", "name"), [("runs/grid", "grid"), (".", "here"), ("sub/..", "here"), ("/", "run"), ("\udcff", r"\udcff")]
)
def test_a_run_is_called_as_its_folder_however_that_is_given(
    folder: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert new_run_id(Path(folder)) == name


@pytest.mark.parametrize("name", ["manifest.json", RECORDS, "energy.jsonl"])
@pytest.mark.parametrize(
    ("what", "make"),
    [
        ("a pipe", os.mkfifo),
        ("a link that leads round in a circle", lambda path: path.symlink_to(path.name)),
        ("a link to nowhere, which is not there", lambda path: path.symlink_to("nowhere")),
        ("a folder", Path.mkdir),
    ],
)
def test_what_is_no_file_is_refused_before_anything_runs(
    tmp_path: Path, name: str, what: str, make: Callable[[Path], None]
) -> None:
    make(tmp_path / name)
    with refused(RunFolderError, f"{name}: is {what}; mend that, or give another folder."):
        RunStore(tmp_path, manifest()).__enter__()
    read = {RECORDS: read_records, "manifest.json": read_manifest, "energy.jsonl": read_blocks}[name]
    with refused(RunFolderError, f"{name}: is {what}"):
        read(tmp_path)


def test_a_file_that_cannot_be_written_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunStore(tmp_path, manifest()) as store:
        store.append([keyed("1")])
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK or Path(path).name != RECORDS)
    with refused(RunFolderError, f"{RECORDS}: no permission to write it"):
        RunStore(tmp_path, manifest()).__enter__()


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EDQUOT, "make room in your quota"),
        (errno.EROFS, "mount its disk for writing"),
        (errno.EIO, "look at its disk"),
        (errno.EMFILE, "allow more open files"),
        (errno.EFBIG, "raise the limit on the size of files"),
        (errno.EACCES, "give yourself permission"),
        (None, "mend that"),
    ],
)
def test_what_to_do_about_a_write_that_fails_follows_from_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int | None, advice: str
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number)) if number else OSError("an odd fault")

    with RunStore(tmp_path, manifest()) as store:
        monkeypatch.setattr(os, "fsync", fail)
        said = os.strerror(number) if number else "an odd fault"
        with refused(RunFolderError, f"cannot be written ({said}); the lines before are whole: {advice}", "go on with"):
            store.append([keyed("1")])


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    """Of a manifest, and of each line: files with one may have been joined."""
    with RunStore(tmp_path, manifest()) as store:
        store.append([keyed("1"), keyed("2")])
    expected = read_records(tmp_path)
    for path in (tmp_path / "manifest.json", tmp_path / RECORDS):
        path.write_bytes(b"".join(codecs.BOM_UTF8 + line for line in path.read_bytes().splitlines(keepends=True)[:2]))
    (tmp_path / "manifest.json").write_text("\ufeff" + json.dumps(manifest()), encoding="utf-8")
    assert read_records(tmp_path) == list(read_columns(tmp_path)[0]) == expected
    with RunStore(tmp_path, manifest()) as store:
        assert (store.get("1"), store.get("2")) == (keyed("1"), keyed("2"))
        store.append([keyed("3")])
    assert [record.key for record in read_records(tmp_path)] == ["1", "2", "3"]
