"""The audit of lossless outputs: identical, near-tie, mismatch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from specbench_s2d.decoding.spec import build_decoder
from specbench_s2d.measure.divergence import Divergence, TokenScores, classify, classify_alone
from specbench_s2d.measure.teacher_forcing import NoiseRows, logit_noise, score
from specbench_s2d.models import LanguageModel, load_model

NOISE = 0.01
ROWS = NoiseRows((1, 6), ())
AR = [5, 6, 7, 8]
SECOND = {0: 8.0, 1: 9.999, 2: 9.5, 3: 9.999}
"""Of each position, the second-best logit; the best is 10."""


def scores_of(output: Sequence[int], shortfall: dict[int, float] | None = None) -> TokenScores:
    """A teacher-forced pass that finds each token the best, or `shortfall` (by position) below it."""
    size = range(len(output))
    chosen = [10 - (shortfall or {}).get(i, 0.0) for i in size]
    return TokenScores(0.0, [10.0] * len(output), [SECOND.get(i, 9.0) for i in size], chosen)


def at(verdict: str, position: int) -> Divergence:
    second = SECOND[position]
    return Divergence.model_validate(
        {
            "verdict": verdict, "position": position, "margin": 10.0 - second,
            "best_logit": 10.0, "second_logit": second, "noise": NOISE,
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ([5, 6, 7, 8], Divergence(verdict="identical")),
        ([5, 9, 1, 1], at("near_tie", 1)),
        ([5, 9, 7, 8], at("near_tie", 1)),
        ([5, 6, 9, 8], at("mismatch", 2)),
        ([9, 9, 9, 9], at("mismatch", 0)),
        ([5, 9], at("near_tie", 1)),  # after a tie, ends may differ
    ],
)
def test_where_outputs_part_the_margin_decides(output: Sequence[int], expected: Divergence) -> None:
    assert classify(output, AR, scores_of(output), NOISE) == expected


def test_after_a_near_tie_every_token_must_still_be_the_targets_own() -> None:
    """A bug that shows behind an honest tie is a bug."""
    output = [5, 9, 1, 1]
    assert classify(output, AR, scores_of(output, {2: 0.3}), NOISE) == at("mismatch", 2)
    assert classify(output, AR, scores_of(output, {3: 0.3}), NOISE) == at("mismatch", 3)
    assert classify(output, AR, scores_of(output, {2: 0.009}), NOISE).verdict == "near_tie"


def test_at_a_near_tie_only_the_two_that_tie_will_do() -> None:
    output = [5, 9, 1, 1]
    assert classify(output, AR, scores_of(output, {1: 4.0}), NOISE) == at("mismatch", 1)


def test_where_ar_itself_is_wrong_or_an_output_ends_early_that_decides_and_no_later_token() -> None:
    """At position 2 the output has its target's best, clear of the second: the token that is not AR's is decisive."""
    output = [5, 6, 9, 1, 1]
    assert classify(output, AR, scores_of(output, {4: 0.3}), NOISE) == at("mismatch", 2)
    longer = [*AR, 1, 1]
    expected = Divergence(verdict="mismatch", position=4, noise=NOISE)
    assert classify(longer, AR, scores_of(longer, {5: 0.3}), NOISE) == expected


def test_a_wrong_token_before_the_first_difference_decides() -> None:
    output = [5, 6, 9, 8]
    assert classify(output, AR, scores_of(output, {1: 0.3}), NOISE) == at("mismatch", 1)


def test_a_cache_that_is_wrong_for_all_decoders_alike_fails_ar_itself() -> None:
    assert classify(AR, AR, scores_of(AR, {2: 0.3}), NOISE) == at("mismatch", 2)


def test_logits_that_are_not_numbers_are_a_mismatch_and_not_identical() -> None:
    nan = float("nan")
    broken = TokenScores(nan, [nan] * 4, [nan] * 4, [nan] * 4)
    assert classify(AR, AR, broken, NOISE).verdict == "mismatch"
    assert classify(AR, AR, broken, 0.0).verdict == "mismatch"


def test_without_ars_output_a_wrong_token_is_still_a_mismatch_and_a_right_one_says_nothing() -> None:
    assert classify_alone(AR, scores_of(AR, {2: 0.3}), NOISE) == at("mismatch", 2)
    assert classify_alone(AR, scores_of(AR), NOISE) is None


@pytest.mark.parametrize(("output", "position"), [([5, 6, 7], 3), ([5, 6, 7, 8, 9], 4), ([], 0)])
def test_an_output_that_only_ends_elsewhere_is_a_mismatch(output: Sequence[int], position: int) -> None:
    """No tie explains it: the same tokens end at the same place. (At position 3 the margin is a near-tie's.)"""
    expected = Divergence(verdict="mismatch", position=position, noise=NOISE)
    assert classify(output, AR, scores_of(output), NOISE) == expected


def test_a_margin_at_the_bound_is_not_near() -> None:
    tied = TokenScores(0.0, [10.0], [9.5], [10.0])
    assert classify([4], [3], tied, 0.5).verdict == "mismatch"
    assert classify([4], [3], TokenScores(0.0, [10.0], [10.0], [10.0]), 0.0).verdict == "mismatch"


@pytest.fixture
def pair(tiny_models: Path) -> tuple[LanguageModel, LanguageModel]:
    target, draft = (load_model(str(tiny_models / name), device="cpu") for name in ("tiny-target", "tiny-draft"))
    return target, draft


def audit(target: LanguageModel, draft: LanguageModel, prompt: list[int], ar_ids: list[int]) -> Divergence:
    noise = logit_noise(target, prompt, ROWS)
    ids = build_decoder("sd", target, draft).generate(prompt, max_new_tokens=40).ids
    return classify(ids, ar_ids, score(target, prompt, ids), noise)


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
    noise = logit_noise(target, prompt, ROWS)
    right = target.rollback
    with monkeypatch.context() as patch:
        patch.setattr(target, "rollback", lambda length: right(length + 1 if length else 0))
        ids = build_decoder("sd", target, draft).generate(prompt, max_new_tokens=40).ids
        with_the_bug = score(target, prompt, ids)
        assert classify(ids, ar_ids, with_the_bug, noise).verdict == "mismatch"
    assert classify(ids, ar_ids, score(target, prompt, ids), noise).verdict == "mismatch"
