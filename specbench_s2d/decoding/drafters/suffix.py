"""The suffix drafter: what most often followed the longest suffix that stood before.

Sources: SAM decoding (Hu et al. 2024, arXiv 2411.10666) and SuffixDecoding (Oliaro et al. 2024, arXiv 2411.04975); with
a datastore, REST (He et al. 2023, arXiv 2311.08252).
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field, ValidationInfo, field_validator

from specbench_s2d.decoding.adaptive_length import AdaptiveLength, FreeGamma, free_passes
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.suffix_index import BYTES_PER_TOKEN, ROOT, SuffixIndex
from specbench_s2d.decoding.types import Options as BaseOptions
from specbench_s2d.decoding.types import Proposal, Verdict, chain_of
from specbench_s2d.models.base import LanguageModel, PassKind
from specbench_s2d.models.datastore import check_datastore, encode_text, most_tokens
from specbench_s2d.models.file_hash import file_sha256

_WAYS = (4, 8, 16, 32)
"""Acceptance is learnt for matches below each of these lengths, and for longer ones."""


class _Match(NamedTuple):
    """The longest suffix of the context, and of what is drafted after it, that an index holds."""

    source: SuffixIndex
    state: int = ROOT
    tokens: int = 0

    def after(self, token: int) -> _Match:
        return _Match(self.source, *self.source.advance(self.state, self.tokens, token))

    def followed(self) -> _Match:
        """The longest suffix that something follows."""
        source, state, tokens = self
        while state != ROOT and not source.followers(state):
            state = source.link[state]
            tokens = source.size[state]
        return _Match(source, state, tokens)


class SuffixDrafter:
    """Proposes what followed the longest suffix of the context that stood before, in the context or a datastore.

    From there, token by token: the most frequent next one (of several, the most recent), while its share of all that
    followed is at least `min_share`; at most `factor` times as many tokens as matched, and at most `gamma`. What is
    matched, the drafted tokens included, is the last `max_match` tokens at most.
    """

    draft_kind: ClassVar[Literal["none", "plain", "nested"]] = "none"
    has_likelihoods: ClassVar[bool] = False

    class Options(BaseOptions):
        """`min_match`, `max_match`: tokens of a match. `min_share`: least share of a continuation. `factor`: tokens
        proposed per token matched. `gamma`: most tokens proposed. `datastore`: a text file."""

        min_match: Annotated[int, Field(ge=1, le=256, description="Shortest match, in tokens.")] = 2
        max_match: Annotated[int, Field(ge=1, le=256, description="Longest match, in tokens.")] = 64
        min_share: Annotated[float, Field(ge=0, le=1, description="Least share of a continuation.")] = 0.3
        factor: Annotated[float, Field(gt=0, allow_inf_nan=False, description="Tokens per token matched, at most.")] = 2
        gamma: FreeGamma = 16
        datastore: Annotated[str | None, Field(description="A text file in which matches are looked up as well.")] = (
            None
        )

        @field_validator("max_match")
        @classmethod
        def _at_least_the_shortest(cls, max_match: int, info: ValidationInfo) -> int:
            shortest = info.data.get("min_match", max_match)
            if max_match < shortest:
                raise ValueError(f"at least min_match ({shortest})")
            return max_match

        @field_validator("datastore")
        @classmethod
        def _a_text(cls, datastore: str | None) -> str | None:
            if datastore is not None:
                check_datastore(datastore, BYTES_PER_TOKEN)
            return datastore

    def __init__(self, draft: None, options: SuffixDrafter.Options) -> None:
        del draft
        self._options = options
        self._length = AdaptiveLength.of(options.gamma, len(_WAYS) + 1)
        self._datastore: SuffixIndex | None = None

    @staticmethod
    def target_passes(options: SuffixDrafter.Options) -> list[PassKind]:
        """One pass over the context's last token and what was found, which may be nothing."""
        return free_passes(options.gamma)

    @staticmethod
    def host_bytes(options: SuffixDrafter.Options, positions: int) -> int:
        """The most memory that the index of a context of `positions` takes, and that of the datastore."""
        stored = most_tokens(options.datastore) if options.datastore else 0
        return (positions + stored) * BYTES_PER_TOKEN

    @staticmethod
    def data_hashes(options: SuffixDrafter.Options, draft: None) -> dict[str, str]:
        """The SHA-256 of the datastore, which decides what is drafted."""
        return {"datastore": file_sha256(options.datastore).hex()} if options.datastore else {}

    def prepare(self, target: LanguageModel, prompt_ids: Sequence[int]) -> None:
        """Index the datastore, once; with `gamma=auto`, measure target passes by width."""
        if self._options.datastore and self._datastore is None:
            self._datastore = SuffixIndex(self._options.max_match)
            self._datastore.extend(encode_text(self._options.datastore, target.tokenizer))
        self._length.prepare(target, prompt_ids)

    def facts(self) -> dict[str, Any]:
        """The size of the datastore; with `gamma=auto`, pass costs and acceptances."""
        stored = {"datastore_tokens": self._datastore.length} if self._datastore else {}
        return stored | self._length.facts()

    def start(self, prompt_ids: Sequence[int], sampler: Sampler) -> None:
        self._device = sampler.device
        self._index = SuffixIndex(self._options.max_match)
        self._stored = _Match(self._datastore) if self._datastore else None
        self._length.start()
        self._follow(prompt_ids)

    def propose(self, context: Sequence[int], room: int) -> Proposal:
        self._follow(context)
        found, way, shares = self._draft(min(self._length.longest, room))
        return chain_of(self._length.cut(found, way, shares), self._device)

    def _follow(self, context: Sequence[int]) -> None:
        """Take the new end of the context into the index, and match it in the datastore."""
        new = context[self._index.length :]
        self._index.extend(new)
        if self._stored:
            for token in new:
                self._stored = self._stored.after(token)

    def _draft(self, most: int) -> tuple[list[int], int, list[float]]:
        """The continuation of the longest match: its tokens, how long the match was (one of the `_WAYS`), and the share
        of each token."""
        o, found, shares = self._options, list[int](), list[float]()
        matches = [_Match(self._index, *self._index.repeated())]
        matches += [self._stored.followed()] if self._stored else []
        matched = max(match.tokens for match in matches)
        most = min(most, int(o.factor * matched)) if matched >= o.min_match else 0
        while len(found) < most:
            length = min(matched + len(found), o.max_match)
            token, share = _most_frequent([match for match in matches if match.tokens == length])
            if token is None or share < o.min_share:
                break
            found.append(token)
            shares.append(share)
            matches = [match.after(token) for match in matches]
        return found, bisect(_WAYS, matched), shares

    def commit(self, committed: int, verdict: Verdict) -> None:
        self._length.learn(verdict)


def _most_frequent(matches: Sequence[_Match]) -> tuple[int | None, float]:
    """The most frequent next token (of several, the most recent; the context's is more recent than the datastore's)
    and its share of all that followed; None where nothing did."""
    followers = sum(match.source.followers(match.state) for match in matches)
    if not followers:
        return None, 0.0
    if len(matches) == 1:
        index, state = matches[0].source, matches[0].state
        best = index.best[state]
        assert best is not None
        return best, index.count[index.next[state][best]] / followers
    counts, latest = dict[int, int](), dict[int, tuple[int, int]]()
    for rank, match in enumerate(reversed(matches)):  # the datastore's, then the context's
        for token, child in match.source.next[match.state].items():
            counts[token] = counts.get(token, 0) + match.source.count[child]
            latest[token] = (rank, match.source.latest[child])
    token = max(counts, key=lambda token: (counts[token], latest[token]))
    return token, counts[token] / followers
