"""Token recycling against its definition: the matrix of every pass, and the tree grown out of it by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from specbench_s2d.decoding.drafters.recycling import NODES, SUCCESSORS, TEMPLATE, RecyclingDrafter
from specbench_s2d.decoding.spec import build_decoder, parse_decoder
from specbench_s2d.decoding.tree import tree_mask
from specbench_s2d.decoding.types import Proposal
from specbench_s2d.errors import UserError
from tests.decoding.drafters.contexts import SAMPLER, drafter_of
from tests.fakes import FakeModel, Prefix
from tests.refusals import refused

PROMPT = [1, 0, 7, 3]


def template_paths() -> list[Prefix]:
    """Every node of the template as the ranks on the way to it, level by level."""
    paths, level = list[Prefix](), [()]
    for counts in TEMPLATE:
        level = [(*path, rank) for path, count in zip(level, counts, strict=True) for rank in range(count)]
        paths += level
    return paths


def grown_by_hand(rows: dict[int, list[int]], last: int, most: int) -> list[Prefix]:
    """The paths (tokens) of the proposed nodes, level by level, from the definition."""
    found: list[Prefix] = []
    for ranks in template_paths():
        path, token = list[int](), last
        for rank in ranks:
            row = rows.get(token, [])
            if rank >= len(row):
                break
            token = row[rank]
            path.append(token)
        else:
            if len(found) < most:
                found.append(tuple(path))
    return found


def paths_of(proposal: Proposal) -> list[Prefix]:
    parents = proposal.tree.parents_N.tolist() if proposal.tree else []
    found: list[Prefix] = []
    for token, parent in zip(proposal.ids_G.tolist(), parents, strict=True):
        found.append((*(found[parent] if parent >= 0 else ()), token))
    return found


class Recorded:
    """A recycling decoder whose drafter's every proposal is compared with the matrix kept by hand."""

    def __init__(self, target: FakeModel, decoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.target, self.built = target, build_decoder(decoder, target)
        self.rows, self.nodes = dict[int, list[int]](), 0
        self.context: Sequence[int] = ()
        propose = RecyclingDrafter.propose

        def checked(drafter: Any, context: Sequence[int], room: int) -> Proposal:
            proposal = propose(drafter, context, room)
            self._read(context, proposal)
            return proposal

        monkeypatch.setattr(RecyclingDrafter, "propose", checked)

    def _read(self, context: Sequence[int], proposal: Proposal) -> None:
        if len(self.context) < len(PROMPT) or self.context[: len(PROMPT)] != context[: len(PROMPT)]:
            for end in range(1, len(PROMPT) + 1):
                self._fill(tuple(PROMPT[:end]))
        most = self.built.options.tokens  # type: ignore[attr-defined]
        expected = grown_by_hand(self.rows, context[-1], most)
        assert sorted(paths_of(proposal)) == sorted(expected)
        self.nodes += len(expected)
        self._fill(tuple(context))
        for path in paths_of(proposal):
            self._fill((*context, *path))
        self.context = list(context)

    def _fill(self, prefix: Prefix) -> None:
        """The row of the prefix's last token, in the order of reading."""
        best = self.target.logits_after(prefix).topk(min(SUCCESSORS, self.target.vocabulary)).indices
        self.rows[prefix[-1]] = best.tolist()


@pytest.mark.parametrize("vocabulary", [5, 12, 40])
@pytest.mark.parametrize("seed", range(3))
def test_every_tree_is_the_one_that_the_matrix_kept_by_hand_gives(
    seed: int, vocabulary: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = FakeModel(vocabulary=max(vocabulary, 8), seed=seed, context=200)
    recorded = Recorded(target, "recycling", monkeypatch)
    generation = recorded.built.generate(PROMPT, max_new_tokens=20)
    assert recorded.nodes > NODES
    assert generation.ids == build_decoder("ar", target).generate(PROMPT, max_new_tokens=20).ids


def test_the_matrix_is_kept_for_a_question_or_over_the_run() -> None:
    for scope, second in (("question", "as the first"), ("run", "more")):
        built = build_decoder("recycling", FakeModel(vocabulary=40, seed=2, context=200), scope=scope)
        first, again = (built.generate(PROMPT, max_new_tokens=12) for _ in range(2))
        assert first.ids == again.ids
        drafted = [sum(len(step.drafted) for step in one.steps) for one in (first, again)]
        assert (drafted[1] == drafted[0]) if second == "as the first" else (drafted[1] > drafted[0])
        built.forget()
        third = built.generate(PROMPT, max_new_tokens=12)
        assert [step.drafted for step in third.steps] == [step.drafted for step in first.steps]


def test_of_a_token_read_twice_the_later_place_counts() -> None:
    drafter = drafter_of("recycling")
    drafter.start(PROMPT, SAMPLER)
    logits_TV = torch.stack([torch.arange(10.0), -torch.arange(10.0)])
    drafter.learn(drafter.observe(torch.tensor([4, 4]), logits_TV).tolist())
    proposal = drafter.propose([1, 4], 8)
    assert proposal.ids_G.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


def test_a_token_without_a_row_proposes_nothing() -> None:
    drafter = drafter_of("recycling")
    drafter.start(PROMPT, SAMPLER)
    proposal = drafter.propose([1, 4], 60)
    assert proposal.tree is None and proposal.ids_G.tolist() == []


@pytest.mark.parametrize("room", [1, 5, 30, 200])
def test_a_tree_has_at_most_the_room_and_the_mask_of_its_parents(room: int) -> None:
    drafter = drafter_of("recycling")
    drafter.start(PROMPT, SAMPLER)
    ids_T = torch.arange(12)
    drafter.learn(drafter.observe(ids_T, torch.randn(12, 12, generator=torch.Generator().manual_seed(0))).tolist())
    proposal = drafter.propose([3], room)
    assert len(proposal.ids_G) == min(room, NODES)
    parents = proposal.tree.parents_N.tolist()
    assert torch.equal(proposal.tree.mask_MM, tree_mask(parents, torch.device("cpu")))
    assert all(parent < node for node, parent in enumerate(parents))


def test_the_template_is_the_papers() -> None:
    """80 nodes on six levels; the chain of the likeliest is the longest path."""
    paths = template_paths()
    assert len(paths) == NODES == 80
    assert [sum(len(path) == level for path in paths) for level in range(1, 7)] == [8, 21, 25, 15, 8, 3]
    assert {(0,) * 6, (0, 0, 0, 0, 0, 1), (0, 0, 0, 1, 0, 0)} == {path for path in paths if len(path) == 6}
    assert all(path[:-1] in paths for path in paths if len(path) > 1)


@pytest.mark.parametrize("given", ["recycling:tokens=0", "recycling:tokens=81", "recycling:scope=turn"])
def test_options_out_of_range_are_refused_in_one_line(given: str) -> None:
    with refused(UserError, given.partition(":")[2]):
        parse_decoder(given)
