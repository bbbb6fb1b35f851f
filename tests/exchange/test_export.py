"""What each format holds, how files are named and written, Spec-Bench's own formula on our files, and the way back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from specbench_s2d.analysis.metrics.acceptance import mat
from specbench_s2d.analysis.metrics.pairs import pair
from specbench_s2d.analysis.metrics.speed import speedup_specbench
from specbench_s2d.analysis.report.write import read_run
from specbench_s2d.analysis.tables.summary import summary_table
from specbench_s2d.errors import RunFolderError, UnknownNameError, UserError
from specbench_s2d.exchange.answer_import import Naming, import_files
from specbench_s2d.exchange.export import export, file_names
from specbench_s2d.exchange.spec_bench import AnswerFile
from specbench_s2d.measure.divergence import Divergence
from specbench_s2d.runs.record import SCHEMA_VERSION, Record
from tests.analysis.factory import of, paper_run
from tests.refusals import refused

DEMO = Path(__file__).resolve().parents[2] / "results" / "baselines" / "demo"


def words(n: int | None) -> str:
    """A text that is `n` tokens to `count`."""
    return " ".join("w" * (n or 0))


def count(text: str) -> int:
    """What a tokenizer makes of a text, less the token that it puts in front."""
    return len(text.split())


def worded(records: list[Record]) -> list[Record]:
    return [r.model_copy(update={"output_text": words(r.retokenized_tokens)}) for r in records]


def write_run(folder: Path, records: list[Record], **manifest: Any) -> Path:
    folder.mkdir()
    (folder / "records.jsonl").write_text("".join(r.model_dump_json() + "\n" for r in records))
    base = {"schema_version": SCHEMA_VERSION, "run_id": records[0].run_id, "cells": len(records)}
    whole = {**base, "identity": {"settings": {"temperature": 0.0}}, **manifest}
    (folder / "manifest.json").write_text(json.dumps(whole))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", worded(paper_run()), started="2026-01-01T00:00:00+00:00")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def spec_bench_speedup(ours: Path, base: Path) -> float:
    """Spec-Bench's formula: the mean over questions of tokens/s, over that of the baseline, whose tokens are those of
    its text encoded again."""
    rates = [sum(c["new_tokens"]) / sum(c["wall_time"]) for c in (line["choices"][0] for line in lines(ours))]
    base_rates = [
        sum(count(turn) for turn in c["turns"]) / sum(c["wall_time"])
        for c in (line["choices"][0] for line in lines(base))
    ]
    return float(np.mean(rates) / np.mean(base_rates))


def test_spec_benchs_formula_on_our_files_gives_our_speedup_specbench(run: Path, tmp_path: Path) -> None:
    """sd: 5 tokens in 3 s and 9 in 4 s; AR: 4 in 5 s and 9 in 18 s. (5/3 + 9/4) / (4/5 + 9/18) = 3.0128."""
    base, ours = export(run, "spec-bench", tmp_path / "out").written
    assert spec_bench_speedup(ours, base) == pytest.approx((5 / 3 + 9 / 4) / (4 / 5 + 9 / 18))
    assert spec_bench_speedup(base, base) == pytest.approx((5 / 5 + 9 / 18) / (4 / 5 + 9 / 18))
    for label, path in (("sd", ours), ("ar", base)):
        pairs = pair(of(label, paper_run()), of("ar", paper_run()))
        assert spec_bench_speedup(path, base) == pytest.approx(speedup_specbench(pairs).value)
    accepted = [n for line in lines(ours) for n in line["choices"][0]["accept_lengths"]]
    assert np.mean(accepted) == pytest.approx(mat(of("sd", paper_run())).value)


def test_an_answer_carries_the_time_at_which_the_run_started(run: Path, tmp_path: Path) -> None:
    first = export(run, "spec-bench", tmp_path / "out").written[0]
    assert {line["tstamp"] for line in lines(first)} == {1767225600.0}


# Every column of the tidy table that the format can carry, and those of the demo run that it cannot: they need times of
# the parts, counts of what was drafted, ids, or the target. Nor can it carry task quality: it holds no references.
CARRIED = (
    "decoder", "options", "lossy", "records", "questions", "launches", "new_tokens", "tokens_per_answer", "steps",
    "speedup_e2e", "speedup_e2e_n", "speedup_specbench", "speedup_specbench_n",
    "pairs", "unpaired", "mat", "mat_n", "mat_specbench", "mean_mat_per_question", "failed", "skipped", "truncated",
)  # fmt: skip
ENDS = ("speedup_e2e_low", "speedup_e2e_high", "speedup_specbench_low", "speedup_specbench_high", "mat_low", "mat_high")
NOT_CARRIED = (
    "draft", "tokens_per_s", "speedup", "speedup_low", "speedup_high", "speedup_n", "tokens_per_pass",
    "accepted_per_pass", "acceptance_rate", "draft_layers_per_token", "mean_exit_depth", "draft_s", "verify_s",
    "other_s", "perplexity", "perplexity_low", "perplexity_high", "perplexity_n", "mismatches", "near_ties",
    "audited_tokens", "auditable_share",
)  # fmt: skip


def test_export_and_import_give_the_same_values_in_every_column_that_the_format_carries(tmp_path: Path) -> None:
    """On the demo run's first target, whose counts stand in for its tokenizer's (tested with the command)."""
    records = [r for r in read_run(DEMO) if r.target == "demo-s" and r.launch == 0]
    known = {r.output_text: r.retokenized_tokens for r in records}
    files = export(write_run(tmp_path / "run", records), "spec-bench", tmp_path / "out").written
    import_files(files, tmp_path / "back", Naming(), 0.0, lambda text: known[text] or 0)
    key = ["target", "label", "suite"]
    before = summary_table(records).set_index(key)
    after = summary_table(read_run(tmp_path / "back")).set_index(key).reindex(before.index)
    carried = [*CARRIED, *ENDS]
    pd.testing.assert_frame_equal(after[carried], before[carried], rtol=1e-12)
    assert after[list(NOT_CARRIED)].isna().all(axis=None)
    assert before[list(CARRIED)].notna().all(axis=None)
    assert before["mat_uncut"].notna().any() and before["why"].notna().any()
    assert before.xs("overall", level="suite")[list(ENDS)].notna().all(axis=None), "of 5 questions or more"
    unmeasured = set(after.columns) - {*carried, *NOT_CARRIED, "notes"}
    assert after[sorted(unmeasured)].isna().all(axis=None)
    assert {c for c in before.columns if c not in after.columns} == {c for c in before.columns if "quality_" in c}


def test_every_launch_is_exported_as_repeats_numbered_on(tmp_path: Path) -> None:
    """Two launches of two repeats each: four files of sd, the last of launch 1's second repeat."""
    again = [
        r.model_copy(update={"launch": launch, "repeat": repeat, "key": f"{r.key}/{launch}/{repeat}",
                             "total_s": (r.total_s or 0) + 10 * launch + repeat})
        for launch in (0, 1) for repeat in (0, 1) for r in worded(paper_run())
    ]  # fmt: skip
    written = export(write_run(tmp_path / "run", again), "spec-bench", tmp_path / "out").written
    of_sd = [path for path in written if path.name.startswith("t-sd")]
    assert [path.name for path in of_sd] == [f"t-sd-repeat-{i}.jsonl" for i in range(4)]
    choices = [line["choices"][0] for path in of_sd for line in lines(path) if line["question_id"] == 1]
    assert [choice["index"] for choice in choices] == [0, 1, 2, 3]
    assert [choice["wall_time"] for choice in choices] == [[3.0], [4.0], [13.0], [14.0]]
    assert len({line["answer_id"] for path in written for line in lines(path)}) == 16


