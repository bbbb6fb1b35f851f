"""`first(a|b)`: the first that proposes anything, with every part kept in step."""

from __future__ import annotations

from typing import Any

import pytest

from specbench_s2d.decoding.drafters.beam import BeamDrafter
from specbench_s2d.decoding.drafters.chain import ChainDrafter
from specbench_s2d.decoding.drafters.first import Part, first_of
from specbench_s2d.decoding.drafters.sorted import SortedDrafter
from specbench_s2d.decoding.hooks import ASSUMED_PASSES
from specbench_s2d.decoding.spec import build_decoder, parse_decoder, parse_decoders
from specbench_s2d.decoding.types import Options
from specbench_s2d.errors import UnknownNameError, UserError
from tests.decoding.drafters.contexts import SAMPLER, drafter_of, repetitive
from tests.decoding.test_lossless import greedy_by_hand, right_half_the_time
from tests.fakes import FakeModel
from tests.refusals import refused

PROMPT = [1, 0, 3, 1, 0]


def test_the_second_is_asked_only_where_the_first_proposes_nothing() -> None:
    both, lookup, suffix = (drafter_of(name) for name in ("first(suffix|lookup)", "lookup", "suffix"))
    context = repetitive(3, 150, vocabulary=12)
    for drafter in (both, lookup, suffix):
        drafter.start(context[:4], SAMPLER)
    answered = {"suffix": 0, "lookup": 0, "none": 0}
    for length in range(5, len(context) + 1):
        found, other, mine = (d.propose(context[:length], 9).ids_G.tolist() for d in (suffix, lookup, both))
        assert mine == (found or other)
        answered["suffix" if found else "lookup" if other else "none"] += 1
    assert all(answered.values())


DRAFTED = ["first(lookup|sd)", "first(suffix|s2d)", "first(lookup|s2d-tree)", "first(suffix|mjsd)+token"]


@pytest.mark.parametrize("decoder", DRAFTED)
@pytest.mark.parametrize("seed", range(4))
def test_a_draft_that_was_not_asked_for_steps_catches_up(decoder: str, seed: int) -> None:
    """Its cache is as long as the context, and its proposals are those of the same draft asked at every step."""
    target = FakeModel(6, seed=seed, context=300, sharpness=3.0)
    draft = FakeModel(6, seed=seed + 100, exits=(1, 2, 4), context=300, sharpness=3.0)
    right_half_the_time(draft, target)
    built: Any = build_decoder(decoder, target, draft)
    first, second = built.drafter._drafters
    used = {"first": 0, "second": 0}
    for name, part in (("first", first), ("second", second)):
        _count_proposals(part, name, used)
    for _ in range(2):
        generation = built.generate(PROMPT, max_new_tokens=60)
        assert generation.ids == greedy_by_hand(target, PROMPT, 60)
    assert all(used.values()), used


def _count_proposals(part: Any, name: str, used: dict[str, int]) -> None:
    propose = part.propose

    def counted(context: Any, room: int) -> Any:
        proposal = propose(context, room)
        used[name] += bool(len(proposal.ids_G))
        return proposal

    part.propose = counted


def test_a_matrix_learns_from_steps_that_another_part_drafted() -> None:
    target = FakeModel(12, seed=1, context=300, sharpness=3.0)
    built: Any = build_decoder("first(lookup|recycling)", target)
    built.generate(PROMPT, max_new_tokens=60)
    alone: Any = build_decoder("recycling", target)
    alone.generate(PROMPT, max_new_tokens=60)
    read = built.drafter._drafters[1]._rows
    assert set(PROMPT) <= set(read) and len(read) == len(alone.drafter._rows) == 12


