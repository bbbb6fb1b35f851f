"""The live table: speed-ups so far, record by record."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any, cast

import pytest

from specbench_s2d.analysis.metrics.pairs import pair
from specbench_s2d.analysis.metrics.speed import speedup
from specbench_s2d.cli.live import SoFar
from specbench_s2d.runs.record import Record
from tests.analysis.factory import ar, decoded, make_record, of, paper_run


def test_it_is_the_speed_up_of_all_records_whatever_their_order() -> None:
    records = paper_run(3)
    for seed in range(3):
        random.Random(seed).shuffle(records)
        so_far = SoFar()
        for record in records:
            so_far.add([record])
        assert so_far.speedup("t", "qa", "sd") == pytest.approx(
            speedup([pair(of("sd", records), of("ar", records))]).value
        )


def test_cells_without_a_partner_or_a_time_count_for_nothing() -> None:
    """Of question 1 sd takes half of AR's time; questions 2 to 5 have no pair."""
    so_far = SoFar()
    so_far.add(
        [ar(1, 5, decode_s=4), decoded("sd", 1, [(3, 3, 4)], decode_s=2), decoded("sd", 2, [(3, 3, 4)], decode_s=9)]
    )
    so_far.add([make_record("ar", 2, status="failed"), ar(3, 5, decode_s=9, device_id="a")])
    so_far.add([decoded("sd", 3, [(3, 3, 4)], decode_s=1, device_id="b"), ar(4, 5, decode_s=7)])
    so_far.add([decoded("sd", 5, [(3, 3, 4)], decode_s=1).model_copy(update={"decode_s": None}), ar(5, 5, decode_s=7)])
    assert so_far.speedup("t", "qa", "sd") == 2
    assert so_far.speedup("t", "rag", "sd") is None
    assert so_far.target == "t"


class Watched:
    """A record that counts how often it is looked at."""

    def __init__(self, record: Record, looks: Counter[str]) -> None:
        self._record, self._looks = record, looks

    def __getattr__(self, name: str) -> Any:
        self._looks[self._record.key] += 1
        return getattr(self._record, name)


def test_an_update_looks_at_new_records_alone() -> None:
    looks: Counter[str] = Counter()
    first, *later = (Watched(record, looks) for record in paper_run(20))
    so_far = SoFar()
    so_far.add([cast(Record, first)])
    before = looks.copy()
    for record in later:
        so_far.add([cast(Record, record)])
        so_far.speedup("t", "qa", "sd")
    assert {key: looks[key] for key in before} == before
    assert max(looks.values()) <= 20
