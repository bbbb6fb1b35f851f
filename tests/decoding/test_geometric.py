"""One acceptance rate: from mean accepted tokens and back, and the counts drawn from it."""

from __future__ import annotations

import pytest

from specbench_s2d.decoding.geometric import drawn, mean_emitted, rate_of
from specbench_s2d.errors import UserError


def test_a_step_of_two_drafts_at_one_half() -> None:
    assert mean_emitted(0.5, 2) == 1.75  # 1 + 1/2 + 1/4


def test_the_rate_gives_back_its_mean() -> None:
    assert rate_of(1.75, 2) == pytest.approx(0.5)
    assert rate_of(1.0, 5) == pytest.approx(0)


@pytest.mark.parametrize("mat", [0.9, 6.0])
def test_a_mean_that_no_rate_gives_is_refused(mat: float) -> None:
    with pytest.raises(UserError, match="emit from 1 to less than 6"):
        rate_of(mat, 5)


def test_drawn_counts_cut_at_the_proposal_have_the_mean() -> None:
    counts = drawn(0.6, 20_000, seed=3)
    assert sum(min(n, 5) + 1 for n in counts) / len(counts) == pytest.approx(mean_emitted(0.6, 5), rel=0.02)
    assert counts == drawn(0.6, 20_000, seed=3) != drawn(0.6, 20_000, seed=4)
