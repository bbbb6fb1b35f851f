"""Prompt lookup (Saxena 2023; PLD in Spec-Bench): what followed the last tokens where they stood before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from specbench_s2d.decoding.adaptive_length import AdaptiveLength, FreeGamma, free_passes
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.types import Options as BaseOptions
from specbench_s2d.decoding.types import Proposal, Verdict, chain_of
from specbench_s2d.models.base import LanguageModel, PassKind


class LookupDrafter:
    """Proposes the tokens that followed the context's last n tokens at an earlier place, for the largest such n.

    n runs from `max_ngram` down to 1; where no n-gram stood before, nothing is proposed.
    """

    draft_kind: ClassVar[Literal["none", "plain", "nested"]] = "none"
    has_likelihoods: ClassVar[bool] = False

    class Options(BaseOptions):
        """`max_ngram`: the longest n-gram looked up. `match`: which earlier place. `gamma`: most tokens proposed."""

        max_ngram: Annotated[int, Field(ge=1, le=32, description="Longest n-gram looked up, in tokens.")] = 3
        match: Annotated[
            Literal["first", "last"], Field(description="Of several earlier places: the earliest, or the most recent.")
        ] = "first"
        gamma: FreeGamma = 10

    def __init__(self, draft: None, options: LookupDrafter.Options) -> None:
        del draft
        self._options = options
        self._length = AdaptiveLength.of(options.gamma, options.max_ngram)

    @staticmethod
    def target_passes(options: LookupDrafter.Options) -> list[PassKind]:
        """One pass over the context's last token and what was found, which may be nothing."""
        return free_passes(options.gamma)

    def prepare(self, target: LanguageModel, prompt_ids: Sequence[int]) -> None:
        """With `gamma=auto`, measure target passes by width."""
        self._length.prepare(target, prompt_ids)

    def facts(self) -> dict[str, object]:
        """With `gamma=auto`, pass costs and acceptances, for the manifest."""
        return self._length.facts()

    def start(self, prompt_ids: Sequence[int], sampler: Sampler) -> None:
        self._device = sampler.device
        self._places: list[dict[tuple[int, ...], int]] = [{} for _ in range(self._options.max_ngram)]
        self._indexed = 0
        self._length.start()
        self._index(prompt_ids)

    def propose(self, context: Sequence[int], room: int) -> Proposal:
        self._index(context)
        ngram, place = self._find(context)
        found = list(context[place : place + min(self._length.longest, room)]) if ngram else []
        return chain_of(self._length.cut(found, ngram - 1), self._device)

    def _index(self, context: Sequence[int]) -> None:
        """Note after each n-gram that something follows where that stands; the earliest place, or the latest."""
        earliest = self._options.match == "first"
        for end in range(self._indexed + 1, len(context)):
            for n, places in enumerate(self._places[:end], start=1):
                ngram = tuple(context[end - n : end])
                if earliest:
                    places.setdefault(ngram, end)
                else:
                    places[ngram] = end
        self._indexed = max(self._indexed, len(context) - 1)

    def _find(self, context: Sequence[int]) -> tuple[int, int]:
        """The largest n whose last n-gram stood before, and where what followed it begins; (0, 0) for none."""
        for n in range(min(len(self._places), len(context)), 0, -1):
            place = self._places[n - 1].get(tuple(context[-n:]))
            if place is not None:
                return n, place
        return 0, 0

    def commit(self, committed: int, verdict: Verdict) -> None:
        self._length.learn(verdict)
