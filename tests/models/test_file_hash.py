"""The hash of a file is that of what it holds now; a file that stays as it is, is read once."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from specbench_s2d.models import file_hash
from specbench_s2d.models.file_hash import (
    FileState,
    Reading,
    file_sha256,
    files_sha256,
    known_hashes,
    learn_hashes,
    watched,
)

LONG_AGO_S = 10**9


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own, in which hashes of small files are kept too, and a process that knows none."""
    monkeypatch.setenv("SPECBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(file_hash, "KEPT_FROM_BYTES", 1)
    monkeypatch.setattr(file_hash, "_known", {})
    return tmp_path / "cache" / "hashes"


def written(path: Path, text: str = "weights") -> Path:
    """A file that was written long ago."""
    path.write_text(text, encoding="utf-8")
    os.utime(path, (LONG_AGO_S, LONG_AGO_S))
    return path


def new_process(monkeypatch: pytest.MonkeyPatch, may_read: bool = True) -> None:
    """Forget what this process knows; `may_read`: whether files may be read."""
    monkeypatch.setattr(file_hash, "_known", {})
    if not may_read:
        monkeypatch.setattr(hashlib, "file_digest", lambda *given: pytest.fail("the file is read"))


def test_a_hash_is_that_of_the_file_as_it_is_now(tmp_path: Path) -> None:
    file, found = tmp_path / "store.txt", []
    for text in ("one", "three"):
        file.write_text(text, encoding="utf-8")
        found.append(file_sha256(file))
    assert found == [hashlib.sha256(text.encode()).digest() for text in ("one", "three")]


def test_the_next_start_reads_no_file_that_stayed_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path / "model.safetensors")
    first = file_sha256(file)
    new_process(monkeypatch, may_read=False)
    assert file_sha256(file) == first


@pytest.mark.parametrize("change", ["the time", "the size", "the inode"])
def test_a_file_that_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    file = written(tmp_path / "model.safetensors")
    file_sha256(file)
    if change == "the inode":
        os.replace(written(tmp_path / "other", "WEIGHTS"), file)
    else:
        file.write_text("other" if change == "the size" else "WEIGHTS", encoding="utf-8")
        changed_s = LONG_AGO_S + (change == "the time")
        os.utime(file, (changed_s, changed_s))
    new_process(monkeypatch)
    assert file_sha256(file) == hashlib.sha256(file.read_bytes()).digest()


def test_a_file_that_was_just_written_is_read_at_the_next_start(tmp_path: Path, cache: Path) -> None:
    """Within one tick of its time it may change once more."""
    file = tmp_path / "model.safetensors"
    file.write_text("weights", encoding="utf-8")
    file_sha256(file)
    assert not cache.exists()


def test_small_files_are_not_kept(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_hash, "KEPT_FROM_BYTES", 100)
    file_sha256(written(tmp_path / "model.safetensors"))
    assert not cache.exists()


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"sha256": 3}', "short", "another file's"])
def test_what_is_damaged_in_the_cache_is_read_again(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    file = written(tmp_path / "model.safetensors")
    first = file_sha256(file)
    (kept,) = cache.iterdir()
    fields: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    changed = {"short": {"sha256": "00"}, "another file's": {"path": "/x", "sha256": "00" * 32}}
    kept.write_text(json.dumps({**fields, **changed[damage]}) if damage in changed else damage, encoding="utf-8")
    new_process(monkeypatch)
    assert file_sha256(file) == first


def test_a_cache_that_cannot_be_written_to_costs_a_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECBENCH_CACHE", str(written(tmp_path / "no-folder")))
    file = written(tmp_path / "model.safetensors")
    assert file_sha256(file) == hashlib.sha256(b"weights").digest()


def test_what_another_process_knows_is_not_read_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path / "model.safetensors")
    first = file_sha256(file)
    hashes = known_hashes()
    assert [Path(state.path) for state in hashes] == [file]
    monkeypatch.setenv("SPECBENCH_CACHE", str(tmp_path / "empty"))
    new_process(monkeypatch, may_read=False)
    learn_hashes(hashes)
    assert file_sha256(file) == first


def test_hashes_of_other_files_than_there_are_here_mean_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on another machine, whose file of that name may be another."""
    file = written(tmp_path / "model.safetensors")
    now = file.stat()
    learn_hashes({FileState(str(file), now.st_ino + 1, now.st_size, now.st_mtime_ns): b"x" * 32})
    assert file_sha256(file) == hashlib.sha256(b"weights").digest()


def told(monkeypatch: pytest.MonkeyPatch, *clock: float) -> list[Reading]:
    """What is told of the reading of files, by a clock; its last value stays."""
    times = iter(clock)
    monkeypatch.setattr(
        file_hash, "time", SimpleNamespace(time_ns=time.time_ns, monotonic=lambda: next(times, clock[-1]))
    )
    return []


def test_reading_is_told_of_from_two_seconds_on_over_all_files_of_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Buffers of 256 KiB, each of which takes a second and a half."""
    (tmp_path / "m").mkdir()
    files = [written(tmp_path / "m" / name, "x" * 2**18) for name in ("a.safetensors", "b.safetensors")]
    found = told(monkeypatch, 0.0, 1.5, 1.5, 3.0, 3.0)
    with (
        watched(lambda reading: pytest.fail("of blocks inside each other the inner one is told")),
        watched(found.append),
    ):
        hashes = files_sha256(files)
    assert hashes == [hashlib.sha256(b"x" * 2**18).digest()] * 2
    assert (found[0], found[-1]) == (Reading("m", 2**19, 2**19, 3.0), Reading("m", 2**19, 2**19, 3.0))
    with watched(lambda reading: pytest.fail("nothing is read")):
        files_sha256(files)


@pytest.mark.parametrize(("name", "seconds", "times"), [("a", 1.9, 0), ("b", 2.0, 1)])
def test_nothing_is_told_of_what_takes_less_than_two_seconds(
    name: str, seconds: float, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = told(monkeypatch, 0.0, seconds)
    with watched(found.append):
        file_sha256(written(tmp_path / name))
    assert len(set(found)) == times and {reading.name for reading in found} == ({name} if times else set())
