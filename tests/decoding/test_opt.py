"""A family outside the lean forward, end to end: a random OPT, and as its draft the same without its last layer."""

from __future__ import annotations

from pathlib import Path

import pytest

from specbench_s2d import build_decoder, load_model
from specbench_s2d.models import LanguageModel


@pytest.fixture(scope="module")
def pair(tiny_opt: Path) -> tuple[LanguageModel, LanguageModel]:
    target, draft = (load_model(str(tiny_opt / name), device="cpu") for name in ("tiny-opt", "tiny-opt-draft"))
    return target, draft


def decoded(pair: tuple[LanguageModel, LanguageModel], decoder: str, seed: int) -> tuple[list[int], float]:
    """The ids, and the mean of emitted tokens per step."""
    target, draft = pair
    built = build_decoder(decoder, target, None if decoder.startswith(("ar", "mjgd")) else draft)
    prompt = [(seed * 37 + i * 11) % target.vocabulary for i in range(20)]
    generation = built.generate(prompt, max_new_tokens=40, ignore_eos=True)
    return generation.ids, (len(generation.ids) - 1) / len(generation.steps)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("decoder", ["sd:gamma=4", "beam+token", "beam+token:candidates=4", "mjgd:k=1"])
def test_greedy_output_is_ars(pair: tuple[LanguageModel, LanguageModel], decoder: str, seed: int) -> None:
    assert pair[0].identity.forward.startswith("transformers")
    assert decoded(pair, decoder, seed)[0] == decoded(pair, "ar", seed)[0]


def test_the_draft_is_right_now_and_then(pair: tuple[LanguageModel, LanguageModel]) -> None:
    """Else the test above would prove little."""
    rates = [decoded(pair, "sd:gamma=4", seed)[1] for seed in range(3)]
    assert 1 < sum(rates) / len(rates) < 5


@pytest.mark.parametrize("decoder", ["mjsd", "mjsd:candidates=4", "mjgd"])
def test_joint_decoders_run(pair: tuple[LanguageModel, LanguageModel], decoder: str) -> None:
    ids, rate = decoded(pair, decoder, 0)
    assert len(ids) == 40 and rate >= 1
