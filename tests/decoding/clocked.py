"""Decoders on a clock that only models move, so that `s2d-auto` decides by the fakes' costs and not by real time."""

from __future__ import annotations

from specbench_s2d.decoding.decoder import Decoder, PairDecoder
from specbench_s2d.decoding.drafters.auto import AutoDrafter
from specbench_s2d.decoding.spec import parse_decoder
from specbench_s2d.models.base import LanguageModel
from tests.fakes import Clock


def build_decoder(decoder: str, target: LanguageModel, draft: LanguageModel, clock: Clock) -> Decoder:
    """As `spec.build_decoder`; an auto drafter reads `clock`."""
    spec = parse_decoder(decoder)
    if spec.kind.draft_kind == "none":
        return spec.build(target, None)
    if not (issubclass(spec.kind, PairDecoder) and spec.kind.drafter_class is AutoDrafter):
        return spec.build(target, draft)

    class Clocked(AutoDrafter):
        def __init__(self, draft: LanguageModel, options: AutoDrafter.Options) -> None:
            super().__init__(draft, options, now=clock)

    halves = {"drafter_class": Clocked, "verifier_class": spec.kind.verifier_class}
    kind = type(spec.kind.__name__, (PairDecoder,), halves)
    return kind(target, draft, kind.Options(**spec.options.model_dump()), spec.label)
