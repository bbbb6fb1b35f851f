"""The kernel is compiled once per source, compiler and processor; what goes wrong is one line with the way out."""

from __future__ import annotations

import ctypes
import stat
from pathlib import Path

import pytest

from specbench_s2d.models.engines.native_build import (
    NoCompilerError,
    find_compiler,
    library_path,
    load_or_build,
    native_library,
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native_library.cache_clear()
    yield
    native_library.cache_clear()


def test_it_is_built_once_and_found_again() -> None:
    assert isinstance(native_library(), ctypes.CDLL)
    path = library_path(find_compiler())
    built = path.stat().st_mtime_ns
    native_library.cache_clear()
    native_library()
    assert path.stat().st_mtime_ns == built
    assert [file.suffix for file in path.parent.iterdir() if file.suffix == ".so"] == [".so"], "nothing half-made stays"


def test_other_compilers_and_other_processors_have_other_names() -> None:
    paths = [library_path(compiler) for compiler in (["cc"], ["gcc"], ["cc", "-O1"])]
    assert len({*paths, library_path(["cc"], "another")}) == 4
    assert library_path(["cc"]) == paths[0]


def test_no_compiler_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(NoCompilerError, match=r"no C compiler \(cc, gcc, clang\).*--engine eager"):
        native_library()
    monkeypatch.setenv("CC", "my-compiler")
    with pytest.raises(NoCompilerError, match="CC=my-compiler"):
        native_library()


def test_a_compiler_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken-cc"
    broken.write_text("#!/bin/sh\necho 'error: unknown option' >&2\nexit 1\n")
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CC", str(broken))
    with pytest.raises(NoCompilerError, match=r"cannot build the native kernel \(error: unknown option\)"):
        native_library()


def test_a_compiler_may_come_with_words_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = find_compiler()[0]
    monkeypatch.setenv("CC", f"{compiler} -O1")
    assert find_compiler() == [compiler, "-O1"]


def test_a_cache_that_cannot_be_written_is_done_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blocked = tmp_path / "a-file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert hasattr(native_library(), "run_pass")
    assert blocked.read_text() == ""


def test_half_a_library_is_not_used(tmp_path: Path) -> None:
    path = library_path(find_compiler())
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a library")
    assert hasattr(native_library(), "run_pass")


def test_nowhere_to_build_is_said_with_what_to_do() -> None:
    def full(*arguments: object) -> None:
        raise OSError("No space left on device")

    with pytest.raises(NoCompilerError, match=r"No space left on device.*XDG_CACHE_HOME.*--engine eager"):
        load_or_build(full)
