"""Which records count, and which have a partner."""

from __future__ import annotations

import pytest

from specbench_s2d.analysis.metrics import acceptance, quality, speed
from specbench_s2d.analysis.metrics.pairs import full_sum, pair
from specbench_s2d.analysis.metrics.values import Measure
from tests.analysis.factory import ar, decoded, make_record, of, paper_run

RUN = paper_run()
AR, SD = of("ar", RUN), of("sd", RUN)


def test_failed_and_skipped_records_count_for_nothing() -> None:
    failed = make_record("sd", 3, status="failed", error="out of memory")
    assert acceptance.mat([*SD, failed]) == acceptance.mat(SD)
    assert acceptance.mat([failed]) == Measure(None, "no cell finished")


@pytest.mark.parametrize("lost", ["failed", "skipped"])
def test_a_lost_partner_drops_the_pair(lost: str) -> None:
    without = [AR[0], make_record("ar", 2, status=lost)]
    pairs = pair(SD, without)
    assert [p.ours.question_id for p in pairs] == [1]
    assert speed.speedup([pairs]).value == pytest.approx((4 / 2) / (4 / 4))
    assert speed.SPEEDUP.interval([pairs]).questions == 1


def test_pairs_need_the_same_target_suite_question_turn_repeat_and_launch() -> None:
    for field, value in {"target": "u", "suite": "rag", "turn": 2, "repeat": 1, "launch": 1}.items():
        assert len(pair(SD, [ar(1, 5, decode_s=4, **{field: value})])) == 0
    assert len(pair(SD, [ar("1", 5, decode_s=4)])) == 0


def test_partly_missing_fields_are_left_out_and_said_so() -> None:
    blind = decoded("sd", 3, [(1, 1, 2)], decode_s=1)
    measure = quality.perplexity([*SD, blind])
    assert measure.value == quality.perplexity(SD).value
    assert measure.note == "1 of 3 cells carry no nll_sum or new_tokens"
    assert full_sum([*SD, blind], "nll_sum").value is None
    told = blind.model_copy(update={"reasons": {"nll_sum": "no memory for the pass"}})
    assert quality.perplexity([told]).note == "1 of 1 cells carry no nll_sum or new_tokens (no memory for the pass)"