def test_a_label_names_the_parts_with_the_options_that_differ() -> None:
    spec = parse_decoder("first(lookup:gamma=10,match=last| suffix)")
    assert (spec.name, spec.label) == ("first(lookup:match=last|suffix)",) * 2
    assert parse_decoder("first(lookup|suffix)+token").label == "first(lookup|suffix)"
    drafted = parse_decoder("first(lookup|s2d:gamma=3,thresholds=0.5+0.5+0):draft=demo-draft")
    assert drafted.label == "first(lookup|s2d:gamma=3):draft=demo-draft"
    assert drafted.draft == "demo-draft" and drafted.kind.draft_kind == "nested"
    nested = parse_decoder("first(lookup|first(suffix|sd))+token")
    parts = nested.kind.drafter_class.parts  # type: ignore[attr-defined]
    assert [part.label for part in parts] == ["lookup", "first(suffix|sd)"]


def test_commas_inside_brackets_separate_no_decoders() -> None:
    given = ["ar,first(lookup|suffix)", "first(lookup|sd:gamma=3,sampling=greedy)"]
    assert [spec.label for spec in parse_decoders(given)] == ["ar", "first(lookup|suffix)", given[1]]


def test_the_draft_is_the_one_of_the_part_that_needs_it() -> None:
    for name, kind in (("sd", ChainDrafter), ("s2d", SortedDrafter), ("beam", BeamDrafter)):
        spec = parse_decoder(f"first(lookup|{name})")
        assert spec.kind.draft_kind == kind.draft_kind
    assert parse_decoder("first(lookup|suffix)").kind.draft_kind == "none"
    spec = parse_decoder("first(lookup|sd:exit=3)")
    with pytest.raises(UserError, match="exit"):
        spec.kind.check_draft(spec.options, FakeModel(exits=(1, 2)))


REFUSED = {
    "first()": "first(): no drafters; give two or more",
    "first(lookup)": "first(lookup): 1 drafter; give two or more",
    "first(lookup|)": "unknown drafter ''",
    "first(lookup|ar)": "ar proposes nothing; leave it out",
    "first(lookup|suffix))": "brackets do not match",
    "first": "write first(A|B)",
    "first lookup|suffix)": "write first(A|B)",
    "first(lookup|suffix):gamma=3": "Options stand with their drafter, inside the bracket: first(A:gamma=…|B).",
    "first(lookup|lookup:gamma=10)": "lookup is given twice",
    "first(lookup|suffix": "the bracket is not closed",
    "first(recycling|eagle)": "eagle reads the target's states, recycling its passes too; give one of them",
    "first(eagle|sd)": "eagle and sd each need a draft model",
    "first(lookup|first(suffix|eagle))": "write the drafters of first(suffix|eagle) out, in one bracket",
    "first(sd|s2d)": "sd and s2d each need a draft model",
    "first(lookup|sd:draft=demo-tiny)": "the draft is given once, after the bracket: first(A|B):draft=demo-tiny.",
    "first(lookup|sd:gamma=0)": "gamma=0",
    "first(lookup|sd)+joint": "joint weighs the draft's likelihoods, and first(lookup|sd) has none",
    "lookup+joint": "joint weighs the draft's likelihoods, and lookup has none",
    "recycling+mjsd": "mjsd weighs the draft's likelihoods, and recycling has none",
}


@pytest.mark.parametrize("given", REFUSED)
def test_what_cannot_work_is_refused_in_one_line(given: str) -> None:
    with refused(UserError, REFUSED[given]):
        parse_decoder(given)


def test_an_unknown_part_is_answered_with_the_names_that_there_are() -> None:
    with pytest.raises(UnknownNameError, match="lookup"):
        parse_decoder("first(lookup|lokup)")


def test_a_pair_of_drafts_with_likelihoods_may_be_judged_jointly() -> None:
    assert parse_decoder("s2d+joint").kind.lossy


class Bare:
    """A drafter that says nothing of its passes, its memory or its data."""

    draft_kind = "none"

    class Options(Options):
        """No options."""


def test_a_part_that_declares_nothing_is_assumed_to_be_as_outside() -> None:
    first = first_of("first(bare|other)", [Part("bare", Bare, Bare.Options()), Part("other", Bare, Bare.Options())])
    assert first.target_passes(first.Options()) == ASSUMED_PASSES
    assert (first.host_bytes(first.Options(), 9), first.data_hashes(first.Options(), None)) == (0, {})
