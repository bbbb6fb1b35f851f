"""The audit of lossless outputs: identical, near-tie, mismatch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from specbench_s2d.decoding.spec import build_decoder
from specbench_s2d.measure.divergence import Divergence, classify
from specbench_s2d.measure.scoring import logit_noise, score
from specbench_s2d.models import LanguageModel, load_model

NOISE = 0.01
AR = [5, 6, 7, 8]
MARGINS = [2.0, 0.001, 0.5, 0.001]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ([5, 6, 7, 8], Divergence(verdict="identical")),
        ([5, 9, 1, 1], Divergence(verdict="near_tie", position=1, margin=0.001)),
        ([5, 9, 7, 8], Divergence(verdict="near_tie", position=1, margin=0.001)),
        ([5, 6, 9, 8], Divergence(verdict="mismatch", position=2, margin=0.5)),
        ([9, 9, 9, 9], Divergence(verdict="mismatch", position=0, margin=2.0)),
        ([5, 9], Divergence(verdict="near_tie", position=1, margin=0.001)),  # after a tie, ends may differ
    ],
)
def test_where_outputs_part_the_margin_decides(output: Sequence[int], expected: Divergence) -> None:
    assert classify(output, AR, MARGINS, NOISE) == expected


@pytest.mark.parametrize(("output", "position"), [([5, 6, 7], 3), ([5, 6, 7, 8, 9], 4), ([], 0)])
def test_an_output_that_only_ends_elsewhere_is_a_mismatch(output: Sequence[int], position: int) -> None:
    """No tie explains it: the same tokens end at the same place. (At position 3 AR's margin is a near-tie's.)"""
    assert classify(output, AR, MARGINS, NOISE) == Divergence(verdict="mismatch", position=position, margin=None)


def test_a_margin_at_the_bound_is_not_near() -> None:
    assert classify([4], [3], [NOISE], NOISE).verdict == "mismatch"
    assert classify([4], [3], [0.0], 0.0).verdict == "mismatch"


@pytest.fixture
def pair(tiny_models: Path) -> tuple[LanguageModel, LanguageModel]:
    target, draft = (load_model(str(tiny_models / name), device="cpu") for name in ("tiny-target", "tiny-draft"))
    return target, draft


def audit(target: LanguageModel, draft: LanguageModel, prompt: list[int], ar_ids: list[int]) -> Divergence:
    noise = logit_noise(target, prompt)
    ids = build_decoder("sd", target, draft).generate(prompt, max_new_tokens=40).ids
    return classify(ids, ar_ids, score(target, prompt, ar_ids).margins, noise)


PROMPTS = [
    "Write a short letter to a friend.",
    "What is the capital of France?",
    "Tom has 12 apples.",
    "Summarize: a road.",
]


@pytest.mark.parametrize("text", PROMPTS)
def test_sd_on_a_real_model_is_identical_or_a_near_tie(pair: tuple[LanguageModel, LanguageModel], text: str) -> None:
    target, draft = pair
    prompt = target.tokenizer.encode(text)
    ar_ids = build_decoder("ar", target).generate(prompt, max_new_tokens=40).ids
    assert audit(target, draft, prompt, ar_ids).verdict in ("identical", "near_tie")


@pytest.mark.parametrize("text", PROMPTS)
def test_a_cache_that_is_cut_one_position_off_comes_out_as_a_mismatch(
    pair: tuple[LanguageModel, LanguageModel], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The audit must not take a bug for rounding: the target forgets one position too few after each step."""
    target, draft = pair
    prompt = target.tokenizer.encode(text)
    ar_ids = build_decoder("ar", target).generate(prompt, max_new_tokens=40).ids
    margins, noise = score(target, prompt, ar_ids).margins, logit_noise(target, prompt)
    right = target.rollback
    monkeypatch.setattr(target, "rollback", lambda length: right(length + 1 if length else 0))
    ids = build_decoder("sd", target, draft).generate(prompt, max_new_tokens=40).ids
    assert classify(ids, ar_ids, margins, noise).verdict == "mismatch"
