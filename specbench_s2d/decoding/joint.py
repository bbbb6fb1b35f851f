"""MJSD: multi-token joint speculative decoding (Qin et al. 2024, arXiv 2407.09722; later called MTAD)."""

from specbench_s2d.decoding.decoder import PairDecoder
from specbench_s2d.decoding.drafters.beam import BeamDrafter
from specbench_s2d.decoding.verifiers.joint import JointVerifier


class JointSpeculativeDecoding(PairDecoder):
    """Multi-token joint speculative decoding: the draft's best beam, accepted by joint likelihood: lossy."""

    drafter_class = BeamDrafter
    verifier_class = JointVerifier
