"""The adaptive tree against one grown by hand from the draft's distributions."""

from __future__ import annotations

import math

import pytest
import torch

from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.spec import build_decoder
from specbench_s2d.decoding.tree import tree_levels, tree_mask
from specbench_s2d.decoding.types import Proposal, Verdict, fetch
from tests.decoding.test_lossless import greedy_by_hand
from tests.fakes import FakeModel, Prefix
from tests.models.test_nested import from_scratch
from tests.tiny import random_nested

PROMPT = [1, 0]
SAMPLER = Sampler(0.0, 0, 1.0, seed=0)


def grown_by_hand(
    draft: FakeModel, prefix: Prefix, depth: int, topk: int, tokens: int, exit_depth: int
) -> dict[Prefix, float]:
    """Kept paths (tokens after `prefix`) with their cumulative probabilities, from the definition."""
    frontier: dict[Prefix, float] = {(): 1.0}
    seen: dict[Prefix, float] = {}
    for _ in range(depth):
        born: dict[Prefix, float] = {}
        for path, probability in frontier.items():
            p_V = draft.logits_at((*prefix, *path), exit_depth).softmax(-1)
            best = p_V.topk(min(topk, draft.vocabulary))
            for value, token in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                born[(*path, token)] = probability * value
        seen |= born
        frontier = dict(sorted(born.items(), key=lambda item: -item[1])[:topk])
    return dict(sorted(seen.items(), key=lambda item: -item[1])[:tokens])


def paths(proposal: Proposal) -> list[Prefix]:
    assert proposal.tree is not None
    found: list[Prefix] = []
    for token, parent in zip(proposal.ids_G.tolist(), proposal.tree.parents_N.tolist(), strict=True):
        found.append((*(found[parent] if parent >= 0 else ()), token))
    return found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("depth", "topk", "tokens"), [(1, 2, 9), (3, 2, 6), (4, 3, 12), (3, 10, 60)])
def test_the_tree_holds_the_likeliest_nodes(seed: int, depth: int, topk: int, tokens: int) -> None:
    draft = FakeModel(exits=(1, 3), seed=seed)
    options = f"depth={depth},topk={topk},tokens={tokens},thresholds=1+0"
    decoder = build_decoder(f"s2d-tree:{options}", FakeModel(seed=9), draft)
    decoder.drafter.start(PROMPT, SAMPLER)  # type: ignore[attr-defined]
    proposal = decoder.drafter.propose([*PROMPT, 2], 60)  # type: ignore[attr-defined]
    expected = grown_by_hand(draft, (*PROMPT, 2), depth, topk, tokens, exit_depth=3)
    assert set(paths(proposal)) == set(expected)
    drafted = fetch(proposal)[0]
    for path, logprob in zip(paths(proposal), drafted.logprobs or [], strict=True):
        parent = expected[path[:-1]] if len(path) > 1 else 1.0
        assert math.exp(logprob) == pytest.approx(expected[path] / parent, rel=1e-4)
    assert max(drafted.levels) == max(len(path) for path in expected)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("exits", ["0+0", "0.4+0", "1+0"])
def test_the_tree_on_the_device_is_the_one_that_its_parents_make(seed: int, exits: str) -> None:
    """Its mask, the exit of each level, and the row that each expanded node has in the draft's cache."""
    draft = FakeModel(exits=(1, 3), seed=seed, sharpness=2.0)
    decoder = build_decoder(f"s2d-tree:depth=4,topk=3,tokens=14,thresholds={exits}", FakeModel(seed=9), draft)
    decoder.drafter.start(PROMPT, SAMPLER)  # type: ignore[attr-defined]
    proposal: Proposal = decoder.drafter.propose([*PROMPT, 2], 60)  # type: ignore[attr-defined]
    drafted, tree = fetch(proposal)[0], proposal.tree
    assert tree is not None and drafted.parents is not None and drafted.cached_rows is not None
    assert torch.equal(tree.mask_MM, tree_mask(drafted.parents, torch.device("cpu")))
    assert set(tree.level_exits) <= {1, 3} and len(tree.level_exits) == 4
    if exits != "0.4+0":
        assert tree.level_exits == ((1,) * 4 if exits == "0+0" else (3,) * 4)
    run = draft._layers[0][3:]
    assert len(run) == 3 * 3  # three levels of three nodes; the last is never run
    placed = [(node, place) for node, place in enumerate(drafted.cached_rows) if place >= 0]
    assert len({place for _, place in placed}) == len(placed) > 3
    assert [run[place] for _, place in placed] == [drafted.ids[node] for node, _ in placed]
    assert all(drafted.cached_rows[node] < 0 for node, level in enumerate(drafted.levels) if level == 4)


