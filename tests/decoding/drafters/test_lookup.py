"""Prompt lookup against its definition: a search of the whole context at every step."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from specbench_s2d.decoding.spec import build_decoder, parse_decoder
from specbench_s2d.errors import UserError
from tests.decoding.drafters.contexts import SAMPLER, drafter_of, proposals, repetitive
from tests.decoding.fixed_output import PROMPT, FixedOutput
from tests.refusals import refused


def looked_up(context: Sequence[int], max_ngram: int, gamma: int, match: str) -> list[int]:
    """By the definition: the largest n whose last n tokens stood earlier with something after them."""
    for n in range(max_ngram, 0, -1):
        ngram = context[-n:]
        places = [i for i in range(len(context) - n) if context[i : i + n] == ngram] if len(ngram) == n else []
        if places:
            after = (places[0] if match == "first" else places[-1]) + n
            return list(context[after : after + gamma])
    return []


@pytest.mark.parametrize("options", [(3, 10, "first"), (3, 10, "last"), (1, 3, "first"), (7, 20, "last")])
@pytest.mark.parametrize("seed", range(12))
def test_every_proposal_equals_a_search_of_the_whole_context(seed: int, options: tuple[int, int, str]) -> None:
    max_ngram, gamma, match = options
    context = repetitive(seed, 120, vocabulary=2 + seed)
    label = f"lookup:max_ngram={max_ngram},gamma={gamma},match={match}"
    found = 0
    for length, proposal in proposals(label, context, prompt=1 + seed):
        expected = looked_up(context[:length], max_ngram, gamma, match)
        assert proposal.ids_G.tolist() == expected
        found += bool(expected)
    assert found > 20


def test_a_proposal_is_cut_to_the_room_that_is_left() -> None:
    drafter = drafter_of("lookup")
    context = [1, 2, 3, 4, 5, 6, 1, 2]
    drafter.start(context, SAMPLER)
    assert [drafter.propose(context, room).ids_G.tolist() for room in (9, 3, 1)] == [
        [3, 4, 5, 6, 1, 2], [3, 4, 5], [3],
    ]  # fmt: skip


def test_a_generation_starts_without_the_text_of_the_one_before() -> None:
    drafter = drafter_of("lookup")
    drafter.start([1, 2, 3, 4, 1], SAMPLER)
    assert drafter.propose([1, 2, 3, 4, 1], 9).ids_G.tolist() == [2, 3, 4, 1]
    drafter.start([5, 6, 1], SAMPLER)
    assert drafter.propose([5, 6, 1], 9).ids_G.tolist() == []


def test_what_repeats_is_written_in_few_steps() -> None:
    output = [5, 6, 7, 8, 1, 5, 6, 7, 8, 1, 5, 6, 7, 8, 1]
    generation = build_decoder("lookup", FixedOutput(output)).generate(PROMPT, max_new_tokens=len(output))
    assert generation.ids == output
    assert [len(step.emitted) for step in generation.steps] == [1, 1, 1, 1, 1, 6, 3]


@pytest.mark.parametrize(
    "given", ["lookup:max_ngram=0", "lookup:max_ngram=33", "lookup:gamma=0", "lookup:gamma=64", "lookup:match=best"]
)
def test_options_out_of_range_are_refused_in_one_line(given: str) -> None:
    with refused(UserError, given.partition(":")[2]):
        parse_decoder(given)