def test_an_imported_run_exports_the_same_files_again(run: Path, tmp_path: Path) -> None:
    first = export(run, "spec-bench", tmp_path / "out").written
    import_files(first, tmp_path / "back", Naming())
    again = export(tmp_path / "back", "spec-bench", tmp_path / "again").written
    for one, two in zip(first, again, strict=True):
        assert one.name == two.name
        assert [{**a, "answer_id": ""} for a in lines(one)] == [{**a, "answer_id": ""} for a in lines(two)]


def named(*labels: str, target: str = "t") -> list[str]:
    return list(file_names([AnswerFile(target, label, 0, []) for label in labels]))


def test_file_names_are_safe_on_every_file_system() -> None:
    label = "s2d:thresholds=0.5+0.5+0,draft=me/my draft"
    assert named(label, target="demo-s") == ["demo-s-s2d_thresholds_0.5_0.5_0_draft_me_my_draft-repeat-0.jsonl"]
    alike = named("sd:a=1", "sd:a_1", "SD:a=1")
    assert len({name.lower() for name in alike}) == 3
    assert all(re.fullmatch(r"t-(sd|SD)_a_1-[0-9a-f]{8}-repeat-0\.jsonl", name) for name in alike)
    (long,) = named("sd:" + "x" * 400)
    assert len(long) < 200


