"""A drafter that needs no model: after each token, the one that followed it most often so far."""

from collections import Counter
from itertools import pairwise

from specbench_s2d.decoding.types import Options, chain_of
from specbench_s2d.models.base import PassKind


class BigramDrafter:
    """Proposes, token after token, what most often followed the last one in prompt and output."""

    draft_kind = "none"

    class Options(Options):
        gamma: int = 4

    def __init__(self, draft, options):
        self._gamma = options.gamma

    @staticmethod
    def target_passes(options):
        return [PassKind(options.gamma + 1)]

    def start(self, prompt_ids, sampler):
        self._device, self._counted, self._followers = sampler.device, 1, {}

    def propose(self, context, room):
        for before, after in pairwise(context[self._counted - 1 :]):
            self._followers.setdefault(before, Counter())[after] += 1
        self._counted, last, ids = len(context), context[-1], []
        while len(ids) < min(self._gamma, room) and last in self._followers:
            last = self._followers[last].most_common(1)[0][0]
            ids.append(last)
        return chain_of(ids, self._device)

    def commit(self, committed, verdict):
        pass
