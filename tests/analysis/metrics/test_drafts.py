"""What drafts did: layers per drafted token, and where tokens left."""

from __future__ import annotations

import pytest

from specbench_s2d.analysis.metrics import drafts
from tests.analysis.factory import ar, decoded

S2D = [
    decoded("s2d", 1, [(3, 1, 2)], decode_s=1, draft="d", exit_depths=[2, 2, 4], draft_layers=9),
    decoded("s2d", 2, [(1, 0, 1)], decode_s=1, draft="d", exit_depths=[3], draft_layers=3),
]


def test_layers_per_token_are_pooled_over_drafted_tokens() -> None:
    assert drafts.draft_layers_per_token(S2D).value == pytest.approx((9 + 3) / (3 + 1))


def test_mean_depth_and_shares_by_exit() -> None:
    assert drafts.mean_exit_depth(S2D).value == pytest.approx((2 + 2 + 4 + 3) / 4)
    found = [(e.exit_depth, e.tokens, e.share) for e in drafts.exit_histogram(S2D)]
    assert found == [(2, 2, 0.5), (3, 1, 0.25), (4, 1, 0.25)]


def test_nothing_to_say_is_none_with_the_reason() -> None:
    alone = [ar(1, 5, decode_s=1, draft_layers=0)]
    assert drafts.draft_layers_per_token(alone).note == "the decoder has no draft"
    plain = [decoded("sd", 1, [(1, 1, 2)], decode_s=1, draft="d", exit_depths=[])]
    assert drafts.draft_layers_per_token(plain).note == "1 of 1 cells carry no draft_layers or drafted"
    assert drafts.mean_exit_depth(plain).note == "no draft with exits"
    assert drafts.exit_histogram(plain) == []
    idle = [decoded("sd", 1, [(0, 0, 1)], decode_s=1, draft="d", draft_layers=0)]
    assert (drafts.draft_layers_per_token(idle).value, drafts.draft_layers_per_token(idle).note) == (
        None,
        "nothing drafted",
    )


def test_old_records_without_layers_leave_the_rest_and_are_counted() -> None:
    old = decoded("s2d", 3, [(3, 1, 2)], decode_s=1, draft="d")
    measure = drafts.draft_layers_per_token([*S2D, old])
    assert measure.value == pytest.approx(3)
    assert measure.note == "1 of 3 cells carry no draft_layers or drafted"
