"""Perplexity beside another decoder's: worked out on paper, and its interval by drawing questions by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from specbench_s2d.analysis.reductions import perplexity_reduction
from specbench_s2d.analysis.stats import Pair, pair
from specbench_s2d.bench.records import Record
from tests.analysis.factory import ar, decoded, of, paper_run


def pairs_of(records: list[Record], label: str) -> list[Pair]:
    return pair(of(label, records), of("ar", records))


def made(target: str, nlls: list[float], shift: float) -> list[Pair]:
    """Five tokens a question, AR's nll as given and the lossy decoder's less by `shift`."""
    records = [ar(i, 5, decode_s=1, nll_sum=nll, target=target) for i, nll in enumerate(nlls)]
    records += [
        decoded("mjsd", i, [(4, 3, 4)], decode_s=1, nll_sum=nll - shift * (i + 1), target=target)
        for i, nll in enumerate(nlls)
    ]
    return pairs_of(records, "mjsd")


def test_a_reduction_is_of_pooled_perplexities_and_may_be_negative() -> None:
    """AR: 7 nats over 14 tokens; SD, in the made-up run a worse text: 14 nats over 14 tokens."""
    found, _ = perplexity_reduction([pairs_of(paper_run(), "sd")], 10)
    assert found.value == pytest.approx(100 * (1 - math.exp(1.0) / math.exp(0.5)))


def test_ar_beside_itself_is_nothing_lower() -> None:
    found, interval = perplexity_reduction([pairs_of(paper_run(), "ar")], 200)
    assert (found.value, interval.low, interval.high) == (0, 0, 0)


def test_several_targets_weigh_alike() -> None:
    groups = [made("a", [5, 6, 9], 0.2), made("b", [3, 8, 4], 0.5)]
    apart = [perplexity_reduction([group], 10)[0].value for group in groups]
    assert all(value is not None and value > 0 for value in apart)
    assert perplexity_reduction(groups, 10)[0].value == pytest.approx(sum(v for v in apart if v is not None) / 2)


def test_the_interval_draws_questions_once_for_all_targets() -> None:
    nlls, shifts = ([5.0, 6.0, 9.0, 2.0], [3.0, 8.0, 4.0, 7.0]), (0.2, 0.5)
    groups = [made(name, own, shift) for name, own, shift in zip("ab", nlls, shifts, strict=True)]
    _, interval = perplexity_reduction(groups, 2000)
    rng, values = np.random.default_rng(7), []
    for _ in range(2000):
        drawn = rng.integers(4, size=4)
        lower = [sum(shift * (i + 1) for i in drawn) / (5 * 4) for shift in shifts]
        values.append(np.mean([100 * (1 - math.exp(-nats)) for nats in lower]))
    assert interval.low == pytest.approx(np.quantile(values, 0.025), abs=0.3)
    assert interval.high == pytest.approx(np.quantile(values, 0.975), abs=0.3)


def test_what_cannot_be_said_is_missing_with_a_reason() -> None:
    whole = made("a", [5, 6], 0.2)
    unscored = [Pair(p.ours.model_copy(update={"nll_sum": None}), p.baseline) for p in whole]
    for groups in ([], [unscored], [whole, unscored]):
        found, interval = perplexity_reduction(groups, 10)
        assert found.value is None and found.note and interval.note
    assert perplexity_reduction([made("a", [5], 0.2)], 10)[1].note == "no interval from 1 question"
