"""S2D: sorted speculative decoding, one nested draft for many targets (Kavehzadeh et al. 2024, arXiv 2407.01955)."""

from specbench_s2d.decoding.decoder import PairDecoder
from specbench_s2d.decoding.drafters.auto import AutoDrafter
from specbench_s2d.decoding.drafters.sorted import SortedDrafter
from specbench_s2d.decoding.drafters.tree import TreeDrafter
from specbench_s2d.decoding.verifiers.token import TokenVerifier


class SortedSpeculativeDecoding(PairDecoder):
    """Sorted speculative decoding: a nested draft, each token's exit chosen by confidence: lossless."""

    drafter_class = SortedDrafter
    verifier_class = TokenVerifier


class SortedTree(PairDecoder):
    """The sorted draft grows a tree, verified in one target pass (SD2): lossless."""

    drafter_class = TreeDrafter
    verifier_class = TokenVerifier


class SortedAuto(PairDecoder):
    """Sorted speculative decoding that knows its target: exits and draft length by measured costs: lossless."""

    drafter_class = AutoDrafter
    verifier_class = TokenVerifier
