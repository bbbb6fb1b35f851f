"""The loop: what a step holds, where a generation ends, and how many passes it takes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from specbench_s2d.decoding import loop
from specbench_s2d.decoding.decoder import PairDecoder
from specbench_s2d.decoding.spec import build_decoder
from specbench_s2d.errors import ModelError, PromptTooLongError, UserError
from specbench_s2d.models import load_model
from tests.decoding.fixed_output import PROMPT, FixedOutput
from tests.fakes import FakeModel
from tests.refusals import refused

EOS = 7


def sd(target: list[int], draft: list[int], gamma: int | str = 5, eos: int | None = EOS, context: int = 64) -> Any:
    """SD over a target and a draft that write these scripts."""
    return build_decoder("sd", FixedOutput(target, 0, context, eos), FixedOutput(draft, 1, context, eos), gamma=gamma)


def half_right_pair(seed: int = 3, context: int = 64) -> tuple[FakeModel, FakeModel]:
    """A target, and a draft that agrees with it after about half of all prefixes."""
    target, draft = FakeModel(seed=seed, context=context), FakeModel(seed=seed + 50, context=context)
    draft.logits_after = lambda prefix: (  # type: ignore[method-assign]
        target.logits_after(prefix) if sum(prefix) % 2 else FakeModel.logits_after(draft, prefix)
    )
    return target, draft


def test_a_step_is_what_was_drafted_accepted_and_emitted() -> None:
    generation = sd([1, 2, 3, 4, 5, 6, 1, 2], [1, 2, 3, 9, 9, 9, 1, 2], gamma=3).generate(PROMPT, max_new_tokens=8)
    first, second, third, fourth = generation.steps
    assert generation.ids == [1, 2, 3, 4, 5, 6, 1, 2]
    assert (first.drafted, first.accepted, first.emitted) == ([2, 3, 9], 2, [2, 3, 4])
    assert (second.drafted, second.accepted, second.emitted) == ([9, 9, 1], 0, [5])
    assert (third.drafted, third.accepted, third.emitted) == ([9, 1, 2], 0, [6])
    assert (fourth.drafted, fourth.accepted, fourth.emitted) == ([1, 2, 0], 3, [1, 2])  # cut at the limit
    assert generation.stop == "length"
    assert (first.passes, first.parents, first.exit_depths, first.draft_logprobs) == (1, None, [], None)


def test_eos_inside_an_accepted_run_cuts_there_and_leaves_the_verdict() -> None:
    generation = sd([1, 2, 3, EOS, 4, 5, 6], [1, 2, 3, EOS, 4, 5, 6]).generate(PROMPT, max_new_tokens=20)
    (step,) = generation.steps
    assert generation.ids == [1, 2, 3, EOS]
    assert generation.stop == "eos"
    assert (step.drafted, step.accepted, step.emitted) == ([2, 3, EOS, 4, 5], 5, [2, 3, EOS])


def test_eos_as_the_token_after_the_accepted_ones_ends_too() -> None:
    generation = sd([1, 2, EOS, 4], [1, 2, 3, 4]).generate(PROMPT, max_new_tokens=20)
    assert (generation.ids, generation.stop) == ([1, 2, EOS], "eos")
    assert generation.steps[0].accepted == 1


def test_eos_that_the_target_rejects_is_no_end() -> None:
    generation = sd([1, 2, 3, 4, 5, 6], [1, 2, EOS, 4, 5, 6], gamma=2).generate(PROMPT, max_new_tokens=6)
    assert (generation.ids, generation.stop) == ([1, 2, 3, 4, 5, 6], "length")


def test_eos_as_the_first_token_leaves_no_steps() -> None:
    generation = sd([EOS, 1, 2], [EOS, 1, 2]).generate(PROMPT, max_new_tokens=20)
    assert (generation.ids, generation.steps, generation.stop) == ([EOS], [], "eos")


def test_every_id_that_ends_an_answer_does() -> None:
    target = FixedOutput([1, 2, 3, 4])
    target.eos_ids = frozenset({3, EOS})
    assert build_decoder("ar", target).generate(PROMPT, max_new_tokens=4).ids == [1, 2, 3]


def test_the_targets_ends_count_and_not_the_drafts() -> None:
    target, draft = FixedOutput([1, 2, 3, 4], eos=EOS), FixedOutput([1, 2, 3, 4], seed=1, eos=2)
    assert build_decoder("sd", target, draft).generate(PROMPT, max_new_tokens=4).ids == [1, 2, 3, 4]


def test_ignore_eos_goes_on_to_the_limit() -> None:
    script = [1, EOS, 3, EOS, 5, 6, 1]
    generation = sd(script, script).generate(PROMPT, max_new_tokens=6, ignore_eos=True)
    assert (generation.ids, generation.stop) == (script[:6], "length")


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 6, 7])
def test_the_limit_cuts_inside_an_accepted_run(limit: int) -> None:
    script = [1, 2, 3, 4, 5, 6, 1, 2, 3]
    generation = sd(script, script).generate(PROMPT, max_new_tokens=limit)
    assert (generation.ids, generation.stop) == (script[:limit], "length")
    if 1 < limit <= 7:
        assert generation.steps[0].accepted == 5
        assert len(generation.steps[0].emitted) == limit - 1


def test_eos_at_the_limit_is_an_end_and_beyond_it_is_not() -> None:
    script = [1, 2, 3, EOS, 5]
    assert sd(script, script).generate(PROMPT, max_new_tokens=4).stop == "eos"
    assert sd(script, script).generate(PROMPT, max_new_tokens=3).stop == "length"


@pytest.mark.parametrize("gamma", [1, 3, 5, "heuristic"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_ids_are_the_first_token_and_what_the_steps_emitted(gamma: int | str, temperature: float) -> None:
    generation = build_decoder("sd", *half_right_pair(), gamma=gamma).generate(
        PROMPT_IN_FIVE, max_new_tokens=30, temperature=temperature, seed=4
    )
    assert generation.ids[1:] == [token for step in generation.steps for token in step.emitted]
    assert len(generation.ids) == 30
    for step in generation.steps:
        assert 0 <= step.accepted <= len(step.drafted)
        whole = step is not generation.steps[-1]
        assert len(step.emitted) == step.accepted + 1 if whole else 1 <= len(step.emitted) <= step.accepted + 1
        assert step.emitted[: step.accepted] == step.drafted[: min(step.accepted, len(step.emitted))]


PROMPT_IN_FIVE = [1, 0]


@pytest.mark.parametrize("gamma", [1, 2, 4])
def test_one_target_pass_per_step_and_one_draft_pass_per_drafted_token(gamma: int) -> None:
    target, draft = half_right_pair()
    generation = build_decoder("sd", target, draft, gamma=gamma).generate(PROMPT_IN_FIVE, max_new_tokens=40)
    assert {step.accepted for step in generation.steps} == set(range(gamma + 1)), "else the case proves too little"
    assert target.passes == 1 + len(generation.steps) == 1 + sum(step.passes for step in generation.steps)
    assert draft.passes == 1 + sum(len(step.drafted) for step in generation.steps)
    assert {len(step.drafted) for step in generation.steps} == {gamma}


def test_both_caches_end_in_step_with_what_was_committed() -> None:
    """All but the last committed token; the draft's may lack one more, after a fully accepted proposal."""
    target, draft = half_right_pair()
    generation = build_decoder("sd", target, draft, gamma=3).generate(PROMPT_IN_FIVE, max_new_tokens=31)
    last = generation.steps[-1]
    committed = len(PROMPT_IN_FIVE) + len(generation.ids) - len(last.emitted) + last.accepted
    assert target.length == committed
    assert committed - 1 <= draft.length <= committed


