"""Medusa: heads on the target's last state draft all tokens at once, under the token rule."""

from specbench_s2d.decoding.decoder import PairDecoder
from specbench_s2d.decoding.drafters.medusa import MedusaDrafter
from specbench_s2d.decoding.verifiers.token import TokenVerifier


class Medusa(PairDecoder):
    """Medusa's trees and chains (Cai et al. 2024): lossless; lossy as `medusa+typical`."""

    drafter_class = MedusaDrafter
    verifier_class = TokenVerifier
