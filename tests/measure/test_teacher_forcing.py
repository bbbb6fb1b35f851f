"""Perplexity's sum and the noise bound, against plain arithmetic."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from specbench_s2d.measure.divergence import TokenScores, classify
from specbench_s2d.measure.teacher_forcing import logit_noise, score
from specbench_s2d.models import LanguageModel, load_model
from tests.fakes import FakeModel

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
    assert logit_noise(FakeModel(), PROMPT * 5) == 0.0


def test_float32_makes_a_little_noise(tiny: LanguageModel) -> None:
    prompt = tiny.tokenizer.encode("The old bridge over the river was built of stone. " * 3)
    noise = logit_noise(tiny, prompt)
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

    assert logit_noise(Astray(), [1, 2, 3, 4, 0], rows=(), tree_rows=(3,)) == pytest.approx(2.0)
    assert logit_noise(Astray(), [1, 2, 3, 4, 0], rows=(3,), tree_rows=()) == 0.0


def test_the_noise_is_four_times_the_largest_difference_seen() -> None:
    class Uneven(FakeModel):
        """A pass of three positions adds 0.25 to one logit of its last."""

        takes_masks = False

        def extend(self, inputs: torch.Tensor, *arguments: object, **options: object) -> torch.Tensor:
            logits_BTV = super().extend(inputs).clone()
            if inputs.shape[1] == 3:
                logits_BTV[0, -1, 3] += 0.25
            return logits_BTV

    assert logit_noise(Uneven(), [1, 2, 3, 4, 0], rows=(3,)) == pytest.approx(1.0)
    assert logit_noise(Uneven(), [1, 2, 3, 4, 0, 1, 2, 3], rows=(5,)) == pytest.approx(1.0)  # 5 and then 3
    assert logit_noise(Uneven(), [1, 2, 3, 4, 0, 1, 2, 3], rows=(6, 8)) == 0.0


@pytest.mark.parametrize("width", [1, 2, 4])
def test_narrow_passes_are_measured_whatever_the_run_asks_for(width: int) -> None:
    class Narrow(FakeModel):
        """A pass of so many positions, not the first, adds 0.25 to one logit."""

        takes_masks = False

        def extend(self, inputs: torch.Tensor, *arguments: object, **options: object) -> torch.Tensor:
            logits_BTV = super().extend(inputs).clone()
            if inputs.shape[1] == width:
                logits_BTV[0, -1, 3] += 0.25
            return logits_BTV

    assert logit_noise(Narrow(), [1, 2, 3, 4, 0, 1, 2, 3], rows=()) == pytest.approx(1.0)


@pytest.mark.parametrize("tokens", [1, 2, 96, 97, 150])
def test_noise_is_measured_on_any_prompt(tokens: int) -> None:
    model = FakeModel(context=200)
    assert logit_noise(model, [i % 5 for i in range(tokens)]) == 0.0
    assert model.length == tokens


@pytest.mark.parametrize("bad_pass", [1, 2, 5])
def test_noise_of_passes_that_give_no_number_is_no_number(tiny: LanguageModel, bad_pass: int) -> None:
    """A bound of 0 would have been the best of all; with none, no token is excused."""
    real, passes = tiny.extend, 0

    def extend(*given: object, **named: object) -> torch.Tensor:
        nonlocal passes
        passes += 1
        out = real(*given, **named)  # type: ignore[arg-type]
        return out * float("nan") if passes == bad_pass else out

    tiny.extend = extend  # type: ignore[method-assign]
    noise = logit_noise(tiny, list(range(20, 30)))
    assert math.isnan(noise)
    assert classify([2], [2], TokenScores(0.0, [3.0], [1.0], [3.0]), noise).verdict == "mismatch"
