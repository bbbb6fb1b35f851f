"""AR, autoregressive decoding: the target alone, in the same loop as every other method."""

from specbench_s2d.decoding.decoder import PairDecoder
from specbench_s2d.decoding.drafters.none import NoDrafter
from specbench_s2d.decoding.verifiers.token import TokenVerifier


class Autoregressive(PairDecoder):
    """Autoregressive decoding: one target pass, one token. The reference of every speed-up."""

    drafter_class = NoDrafter
    verifier_class = TokenVerifier
