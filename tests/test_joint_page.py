"""The tables of docs/joint_decoding.md, out of a small run's summary.csv and its comparison with AR."""

from __future__ import annotations

from pathlib import Path

import pytest

from specbench_s2d.runs.record import Record
from tests.analysis.factory import make_record
from tests.documents import generator

DISTINCT, LOOP = list(range(12)), [1, 2, 3] * 4


def answer(label: str, question: int, ids: list[int], nll: float, f1: float) -> Record:
    return make_record(label, question, output_ids=ids, nll_sum=12 * nll, new_tokens=12, stop="length",
                       quality={"f1": f1}, decode_s=1.0, total_s=1.0, target="real")  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six questions: mjsd loops on two of them, where its text is likelier by a half."""
    ar = [answer("ar", i, DISTINCT, 1.0, 0.5) for i in range(6)]
    mjsd = [
        answer("mjsd:tau=0.1", i, LOOP if i < 2 else DISTINCT, 0.5 if i < 2 else 1.0, 0.25 * (i % 2)) for i in range(6)
    ]
    run = tmp_path / "smollm2_mjsd"
    run.mkdir()
    (run / "records.jsonl").write_text("".join(record.model_dump_json() + "\n" for record in (*ar, *mjsd)))
    return run


def test_values_stand_with_the_interval_of_their_change(folder: Path) -> None:
    """Distinct pairs of a loop of three: 3 of 11. Perplexity e to the mean of 0.5, 0.5, 1, 1, 1, 1."""
    text = generator().runs.joint_section(folder)
    titles, *lines = text.splitlines()
    assert titles == "### smollm2_mjsd"
    [ar, mjsd, ar_quality, mjsd_quality] = [line.split(" | ") for line in lines if line.startswith("| real")]
    assert ar[1:] == ["`ar`", "2.72", "1.00", "1.00", "0.00 |"]
    assert mjsd[1] == "`mjsd:tau=0.1`"
    assert mjsd[2].startswith("2.30 (×0.85 [") and mjsd[4].startswith("0.76 (-0.24 [-0.6")
    assert mjsd[5].startswith("0.33 (+0.33 [-0.2") and mjsd[3].startswith("0.75 (-0.25 [")
    assert ar_quality[2:] == ["0.50 |"] and mjsd_quality[2].startswith("0.12 (-0.38 [-0.")
    assert "| target | decoder | perplexity | distinct-1 | distinct-2 | loops |" in lines


def test_no_committed_run_no_table(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator().runs, "JOINT_RUNS", [folder.parent / "none"])
    assert generator().runs.joint_tables() == ""
    monkeypatch.setattr(generator().runs, "JOINT_RUNS", [folder.parent / "none", folder])
    assert generator().runs.joint_tables().startswith("### smollm2_mjsd\n\n| target | decoder |")
