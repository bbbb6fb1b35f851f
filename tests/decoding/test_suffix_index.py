"""The suffix index against counting in the text itself."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from specbench_s2d.decoding.suffix_index import ROOT, SuffixIndex
from tests.decoding.drafters.contexts import repetitive


def ends_of(text: Sequence[int], part: Sequence[int]) -> list[int]:
    """After how many tokens of `text` each occurrence of `part` ends."""
    return [end for end in range(len(part), len(text) + 1) if list(text[end - len(part) : end]) == list(part)]


def state_of(index: SuffixIndex, part: Sequence[int]) -> int | None:
    state = ROOT
    for token in part:
        if token not in index.next[state]:
            return None
        state = index.next[state][token]
    return state


@pytest.mark.parametrize("longest", [1, 2, 5, 64])
@pytest.mark.parametrize("seed", range(8))
def test_counts_places_and_continuations_are_those_of_the_text(seed: int, longest: int) -> None:
    text, index = repetitive(seed, 60, vocabulary=1 + seed % 4), SuffixIndex(longest)
    for length in range(1, len(text) + 1):
        index.extend(text[length - 1 : length])
        so_far = text[:length]
        parts = {tuple(so_far[i : i + n]) for n in range(1, longest + 1) for i in range(length - n + 1)}
        for part in parts if length % 7 == 0 or length == len(text) else ():
            state, ends = state_of(index, part), ends_of(so_far, part)
            assert state is not None
            assert (index.count[state], index.latest[state]) == (len(ends), ends[-1])
            followed = [end for end in ends if end < length]
            assert index.followers(state) == len(followed)
            counts = {so_far[end]: sum(so_far[other] == so_far[end] for other in followed) for end in followed}
            latest = {so_far[end]: end for end in followed}
            best = max(counts, key=lambda token: (counts[token], latest[token])) if counts else None
            assert index.best[state] == best


@pytest.mark.parametrize("longest", [1, 3, 64])
@pytest.mark.parametrize("seed", range(8))
def test_the_longest_repeated_suffix_is_that_of_the_text(seed: int, longest: int) -> None:
    text, index = repetitive(seed, 150, vocabulary=2 + seed), SuffixIndex(longest)
    for length in range(1, len(text) + 1):
        index.extend(text[length - 1 : length])
        so_far = text[:length]
        tokens = max(n for n in range(min(longest, length) + 1) if len(ends_of(so_far, so_far[length - n :])) > 1)
        state, found = index.repeated()
        assert found == tokens
        assert state == state_of(index, so_far[length - tokens :])


@pytest.mark.parametrize("seed", range(8))
def test_another_text_is_matched_as_far_as_it_goes(seed: int) -> None:
    """`advance` follows the longest suffix of a second text that the first one holds."""
    text, other, index = repetitive(seed, 80, 3), repetitive(seed + 100, 80, 4), SuffixIndex(6)
    index.extend(text)
    state, tokens = ROOT, 0
    for length in range(1, len(other) + 1):
        state, tokens = index.advance(state, tokens, other[length - 1])
        expected = max(n for n in range(min(6, length) + 1) if n == 0 or ends_of(text, other[length - n : length]))
        assert tokens == expected
        assert state == state_of(index, other[length - tokens : length])


def test_a_text_of_one_repeated_token_stays_cheap() -> None:
    """Suffix links of "aaaa…" are as many as its tokens; at most `longest` + 1 of them are counted a token."""
    index = SuffixIndex(8)
    index.extend([7] * 5_000)
    assert index.repeated() == (state_of(index, [7] * 8), 8)
    assert index.count[index.repeated()[0]] == 4_993
    assert len(index.next) <= 2 * 5_000
