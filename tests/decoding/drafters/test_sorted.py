"""S2D's oracle: token, exit and confidence of every drafted token equal those of sub-models run from scratch."""

from __future__ import annotations

import math
import random

import pytest

from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.spec import build_decoder
from specbench_s2d.decoding.types import Generation
from specbench_s2d.errors import ModelError, UserError
from specbench_s2d.models import load_model
from specbench_s2d.models.base import LanguageModel
from tests.fakes import FakeModel
from tests.models.test_nested import from_scratch
from tests.refusals import refused
from tests.tiny import random_nested


def drafted_by_hand(
    model: LanguageModel, context: list[int], thresholds: tuple[float, ...], exits: tuple[int, ...]
) -> tuple[int, int, float]:
    """(token, exit depth, confidence) by the definition: sub-models on the whole prefix, no cache."""
    for depth, threshold in zip(exits, thresholds, strict=True):
        confidence, token = from_scratch(model, context, depth).softmax(-1).max(-1)
        if float(confidence) > threshold or depth == exits[-1]:
            break
    return int(token), depth, float(confidence)


def layers_by_hand(generation: Generation, prompt: int, exits: tuple[int, ...]) -> list[int]:
    """Layer executions of each step if no layer runs twice for a position, and none before a token goes that deep.

    A token read at depth d needs every position before it at depth d; positions that stay keep the depth they have.
    """
    reached, length, expected = [exits[-1]] * prompt, prompt + 1, []
    for step in generation.steps:
        layers = 0
        for i, depth in enumerate(step.exit_depths):
            reached += [0] * (length + i - len(reached))
            layers += sum(max(0, depth - held) for held in reached)
            reached = [max(depth, held) for held in reached]
        expected.append(layers)
        del reached[length + step.accepted :]
        length += len(step.emitted)
    return expected


def check_against_oracle(
    target: LanguageModel, draft: LanguageModel, alone: LanguageModel, prompt: list[int], thresholds: tuple[float, ...]
) -> tuple[set[int], int]:
    """Decode, then draft every token again by hand; returns the depths that occurred and the tokens compared."""
    decoder = build_decoder("s2d", target, draft, thresholds=thresholds)
    generation = decoder.generate(prompt, max_new_tokens=40, ignore_eos=True)
    assert [step.draft_layers for step in generation.steps] == layers_by_hand(generation, len(prompt), draft.exits)
    context, depths, compared = [*prompt, generation.ids[0]], set(), 0
    for step in generation.steps:
        assert step.draft_logprobs is not None
        so_far = list(context)
        for token, depth, logprob in zip(step.drafted, step.exit_depths, step.draft_logprobs, strict=True):
            expected = drafted_by_hand(alone, so_far, thresholds, draft.exits)
            assert (token, depth) == expected[:2]
            assert math.exp(logprob) == pytest.approx(expected[2], abs=1e-5)
            so_far.append(token)
            depths.add(depth)
            compared += 1
        context += step.emitted
    return depths, compared


@pytest.mark.parametrize("seed", range(10))
def test_the_oracle_on_random_nested_models(seed: int) -> None:
    draft, alone, target = random_nested(seed), random_nested(seed), random_nested(seed + 100)
    coin = random.Random(seed)
    prompt = [coin.randrange(draft.vocabulary) for _ in range(9)]
    # Thresholds between the confidences that occur, so that every exit is taken.
    confidence = float(from_scratch(alone, prompt, draft.exits[0]).softmax(-1).max())
    thresholds = (*(coin.uniform(0.7, 1.1) * confidence for _ in draft.exits[1:]), 0.0)
    thresholds = tuple(min(1.0, threshold) for threshold in thresholds)
    depths, compared = check_against_oracle(target, draft, alone, prompt, thresholds)
    assert compared > 40
    assert len(depths) > 1


def test_the_oracle_on_the_demo_draft() -> None:
    target, draft, alone = (load_model(name, device="cpu") for name in ("demo-s", "demo-draft", "demo-draft"))
    prompt = target.tokenizer.apply_chat_template(
        [{"role": "user", "content": "Tom has 3 apples and buys 4 more. How many apples does he have?"}],
        add_generation_prompt=True,
        return_dict=False,
    )
    depths, _ = check_against_oracle(target, draft, alone, list(prompt), (0.4, 0.3, 0.0))  # type: ignore[arg-type]
    assert depths == {2, 3, 4}


def test_the_paper_s_thresholds_are_the_default() -> None:
    draft = FakeModel(exits=(2, 3, 4))
    assert build_decoder("s2d", FakeModel(seed=1), draft).label == "s2d"
    assert build_decoder("s2d:thresholds=0.75+0.7+0", FakeModel(seed=1), draft).label == "s2d:thresholds=0.75+0.7+0"
    assert build_decoder("s2d:exits=1+4,thresholds=0.5+0", FakeModel(seed=1), draft).draft is draft


@pytest.mark.parametrize(("threshold", "depth"), [(0.0, 1), (1.0, 4)])
def test_thresholds_of_0_and_1_draft_at_the_first_and_the_last_exit(threshold: float, depth: int) -> None:
    decoder = build_decoder(
        "s2d", FakeModel(seed=1), FakeModel(exits=(1, 2, 4)), thresholds=(threshold, threshold, 0.0)
    )
    steps = decoder.generate([1, 2], max_new_tokens=20).steps
    assert {exit_depth for step in steps for exit_depth in step.exit_depths} == {depth}
    layers, tokens = sum(s.draft_layers for s in steps), sum(len(s.drafted) for s in steps)
    assert layers >= depth * tokens  # and the last token of a fully accepted draft, once
    assert layers <= depth * (tokens + len(steps))


