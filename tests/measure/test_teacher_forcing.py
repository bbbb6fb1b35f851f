"""Perplexity's sum and the noise bound, against plain arithmetic."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from specbench_s2d.measure.divergence import TokenScores
from specbench_s2d.measure.teacher_forcing import DraftView, NoiseRows, logit_noise, score
from specbench_s2d.models import LanguageModel, load_model
from specbench_s2d.models.exit_view import reader_passes
from specbench_s2d.models.nested import stage_passes
from tests.fakes import FakeModel

INF, NAN = float("inf"), float("nan")
ROWS = NoiseRows((1, 2, 4, 6), (6,))
PROMPT, OUTPUT = [1, 0, 3], [2, 4, 4, 0, 1]


@pytest.fixture
def tiny(tiny_models: Path) -> LanguageModel:
    return load_model(str(tiny_models / "tiny-target"), device="cpu", dtype="float32")


def plain_scores(model: FakeModel, prompt: list[int], output: list[int]) -> tuple[float, list[list[float]]]:
    """(nll in nats, [best, second, chosen] per token), in Python floats, one position at a time."""
    nll, logits_of = 0.0, []
    for i, token in enumerate(output):
        logits = model.logits_after((*prompt, *output[:i])).double().tolist()
        nll -= logits[token] - math.log(sum(math.exp(x) for x in logits))
        second, best = sorted(logits)[-2:]
        logits_of.append([best, second, logits[token]])
    return nll, logits_of


@pytest.mark.parametrize("prompt", [PROMPT, [2]], ids=["a prompt", "one token"])
@pytest.mark.parametrize("output", [OUTPUT, [3]], ids=["an output", "one token"])
def test_scores_equal_plain_log_softmax(prompt: list[int], output: list[int]) -> None:
    model = FakeModel(sharpness=2.0)
    scores = score(model, prompt, output)
    nll, logits_of = plain_scores(model, prompt, output)
    assert scores.nll_sum == pytest.approx(nll, abs=1e-5)
    for i, (best, second, chosen) in enumerate(logits_of):
        assert (scores.best[i], scores.second[i], scores.chosen[i]) == pytest.approx((best, second, chosen), abs=1e-5)
        assert scores.margin(i) == pytest.approx(best - second, abs=1e-5)
        assert scores.shortfall(i) == pytest.approx(best - chosen, abs=1e-5)


def test_ties_are_where_the_two_best_lie_within_the_noise() -> None:
    scores = TokenScores(0.0, [3.0, 3.0, 3.0], [2.0, 2.9, 3.0], [3.0, 3.0, 3.0])
    assert scores.ties(0.2) == [1, 2]
    assert scores.ties(0.0) == []


def test_scores_do_not_depend_on_what_the_cache_held(tiny: LanguageModel) -> None:
    expected = score(tiny, PROMPT, OUTPUT)
    tiny.extend(torch.tensor([[9, 8, 7]]))
    assert score(tiny, PROMPT, OUTPUT) == expected


def test_a_greedy_outputs_scores_are_those_of_the_best_tokens(tiny: LanguageModel) -> None:
    ids = list(PROMPT)
    for _ in range(6):
        tiny.reset()
        ids.append(int(tiny.extend(torch.tensor([ids]))[0, -1].argmax()))
    scores = score(tiny, PROMPT, ids[3:])
    assert 0 < scores.nll_sum < score(tiny, PROMPT, [5, 5, 5, 5, 5, 5]).nll_sum
    assert all(scores.shortfall(i) == 0 < scores.margin(i) for i in range(6))


def test_a_model_of_exact_logits_makes_no_noise() -> None:
    assert logit_noise(FakeModel(), PROMPT * 5, ROWS) == 0.0


def test_float32_makes_a_little_noise(tiny: LanguageModel) -> None:
    prompt = tiny.tokenizer.encode("The old bridge over the river was built of stone. " * 3)
    noise = logit_noise(tiny, prompt, ROWS)
    assert 0 < noise < 1e-3
    assert tiny.length == len(prompt)


def test_branches_of_a_tree_count_too() -> None:
    class Astray(FakeModel):
        """A pass under a mask moves a logit."""

        def extend(self, inputs: torch.Tensor, *arguments: object, **options: object) -> torch.Tensor:
            logits_BTV = super().extend(inputs, *arguments, **options).clone()  # type: ignore[arg-type]
            if options.get("mask") is not None:
                logits_BTV[0, -1, 3] += 0.5
            return logits_BTV

    assert logit_noise(Astray(), [1, 2, 3, 4, 0], NoiseRows((), (3,))) == pytest.approx(2.0)
    assert logit_noise(Astray(), [1, 2, 3, 4, 0], NoiseRows((3,), ())) == 0.0


def test_the_noise_is_four_times_the_largest_difference_seen() -> None:
    class Uneven(FakeModel):
        """A pass of three positions adds 0.25 to one logit of its last."""

        takes_masks = False

        def extend(self, inputs: torch.Tensor, *arguments: object, **options: object) -> torch.Tensor:
            logits_BTV = super().extend(inputs, *arguments, **options).clone()  # type: ignore[arg-type]
            if inputs.shape[1] == 3:
                logits_BTV[0, -1, 3] += 0.25
            return logits_BTV

    assert logit_noise(Uneven(), [1, 2, 3, 4, 0], NoiseRows((3,), ())) == pytest.approx(1.0)
    assert logit_noise(Uneven(), [1, 2, 3, 4, 0, 1, 2, 3], NoiseRows((5,), ())) == pytest.approx(1.0)  # 5 and then 3
    assert logit_noise(Uneven(), [1, 2, 3, 4, 0, 1, 2, 3], NoiseRows((6, 8), ())) == 0.0


def test_the_prefill_and_the_teacher_forced_pass_are_compared_too() -> None:
    """Eight positions in one prefill, and scored three at a time: the last three sums differ by what each adds."""

    class Uneven(FakeModel):
        """A pass of `width` positions adds 0.25 to one logit of its last."""

        width = 0

        def extend(self, inputs: torch.Tensor, *arguments: object, **options: object) -> torch.Tensor:
            logits_BTV = super().extend(inputs, *arguments, **options).clone()  # type: ignore[arg-type]
            if inputs.shape[1] == self.width:
                logits_BTV[0, -1, 3] += 0.25
            return logits_BTV

    for width, noise in ((8, 1.0), (3, 1.0), (2, 1.0), (5, 0.0)):
        model = Uneven()
        model.width = width
        assert logit_noise(model, [1, 2, 3, 4, 0, 1, 2, 3], NoiseRows((1,), (), scored=3)) == pytest.approx(noise)


def test_ids_that_are_ruled_out_are_no_noise_and_no_fault(tiny: LanguageModel) -> None:
    real = tiny.extend

    def extend(*given: object, **named: object) -> torch.Tensor:
        out = real(*given, **named).clone()  # type: ignore[arg-type]
        out[..., 7] = float("-inf")
        return out

    prompt = list(range(20, 30))
    expected = logit_noise(tiny, prompt, ROWS)
    tiny.extend = extend  # type: ignore[method-assign]
    assert logit_noise(tiny, prompt, ROWS) == pytest.approx(expected, rel=0.5)
    assert score(tiny, PROMPT, OUTPUT).first_not_finite is None


@pytest.mark.parametrize("tokens", [1, 2, 96, 97, 150])
def test_noise_is_measured_on_any_prompt(tokens: int) -> None:
    model = FakeModel(context=200)
    assert logit_noise(model, [i % 5 for i in range(tokens)], ROWS) == 0.0
    assert model.length == tokens


@pytest.mark.parametrize(
    ("bad_pass", "where"),
    [
        (1, "5 positions at a time"), (2, "5 positions at a time"), (3, "at once"), (4, "in chains of 4 rows"),
        (8, "in trees of 6 rows"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("value", [NAN, INF])
def test_passes_that_give_no_number_are_told_apart_and_have_no_noise(
    tiny: LanguageModel, bad_pass: int, where: str, value: float
) -> None:
    """A bound of 0 would have been the best of all, and one of infinity would excuse everything."""
    real, passes = tiny.extend, 0

    def extend(*given: object, **named: object) -> torch.Tensor:
        nonlocal passes
        passes += 1
        out = real(*given, **named).clone()  # type: ignore[arg-type]
        if passes == bad_pass:
            out[0, -1, 3] = value
        return out

    tiny.extend = extend  # type: ignore[method-assign]
    with pytest.raises(FloatingPointError, match=f"not finite numbers where a warm-up prompt is run {where}"):
        logit_noise(tiny, list(range(20, 30)), NoiseRows((4,), (6,), 5))


@pytest.mark.parametrize("deep", [None, 2])
def test_a_drafts_logits_are_read_down_to_its_deepest_exit(deep: int | None) -> None:
    class Broken(FakeModel):
        """From the fifth token on, and at its deepest exit, not a number."""

        def logits_at(self, prefix: tuple[int, ...], depth: int) -> torch.Tensor:
            logits_V = super().logits_at(prefix, depth)
            return logits_V * NAN if len(prefix) >= 5 and depth == (deep or self.depth) else logits_V

    draft = Broken(exits=(1, 2, 3) if deep else ())
    passes = stage_passes((1, 2), 2) if deep else reader_passes(None, draft.depth, 2)
    view = DraftView.of(draft, passes)
    assert view.depth == (2 if deep else 1)
    assert view.first_not_finite([1, 2, 3], [0, 1, 2, 3]) == 2  # five tokens lie before new token 2
    assert view.first_not_finite([1, 2], [0, 1]) is None
