"""Accepted lengths, each worked on paper from the run of `factory.paper_run`."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings

from specbench_s2d.analysis.metrics import acceptance
from specbench_s2d.analysis.metrics.values import Measure
from specbench_s2d.runs.record import Record
from tests.analysis.factory import ar, decoded, of, paper_run
from tests.analysis.metrics.generated import runs

RUN = paper_run()
AR, SD = of("ar", RUN), of("sd", RUN)


def test_mat_pools_steps_and_the_mean_per_question_does_not() -> None:
    assert acceptance.mat(SD).value == pytest.approx((2 + 1 + 1 + 6 + 2) / 5)
    assert acceptance.mean_mat_per_question(SD).value == pytest.approx((4 / 3 + 8 / 2) / 2)


def test_mat_of_ar_is_exactly_one() -> None:
    assert acceptance.mat(AR).value == acceptance.mean_mat_per_question(AR).value == 1.0


def test_spec_bench_counts_the_first_token_in_iteration_1() -> None:
    """SD: 5 and 9 new tokens in 3 and 2 Steps. AR's prefill is an iteration, as is that of an answer of one token, or
    where nothing was accepted."""
    assert acceptance.mat_specbench(SD).value == pytest.approx((5 + 9) / (3 + 2))
    assert acceptance.mat_specbench(AR).value == 1.0
    short = decoded("sd", 3, [], decode_s=0)
    assert acceptance.mat_specbench([*SD, short]).value == pytest.approx((5 + 9 + 1) / (3 + 2 + 1))
    nothing_accepted = decoded("sd", 1, [(5, 0, 1), (0, 0, 1)], decode_s=1)
    assert acceptance.mat_specbench([nothing_accepted]).value == 1.0


def test_imported_answers_hold_the_first_token_already() -> None:
    """Spec-Bench's own accept_lengths add up to the new tokens: 3 + 2 of 5; its baseline's are ones."""
    theirs = {"drafted": None, "drafted_per_step": None, "accepted_per_step": None}
    method = decoded("eagle", 1, [(0, 0, 3), (0, 0, 2)], decode_s=1, **theirs, new_tokens=5)
    assert acceptance.mat_specbench([method]).value == pytest.approx(5 / 2)
    baseline = decoded("ar", 1, [(0, 0, 1)] * 5, decode_s=1, **theirs, new_tokens=5)
    exported = decoded("ar", 1, [(0, 0, 1)] * 4, decode_s=1, **theirs, new_tokens=5)
    assert acceptance.mat_specbench([baseline]).value == acceptance.mat_specbench([exported]).value == 1.0


def test_answers_without_accept_lengths_have_a_derived_mat() -> None:
    """EAGLE's and Medusa's files: 6 and 10 new tokens in 3 and 2 iterations."""
    theirs = {"drafted": None, "drafted_per_step": None, "accepted_per_step": None, "emitted_per_step": None}
    derived = [
        decoded("eagle", i, [], decode_s=1, **theirs, new_tokens=tokens, target_passes=passes)
        for i, tokens, passes in ((1, 6, 3), (2, 10, 2))
    ]
    assert acceptance.mat(derived) == Measure(16 / 5, acceptance.DERIVED)
    assert acceptance.mat_specbench(derived) == Measure(16 / 5, acceptance.DERIVED)
    assert acceptance.mean_mat_per_question(derived) == Measure((2 + 5) / 2, acceptance.DERIVED)
    assert acceptance.steps(derived) == Measure(5, acceptance.DERIVED)
    unknown = decoded("eagle", 3, [], decode_s=1, **theirs, new_tokens=4, target_passes=None)
    partial = acceptance.mat([*derived, unknown])
    assert partial.value == 16 / 5 and "carry no emitted_per_step" in (partial.note or "")
    assert acceptance.steps([*derived, unknown]).value is None


def test_mat_uncut_counts_before_the_cut_over_the_steps_that_drafted() -> None:
    """1 + (1 + 0 + 0 + 5 + 3) / 5; a Step without a draft is none of vLLM's drafts."""
    assert acceptance.mat_uncut(SD).value == pytest.approx(1 + 9 / 5)
    half = decoded("lookup", 1, [(0, 0, 1), (3, 2, 3)], decode_s=1)
    assert acceptance.mat_uncut([half]).value == pytest.approx(1 + 2 / 1)
    assert acceptance.mat_uncut(AR) == Measure(None, "nothing was drafted")


def test_accepted_per_pass_leaves_the_bonus_out_and_counts_before_the_cut() -> None:
    assert acceptance.accepted_per_pass(SD).value == pytest.approx((1 + 0 + 0 + 5 + 3) / 5)
    assert acceptance.accepted_per_pass(AR).value == 0.0


def test_tokens_per_pass_are_mat_where_a_step_is_one_pass() -> None:
    assert acceptance.tokens_per_pass(SD) == acceptance.mat(SD)
    assert acceptance.tokens_per_pass(AR).value == 1.0
    cut = decoded("mjgd", 1, [(0, 0, 3), (0, 0, 1)], decode_s=1, target_passes=6)  # EOS: three passes, one token kept
    assert acceptance.tokens_per_pass([cut]).value == pytest.approx(4 / 6)
    assert acceptance.tokens_per_pass([ar(1, 1, decode_s=0)]) == Measure(None, "no target pass after prefill")


def test_passes_may_outnumber_steps() -> None:
    block = decoded("mjgd", 1, [(0, 0, 3), (0, 0, 3)], decode_s=1, target_passes=6)
    assert acceptance.tokens_per_pass([block]).value == 1.0
    assert acceptance.mat([block]).value == 3.0
    assert acceptance.accepted_per_pass([block]).value == 0.0


def test_acceptance_by_position_counts_only_proposals_that_reached_it() -> None:
    positions = [(p.position, p.reached, p.accepted) for p in acceptance.acceptance_by_position(SD)]
    assert positions == [(1, 5, 3), (2, 3, 2), (3, 2, 2), (4, 2, 1), (5, 1, 1)]
    assert acceptance.acceptance_rate(SD).value == pytest.approx(9 / 13)


def test_a_fully_accepted_short_draft_reaches_no_further_position() -> None:
    positions = acceptance.acceptance_by_position([decoded("sd", 1, [(2, 2, 3), (4, 0, 1)], decode_s=1)])
    assert [(p.reached, p.accepted) for p in positions] == [(2, 1), (1, 1)]


def test_a_tree_is_as_deep_as_its_levels() -> None:
    tree = decoded("s2d-tree", 1, [(60, 4, 5), (60, 0, 1)], decode_s=1, levels_per_step=[4, 3])
    positions = [(p.position, p.reached, p.accepted) for p in acceptance.acceptance_by_position([tree])]
    assert positions == [(1, 2, 1), (2, 1, 1), (3, 1, 1), (4, 1, 1)]
    assert acceptance.acceptance_rate([tree]).value == pytest.approx(4 / 5)


@settings(deadline=None, max_examples=40)
@given(runs())
def test_acceptance_only_falls_with_position(records: list[Record]) -> None:
    positions = acceptance.acceptance_by_position(records)
    assert all(later.reached <= earlier.accepted for earlier, later in pairwise(positions))
    assert all(0 <= p.accepted <= p.reached for p in positions)