def test_parents_stand_before_children_and_siblings_in_the_drafts_order() -> None:
    decoder = build_decoder("s2d-tree:topk=3,tokens=15,thresholds=0.5+0", FakeModel(seed=9), FakeModel(exits=(1, 3)))
    decoder.drafter.start(PROMPT, SAMPLER)  # type: ignore[attr-defined]
    proposal: Proposal = decoder.drafter.propose([*PROMPT, 2], 60)  # type: ignore[attr-defined]
    drafted = fetch(proposal)[0]
    parents, logprobs = drafted.parents, drafted.logprobs
    assert parents is not None and logprobs is not None
    levels = tree_levels(parents)
    assert levels == sorted(levels)
    for node, parent in enumerate(parents):
        siblings = [i for i, other in enumerate(parents) if other == parent and i < node]
        assert all(logprobs[i] >= logprobs[node] for i in siblings)


def test_a_level_leaves_at_the_first_exit_where_it_is_confident() -> None:
    """At level 1 that is S2D's own rule for the next token; then the nodes' confidences count by their probability."""
    draft = FakeModel(exits=(1, 3), seed=4, sharpness=2.0)
    root = draft.logits_at((*PROMPT, 2), 1).softmax(-1)
    shallow, deep = float(root.max()) - 1e-4, float(root.max()) + 1e-4
    for threshold, depth in ((shallow, 1), (deep, 3)):
        decoder = build_decoder("s2d-tree", FakeModel(seed=9), draft, depth=2, topk=2, thresholds=(threshold, 0.0))
        decoder.drafter.start(PROMPT, SAMPLER)  # type: ignore[attr-defined]
        proposal = decoder.drafter.propose([*PROMPT, 2], 60)  # type: ignore[attr-defined]
        first, second = proposal.tree.level_exits
        assert first == depth
        kept = draft.logits_at((*PROMPT, 2), depth).softmax(-1).topk(2)
        conf = [float(draft.logits_at((*PROMPT, 2, int(t)), 1).softmax(-1).max()) for t in kept.indices]
        mean = sum(w * c for w, c in zip(kept.values.tolist(), conf, strict=True)) / float(kept.values.sum())
        assert second == (1 if mean > threshold else 3)


@pytest.mark.parametrize("seed", range(6))
def test_states_kept_after_acceptance_are_the_path_s_own(seed: int) -> None:
    """After each step the draft's distributions equal those of sub-models run on the context from scratch."""
    draft, alone, target = random_nested(seed), random_nested(seed), random_nested(seed)  # the target is its last exit
    thresholds = (*(0.15 for _ in draft.exits[1:]), 0.0)
    decoder = build_decoder("s2d-tree", target, draft, depth=3, topk=5, tokens=30, thresholds=thresholds)
    generation = decoder.generate([1, 2, 3, 4], max_new_tokens=30, ignore_eos=True)
    assert max(step.accepted for step in generation.steps) >= 1, "the draft never got a path right"
    context = [1, 2, 3, 4, generation.ids[0]]
    for step in generation.steps:
        assert step.parents is not None and step.draft_logprobs is not None
        so_far: list[list[int]] = []
        for i, parent in enumerate(step.parents):
            before = so_far[parent] if parent >= 0 else context
            q_V = from_scratch(alone, before, step.exit_depths[i]).softmax(-1)
            assert math.exp(step.draft_logprobs[i]) == pytest.approx(float(q_V[step.drafted[i]]), abs=1e-5)
            so_far.append([*before, step.drafted[i]])
        context += step.emitted


def test_the_target_keeps_the_accepted_path_alone() -> None:
    target, draft = FakeModel(seed=3), FakeModel(exits=(1, 3), seed=3)
    generation = build_decoder("s2d-tree:thresholds=0.5+0", target, draft).generate(PROMPT, max_new_tokens=30)
    assert generation.ids == greedy_by_hand(FakeModel(seed=3), PROMPT, 30)
    assert max(step.accepted for step in generation.steps) == 4


def test_no_more_is_proposed_than_there_is_room_for() -> None:
    target, draft = FakeModel(seed=1, context=14), FakeModel(exits=(1, 3), context=14)
    decoder = build_decoder("s2d-tree:thresholds=0.5+0", target, draft)
    assert decoder.generate(PROMPT, max_new_tokens=12).ids == greedy_by_hand(FakeModel(seed=1), PROMPT, 12)


def test_nothing_accepted_leaves_the_context_alone() -> None:
    draft = FakeModel(exits=(1, 3))
    decoder = build_decoder("s2d-tree:thresholds=0.5+0", FakeModel(seed=1), draft)
    decoder.drafter.start(PROMPT, SAMPLER)  # type: ignore[attr-defined]
    decoder.drafter.propose([*PROMPT, 2], 60)  # type: ignore[attr-defined]
    decoder.drafter.commit(3, Verdict(0, 1, []))  # type: ignore[attr-defined]
    assert draft.layer_length(0) == 3
