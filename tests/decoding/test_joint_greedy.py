"""MJGD: every block is the one that enumeration finds; k = 1 is greedy AR."""

from __future__ import annotations

import itertools

import pytest

from specbench_s2d.decoding.spec import build_decoder
from specbench_s2d.errors import UserError
from specbench_s2d.models.base import LanguageModel
from tests.decoding.test_beams import logprobs_from_scratch
from tests.decoding.test_lossless import greedy_by_hand
from tests.fakes import FakeModel, Prefix
from tests.refusals import refused
from tests.tiny import random_pair

PROMPT = [1, 0]


def by_enumeration(model: LanguageModel, prompt: list[int], k: int, count: int) -> list[int]:
    """The first token by argmax, then blocks of k by the highest joint likelihood of all V^k; the last as long as
    what is left."""
    known: dict[Prefix, list[float]] = {}

    def logprobs(prefix: Prefix) -> list[float]:
        if prefix not in known:
            known[prefix] = logprobs_from_scratch(model, prefix)
        return known[prefix]

    def joint(block: Prefix) -> float:
        return sum(logprobs((*prompt, *ids, *block[:i]))[token] for i, token in enumerate(block))

    first = logprobs(tuple(prompt))
    ids = [first.index(max(first))]
    while len(ids) < count:
        length = min(k, count - len(ids))
        ids += max(itertools.product(range(model.vocabulary), repeat=length), key=joint)
    return ids


@pytest.mark.parametrize(("vocabulary", "k"), [(12, 1), (12, 2), (5, 3)])
@pytest.mark.parametrize("seed", range(5))
def test_a_wide_enough_search_equals_enumeration(vocabulary: int, k: int, seed: int) -> None:
    model = FakeModel(vocabulary, seed=seed, context=200)
    decoder = build_decoder("mjgd", model, k=k, beams=vocabulary ** (k - 1))
    assert decoder.generate(PROMPT, max_new_tokens=12).ids == by_enumeration(model, PROMPT, k, 12)


@pytest.mark.parametrize(("vocabulary", "k"), [(12, 2), (6, 3), (12, 3)])
@pytest.mark.parametrize("seed", range(2))
def test_a_real_models_cache_holds_through_the_blocks(vocabulary: int, k: int, seed: int) -> None:
    model = random_pair(seed, vocabulary)[0]
    decoder = build_decoder("mjgd", model, k=k, beams=vocabulary ** (k - 1))
    ids = decoder.generate(PROMPT, max_new_tokens=8).ids  # before the enumeration, which overwrites the cache
    assert ids == by_enumeration(model, PROMPT, k, 8)


@pytest.mark.parametrize("seed", range(5))
def test_one_token_at_a_time_is_greedy(seed: int) -> None:
    model = FakeModel(seed=seed)
    for beams in (1, 8):
        ids = build_decoder("mjgd:k=1", model).generate(PROMPT, max_new_tokens=20).ids
        assert ids == greedy_by_hand(model, PROMPT, 20), beams


def test_a_step_is_k_passes_and_k_tokens_without_a_draft() -> None:
    model = FakeModel(seed=1)
    decoder = build_decoder("mjgd:beams=3", model)
    assert decoder.lossy and decoder.draft_kind == "none"
    model.passes = 0
    generation = decoder.generate(PROMPT, max_new_tokens=9)
    assert [(step.passes, len(step.emitted)) for step in generation.steps] == [(3, 3), (3, 3), (2, 2)]
    assert model.passes == 1 + 8
    assert model.length == len(PROMPT) + 9 - 1  # what was chosen stays, all but the last token, which never ran
    assert all(not step.drafted and not step.accepted and step.verify_s <= step.seconds for step in generation.steps)


def test_eos_inside_a_block_ends_the_answer_there() -> None:
    whole = build_decoder("mjgd", FakeModel(seed=2)).generate(PROMPT, max_new_tokens=30).ids
    eos = whole[5]
    generation = build_decoder("mjgd", FakeModel(seed=2, eos=eos)).generate(PROMPT, max_new_tokens=30)
    assert generation.ids == whole[: whole.index(eos) + 1]
    assert generation.stop == "eos"


def test_no_temperature_changes_it() -> None:
    decoder = build_decoder("mjgd", FakeModel(seed=3))
    cold = decoder.generate(PROMPT, max_new_tokens=12).ids
    assert decoder.generate(PROMPT, max_new_tokens=12, temperature=1.5, seed=7).ids == cold


def test_a_full_context_narrows_the_beams_and_fails_nothing() -> None:
    generation = build_decoder("mjgd:beams=8", FakeModel(context=16)).generate(PROMPT, max_new_tokens=14)
    assert len(generation.ids) == 14


@pytest.mark.parametrize("given", ["k=0", "beams=0", "k=x"])
def test_bad_options_are_refused(given: str) -> None:
    with refused(UserError, f"decoder 'mjgd': {given}:"):
        build_decoder(f"mjgd:{given}", FakeModel())
