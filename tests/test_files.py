"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from specbench_s2d.files import cause, naming, partial_of, remedy, replacing, why_no_file, why_no_folder, write_whole

PACKAGE = Path(__file__).parents[1] / "specbench_s2d"


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    partial_of(file).write_text("of a process that was killed")
    write_whole(file, "é\n")
    write_whole(file, b"second")
    assert file.read_bytes() == b"second" and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("folder", [False, True])
def test_what_fails_leaves_what_was_there(folder: bool, tmp_path: Path) -> None:
    path = tmp_path / "out"
    if folder:
        path.mkdir()
        (path / "held").write_text("first")
    else:
        path.write_text("first")

    def written(error: Exception | None = None) -> None:
        with replacing(path) as partial:
            if folder:
                partial.mkdir()
            (partial / "new" if folder else partial).write_text("half")
            if error:
                raise error

    with pytest.raises(KeyError):
        written(KeyError())
    if folder:  # a folder that holds something is not replaced
        with pytest.raises(OSError, match="not empty"):
            written()
    assert (path / "held" if folder else path).read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_takes_the_place_of_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with replacing(tmp_path / "out") as partial:
        partial.mkdir()
        (partial / "new").touch()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["out", "out/new"]


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_whole(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_text() == "text"


def full(*_: object, **__: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_told_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`write` is told of a descriptor alone; what stands in a folder that is written whole has its name there."""
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_whole(tmp_path / "a.csv", "text")
    assert cause(caught.value) == f"{tmp_path / 'a.csv'}: No space left on device"
    (tmp_path / "link").symlink_to(tmp_path / "a.csv")
    with pytest.raises(OSError, match="No space left") as caught:
        write_whole(tmp_path / "link", "text")
    assert caught.value.filename == str(tmp_path / "link")

    def write_folder() -> None:
        with replacing(tmp_path / "out") as partial:
            partial.mkdir()
            write_whole(partial / "b.csv", "text")

    with pytest.raises(OSError, match="No space left") as caught:
        write_folder()
    assert caught.value.filename == str(tmp_path / "out" / "b.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_a_file_below_a_file_is_told_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as caught:
        write_whole(tmp_path / "file" / "a.csv", "text")
    assert cause(caught.value) == f"{tmp_path / 'file' / 'a.csv'}: Not a directory"


def test_a_name_that_an_error_has_already_stays(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, naming(tmp_path / "a"):
        (tmp_path / "other").read_text()
    assert caught.value.filename == str(tmp_path / "other")
    assert cause(OSError("no number")) == "no number"


def test_no_other_module_writes_files_in_a_way_of_its_own() -> None:
    """But for lines that are appended, files inside of folders that are moved whole, and what a library writes."""
    ways = re.compile(r"\.write_text\(|\.write_bytes\(|os\.replace\(|\.to_csv\([^i]")
    found = {
        path.relative_to(PACKAGE).as_posix(): len(ways.findall(path.read_text(encoding="utf-8")))
        for path in PACKAGE.rglob("*.py")
    }
    allowed = {"files.py": 3, "exchange/export.py": 1, "runs/merge.py": 1, "models/gguf.py": 1}
    assert {path: count for path, count in found.items() if count} == allowed


def test_why_a_folder_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    assert why_no_folder(tmp_path) is None and why_no_folder(tmp_path / "new" / "deep") is None
    assert why_no_folder(file) == "is a file, and no folder"
    assert why_no_folder(file / "new" / "deep") == f"{file} is a file, and no folder"
    assert why_no_folder(tmp_path / ("x" * 300)) == "cannot be written (File name too long)"
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "away").symlink_to("nowhere")
    assert why_no_folder(tmp_path / "round") == "is a link that leads round in a circle, and no folder"
    assert why_no_folder(tmp_path / "round" / "new") == "cannot be written (Too many levels of symbolic links)"
    away = "is a link to nowhere, which is not there, and no folder"
    assert why_no_folder(tmp_path / "away") == away
    assert why_no_folder(tmp_path / "away" / "new") == f"{tmp_path / 'away'} {away}"
    there = sorted(tmp_path.iterdir())

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("os.mkdir", refuse)  # as /proc and /sys do, where root has every permission
    said = f"cannot be written (no folder can be made in {tmp_path}: Operation not permitted)"
    assert why_no_folder(tmp_path / "new") == why_no_folder(tmp_path) == said
    assert sorted(tmp_path.iterdir()) == there
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert why_no_folder(tmp_path / "new") == f"cannot be written (no permission in {tmp_path})"


def test_why_a_file_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "away").symlink_to("nowhere")
    found = {name: why_no_file(tmp_path / name) for name in ("file", "none", "file/none", "pipe", "round", "away", ".")}
    assert found == {
        "file": None,
        "none": None,
        "file/none": None,
        "pipe": "a pipe",
        "round": "a link that leads round in a circle",
        "away": "a link to nowhere, which is not there",
        ".": "a folder",
    }


def test_what_to_do_follows_from_the_number_of_an_error() -> None:
    """Libraries written in Rust, such as safetensors, tell the number in words."""
    assert remedy(OSError(errno.ELOOP, "any words"), "x") == "remove the links, which lead round in a circle"
    assert remedy(ValueError("Error: No space left on device (os error 28)"), "x") == "make room"
    assert remedy(OSError(errno.EPIPE, "Broken pipe"), "x") == remedy(OSError("no number"), "x") == "x"


def test_texts_are_read_with_or_without_a_byte_order_mark() -> None:
    """All but those of the kernel."""
    plain = re.compile(r'read_text\(\)|read_text\(encoding="utf-8"\)|\.open\(encoding="utf-8"\)')
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if plain.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"cgroup.py", "measure/energy/rapl.py", "measure/machine.py", "models/engines/native_build.py"}
