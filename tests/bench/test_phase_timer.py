"""Where a run's time went."""

from __future__ import annotations

import time

import pytest

from specbench_s2d.bench.phase_timer import PhaseTimer


def test_what_no_part_claims_is_the_harness() -> None:
    account = PhaseTimer()
    with account.measure("scoring"):
        time.sleep(0.02)
    account.add("decoding", 0.001)
    facts = account.facts()
    assert facts["scoring_s"] >= 0.02 and facts["decoding_s"] == 0.001 and facts["loading_s"] == 0.0
    parts = [seconds for name, seconds in facts.items() if name not in ("loop_s", "other_s")]
    assert facts["loop_s"] == pytest.approx(sum(parts) + facts["other_s"])


def test_a_part_that_breaks_off_is_still_its_own() -> None:
    account = PhaseTimer()

    def break_off() -> None:
        with account.measure("loading"):
            time.sleep(0.01)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    assert account.facts()["loading_s"] >= 0.01


def test_an_unknown_part_is_a_bug() -> None:
    with pytest.raises(KeyError):
        PhaseTimer().add("lunch", 1.0)


def test_sittings_of_one_run_add_up() -> None:
    first = PhaseTimer()
    first.add("decoding", 2.0)
    second = PhaseTimer()
    second.add("decoding", 3.0)
    facts = second.facts(first.facts())
    assert facts["decoding_s"] == 5.0
    assert facts["other_s"] == pytest.approx(facts["loop_s"] - 5.0)
