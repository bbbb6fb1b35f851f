"""Shards: the same cells whatever N, each once, whole targets before blocks of whole questions."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specbench_s2d.errors import UserError
from specbench_s2d.shards import Shard
from tests.refusals import refused


@given(st.integers(1, 6), st.integers(1, 12), st.data())
def test_every_question_of_every_target_is_in_one_shard(targets: int, questions: int, data: st.DataObject) -> None:
    of = data.draw(st.integers(1, targets * questions))
    shards = [Shard(i, of).places(targets, questions) for i in range(1, of + 1)]
    asked = Counter((t, q) for shard in shards for t, places in shard.items() for q in places)
    assert asked == Counter((t, q) for t in range(targets) for q in range(questions))
    assert all(any(len(places) for places in shard.values()) for shard in shards)
    if of <= targets:
        assert all(places == range(questions) for shard in shards for places in shard.values())
    else:
        assert all(len(shard) == 1 for shard in shards)


@pytest.mark.parametrize(("text", "why"), [
    ("0/4", "shards of 4 are 1/4 to 4/4"), ("5/4", "shards of 4 are 1/4 to 4/4"), ("1/0", "there is no shard of none"),
    ("1", "a shard is I/N"), ("a/b", "a shard is I/N"), ("-1/4", "a shard is I/N"),
])  # fmt: skip
def test_what_is_no_shard_is_said(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Shard.parse(text)


def test_more_shards_than_questions_are_refused() -> None:
    with refused(UserError, "--shard 7/7", "3 targets × 2 questions", "at most 6 shards"):
        Shard(7, 7).places(3, 2)