def test_the_draft_picks_its_argmax_and_its_raw_confidence_whatever_the_temperature() -> None:
    target, draft = FakeModel(seed=1), FakeModel(exits=(1, 2))
    decoder = build_decoder("s2d", target, draft, thresholds=(0.5, 0.0))
    step = decoder.generate([1, 2], max_new_tokens=9, temperature=0.3, seed=4).steps[0]
    first = drafted_by_hand(draft, [1, 2, decoder.generate([1, 2], 1, 0.3, seed=4).ids[0]], (0.5, 0.0), (1, 2))
    assert step.draft_logprobs is not None
    assert (step.drafted[0], step.exit_depths[0]) == first[:2]
    assert math.exp(step.draft_logprobs[0]) == pytest.approx(first[2], abs=1e-5)


def test_a_fixed_exit_drafts_as_the_sub_model_alone() -> None:
    target, draft = FakeModel(seed=1), FakeModel(exits=(1, 2, 4))
    fixed = build_decoder("sd:exit=2", target, draft).generate([1, 2], max_new_tokens=20)
    sorted_ = build_decoder("s2d:exits=2,thresholds=0", target, draft).generate([1, 2], max_new_tokens=20)
    assert [step.drafted for step in fixed.steps] == [step.drafted for step in sorted_.steps]
    assert [step.exit_depths for step in fixed.steps] == [step.exit_depths for step in sorted_.steps]
    assert [step.draft_layers for step in fixed.steps] == [step.draft_layers for step in sorted_.steps]


def test_a_plain_draft_can_be_read_early() -> None:
    model, alone = random_nested(3), random_nested(3)
    model.exits = ()
    step = build_decoder("sd:exit=2", random_nested(4), model).generate([1, 2, 3], max_new_tokens=9).steps[0]
    context = [1, 2, 3, build_decoder("ar", random_nested(4)).generate([1, 2, 3], max_new_tokens=1).ids[0]]
    for token in step.drafted:
        assert token == int(from_scratch(alone, context, 2).argmax())
        context.append(token)


@pytest.mark.parametrize(
    ("decoder", "kind", "parts"),
    [
        ("s2d:thresholds=0.5+0", UserError, ("thresholds=0.5+0", "2 thresholds for the 3 exits", "(2, 3, 4)")),
        ("s2d:thresholds=0.5+1.5+0", UserError, ("'s2d'", "thresholds", "1.5", "less than or equal to 1")),
        ("s2d:thresholds=-1+0+0", UserError, ("thresholds", "-1", "greater than or equal to 0")),
        ("s2d:thresholds=a+0+0", UserError, ("thresholds", "a", "valid number")),
        ("s2d:exits=3+2", ModelError, ("exits 3, 2", "shallow to deep")),
        ("s2d:exits=2+9", ModelError, ("exits 2, 9", "1 to 4")),
        ("s2d-tree:exits=2+9", ModelError, ("exits 2, 9", "1 to 4")),
        ("s2d-auto:exits=2+9", ModelError, ("exits 2, 9", "1 to 4")),
        ("sd:exit=5", ModelError, ("exits 5", "1 to 4")),
        ("sd:exit=0", UserError, ("exit=0", "greater than or equal to 1")),
        ("s2d-tree:tokens=0", UserError, ("tokens=0", "greater than or equal to 1")),
        ("s2d-auto:gamma=0", UserError, ("gamma=0",)),
    ],
)
def test_what_does_not_fit_the_draft_is_refused(decoder: str, kind: type[UserError], parts: tuple[str, ...]) -> None:
    with refused(kind, *parts):
        build_decoder(decoder, FakeModel(seed=1), FakeModel(exits=(2, 3, 4)))


def test_a_plain_draft_has_no_exits_for_s2d() -> None:
    with refused(ModelError, "draft demo-draft-sft is plain", "train soft", "depths from 1 to 4"):
        build_decoder("s2d", load_model("demo-s", device="cpu"), load_model("demo-draft-sft", device="cpu"))


def test_roll_back_leaves_the_draft_at_the_committed_context() -> None:
    draft = FakeModel(exits=(1, 2, 4))
    decoder = build_decoder("s2d", FakeModel(seed=1), draft)
    generation = decoder.generate([1, 2], max_new_tokens=20)
    last = generation.steps[-1]
    before = 2 + 1 + sum(len(step.emitted) for step in generation.steps[:-1])
    assert draft.layer_length(0) == min(before + last.accepted, before + len(last.drafted) - 1)


def test_the_drafter_keeps_to_the_room_that_is_left() -> None:
    decoder = build_decoder(
        "s2d", FakeModel(seed=1, context=12), FakeModel(exits=(1, 2), context=12), thresholds=(0.5, 0.0)
    )
    assert len(decoder.generate([1, 2], max_new_tokens=10).ids) == 10


def test_sampler_is_not_consulted_by_the_draft() -> None:
    decoder = build_decoder("s2d", FakeModel(seed=1), FakeModel(exits=(1, 2)), thresholds=(0.5, 0.0))
    decoder.drafter.start([1, 2], Sampler(1.0, 0, 1.0, seed=0))  # type: ignore[attr-defined]
    assert decoder.drafter.propose([1, 2, 3], 9).q_GV is None  # type: ignore[attr-defined]
