"""Which files are refused as a datastore, and what is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from specbench_s2d.models import datastore
from specbench_s2d.models.datastore import check_datastore


def test_a_text_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "store.txt"
    file.write_text("\N{GRINNING FACE}" * 20_000, encoding="utf-8")
    check_datastore(str(file), 800)


@pytest.mark.parametrize(
    "held", [b"", b" \n\t\n", b"text\0text", b"\x80\x81\x82 text", b"text \xff", b"text " * 20_000 + b"\xff"]
)
def test_an_empty_or_binary_file_is_refused(held: bytes, tmp_path: Path) -> None:
    file = tmp_path / "store"
    file.write_bytes(held)
    with pytest.raises(ValueError, match=r"holds no text|is no text in UTF-8"):
        check_datastore(str(file), 800)


def test_a_folder_or_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        check_datastore(str(tmp_path), 800)
    with pytest.raises(ValueError, match="cannot be read"):
        check_datastore(str(tmp_path / "none.txt"), 800)


def test_a_file_whose_index_would_not_fit_is_refused_with_both_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "store.txt"
    file.write_text("word " * 2_000, encoding="utf-8")
    monkeypatch.setattr(datastore, "available_bytes", lambda: 1_000_000)
    with pytest.raises(ValueError, match=r"to index, and 0.0 GB are free; give a smaller file"):
        check_datastore(str(file), 800)


def test_what_is_no_regular_file_is_refused_unread() -> None:
    with pytest.raises(ValueError, match="is no regular file"):
        check_datastore("/dev/zero", 800)