def test_csv_is_the_tidy_table_and_flat_records(run: Path, tmp_path: Path) -> None:
    export(run, "csv", tmp_path / "out")
    records = pd.read_csv(tmp_path / "out" / "records.csv")
    assert list(records["label"]) == ["ar", "sd", "sd", "ar"]
    assert json.loads(records["emitted_per_step"][1]) == [2, 1, 1]
    summary = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert list(summary.columns) == list(summary_table(paper_run()).columns)


def test_parquet_keeps_types_and_lists_and_what_is_missing(tmp_path: Path) -> None:
    first, *rest = worded(paper_run())
    first = first.model_copy(
        update={"quality": {"f1": 0.5}, "divergence": Divergence(verdict="near_tie", position=2, margin=0.25)}
    )
    run = write_run(tmp_path / "run", [first, *rest, rest[0].model_copy(update={"question_id": "q-3", "key": "x"})])
    export(run, "parquet", tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "records.parquet")
    types = {name: str(table.schema.field(name).type) for name in table.column_names}
    assert types["emitted_per_step"] == types["output_ids"] == "list<element: int64>"
    assert (types["total_s"], types["new_tokens"], types["lossy"], types["label"]) == (
        "double",
        "int64",
        "bool",
        "string",
    )
    assert (types["divergence_margin"], types["quality_f1"], types["energy_j"]) == ("double", "double", "double")
    rows = table.to_pylist()
    assert rows[1]["emitted_per_step"] == [2, 1, 1] and rows[1]["output_ids"] is None
    assert (rows[0]["quality_f1"], rows[1]["quality_f1"], rows[0]["divergence_verdict"]) == (0.5, None, "near_tie")
    assert [row["question_id"] for row in rows] == ["1", "1", "2", "2", "q-3"]
    summary = pq.read_table(tmp_path / "out" / "summary.parquet").to_pandas()
    assert list(summary["suite"].unique()) == ["qa", "overall"]


@pytest.mark.parametrize(("form", "name"), [("latex", "leaderboard.tex"), ("markdown", "leaderboard.md")])
def test_a_leaderboard_is_one_file(form: str, name: str, run: Path, tmp_path: Path) -> None:
    assert export(run, form, tmp_path / "out").written == [tmp_path / "out" / name]
    assert "5.00" in (tmp_path / "out" / name).read_text()


def test_files_of_the_same_names_are_replaced_and_others_left_alone(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    (out / "leaderboard.md").write_text("old")
    export(run, "markdown", out)
    assert sorted(path.name for path in out.iterdir()) == ["leaderboard.md", "mine.txt"]
    assert (out / "leaderboard.md").read_text() != "old" and (out / "mine.txt").read_text() == "mine"


def test_what_cannot_be_exported_is_one_line(run: Path, tmp_path: Path) -> None:
    with refused(UnknownNameError, "unknown format 'spec-bank'", "'spec-bench'"):
        export(run, "spec-bank", tmp_path / "out")
    with refused(RunFolderError, "no such folder"):
        export(tmp_path / "none", "csv", tmp_path / "out")
    (tmp_path / "file").write_text("")
    with refused(RunFolderError, "file: is a file, and no folder"):
        export(run, "csv", tmp_path / "file")
    bare = write_run(tmp_path / "bare", paper_run())
    with refused(UserError, "nothing to export as spec-bench: t, ar, repeat 0: 2 of 2 questions left out"):
        export(bare, "spec-bench", tmp_path / "out")
    assert not (tmp_path / "out").exists()
