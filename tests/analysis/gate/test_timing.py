"""Times between launches: the quietest repeat of each turn, a spread pooled over decoders, a t-test, and its power."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from specbench_s2d.analysis.gate.timing import Launch, Sample, Spread, judge, launches_of, sample
from specbench_s2d.analysis.metrics.speed import SPEEDUP
from specbench_s2d.runs.columns import Records, together
from specbench_s2d.runs.record import Record
from tests.analysis.factory import ar, decoded

ROW = ("t", "sd")
OURS, BASE = (0.10, 0.12, 0.11), (0.20, 0.22, 0.24)


def run(*sd_s: Sequence[float], ar_s: float = 2.0) -> list[Record]:
    """A launch for each list of seconds: one question each, of five tokens, by sd; by AR in `ar_s` seconds."""
    made = []
    for launch, seconds in enumerate(sd_s):
        for question, own in enumerate(seconds):
            pair = (ar(question, 5, decode_s=ar_s), decoded("sd", question, [(5, 3, 4)], decode_s=own))
            made += [r.model_copy(update={"launch": launch, "key": f"{r.key}/{launch}"}) for r in pair]
    return made


def launches(*runs: Sequence[Record]) -> list[list[Launch]]:
    """The launches of runs that are compared."""
    return [launches_of(records, 1) for records in together(*map(Records.of, runs))]


def test_a_launch_s_value_is_over_the_turns_that_all_launches_finished() -> None:
    ours, base = launches(run([1.0, 3.0]), run([1.0, 3.0, 9.0], [2.0, 3.0]))
    found = sample(SPEEDUP, ROW, ours, base)
    assert isinstance(found, Sample)
    assert found.ours == pytest.approx([math.log(4 / 4)])  # AR takes 4 s for what sd does in 1 + 3
    assert found.base == pytest.approx([math.log(4 / 4), math.log(4 / 5)])


def test_of_several_repeats_the_quietest_counts() -> None:
    [first, second] = [r.model_copy(update={"repeat": i}) for i, r in enumerate(run([3.0], [1.0])[1::2])]
    again = [r.model_copy(update={"launch": 0}) for r in (first, second)]
    [launch] = launches_of([*run([9.0])[:1], *again], repeats=2)
    assert [r.decode_s for r in launch.turns[ROW]] == [1.0]
    [alone] = launches_of([*run([9.0])[:1], *again], repeats=1)
    assert [r.decode_s for r in alone.turns[ROW]] == [3.0]


def test_what_no_launch_has_is_said() -> None:
    ours, untimed = launches(run([1.0]), [r.model_copy(update={"decode_s": None}) for r in run([1.0])])
    assert sample(SPEEDUP, ROW, ours, untimed) == ("no turn with times that this run and the baseline finished")
    ours, elsewhere = launches(run([1.0]), [r.model_copy(update={"prompt_hash": "another"}) for r in run([1.0])])
    assert sample(SPEEDUP, ROW, ours, elsewhere) == "no turn that all launches finished"
    assert sample(SPEEDUP, ROW, [Launch({})], ours).startswith("no turn with times")  # type: ignore[union-attr]


def test_a_launch_without_a_value_says_why_and_what_to_do() -> None:
    """Answers of one token have no Steps; a clock that stood still has no rate."""
    ours, short = launches(run([1.0]), [r.model_copy(update={"new_tokens": 1}) for r in run([1.0])])
    advice = (
        "is one token, which the prefill gives, so there is no decoding to time; run both with more --max-new-tokens"
    )
    assert sample(SPEEDUP, ROW, short, ours) == f"every answer of sd in this run {advice}"
    short = launches([r.model_copy(update={"new_tokens": 1}) if r.label == "ar" else r for r in run([1.0])])[0]
    assert sample(SPEEDUP, ROW, ours, short) == f"every answer of ar in the baseline {advice}"
    still = launches(run([0.0]))[0]
    said = "a launch of the baseline has times of sd or ar that are 0 or missing; measure it again"
    assert sample(SPEEDUP, ROW, ours, still) == said


def test_the_spread_is_that_of_launches_about_their_own_side_s_mean_pooled_over_decoders() -> None:
    one, other = Sample(OURS, BASE), Sample((0.3, 0.3, 0.3), (0.1, 0.1, 0.1))
    within = 2 * np.var(OURS, ddof=1) + 2 * np.var(BASE, ddof=1)
    alone, both = Spread.pooled([one]), Spread.pooled([one, other])
    assert alone is not None and both is not None
    assert (alone.sd, alone.degrees) == (pytest.approx(math.sqrt(within / 4)), 4)
    assert both.sd == pytest.approx(math.sqrt(within / 8))
    assert 4 < both.degrees < 8  # two decoders over one AR are more than one, and less than two
    assert Spread.pooled([Sample((0.1,), (0.2,))]) is None


def test_of_one_decoder_it_is_student_s_t_test() -> None:
    """The level at which it just counts is scipy's own p-value."""
    one = Sample(OURS, BASE)
    spread = Spread.pooled([one])
    assert spread is not None
    p = stats.ttest_ind(OURS, BASE, alternative="less").pvalue
    tests = 0.05 / p
    assert judge("speed-up", ROW, one, spread, 0.0, -1, max(1, int(tests))).verdict == "regressed"
    assert judge("speed-up", ROW, one, spread, 0.0, -1, int(tests) + 2).verdict == "holds"


def test_beyond_chance_and_within_the_margin_it_holds() -> None:
    one = Sample((-0.05, -0.05), (0.0, 0.0))
    assert judge("speed-up", ROW, one, Spread(0.0, 2), 0.10, -1, 4).verdict == "holds"
    assert judge("speed-up", ROW, one, Spread(0.0, 2), 0.04, -1, 4).verdict == "regressed"
    assert judge("cost ratio", ROW, one, Spread(0.0, 2), 0.04, 1, 4).verdict == "improved"


def test_what_it_says_it_would_find_it_finds_in_80_of_100() -> None:
    """By simulation, of a slow-down as large as the median judgement says."""
    rng = np.random.default_rng(0)

    def judged(slower: float) -> tuple[bool, float]:
        ours, base = rng.normal(math.log(1 - slower), 0.02, 3), rng.normal(0, 0.02, 3)
        one = Sample(list(ours), list(base))
        spread = Spread.pooled([one])
        assert spread is not None
        check = judge("speed-up", ROW, one, spread, 0.05, -1, 2)
        return check.verdict == "regressed", check.detectable or 0.0

    said = float(np.median([judged(0.0)[1] for _ in range(1000)]))
    power = float(np.mean([judged(said)[0] for _ in range(2000)]))
    assert 0.75 < power < 0.95
    assert float(np.mean([judged(0.0)[0] for _ in range(2000)])) < 0.05
