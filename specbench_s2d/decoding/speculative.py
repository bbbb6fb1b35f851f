"""SD: vanilla speculative decoding, a chain of draft tokens under the token rule."""

from specbench_s2d.decoding.decoder import PairDecoder
from specbench_s2d.decoding.drafters.chain import ChainDrafter
from specbench_s2d.decoding.verifiers.token import TokenVerifier


class SpeculativeDecoding(PairDecoder):
    """Vanilla speculative decoding (Leviathan et al. 2023): lossless."""

    drafter_class = ChainDrafter
    verifier_class = TokenVerifier
