"""Folders that no run can be read from, by name."""

from __future__ import annotations

import gzip
from pathlib import Path

from specbench_s2d.analysis.report.write import report_runs
from specbench_s2d.errors import RunFolderError
from tests.refusals import refused


def test_a_link_that_goes_round_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "c").symlink_to("c")
    with refused(RunFolderError, f"{tmp_path}/c: no such folder; "):
        report_runs([tmp_path / "c"])


def test_a_packed_file_without_a_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl.gz").write_bytes(gzip.compress(b""))
    with refused(RunFolderError, f"{tmp_path}/records.jsonl.gz: no record in it yet; fetch it again."):
        report_runs([tmp_path])
