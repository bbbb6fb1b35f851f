"""How much the audit could have caught: counts by hand, in the table, the page, the terminal and the warning."""

from __future__ import annotations

import io

import pandas as pd
import pytest
from rich.console import Console

from specbench_s2d.analysis.metrics.audit import (
    Coverage,
    auditable_share,
    audited_tokens,
    coverage,
    coverage_of_rows,
    launches,
)
from specbench_s2d.analysis.report.html import audit
from specbench_s2d.analysis.report.html.page import Run, page
from specbench_s2d.analysis.tables import remarks, summary_text
from specbench_s2d.analysis.tables.summary import MEAN_TARGET, OVERALL, summary_table
from specbench_s2d.runs.record import Record
from tests.analysis.factory import ar, decoded, make_record

SAME = {"verdict": "identical"}


def audited(label: str, question: int, tokens: int, ties: list[int] | None, target: str = "t") -> Record:
    """`tokens` new tokens, of which those at `ties` lie within the noise."""
    steps = [(0, 0, 1)] * (tokens - 1)
    return decoded(label, question, steps, decode_s=1, divergence=SAME, tie_positions=ties, target=target)


def test_launches_are_counted_where_a_cell_finished() -> None:
    records = [make_record("sd", question, launch=launch) for question in (1, 2) for launch in (0, 2)]
    assert launches([*records, make_record("sd", 1, launch=1, status="failed")]) == 2


def test_tokens_beyond_the_noise_are_counted_over_audited_outputs() -> None:
    """10 + 6 + 4 tokens, 1 + 0 + 2 of them within the noise."""
    records = [audited("ar", 1, 10, [3]), audited("sd", 1, 6, []), audited("sd", 2, 4, [0, 1])]
    assert coverage(records) == Coverage(20, 17)
    assert coverage(records).share == auditable_share(records).value == pytest.approx(0.85)
    assert audited_tokens(records).value == 20
    assert coverage(records).is_coarse and not coverage(records[:2]).is_coarse  # 0.85, and 15 of 16


def test_what_was_not_audited_does_not_count() -> None:
    """A lossy output, a sampled one, a failed turn: none has a verdict."""
    records = [
        audited("sd", 1, 4, [2]),
        decoded("mjsd", 1, [(5, 3, 4)], decode_s=1, tie_positions=[0, 1, 2]),
        decoded("sd", 2, [(5, 3, 4)], decode_s=1, tie_positions=[1]),
        make_record("sd", 3, status="failed"),
    ]
    assert coverage(records) == Coverage(4, 3)


def test_nothing_audited_is_null_with_the_reason() -> None:
    records = [decoded("mjsd", 1, [(5, 3, 4)], decode_s=1, tie_positions=[0])]
    assert auditable_share(records).value is None and audited_tokens(records).value is None
    assert auditable_share(records).note == "no output was audited against AR's"
    assert not coverage(records).is_coarse


def test_runs_of_older_releases_have_no_share_and_say_why() -> None:
    old = [audited("sd", 1, 4, None), audited("sd", 2, 4, None)]
    assert auditable_share(old).value is None
    note = "2 of 2 audited outputs carry no tie positions (the release that wrote them recorded none)"
    assert auditable_share(old).note == note
    row = summary_table(old).iloc[-1]
    assert pd.isna(row["auditable_share"]) and pd.isna(row["audited_tokens"])
    assert f"auditable_share: {note}" in row["notes"]
    partly = [audited("sd", 1, 4, [0]), *old[1:]]
    assert auditable_share(partly).value == 0.75
    assert str(auditable_share(partly).note).startswith("1 of 2 audited outputs carry no tie positions")


def two_targets() -> list[Record]:
    """t: 20 tokens, 17 auditable. u: 10 tokens, all auditable. All: 27 of 30."""
    of_t = [audited("ar", 1, 10, [3]), audited("sd", 1, 10, [0, 1])]
    return [*of_t, audited("ar", 1, 5, [], "u"), audited("sd", 1, 5, [], "u")]


def test_the_table_has_a_share_by_row_and_the_mean_over_targets() -> None:
    table = summary_table(two_targets())
    overall = table[table["suite"] == OVERALL].set_index(["target", "label"])
    assert overall.loc[("t", "ar"), "auditable_share"] == 0.9
    assert overall.loc[("t", "sd"), "auditable_share"] == 0.8
    assert overall.loc[("u", "sd"), ["auditable_share", "audited_tokens"]].tolist() == [1.0, 5]
    mean = overall.loc[(MEAN_TARGET, "sd")]
    assert (mean["auditable_share"], mean["audited_tokens"]) == (pytest.approx(0.9), 15)
    assert coverage_of_rows(table[table["suite"] == "qa"].head(2).to_dict("records")) == Coverage(20, 17)


WARNING = (
    "t: the audit can tell apart only 17 of 20 tokens: this dtype is coarse, and elsewhere a wrong token "
    "would pass as a near-tie."
)


def test_a_coarse_audit_is_named_in_terminal_summary_and_page() -> None:
    records = two_targets()
    table = summary_table(records)
    assert remarks.cautions(table) == [WARNING]
    console = Console(file=io.StringIO(), width=1000)
    console.print(summary_text.render(table))
    shown = console.file
    assert isinstance(shown, io.StringIO) and WARNING in shown.getvalue()
    written = summary_text.markdown(table)
    assert f"**{WARNING}**" in written and "| auditable |" in written and "| 0.800 |" in written
    assert WARNING in page([Run("small", records, table, None, ())])


def test_ninety_per_cent_are_enough() -> None:
    table = summary_table([audited("ar", 1, 10, [3]), audited("sd", 1, 10, [3])])
    assert remarks.cautions(table) == []
    worse = summary_table([audited("ar", 1, 10, [3]), audited("sd", 1, 10, [3, 4])])
    assert len(remarks.cautions(worse)) == 1
    both = summary_table([audited("ar", 1, 10, [3, 4], target) for target in ("t", "u")])
    assert len(remarks.cautions(both)) == 2, "the mean over targets is no target"


def texts(records: list[Record], targets: dict[str, dict[str, object]]) -> list[list[str]]:
    return [[cell.text for cell in row] for row in audit.audit_reach(records, targets).rows]


def test_the_page_gives_target_by_target_the_noise_and_the_passes_it_was_measured_over() -> None:
    rows = {"chains": [1, 2, 4, 6], "trees": [6, 61]}
    targets = {"t": {"logit_noise": 0.5, "logit_noise_rows": rows}, "u": {"logit_noise": 6e-5}}
    assert texts(two_targets(), targets) == [
        ["t", "5.00e-01", "1, 2, 4, 6 rows; trees of 6, 61 rows", "20", "17", "0.850"],
        ["u", "6.00e-05", "–", "10", "10", "1.000"],
        ["all targets", "–", "–", "30", "27", "0.900"],
    ]
    reach = audit.audit_reach(two_targets(), targets)
    assert [row[-1].tone for row in reach.rows] == ["bad", "", ""]


def test_the_page_says_why_a_share_is_not_known() -> None:
    (row,) = audit.audit_reach([audited("sd", 1, 4, None)], {}).rows
    assert [cell.text for cell in row] == ["t", *"–––––"]
    assert all(cell.reason for cell in row[1:])
    assert "recorded none" in row[-1].reason and "not recorded" in row[1].reason


def test_an_output_of_one_token_that_is_a_tie_is_wholly_out_of_reach() -> None:
    found = coverage([ar(1, 1, decode_s=1, divergence=SAME, tie_positions=[0])])
    assert (found, found.share, found.is_coarse) == (Coverage(1, 0), 0.0, True)
