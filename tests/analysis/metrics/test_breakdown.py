"""Why a decoder is slower or faster: the factors, each worked on paper, and the sentence made of them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from specbench_s2d.analysis.metrics import breakdown as metric
from specbench_s2d.analysis.metrics.breakdown import Breakdown, breakdown, sentence, why
from specbench_s2d.analysis.metrics.pairs import Group, pair
from specbench_s2d.analysis.metrics.speed import speedup
from specbench_s2d.analysis.metrics.values import Measure
from specbench_s2d.runs.record import Record
from tests.analysis.factory import ar, decoded, paper_run

# AR: 8 passes of 1 s each, of which 0.75 s in the target and 0.25 s in the loop.
AR = ar(1, 9, decode_s=8, draft_s=0, verify_s=6, other_s=2)
# sd: 4 Steps of 5 drafted tokens, 2 kept of each: 3 s of drafting, 4.5 s in the target, 1.5 s in the loop.
SD = decoded("sd", 1, [(5, 1, 2)] * 4, decode_s=9, draft_s=3, verify_s=4.5, other_s=1.5)
FACTORS = ("tokens", "draft", "passes", "loop")


def found(*records: Record, base: Record = AR) -> Breakdown:
    result, reason = breakdown(pair(list(records), [base]))
    assert result is not None, reason
    return result


def group(records: list[Record], base: list[Record]) -> Group:
    return Group("t", records[0].label, "qa", records, ["t"], base)


def test_each_factor_takes_one_part_of_ar_s_step_for_the_decoder_s_own() -> None:
    """8 tokens in 4 passes: 2. With 3 s of drafting, 4 s become 7. Target passes of 4.5 s in place of 3: 8.5. A loop of
    1.5 s in place of 1: 9."""
    made = found(SD)
    assert made.factors == {
        "tokens": pytest.approx(2),
        "draft": pytest.approx(4 / 7),
        "passes": pytest.approx(7 / 8.5),
        "loop": pytest.approx(8.5 / 9),
    }
    assert made.speedup == pytest.approx(8 / 9)
    assert (made.tokens, made.passes, made.draft_passes, made.rows) == (2, 1, 5, 6)
    assert made.costs == {"draft": 0.75, "passes": pytest.approx(1.125), "loop": pytest.approx(0.375)}
    assert made.added == {"draft": 0.75, "passes": pytest.approx(0.375), "loop": pytest.approx(0.125)}


def test_the_product_is_the_measured_speed_up() -> None:
    tree = decoded("s2d-tree", 1, [(60, 3, 4)] * 2, decode_s=5.5, draft_s=1.1, verify_s=3.3, levels_per_step=[4, 4])
    beams = decoded("mjgd", 1, [(0, 0, 3), (0, 0, 3), (0, 0, 2)], decode_s=20, draft_s=0, verify_s=19, target_passes=9)
    fast = decoded("sd", 1, [(5, 3, 4)] * 2, decode_s=2.5, draft_s=0.2, verify_s=2.1)
    for record in (SD, tree, beams, fast, AR):
        pairs = pair([record], [AR])
        product = math.prod(metric.factor(pairs, part).value or 0 for part in FACTORS)
        assert product == pytest.approx(speedup([pairs]).value)
    assert [metric.factor(pair([AR], [AR]), part).value for part in FACTORS] == [1, 1, 1, 1]


def test_a_slower_decoder_in_words() -> None:
    assert sentence(found(SD)) == (
        "2.00 tokens a step promise 2.00 ×; drafting (5 passes) costs 0.75 AR steps and takes it to 1.14 ×, "
        "target passes of 6 rows cost 1.12 AR steps and take it to 0.94 ×, the loop costs 0.38 and takes it to 0.89 ×: "
        "slower, drafting decides; 2.25 tokens a step would break even"
    )


def test_what_decides_adds_the_most_time_whatever_its_place() -> None:
    """Drafting adds 2 s to 4, a factor of 0.67; target passes then add 2.5 s to 6, a factor of 0.71, and are dearer."""
    wide = decoded("sd", 1, [(5, 1, 2)] * 4, decode_s=8.5, draft_s=2, verify_s=5.5, other_s=1)
    made = found(wide)
    assert made.factors["draft"] < made.factors["passes"]
    assert made.dearest == "passes"
    assert ": slower, the target passes decide; 2.12 tokens a step would break even" in sentence(made)


def test_a_faster_decoder_in_words() -> None:
    """8 tokens in 2 Steps, 2 s at AR's price: 2.24 with drafting, 2.58 with the target passes, 2.48 with the loop."""
    fast = decoded("sd", 1, [(5, 3, 4)] * 2, decode_s=2.48, draft_s=0.24, verify_s=1.84, other_s=0.4)
    assert sentence(found(fast)) == (
        "4.00 tokens a step promise 4.00 ×; drafting (5 passes) costs 0.12 AR steps and takes it to 3.57 ×, "
        "target passes of 6 rows cost 0.92 AR steps and take it to 3.10 ×, the loop costs 0.20 and takes it to 3.23 ×: "
        "faster, the accepted tokens decide; most of what they promise goes to the target passes"
    )


