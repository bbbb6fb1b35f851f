"""Repetition of made-up token lists: shares worked by hand, loops found by a slow search, reasons for short answers."""

from __future__ import annotations

import random
import statistics
from itertools import product

import pytest

from specbench_s2d.analysis.metrics.repetition import (
    DISTINCT_2,
    LOOP_SHARE,
    distinct_1,
    distinct_2,
    distinct_share,
    ends_in_loop,
    loop_share,
)
from specbench_s2d.analysis.metrics.values import Measure
from specbench_s2d.analysis.tables.summary import summary_table
from specbench_s2d.runs.record import Record
from tests.analysis.factory import make_record

EOS = 0


def answers(*ids: list[int] | None, label: str = "mjsd", stop: str = "length") -> list[Record]:
    return [make_record(label, number, output_ids=one, stop=stop) for number, one in enumerate(ids)]


@pytest.mark.parametrize(
    ("ids", "n", "share"),
    [
        ([1, 2, 3, 4], 1, 1.0),
        ([1, 1, 2, 1], 1, 2 / 4),
        ([1, 2, 1, 2, 1], 2, 2 / 4),  # 12 21 12 21
        ([1, 2, 3, 1, 2], 2, 3 / 4),  # 12 23 31 12
        ([1, 2, 3, 1, 2, 3], 3, 3 / 4),  # 123 231 312 123
        ([7], 1, 1.0),
        ([7], 2, None),
        ([], 1, None),
    ],
)
def test_distinct_n_grams_are_counted_by_hand(ids: list[int], n: int, share: float | None) -> None:
    assert distinct_share(ids, n) == share


@pytest.mark.parametrize(
    ("ids", "loops"),
    [
        ([9, 9, 5, 5, 5, 5, 5, 5, 5, 5], 1.0),  # eight times one token
        ([9, 9, 9, 5, 5, 5, 5, 5, 5, 5], 0.0),  # seven times: too short
        ([4, 1, 2, 3, 1, 2, 3, 1, 2, 3], 1.0),  # 1 2 3 three times
        ([1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2], 1.0),  # and cut within the fourth
        ([4, 2, 3, 1, 2, 3, 1, 2, 3], 0.0),  # 8 ids of period 3 are not three blocks of 3
        ([1, 2, 3, 1, 2, 3, 1, 2, 3, 4], 0.0),  # the loop was left
        ([1, 2, 1, 2, 1, 2], None),  # fewer than 8 ids
        ([1, 2, 1, 2, 1, 2, 1, 2], 1.0),
        (list(range(20)), 0.0),
    ],
)
def test_a_loop_is_a_block_three_times_at_the_end_over_eight_tokens(ids: list[int], loops: float | None) -> None:
    assert ends_in_loop(ids) == loops


def loops_by_search(ids: list[int]) -> float:
    """Whether the end equals some block written again and again, by trying every block and length."""
    ends = [ids[-length:] for length in range(8, len(ids) + 1)]
    blocks = ((end, end[:period]) for end in ends for period in range(1, len(end) // 3 + 1))
    return float(any(end == (block * len(end))[: len(end)] for end, block in blocks))


def test_loops_are_those_that_a_slow_search_finds() -> None:
    rng = random.Random(0)
    short = [list(ids) for ids in product((0, 1), repeat=9)]
    long = [rng.choices((0, 1, 2), k=rng.randrange(3)) + rng.choices((0, 1, 2), k=4) * 3 for _ in range(300)]
    given = [*short, *long, *([*ids, rng.randrange(3)] for ids in long)]
    found = [ends_in_loop(ids) for ids in given]
    assert found == [loops_by_search(ids) for ids in given]
    assert 50 < sum(map(bool, found)) < len(given) - 50


def test_a_row_is_the_mean_over_its_answers_with_the_interval_of_a_mean() -> None:
    same, half = [1] * 9, [1, 2, 1, 2, 1, 2, 1, 2, 1]
    run = answers(same, same, half, half, list(range(9)))
    shares = [1 / 8, 1 / 8, 2 / 8, 2 / 8, 1.0]
    assert distinct_2(run).value == pytest.approx(sum(shares) / 5)
    assert distinct_1(run).value == pytest.approx((1 / 9 + 1 / 9 + 2 / 9 + 2 / 9 + 1) / 5)
    assert loop_share(run) == Measure(4 / 5)
    spread = 2.776 * statistics.stdev(shares) / 5**0.5  # Student's t of 4 degrees
    found = DISTINCT_2.interval([run])
    assert (found.low, found.high) == (0.0, pytest.approx(sum(shares) / 5 + spread, rel=1e-3))  # no share is below 0
    assert LOOP_SHARE.interval([run]).high == 1.0


def test_the_eos_is_no_token_of_the_answer() -> None:
    ids = [1, 2, 1, 2, 1, 2, 1, 2, EOS]
    assert loop_share(answers(ids, stop="eos")) == Measure(1.0)
    assert loop_share(answers(ids)) == Measure(0.0)
    assert distinct_1(answers(ids, stop="eos")).value == pytest.approx(2 / 8)


def test_answers_too_short_are_left_out_and_none_at_all_has_the_reason() -> None:
    assert distinct_2(answers([1], [1, 2, 3])) == Measure(1.0)
    assert distinct_2(answers([1], [2])) == Measure(None, "no answer has 2 tokens")
    assert distinct_1(answers([EOS], stop="eos")) == Measure(None, "no answer has a token")
    assert loop_share(answers([1, 1, 1])) == Measure(None, "no answer has 8 tokens")
    assert distinct_1(answers(None)) == Measure(None, "1 of 1 cells carry no output_ids")
    assert distinct_1(answers(None, [1])) == Measure(1.0, "1 of 2 cells carry no output_ids")


def test_the_tidy_table_has_values_intervals_and_the_mean_over_targets() -> None:
    ours = answers([1] * 9, *([[1, 2, 3, 4, 5, 6, 7, 8]] * 4))
    other = [record.model_copy(update={"target": "u"}) for record in answers(*([[1] * 8] * 5))]
    rows = {row["target"]: row for row in summary_table([*ours, *other]).query("suite == 'overall'").to_dict("records")}
    assert rows["t"]["loop_share"] == pytest.approx(1 / 5) and rows["t"]["loop_share_n"] == 5
    assert rows["t"]["distinct_2_low"] < rows["t"]["distinct_2"] < rows["t"]["distinct_2_high"] == 1.0
    assert rows["mean over targets"]["loop_share"] == pytest.approx((1 / 5 + 1) / 2)
    assert "loop_share_low: no interval: all 5 questions have the same value" in rows["u"]["notes"]
