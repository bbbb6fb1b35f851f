"""The hash of a file is that of what it holds now, and is computed once while that stays."""

from __future__ import annotations

from pathlib import Path

from specbench_s2d.models.file_hash import file_sha256


def test_a_hash_is_that_of_the_file_as_it_is_now(tmp_path: Path) -> None:
    file, found = tmp_path / "store.txt", []
    for text in ("one", "three"):
        file.write_text(text, encoding="utf-8")
        found.append(file_sha256(file))
    assert found[0] != found[1]