def test_a_step_of_several_passes_and_no_draft() -> None:
    """6 tokens in 2 Steps of 3 passes; each pass 2.25 s in the target, three times AR's."""
    block = decoded("mjgd", 1, [(0, 0, 3)] * 2, decode_s=15, draft_s=0, verify_s=13.5, other_s=1.5, target_passes=6)
    assert sentence(found(block)) == (
        "3.00 tokens in 3 passes a step promise 1.00 ×; target passes cost 6.75 AR steps and take it to 0.40 ×, "
        "the loop costs 0.75 and takes it to 0.40 ×: slower, the target passes decide; "
        "7.50 tokens a step would break even"
    )


def test_as_fast_as_ar_and_slower_for_want_of_tokens() -> None:
    assert sentence(found(AR)).endswith(": as fast as AR")
    few = decoded("mjgd", 1, [(0, 0, 1)] * 2, decode_s=4, draft_s=0, verify_s=3, other_s=1, target_passes=4)
    assert ": slower, too few tokens decide; 2.00 tokens" in sentence(found(few))


@pytest.mark.parametrize(
    ("ours", "base", "reason"),
    [
        ({"verify_s": None}, {}, "1 of 1 cells carry no draft_s or verify_s or target_passes or emitted_per_step"),
        ({}, {"draft_s": None}, "ar's 1 of 1 cells carry no draft_s or"),
        ({"decode_s": None}, {}, "no cell with a decode time that AR finished too"),
    ],
)
def test_missing_times_are_missing_with_the_reason(ours: dict[str, Any], base: dict[str, Any], reason: str) -> None:
    mine, theirs = SD.model_copy(update=ours), AR.model_copy(update=base)
    for part in FACTORS:
        made = metric.factor(pair([mine], [theirs]), part)
        assert made.value is None and (made.note or "").startswith(reason)
    assert why(group([mine], [theirs])) is None


def test_a_cell_without_parts_takes_the_whole_breakdown_away() -> None:
    """The speed-up is of both cells; factors of one alone would not multiply to it."""
    more = SD.model_copy(update={"question_id": 2, "draft_s": None})
    base = [AR, AR.model_copy(update={"question_id": 2})]
    assert metric.factor(pair([SD, more], base), "loop") == Measure(
        None, "1 of 2 cells carry no draft_s or verify_s or target_passes or emitted_per_step"
    )
    assert metric.factor([], "loop").value is None


def test_answers_of_one_token_have_no_step() -> None:
    one = decoded("sd", 1, [], decode_s=0, draft_s=0, verify_s=0)
    base = ar(1, 1, decode_s=0, draft_s=0, verify_s=0)
    assert metric.factor(pair([one], [base]), "draft") == Measure(None, "no step after the prefill")


def test_the_column_names_projections_and_leaves_ar_and_means_out() -> None:
    projected = SD.model_copy(update={"projected": "random weights"})
    assert (why(group([projected], [AR])) or "").startswith("projected: 2.00 tokens a step")
    assert why(group([AR], [AR])) is None
    assert why(Group("mean over targets", "sd", "qa", [SD], ["t", "u"], [AR])) is None
    assert why(group([r for r in paper_run() if r.label == "sd"], [r for r in paper_run() if r.label == "ar"])) is None
