"""The printed table, the Markdown and the CSV say what the tidy table holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from specbench_s2d.analysis.tables import remarks, summary_text
from specbench_s2d.analysis.tables.summary import rows_by_target, summary_table
from specbench_s2d.config import SUITES
from tests.analysis.expected import ends_of_three_copies
from tests.analysis.factory import decoded, make_record, paper_run
from tests.analysis.tables.test_remarks import SENTENCE, timed_run

TABLE, SIX = summary_table(paper_run()), summary_table(paper_run(3))
LOW, HIGH = ends_of_three_copies(5, 5.6, 4.4, (4, 16))


def printed(table: pd.DataFrame, width: int = 80) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(summary_text.render(table))
    return console.export_text()


def test_terminal_shows_speedup_interval_questions_mat_rate_and_perplexity() -> None:
    low, high = ends_of_three_copies(5, 5.6, 4.4, (4, 16))
    text = printed(SIX)
    for figure in ("5.00", f"{low:.2f}–{high:.2f}", "n = 6", "2.40", "3.0", "2.72", "0/0/0", "sd", "QA"):
        assert figure in text


def test_below_five_questions_the_terminal_shows_their_number_in_place_of_an_interval() -> None:
    lines = [line.split() for line in printed(TABLE).splitlines()]
    first = next(i for i, line in enumerate(lines) if line[:1] == ["sd"])
    assert lines[first] == ["sd", "5.00", "–", "3.0", "0/0/0"]
    assert lines[first + 1] == ["2.40", "n", "=", "2", "–", "2.72"]


def test_it_is_said_how_many_launches_the_intervals_stand_on() -> None:
    again = [r.model_copy(update={"launch": 1, "key": f"{r.key}/1"}) for r in paper_run(3)]
    two = summary_table([*paper_run(3), *again])
    for text in (" ".join(printed(SIX).split()), summary_text.markdown(SIX)):
        assert "from n questions within this launch: another run of the same command may differ by more" in text
    for text in (" ".join(printed(two).split()), summary_text.markdown(two)):
        assert "from n questions and 2 launches." in text and "within this launch" not in text


def test_without_decode_times_the_terminal_shows_the_speedup_with_the_prefill_and_says_so() -> None:
    text = printed(summary_table([r.model_copy(update={"decode_s": None}) for r in paper_run()]))
    assert "3.29" in text and "tokens/s with the prefill: no decode times" in text
    assert "3.01" in text and "makes ar beside itself 1.15 on t" in " ".join(text.split())
    assert "n = –" not in text
    assert "its own formula" not in printed(TABLE) and "beside itself" not in printed(TABLE)


def test_a_run_without_ar_says_that_it_is_what_speed_ups_lack() -> None:
    text = " ".join(printed(summary_table([r for r in paper_run() if r.label != "ar"])).split())
    assert "No speed-up is known, for ar has no decode times here (--decoder ar,…)." in text
    assert "with the prefill" not in text and "its own formula" not in text and "tok/s" in text
    assert "No speed-up is known" not in printed(TABLE)


def test_six_suites_fit_eighty_columns() -> None:
    records = [
        r.model_copy(update={"suite": s, "decode_s": (r.decode_s or 0) / 100}) for s in SUITES for r in paper_run(20)
    ]
    text = printed(summary_table(records))
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_suites_that_find_no_room_are_named_and_the_totals_stay() -> None:
    names = [f"custom/category-{i}" for i in range(9)] + ["custom/" + "x" * 90]
    text = printed(summary_table([make_record(label=label, suite=s) for label in ("ar", "sd") for s in names]))
    heads = next(line.split() for line in text.splitlines() if line.startswith("Decoder"))
    assert heads == ["Decoder", *(f"category-{i}" for i in range(5)), "All", "95", "%", "F/S/T"]
    said = " ".join(text.split())
    assert "Left out at 80 columns: category-5, category-6, category-7, category-8, xx" in said
    assert "see summary.md." in said and all(len(line) <= 80 for line in text.splitlines())


def headline(table: pd.DataFrame, doubts: Sequence[str] = ()) -> list[str]:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(summary_text.headline(table, doubts))
    return console.export_text().splitlines()


def test_the_end_of_a_run_is_one_table_by_suite_and_where_the_rest_is() -> None:
    lines = headline(summary_table(timed_run()))
    assert sum(line.startswith("Decoder") for line in lines) == 1
    assert "The rest (task quality, costs, why each decoder is slower or faster): summary.md" in lines
    assert SENTENCE not in " ".join(lines)


def test_of_several_targets_it_is_one_table_by_target_with_their_mean() -> None:
    both = [r.model_copy(update={"target": t}) for t in ("t", "u") for r in paper_run(3)]
    lines = headline(summary_table(both))
    assert [line.split() for line in lines if line.startswith(("Decoder", "sd"))] == [
        ["Decoder", "t", "u", "Mean", "95", "%", "F/S/T"],
        ["sd", "5.00", "5.00", "5.00", f"{LOW:.2f}–{HIGH:.2f}", "0/0/0"],
    ]


def test_of_many_remarks_the_end_of_a_run_has_five_failures_first() -> None:
    failed = summary_table([*paper_run(), make_record("sd", 4, status="failed")])
    lines = headline(failed, [f"doubt {i}" for i in range(7)])
    assert lines[0] == "t, sd: 1 of 3 turns failed."
    assert lines[1:6] == [*(f"doubt {i}" for i in range(4)), "3 more such lines: summary.md."]


def test_lossy_decoders_are_marked_and_explained() -> None:
    lossy = summary_table([*paper_run(), decoded("mjsd", 1, [(4, 4, 5)], decode_s=1)])
    for text in (printed(lossy), summary_text.markdown(lossy)):
        assert "mjsd †" in text
        assert "lossy" in text
        assert "sd † " not in text.replace("mjsd †", "")
    assert "†" not in printed(TABLE)


def test_the_mean_over_targets_is_a_block_of_its_own_and_repeats_no_alarm() -> None:
    failed = make_record("sd", 4, status="failed")
    both = [r.model_copy(update={"target": t}) for t in ("t", "u") for r in (*paper_run(), failed)]
    table = summary_table(both)
    assert [title for title, _ in rows_by_target(table)] == ["t", "u", "mean over targets"]
    assert remarks.alarms(table) == ["t, sd: 1 of 3 turns failed.", "u, sd: 1 of 3 turns failed."]
    assert "mean over targets" in printed(table) and "## mean over targets" in summary_text.markdown(table)


def test_missing_figures_are_dashes_not_zeros() -> None:
    lost = summary_table([make_record("sd", 1, status="failed")])
    text = printed(lost)
    assert "–" in text
    assert "0.00" not in text
    assert "nan" not in summary_text.markdown(lost).lower().replace("answer", "")


def test_the_summary_says_why_a_decoder_is_slower_or_faster_and_the_terminal_where_to_read_it() -> None:
    table = summary_table(timed_run())
    assert f"## Why slower, or faster, than ar\n\n- sd on t: {SENTENCE}" in summary_text.markdown(table)
    assert "Why slower, or faster, than ar: summary.md." in printed(table) and SENTENCE not in printed(table, 400)
    assert "Why slower" not in printed(TABLE)


def test_several_runs_have_blocks_of_their_own() -> None:
    both = pd.concat([TABLE.assign(run="a"), TABLE.assign(run="b")], ignore_index=True)
    assert [title for title, _ in rows_by_target(both)] == ["a: t", "b: t"]


def test_markdown_has_one_line_per_row_the_notes_and_the_definitions() -> None:
    text = summary_text.markdown(TABLE)
    speedups = "5.00 [n = 2] | 3.29 [n = 2] | 3.01 [n = 2]"
    assert (
        f"| qa | sd | 2 | 1 | 7.0 | 3.0 | – | {speedups} | – | – | – | 2.40 [n = 2] | 2.80 | 2.80 | 2.40 | 0.69 |"
        in text
    )
    assert "| 0.69 | – | 2.72 [n = 2] | – |" in text
    assert "- energy_j_per_token: 2 of 2 cells carry no energy_j or new_tokens (every row)" in text
    assert "- speedup_low: n = 2: no interval from fewer than 5 questions (every row)" in text
    assert "- `mat`: Mean accepted tokens" in text
    assert "## Decoders\n\n- `ar`: no options.\n- `sd`: no options." in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("| ")}
    assert len(widths) == 1


def test_markdown_has_intervals_with_their_questions() -> None:
    text = summary_text.markdown(SIX)
    speed, mat = ends_of_three_copies(5, 5.6, 4.4, (4, 16)), ends_of_three_copies(2.4, 8 / 3, 28 / 13, (3, 2))
    assert f"| 5.00 [{speed[0]:.2f}–{speed[1]:.2f}, n = 6] |" in text
    assert f"| 2.40 [{mat[0]:.2f}–{mat[1]:.2f}, n = 6] |" in text


def test_task_quality_has_a_table_of_its_own_where_anything_is_scored() -> None:
    assert "task quality" not in printed(TABLE)
    scored = [r.model_copy(update={"quality": {"f1": 0.25 * i}}) for i, r in enumerate(paper_run())]
    table = summary_table(scored)
    text = printed(table)
    assert "t: task quality" in text and "F1" in text and "Task quality: F1 from 0 to 1." in " ".join(text.split())
    assert "0.38" in text  # sd: 0.25 and 0.5
    assert "| F1 [95 %] |" in summary_text.markdown(table) and "0.38 [n = 2]" in summary_text.markdown(table)
    assert "| f1_low" not in summary_text.markdown(table)


def test_repetition_is_shown_where_a_decoder_may_change_the_output() -> None:
    told = [r.model_copy(update={"output_ids": list(range(9))}) for r in paper_run()]
    lossless = summary_table(told)
    assert "loops" not in printed(lossless) and "distinct-2 [95 %]" not in summary_text.markdown(lossless)
    looping = decoded("mjsd", 1, [(4, 4, 5)], decode_s=1, output_ids=[1] * 9)
    lossy = summary_table([*told, looping])
    text, lines = printed(lossy), [line.split() for line in printed(lossy).splitlines()]
    assert "t: repetition" in text and "loops: the share of answers that end in a block" in " ".join(text.split())
    assert ["mjsd", "†", "0.11", "0.12", "1.00"] in lines and ["ar", "1.00", "1.00", "0.00"] in lines
    assert "| distinct-1 [95 %] | distinct-2 [95 %] | loops [95 %] |" in summary_text.markdown(lossy)
    scored = summary_table([looping, *(r.model_copy(update={"quality": {"f1": 0.5}}) for r in told)])
    assert "t: task quality and repetition" in printed(scored)


def test_csv_keeps_every_digit(tmp_path: Path) -> None:
    summary_text.write_tables(TABLE, tmp_path)
    read = pd.read_csv(tmp_path / "summary.csv")
    assert list(read.columns) == list(TABLE.columns)
    assert list(read["speedup_e2e"]) == list(TABLE["speedup_e2e"])
    assert read["percent_of_bound"].isna().all()


def test_a_slow_baseline_is_named_in_the_table_and_in_the_summary() -> None:
    """AR takes 20 s where memory allows 2: 10 % of the bound."""
    slow = summary_table([r.model_copy(update={"bound_s": (r.decode_s or 0) / 10}) for r in paper_run()])
    line = "ar is slow beside what memory allows (t 10 % of the bound): a slow baseline flatters every method."
    assert remarks.cautions(slow) == [line]
    assert f"**{line}**" in summary_text.markdown(slow)
    fast = summary_table([r.model_copy(update={"bound_s": (r.decode_s or 0) * 0.4}) for r in paper_run()])
    assert remarks.cautions(fast) == remarks.cautions(TABLE) == []