def test_nothing_is_proposed_beyond_the_context() -> None:
    """The fakes refuse a pass beyond their context; the last proposals shrink to fit."""
    target, draft = half_right_pair(context=20)
    generation = build_decoder("sd", target, draft, gamma=6).generate(PROMPT_IN_FIVE, max_new_tokens=18)
    assert len(generation.ids) == 18
    lengths = [len(step.drafted) for step in generation.steps]
    assert lengths[0] == 6
    assert lengths[-1] < 6


def test_the_context_is_what_both_models_hold() -> None:
    target, draft = FakeModel(context=64), FakeModel(seed=1, context=12)
    assert len(build_decoder("sd", target, draft).generate([1, 2], max_new_tokens=10).ids) == 10
    with refused(
        PromptTooLongError, "2 tokens", "11 new", "13 positions", "holds 12", "Lower max_new_tokens, or shorten"
    ):
        build_decoder("sd", target, draft).generate([1, 2], max_new_tokens=11)
    assert len(build_decoder("ar", target).generate([1, 2], max_new_tokens=11).ids) == 11


def test_a_prompt_of_one_token_is_a_prompt() -> None:
    target, draft = half_right_pair()
    expected = build_decoder("ar", target).generate([3], max_new_tokens=12).ids
    assert build_decoder("sd", target, draft).generate([3], max_new_tokens=12).ids == expected


