"""Decoders whose drafts come from text that was read already, without a draft model."""

from specbench_s2d.decoding.decoder import PairDecoder
from specbench_s2d.decoding.drafters.lookup import LookupDrafter
from specbench_s2d.decoding.drafters.recycling import RecyclingDrafter
from specbench_s2d.decoding.drafters.suffix import SuffixDrafter
from specbench_s2d.decoding.verifiers.token import TokenVerifier


class PromptLookup(PairDecoder):
    """Prompt lookup: what followed the last tokens where they stood before (PLD): lossless."""

    drafter_class = LookupDrafter
    verifier_class = TokenVerifier


class SuffixDecoding(PairDecoder):
    """The most frequent continuation of the longest suffix that stood before (SAM decoding): lossless."""

    drafter_class = SuffixDrafter
    verifier_class = TokenVerifier


class TokenRecycling(PairDecoder):
    """A tree of the next tokens that the target gave earlier (token recycling): lossless."""

    drafter_class = RecyclingDrafter
    verifier_class = TokenVerifier
