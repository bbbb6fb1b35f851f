"""The projections' table: which decoders a draft can stand for, at which costs, beside what; and the best of them."""

from __future__ import annotations

import numpy as np
import pytest

from specbench_s2d.analysis.projection import table as projection_table
from specbench_s2d.analysis.projection import text as projection_text
from specbench_s2d.analysis.projection.table import CANDIDATE, RECORDED, Device, best_of, of_paper, of_run, table_of
from specbench_s2d.errors import UserError
from specbench_s2d.published import published_mat
from specbench_s2d.runs.record import Record
from tests.analysis.factory import ar, decoded


def device(target: str = "t", draft: str = "d", exits: tuple[int, ...] = (2, 4)) -> Device:
    def flat(value: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.array([value, value])

    chains = {depth: (flat(depth / 10), flat(depth / 10)) for depth in exits or (4,)}
    stages = {depth: (flat(0.2), flat(0.2)) for depth in exits}
    return Device(target, draft, flat(1.0), 80.0, np.array([flat(1.0)] * 6), chains, stages)


def run(questions: int = 2) -> list[Record]:
    sd = {"gamma": 2, "sampling": "run", "exit": None, "draft": None}
    s2d = {"gamma": 2, "thresholds": [0.5, 0.0], "exits": None, "draft": None}
    common = {"suite": "qa", "draft": "d"}
    tree = {"thresholds": [0.5], "depth": 4}
    records = [ar(q, 7, decode_s=6, suite="qa") for q in range(questions)]
    for q, depths in ((q, [3, 3 if q % 2 else 9]) for q in range(questions)):
        records += [
            decoded("sd", q, [(2, 2, 3), (2, 2, 3)], decode_s=3, decoder_options=sd, **common),
            decoded("sd:exit=2", q, [(2, 2, 3), (2, 1, 2)], decode_s=3, decoder_options={**sd, "exit": 2}, **common),
            decoded("s2d", q, [(2, 2, 3)], decode_s=3, decoder_options=s2d, exit_depths=depths, **common),
            decoded("s2d-tree", q, [(9, 2, 3)], decode_s=3, decoder_options=tree, **common),
        ]
    return records


def test_every_chain_and_exit_of_the_run_is_projected_by_its_own_passes() -> None:
    table = table_of(of_run(run(), device(), gamma_max=3))
    recorded = table[(table["role"] == RECORDED) & (table["suite"] == "overall")].set_index("label")
    assert list(recorded.index) == ["s2d", "sd", "sd:exit=2"]
    assert recorded.loc["sd", "speedup"] == pytest.approx(3 / (1 + 2 * 0.4))
    assert recorded.loc["sd:exit=2", "speedup"] == pytest.approx(2.5 / (1 + 2 * 0.2))
    # Recorded depths 3 and 9 are exits 2 and 4 by rank: of 4 tokens one went through both stages.
    assert recorded.loc["s2d", "speedup"] == pytest.approx(6 / (2 + 3 * 0.2 + 0.4))
    assert recorded.loc["sd", "of_run"] == pytest.approx(2.0)
    assert set(table["projected"]) == {projection_table.PROJECTED}
    assert len(table[table["role"] == CANDIDATE]) == 9


def test_the_best_are_named_by_gamma_by_exit_and_altogether() -> None:
    found = {row["what"]: (row["label"], row["gamma"]) for row in best_of(table_of(of_run(run(), device(), 2)))}
    assert found["gamma of sd:exit=2"] == ("sd:exit=2", 2)
    assert found["all together"] == ("s2d", 2)


def test_a_plain_draft_stands_for_chains_at_full_depth_alone() -> None:
    rows = of_run(run(), device(draft="other", exits=()), 1)
    assert {row["label"] for row in rows} == {"sd"}
    assert rows[0]["note"] == ("acceptances of other drafts (d); n = 2: no interval from fewer than 5 questions")
    elsewhere = of_run(run(), device(target="u"), 1)
    assert elsewhere[0]["note"].startswith("acceptances of another target (t); ")


def test_a_run_without_such_a_draft_is_refused() -> None:
    tree = [r for r in run() if r.label in ("ar", "s2d-tree")]
    with pytest.raises(UserError, match="no chain or exits of a draft like d; its decoders on t: s2d-tree"):
        of_run(tree, device(), 1)


def test_a_paper_s_methods_stand_beside_their_published_speed_ups() -> None:
    rows = of_paper(published_mat("s2d", "vicuna-7b"), device("vicuna-7b", exits=(3, 6, 12)), 6)
    table = table_of(rows)
    recorded = table[table["role"] == RECORDED].set_index(["label", "suite"])
    assert set(table["label"]) == {"S2D SoFT 6,9,12", "SD SFT early-exit L6"}
    row = recorded.loc[("S2D SoFT 6,9,12", "mt_bench")]
    assert row["published"] == 1.34 and row["mat"] == pytest.approx(2.86)
    assert row["speedup"] == pytest.approx(2.86 / (1 + 5 * 0.2 * 2))  # a third of the tokens through 1, 2, 3 stages
    assert "s2d gives no figure of qa: that of mt_bench" in recorded.loc[("S2D SoFT 6,9,12", "qa"), "note"]
    assert table[table["gamma"] == 6]["extrapolated"].all()
    with pytest.raises(UserError, match="stands for none of them"):
        of_paper(published_mat("s2d", "vicuna-7b"), device("vicuna-7b", exits=()), 1)


def test_the_questions_stand_beside_every_interval_and_where_they_are_too_few() -> None:
    few, more = (table_of(of_run(run(n), device(), 3)) for n in (2, 6))
    assert set(few["n"]) == {2} and few["low"].isna().all() and set(more["n"]) == {6}
    row = more[(more["label"] == "s2d") & (more["suite"] == "overall")].iloc[0]
    assert row["low"] < row["speedup"] < row["high"]
    shown = projection_text.markdown(more)
    assert f"{row['speedup']:.2f} [{row['low']:.2f}–{row['high']:.2f}, n = 6]" in shown
    assert "[n = 2]" in projection_text.markdown(few) and "\\* [" in shown
    published = table_of(of_paper(published_mat("s2d", "vicuna-7b"), device("vicuna-7b", exits=(3, 6, 12)), 6))
    assert published["n"].isna().all() and "n = " not in projection_text.markdown(published)


def test_every_table_that_is_shown_says_projected() -> None:
    table = table_of(of_run(run(), device(), 3))
    text = projection_text.markdown(table)
    assert all("projected" in shown.title for shown in projection_text.tables(table))
    assert "Projected, not measured" in text
    assert "*" in next(line for line in text.splitlines() if line.startswith("| sd |") and line.count("|") == 5)


def test_an_ar_pass_beyond_its_bound_says_that_the_rate_is_wrong() -> None:
    table = table_of(of_run(run(), device(), 1))
    for percent, said in ((99.0, "99 % of bound)"), (112.0, "112 % of bound: the read rate was measured too low)")):
        assert projection_text.tables(table.assign(ar_percent_of_bound=percent))[0].title.endswith(said)


def test_the_tables_show_no_column_without_a_value_and_one_note_for_suites_alike() -> None:
    of_the_run = projection_text.tables(table_of(of_run(run(), device(), 2)))[0]
    assert "published" not in of_the_run.headings and "in its run" in of_the_run.headings
    assert [row[0] for row in of_the_run.rows if row[0]] == ["s2d", "sd", "sd:exit=2"], "each decoder once"
    published = table_of(of_paper(published_mat("s2d", "vicuna-7b"), device("vicuna-7b", exits=(3, 6, 12)), 6))
    assert "in its run" not in projection_text.tables(published)[0].headings
    notes = [line for line in projection_text.markdown(published).splitlines() if "gives no figure" in line]
    assert len(notes) == 1 and "translation, summarization, qa" in notes[0] and notes[0].endswith(": that of mt_bench.")
