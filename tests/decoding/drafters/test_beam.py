"""The beam drafter: what it proposes, what it runs, what it keeps, and how it draws."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from scipy.stats import chisquare

from specbench_s2d.decoding.drafters.beam import BeamDrafter
from specbench_s2d.decoding.sampling import Sampler, probabilities
from specbench_s2d.decoding.spec import build_decoder
from specbench_s2d.decoding.types import Proposal, Verdict, fetch
from specbench_s2d.models.base import LanguageModel
from tests.decoding.drafters.test_tree import paths as prefixes
from tests.decoding.test_beams import beams_by_hand, logprobs_from_scratch
from tests.fakes import FakeModel, Prefix
from tests.tiny import random_nested

PROMPT = [1, 0]
CONTEXT = (1, 0, 3)
FALSE_ALARM_RATE = 1e-4


def started(draft: FakeModel, seed: int = 0, **options: object) -> BeamDrafter:
    drafter = BeamDrafter(draft, BeamDrafter.Options.model_validate(options))
    drafter.start(PROMPT, Sampler(0.0, 0, 1.0, seed))
    return drafter


def candidates_of(proposal: Proposal) -> list[Prefix]:
    depth = max(fetch(proposal)[0].levels)
    return [path for path in prefixes(proposal) if len(path) == depth]


@pytest.mark.parametrize("seed", range(4))
def test_one_candidate_is_the_best_beam_as_a_chain(seed: int) -> None:
    draft = FakeModel(seed=seed)
    proposal = started(draft).propose(CONTEXT, 40)
    assert proposal.tree is None and proposal.q_GV is None
    assert tuple(proposal.ids_G.tolist()) == beams_by_hand(draft, CONTEXT, 4, 8)[0][0]


@pytest.mark.parametrize("seed", range(4))
def test_several_candidates_are_the_best_beams_with_shared_prefixes_once(seed: int) -> None:
    draft = FakeModel(seed=seed)
    proposal = started(draft, candidates=5).propose(CONTEXT, 40)
    best = [path for path, _ in beams_by_hand(draft, CONTEXT, 4, 8)[:5]]
    assert sorted(candidates_of(proposal)) == sorted(best)
    assert len(proposal.ids_G) == len({path[:i] for path in best for i in range(1, 5)})
    drafted = fetch(proposal)[0]
    assert max(drafted.levels) == 4
    for token, logprob, path in zip(drafted.ids, drafted.logprobs or [], prefixes(proposal), strict=True):
        assert logprob == pytest.approx(logprobs_from_scratch(draft, (*CONTEXT, *path[:-1]))[token], abs=1e-5)


def test_beams_of_an_exit_are_those_of_the_sub_model() -> None:
    draft = FakeModel(exits=(1, 2, 4), seed=5)
    proposal = started(draft, exit=2, gamma=2).propose(CONTEXT, 40)
    shallow = FakeModel(seed=5)
    shallow.logits_after = lambda prefix: draft.logits_at(prefix, 2)  # type: ignore[method-assign]
    assert tuple(proposal.ids_G.tolist()) == beams_by_hand(shallow, CONTEXT, 2, 8)[0][0]
    assert proposal.exit_depths == [2, 2]


@pytest.mark.parametrize("candidates", [1, 4])
@pytest.mark.parametrize("accepted", range(5))
def test_the_draft_keeps_what_was_accepted_and_runs_nothing_twice(accepted: int, candidates: int) -> None:
    """After n accepted tokens the draft holds the context and the first n of them, the last level never having run."""
    draft = FakeModel(vocabulary=9, seed=2)
    drafter = started(draft, candidates=candidates)
    proposal = drafter.propose(CONTEXT, 40)
    nodes, tree = list(range(accepted)), proposal.tree
    if tree is not None:  # the last candidate's nodes, found from its leaf
        node, nodes = len(proposal.ids_G) - 1, []
        while node >= 0:
            nodes.insert(0, node)
            node = int(tree.parents_N[node])
        nodes = nodes[:accepted]
    ids = [int(proposal.ids_G[node]) for node in nodes]
    drafter.commit(len(CONTEXT) + accepted, Verdict(accepted, 4, None if tree is None else nodes))
    assert draft._layers[0] == [*CONTEXT, *ids[:3]]
    draft.passes = 0
    again = drafter.propose((*CONTEXT, *ids, 4), 40)
    assert draft.passes == 4
    assert again.draft_layers == draft.depth * ((2 if accepted == 4 else 1) + 3 * min(8, 40 // 4))


def test_next_to_the_contexts_end_the_beams_are_fewer() -> None:
    draft = FakeModel(context=12)
    drafter = started(draft)
    assert len(drafter.propose(CONTEXT, 9).ids_G) == 4
    assert draft.length <= 12


def test_drawn_beams_of_width_one_follow_the_warped_distribution() -> None:
    """Chi-square over 20,000 draws of one token, false-alarm rate 1 in 10,000."""
    draft = FakeModel(seed=1)
    sampler = Sampler(0.0, 0, 1.0, seed=3)
    options = {"gamma": 1, "beams": 1, "draft_temperature": 0.8, "draft_top_k": 4, "draft_top_p": 0.95}
    drafter = BeamDrafter(draft, BeamDrafter.Options.model_validate(options))
    drafter.start(PROMPT, sampler)
    law_V = probabilities(draft.logits_after(CONTEXT)[None], 0.8, 4, 0.95)[0]
    drawn = Counter[int]()
    for _ in range(20_000):
        drawn[int(drafter.propose(CONTEXT, 40).ids_G[0])] += 1
        drafter.commit(len(CONTEXT), Verdict(0, 0))
        draft.rollback(len(CONTEXT) - 1)
    allowed = [token for token in range(draft.vocabulary) if law_V[token] > 0]
    assert set(drawn) <= set(allowed) and len(allowed) < draft.vocabulary
    seen, expected = [drawn[t] for t in allowed], [float(law_V[t]) * 20_000 for t in allowed]
    assert chisquare(seen, expected, sum_check=False).pvalue > FALSE_ALARM_RATE


def test_drawn_beams_differ_from_one_another_and_between_seeds() -> None:
    draft = FakeModel(vocabulary=9, seed=6)
    options = {"candidates": 8, "draft_temperature": 2.0, "gamma": 3}
    found = [sorted(candidates_of(started(draft, seed, **options).propose(CONTEXT, 40))) for seed in range(4)]
    assert all(len(set(one)) == 8 for one in found)
    assert len({tuple(one) for one in found}) == 4


def test_a_cold_draw_among_one_token_is_the_chain() -> None:
    """With top-k 1 there is one token to draw: however many beams are asked for, one is left."""
    draft = FakeModel(seed=7)
    proposal = started(draft, draft_temperature=0.5, draft_top_k=1, candidates=3).propose(CONTEXT, 40)
    chain = list[int]()
    for _ in range(4):
        chain.append(int(draft.logits_after((*CONTEXT, *chain)).argmax()))
    assert proposal.ids_G.tolist() == chain


def test_a_nested_draft_serves_at_its_full_depth() -> None:
    nested = random_nested(1)
    target = random_nested(1)
    generation = build_decoder("mjsd:tau=0.1", target, nested).generate([1, 2, 3], max_new_tokens=20)
    # The draft is the target: P = Q everywhere, so every beam passes whole.
    assert all(step.accepted == 4 for step in generation.steps)
    assert torch.equal(torch.tensor(generation.ids[:1]), torch.tensor([int(_argmax(target, [1, 2, 3]))]))


def _argmax(model: LanguageModel, prompt: list[int]) -> int:
    model.reset()
    return int(model.extend(torch.tensor([prompt]))[0, -1].argmax())
