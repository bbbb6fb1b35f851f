"""EAGLE: a head on the target's states drafts, under the token rule."""

from specbench_s2d.decoding.decoder import PairDecoder
from specbench_s2d.decoding.drafters.eagle import EagleDrafter
from specbench_s2d.decoding.verifiers.token import TokenVerifier


class Eagle(PairDecoder):
    """EAGLE's chains, and EAGLE-2's trees by confidence (Li et al. 2024): lossless."""

    drafter_class = EagleDrafter
    verifier_class = TokenVerifier