@pytest.mark.parametrize(
    ("prompt", "settings", "parts"),
    [
        ([], {}, ["prompt is empty"]),
        ([1], {"max_new_tokens": 0}, ["max_new_tokens 0"]),
        ([1], {"max_new_tokens": 8, "temperature": -0.1}, ["temperature -0.1"]),
        ([1], {"max_new_tokens": 8, "temperature": math.nan}, ["temperature nan"]),
        ([1], {"max_new_tokens": 8, "temperature": math.inf}, ["temperature inf"]),
        ([1], {"max_new_tokens": 8, "top_k": -1}, ["top_k -1"]),
        ([1], {"max_new_tokens": 8, "top_p": 0.0}, ["top_p 0.0"]),
        ([1], {"max_new_tokens": 8, "top_p": 1.1}, ["top_p 1.1"]),
    ],
)
def test_bad_settings_are_refused_before_any_pass(
    prompt: list[int], settings: dict[str, Any], parts: list[str]
) -> None:
    target = FakeModel()
    with refused(UserError, *parts):
        build_decoder("ar", target).generate(prompt, **settings)
    assert target.passes == 0


def test_a_model_cannot_draft_for_itself() -> None:
    target = FakeModel()
    with refused(ModelError, "fake-0", "cache"):
        build_decoder("sd", target, target)


@pytest.mark.parametrize("name", ["ar", "sd"])
def test_a_seed_fixes_the_sample_and_another_gives_another(name: str) -> None:
    decoder = build_decoder(name, *half_right_pair())
    samples = [decoder.generate([1], max_new_tokens=30, temperature=1.0, seed=seed).ids for seed in (1, 1, 2)]
    assert samples[0] == samples[1]
    assert samples[0] != samples[2]


def test_greedy_decoding_has_no_use_for_a_seed() -> None:
    decoder = build_decoder("sd", *half_right_pair())
    assert decoder.generate([1], 20, seed=1).ids == decoder.generate([1], 20, seed=2).ids


@pytest.mark.parametrize("gamma", [3, "heuristic"])
def test_a_decoder_starts_afresh_each_time(gamma: int | str) -> None:
    decoder = build_decoder("sd", *half_right_pair(), gamma=gamma)
    first = decoder.generate([1, 2, 3], max_new_tokens=25)
    decoder.generate([4, 4, 4, 4, 4, 4], max_new_tokens=7)
    again = decoder.generate([1, 2, 3], max_new_tokens=25)
    assert again.ids == first.ids
    assert [s.drafted for s in again.steps] == [s.drafted for s in first.steps]


