"""Rank correlations worked by hand, and against scipy's own."""

from __future__ import annotations

import random
from typing import Any

import pandas as pd
import pytest
from scipy import stats

from specbench_s2d.analysis.compare.rank_correlation import (
    EXACT_UP_TO,
    add_correlations,
    correlation_line,
    correlation_notes,
    rank_correlation,
)
from specbench_s2d.published import published


def test_four_methods_by_hand() -> None:
    """Ranks 1 2 3 4 and 2 1 3 4: rho = 1 - 6 × 2 / (4 × 15) = 0.8, tau = (5 - 1) / 6; of the 24 orders one has rho 1
    and three have 0.8, as many -1 and -0.8: p = 8 / 24."""
    found = rank_correlation([1.1, 1.2, 1.3, 1.4], [20.0, 10.0, 30.0, 40.0])
    assert (found.methods, found.rho, found.reason) == (4, 0.8, None)
    assert found.tau_b == pytest.approx(2 / 3) and found.p == pytest.approx(8 / 24)


def test_the_leaderboard_s_own_devices_order_its_methods_differently() -> None:
    """Overall, six of ten methods differ in rank, by 1, 1, 3, 1, 1 and 5: rho = 1 - 6 × 38 / 990; SpS, PLD, Recycling
    and REST alone are 4 3 2 1 and 2 3 4 1: rho = 1 - 6 × 8 / 60."""
    table = published("spec-bench").query("target == 'vicuna-7b-v1.3' and suite == 'overall' and metric == 'speedup'")
    sides = table.pivot(index="method", columns="device", values="value")
    both = rank_correlation(list(sides["RTX 3090"]), list(sides["A100-80GB"]))
    assert (both.methods, both.rho) == (10, pytest.approx(1 - 6 * 38 / 990))
    four = sides.loc[["SpS", "PLD", "Recycling", "REST"]]
    assert rank_correlation(list(four["RTX 3090"]), list(four["A100-80GB"])).rho == pytest.approx(0.2)


def test_ties_have_their_mean_rank() -> None:
    """Ranks 1, 2.5, 2.5 and 1, 2, 3: rho = 1.5 / sqrt(1.5 × 2), tau-b = 2 / sqrt(2 × 3); of the six orders of
    -1, 0.5, 0.5 along -1, 0, 1 four have a product of 1.5 or -1.5, two have 0."""
    found = rank_correlation([1.0, 2.0, 2.0], [1.0, 2.0, 3.0])
    assert found.rho == pytest.approx(1.5 / 3**0.5) and found.tau_b == pytest.approx(2 / 6**0.5)
    assert found.p == pytest.approx(4 / 6)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("methods", "p"), [(3, 2 / 6), (4, 2 / 24), (5, 2 / 120), (9, 2 / 362880)])
def test_one_order_throughout_is_as_likely_as_one_order_and_its_reverse(sign: int, methods: int, p: float) -> None:
    found = rank_correlation(list(range(methods)), [sign * 10.0 * i for i in range(methods)])
    assert (found.rho, found.tau_b) == (sign, sign)
    assert found.p == pytest.approx(p)


@pytest.mark.parametrize("methods", [5, EXACT_UP_TO, EXACT_UP_TO + 1, 14])
def test_equals_scipy_s(methods: int) -> None:
    draw = random.Random(methods)
    for _ in range(5):
        ours, theirs = ([float(draw.randint(0, 6)) for _ in range(methods)] for _ in range(2))
        found = rank_correlation(ours, theirs)
        assert found.rho == pytest.approx(stats.spearmanr(ours, theirs).statistic)
        assert found.tau_b == pytest.approx(stats.kendalltau(ours, theirs).statistic)
        if methods > EXACT_UP_TO:
            assert found.p == pytest.approx(stats.spearmanr(ours, theirs).pvalue, rel=1e-6)


def test_an_exact_p_equals_scipy_s_permutation_test() -> None:
    ours, theirs = [1.0, 2.0, 2.0, 5.0, 4.0], [3.0, 1.0, 2.0, 4.0, 4.0]
    by_scipy = stats.permutation_test(
        (ours,), lambda x: abs(stats.spearmanr(x, theirs).statistic), permutation_type="pairings", n_resamples=1000,
        alternative="greater",
    )  # fmt: skip
    assert rank_correlation(ours, theirs).p == pytest.approx(by_scipy.pvalue)


def test_too_few_methods_and_values_that_are_all_alike_have_none_and_a_reason() -> None:
    two = rank_correlation([1.0, 2.0], [1.0, 2.0])
    assert (two.rho, two.tau_b, two.p) == (None, None, None)
    assert two.reason == "fewer than 3 methods on both sides: 2"
    alike = rank_correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0])
    assert (alike.methods, alike.rho, alike.p) == (3, None, None)
    assert alike.reason == "one side has the same value for all methods"


def row(label: str, method: str, ours: float | None, published: float, suite: str = "qa") -> dict[str, Any]:
    where = {"target": "t", "paper_target": "p", "device": None, "against": "ar", "metric": "speedup"}
    return {**where, "suite": suite, "label": label, "method": method, "ours": ours, "published": published}


def test_a_value_that_is_missing_leaves_its_method_out_of_that_suite_alone() -> None:
    rows = [row(f"d{i}", f"m{i}", float(i), float(i), suite) for suite in ("qa", "rag") for i in range(4)]
    rows[3]["ours"] = None
    table = add_correlations(pd.DataFrame(rows), lambda label, method: True)
    assert dict(zip(table["suite"], table["rank_methods"], strict=True)) == {"qa": 3, "rag": 4}
    line = correlation_line(table, ["qa", "rag"])
    assert line == [["rank correlation ρ\np, 3 to 4 methods", "1.00\n0.33", "1.00\n0.08"]]
    notes = correlation_notes(table)
    assert notes[1].endswith(
        "over 3 methods even the same order has p = 0.33; over 4 methods even the same order has p = 0.08."
    )


def test_a_decoder_that_stands_for_two_methods_counts_once() -> None:
    rows = [row("s2d", "m0", 1.0, 1.0), row("s2d", "m1", 1.0, 9.0), row("a", "m2", 2.0, 2.0), row("b", "m3", 3.0, 3.0)]
    table = add_correlations(pd.DataFrame(rows), lambda label, method: True)
    assert set(table["rank_methods"]) == {3} and set(table["rank_rho"]) == {1.0}
    others = add_correlations(pd.DataFrame(rows), lambda label, method: method != "m0")
    assert set(others["rank_rho"]) == {-0.5}
