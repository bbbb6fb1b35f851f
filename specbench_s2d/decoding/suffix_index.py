"""An index of all short substrings of a growing text: how often each occurs, and what follows it.

A suffix automaton (Blumer et al. 1985): a state stands for all substrings that end at the same places. It has at most
two states and three transitions a token, and grows by one token in amortised constant time. Counts are kept of
substrings of at most `longest` + 1 tokens, which takes at most as many increments a token: the states of the text's
suffixes of that length, along their links. Source: SAM decoding (Hu et al. 2024, arXiv 2411.10666), with the counts of
SuffixDecoding (Oliaro et al. 2024, arXiv 2411.04975).
"""

from __future__ import annotations

from collections.abc import Iterable

ROOT = 0
BYTES_PER_TOKEN = 800
"""The most memory that a token of the text takes; of ordinary text, about 500 (benchmarks/drafting.py)."""


class SuffixIndex:
    """The text so far. A state is a number; 0 is the empty substring's.

    `longest`: the greatest length of a substring that is looked up.
    """

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self.length = 0
        self.next: list[dict[int, int]] = [{}]
        self.link = [-1]
        self.size = [0]  # tokens of the longest substring of each state
        self.count = [0]  # places where it ends
        self.latest = [0]  # the last of these, as the number of tokens before it
        self.best: list[int | None] = [None]  # the most frequent next token; of several, the most recent
        self._whole = ROOT  # the state of the whole text
        self._counted = ROOT  # that of its longest counted suffix

    def extend(self, tokens: Iterable[int]) -> None:
        """Append tokens to the text."""
        for token in tokens:
            self._append(token)

    def repeated(self) -> tuple[int, int]:
        """(state, tokens) of the longest suffix of the text, of at most `longest` tokens, that stood before."""
        if self.length == 0:
            return ROOT, 0
        state = self.link[self._whole]
        if self.size[state] <= self.longest:
            return state, self.size[state]
        return self._shortened(self._counted), self.longest

    def followers(self, state: int) -> int:
        """Places where the state's substrings are followed by a token."""
        return self.count[state] - (self.latest[state] == self.length)

    def advance(self, state: int, tokens: int, token: int) -> tuple[int, int]:
        """The longest suffix of (the state's last `tokens` tokens, then `token`), of at most `longest`, that the text
        holds: its state and its length."""
        while state != ROOT and token not in self.next[state]:
            state = self.link[state]
            tokens = self.size[state]
        if token not in self.next[state]:
            return ROOT, 0
        state, tokens = self.next[state][token], tokens + 1
        return (self._shortened(state), self.longest) if tokens > self.longest else (state, tokens)

    def _shortened(self, state: int) -> int:
        """The state of the last `longest` tokens of a substring that has one token more."""
        link = self.link[state]
        return link if self.size[link] >= self.longest else state

    def _append(self, token: int) -> None:
        before, counted_before = self._whole, self._counted
        counted_tokens = min(self.length, self.longest + 1)
        self.length += 1
        new = self._new_state({}, self.length)
        self._whole = new
        copied, copy = self._connect(before, token, new)
        if copied == counted_before and counted_tokens <= self.size[copy]:
            counted_before = copy
        self._counted = self._counted_suffix(self.next[counted_before][token], counted_tokens + 1)
        self._count(counted_before, token)

    def _new_state(self, transitions: dict[int, int], size: int) -> int:
        self.next.append(transitions)
        self.link.append(ROOT)
        self.size.append(size)
        self.count.append(0)
        self.latest.append(0)
        self.best.append(None)
        return len(self.next) - 1

    def _connect(self, state: int, token: int, new: int) -> tuple[int, int]:
        """Give every suffix of the text before `token` its transition; returns a state that had to be split, and its
        copy for the shorter substrings, (-1, -1) for none."""
        next_, link, size = self.next, self.link, self.size
        while state >= 0 and token not in next_[state]:
            next_[state][token] = new
            state = link[state]
        if state < 0:
            return -1, -1
        found = next_[state][token]
        if size[found] == size[state] + 1:
            link[new] = found
            return -1, -1
        copy = self._new_state(dict(next_[found]), size[state] + 1)
        link[copy], self.count[copy] = link[found], self.count[found]
        self.latest[copy], self.best[copy] = self.latest[found], self.best[found]
        link[found] = link[new] = copy
        while state >= 0 and next_[state].get(token) == found:
            next_[state][token] = copy
            state = link[state]
        return found, copy

    def _counted_suffix(self, state: int, tokens: int) -> int:
        """The state of the longest suffix that is counted, from one that holds the suffix of `tokens` tokens."""
        link = self.link[state]
        return link if tokens > self.longest + 1 and self.size[link] > self.longest else state

    def _count(self, counted_before: int, token: int) -> None:
        """Count the new end of every counted suffix, and compare it as what follows the suffix before it."""
        count, link, latest, next_, best = self.count, self.link, self.latest, self.next, self.best
        state = self._counted
        while state > ROOT:
            count[state] += 1
            latest[state] = self.length
            state = link[state]
        state = counted_before
        while state >= ROOT:
            transitions, known = next_[state], best[state]
            if known is None or count[transitions[token]] >= count[transitions[known]]:
                best[state] = token
            state = link[state]