def test_decoders_that_share_models_do_not_disturb_each_other() -> None:
    target, draft = half_right_pair()
    decoders = [
        build_decoder("ar", target),
        build_decoder("sd", target, draft),
        build_decoder("sd:gamma=2", target, draft),
    ]
    prompts = [[1, 2], [3], [4, 0, 1]]
    expected = [build_decoder("ar", FakeModel(seed=3)).generate(p, max_new_tokens=15).ids for p in prompts]
    for _ in range(2):
        for prompt, ids in zip(prompts, expected, strict=True):
            assert [d.generate(prompt, max_new_tokens=15).ids for d in decoders] == [ids] * 3


def test_seconds_add_up() -> None:
    generation = build_decoder("sd", *half_right_pair()).generate([1], max_new_tokens=20)
    assert generation.prefill_s > 0
    assert generation.total_s == generation.prefill_s + generation.decode_s
    for step in generation.steps:
        assert 0 < step.draft_s + step.verify_s <= step.seconds
    assert sum(step.seconds for step in generation.steps) <= generation.decode_s


def test_the_steps_bytes_are_those_of_their_passes(tiny_models: Path) -> None:
    """The prefill's are left out: AR's seven steps read the target's layers, its head and a cache that grows."""
    target = load_model(str(tiny_models / "tiny-target"), device="cpu")
    generation = build_decoder("ar", target).generate([5, 6, 7], 8, ignore_eos=True)
    target.reset()
    target.extend(torch.tensor([[5, 6, 7]]), last_only=True)
    prefilled = target.read_bytes
    for token in generation.ids[:-1]:
        target.extend(torch.tensor([[token]]))
    assert generation.decode_bytes == target.read_bytes - prefilled > 0


def test_a_drafts_bytes_count_too(tiny_models: Path) -> None:
    target, draft = (load_model(str(tiny_models / n), device="cpu") for n in ("tiny-target", "tiny-draft"))
    before = draft.read_bytes
    with_draft = build_decoder("sd", target, draft).generate([5, 6], 12, ignore_eos=True)
    passes = len(with_draft.steps)
    assert draft.read_bytes - before > 0
    assert with_draft.decode_bytes > passes * (target.parameter_bytes // 2)


@pytest.mark.parametrize("name", ["tiny-target", "tiny-opt"])
def test_an_observer_is_shown_the_logits_of_the_whole_prompt_part_by_part(
    name: str, tiny_models: Path, tiny_opt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through layers and head apart, or by transformers' own forward; then of every step."""
    monkeypatch.setattr(loop, "_OBSERVED_AT_ONCE", 4)
    target = load_model(str((tiny_models if name == "tiny-target" else tiny_opt) / name), device="cpu")
    decoder = build_decoder("recycling", target)
    assert isinstance(decoder, PairDecoder)
    seen: list[tuple[list[int], torch.Tensor]] = []
    observe = decoder.drafter.observe

    def recorded(ids_T: torch.Tensor, logits_TV: torch.Tensor) -> torch.Tensor:
        seen.append((ids_T.tolist(), logits_TV))
        return observe(ids_T, logits_TV)

    monkeypatch.setattr(decoder.drafter, "observe", recorded)
    prompt = [5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
    generation = decoder.generate(prompt, 6, ignore_eos=True)
    assert [len(ids) for ids, _ in seen[:3]] == [4, 4, 2]
    assert [token for ids, _ in seen[:3] for token in ids] == prompt
    target.reset()
    expected_TV = target.extend(torch.tensor([prompt]))[0]
    torch.testing.assert_close(torch.cat([logits for _, logits in seen[:3]]), expected_TV)
    assert [len(ids) - 1 for ids, _ in seen[3:]] == [len(step.drafted) for step in generation.steps]
    assert generation.ids == build_decoder("ar", target).generate(prompt, 6, ignore_eos=True).ids


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_the_loop_runs_on_a_gpu(tiny_models: Path, temperature: float) -> None:
    target, draft = (
        load_model(str(tiny_models / n), device="cuda", dtype="float32") for n in ("tiny-target", "tiny-draft")
    )
    for decoder in (build_decoder("ar", target), build_decoder("sd", target, draft)):
        assert len(decoder.generate([5, 6], 20, temperature=temperature, top_p=0.9, ignore_eos=True).ids) == 20
