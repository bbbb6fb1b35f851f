"""Medusa's chains and trees against the formula on states recomputed from scratch; ids against AR's."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import chi2

from specbench_s2d import build_decoder, load_model
from specbench_s2d.decoding.sampling import probabilities
from specbench_s2d.decoding.types import Proposal
from specbench_s2d.errors import UserError
from specbench_s2d.models.base import FINAL, PassKind
from specbench_s2d.models.heads.medusa_trees import nodes_of
from specbench_s2d.resources import demo_folder
from tests.models.heads.medusa_made import MedusaFromScratch
from tests.refusals import refused

PROMPT = [5, 9, 3, 17, 40, 2, 8]
LOOSE = "medusa+typical:epsilon"
"""A rule that accepts every number of tokens, so that drafts follow from every row of a pass."""


def models(of: Path, out: Path, heads: int = 4, engine: str = "eager", **form: Any) -> tuple[Any, Any, Any]:
    """(the heads by their formula, the target, the heads)."""
    made = MedusaFromScratch(of, heads, form.get("blocks", 1), form.get("own", True), form.get("seed", 0))
    return made, load_model(str(of), engine=engine), load_model(str(made.write(out)))


def proposals(decoder: Any, tokens: int = 24, **settings: Any) -> list[tuple[list[int], Proposal]]:
    found, propose = [], decoder.drafter.propose
    decoder.drafter.propose = lambda context, room: (
        found.append((list(context), propose(context, room))) or found[-1][1]
    )
    decoder.generate(PROMPT, tokens, ignore_eos=True, **settings)
    return found


def accepted_counts(steps: list[tuple[list[int], Proposal]]) -> set[int]:
    return {len(later) - len(context) - 1 for (context, _), (later, _) in pairwise(steps)}


def paths(proposal: Proposal) -> dict[tuple[int, ...], float]:
    """Each node's path with its log-probability."""
    assert proposal.tree is not None
    found: list[tuple[int, ...]] = []
    for token, parent in zip(proposal.ids_G.tolist(), proposal.tree.parents_N.tolist(), strict=True):
        found.append((*(found[parent] if parent >= 0 else ()), token))
    return dict(zip(found, proposal.token_logprobs().tolist(), strict=True))


@pytest.mark.parametrize("engine", ["eager", "native"])
def test_a_chain_is_the_heads_argmax_on_the_last_verified_state(engine: str, tiny_models: Path, tmp_path: Path) -> None:
    of = tiny_models / "tiny-target" if engine == "eager" else demo_folder() / "demo-s"
    made, target, head = models(of, tmp_path / "heads", 3, engine)
    assert target.engine == engine
    steps = proposals(build_decoder(f"{LOOSE}=0.0005,gamma=3", target, head), 40)
    for context, proposal in steps:
        logprobs = made.logits(context[:-1]).log_softmax(-1)
        assert proposal.ids_G.tolist() == logprobs.argmax(-1).tolist()
        assert proposal.token_logprobs().tolist() == pytest.approx(logprobs.max(-1).values.tolist(), abs=1e-4)
    assert engine == "native" or accepted_counts(steps) >= {0, 1, 2}


def test_a_published_tree_holds_the_heads_likeliest_tokens_by_rank(tiny_models: Path, tmp_path: Path) -> None:
    made, target, head = models(tiny_models / "tiny-target", tmp_path / "heads", 3)
    steps = proposals(build_decoder(f"{LOOSE}=0.005,tokens=40", target, head), 40)
    nodes = [node for node in nodes_of("mc_sim_7b_63") if len(node) <= 3][:40]
    for context, proposal in steps:
        best = made.logits(context[:-1]).log_softmax(-1).topk(10)
        expected = {
            tuple(int(best.indices[k, rank]) for k, rank in enumerate(node)): float(
                best.values[len(node) - 1, node[-1]]
            )
            for node in nodes
        }
        assert paths(proposal) == pytest.approx(expected, abs=1e-4)
    assert len(accepted_counts(steps)) >= 3


@pytest.mark.parametrize("own", [True, False])
def test_a_confident_tree_holds_the_likeliest_products(own: bool, tiny_models: Path, tmp_path: Path) -> None:
    made, target, head = models(tiny_models / "tiny-target", tmp_path / "heads", 3, own=own)
    for context, proposal in proposals(build_decoder("medusa:tree=confidence,tokens=9,topk=4", target, head), 8):
        best = made.logits(context[:-1]).log_softmax(-1).topk(4)
        joint: dict[tuple[int, ...], float] = {}
        for levels in (1, 2, 3):
            for node in product(range(4), repeat=levels):
                ids = tuple(int(best.indices[k, rank]) for k, rank in enumerate(node))
                joint[ids] = sum(float(best.values[k, rank]) for k, rank in enumerate(node))
        assert set(paths(proposal)) == set(sorted(joint, key=lambda ids: -joint[ids])[:9])


@pytest.mark.parametrize(
    "options",
    ["gamma=1", "gamma=4", "tokens=63", "tree=confidence,tokens=12", "tree=vicuna_13b_stage2,draft_vocabulary=5"],
)
@pytest.mark.parametrize("form", [{"own": True}, {"own": False, "blocks": 2, "seed": 3}])
def test_greedy_ids_equal_ar_s(options: str, form: dict[str, Any], tiny_models: Path, tmp_path: Path) -> None:
    _, target, head = models(tiny_models / "tiny-target", tmp_path / "heads", **form)
    head.ranking = load_model(str(tiny_models / "tiny-draft")).ranking
    expected = build_decoder("ar", target).generate(PROMPT, 40, ignore_eos=True).ids
    assert build_decoder(f"medusa:{options}", target, head).generate(PROMPT, 40, ignore_eos=True).ids == expected


def test_a_sampled_chain_says_the_distribution_it_was_drawn_from(tiny_models: Path, tmp_path: Path) -> None:
    made, target, head = models(tiny_models / "tiny-target", tmp_path / "heads", 3)
    for context, proposal in proposals(build_decoder("medusa:gamma=3", target, head), 16, temperature=0.7, seed=3):
        q_GV = (made.logits(context[:-1])[: len(proposal.ids_G)] / 0.7).softmax(-1)
        assert torch.allclose(proposal.q_GV.double(), q_GV, atol=1e-4)


def nearly_right(target: Any, out: Path) -> Path:
    """Two heads that give, after the prompt, the target's three likeliest tokens of a greedy text, at other odds."""
    _, (states_TD,) = target.extend_with_states(torch.tensor([PROMPT]), [target.depth])
    state_D, text, tensors = states_TD[-1], list(PROMPT), dict[str, torch.Tensor]()
    for head in (-1, 0, 1):
        target.reset()
        best = target.extend(torch.tensor([text]), last_only=True)[0, 0].topk(3).indices
        text.append(int(best[0]))
        if head >= 0:
            wanted_V = torch.full((target.vocabulary,), -20.0)
            wanted_V[best] = torch.tensor([0.0, 0.05, 0.1])
            tensors[f"{head}.0.weight"] = torch.outer(wanted_V, state_D) / state_D.square().sum()
    out.mkdir()
    torch.save(tensors, out / "medusa_lm_head.pt")
    (out / "config.json").write_text("{}")
    return out


@pytest.mark.parametrize("options", ["gamma=2", "tokens=6"])
def test_sampled_tokens_follow_the_target_s_law(options: str, tiny_models: Path, tmp_path: Path) -> None:
    """Three tokens of the three likeliest each, 27 outcomes, over 200 draws; false alarm 1 in 10,000."""
    target = load_model(str(tiny_models / "tiny-target"), engine="eager")
    decoder = build_decoder(f"medusa:{options}", target, load_model(str(nearly_right(target, tmp_path / "heads"))))
    found = Counter(
        tuple(decoder.generate(PROMPT, 3, temperature=1.0, top_k=3, seed=seed, ignore_eos=True).ids)
        for seed in range(200)
    )
    law: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(3):
        grown: dict[tuple[int, ...], float] = {}
        for path, share in law.items():
            target.reset()
            p_V = probabilities(target.extend(torch.tensor([[*PROMPT, *path]]), last_only=True)[0], 1.0, 3, 1.0)[0]
            grown |= {(*path, int(token)): share * float(p_V[token]) for token in p_V.nonzero()[:, 0]}
        law = grown
    assert set(found) <= set(law)
    often = [path for path, share in law.items() if 200 * share >= 5]
    pairs = [(found[path], 200 * law[path]) for path in often]
    if (rest := 200 * (1 - sum(law[path] for path in often))) > 1:
        pairs.append((200 - sum(found[path] for path in often), rest))
    statistic = sum((seen - count) ** 2 / count for seen, count in pairs)
    assert chi2.sf(statistic, len(pairs) - 1) > 1e-4


def test_a_small_vocabulary_is_all_that_is_proposed(tiny_models: Path, tmp_path: Path) -> None:
    made, target, head = models(tiny_models / "tiny-target", tmp_path / "heads", 3)
    head.ranking = load_model(str(tiny_models / "tiny-draft")).ranking
    decoder: Any = build_decoder("medusa:gamma=3,draft_vocabulary=40", target, head)
    for context, proposal in proposals(decoder, 8):
        ids = list(decoder.drafter._vocabulary.ids)
        logits = made.logits(context[:-1])[:, ids]
        assert proposal.ids_G.tolist() == [ids[place] for place in logits.argmax(-1)][: len(proposal.ids_G)]


def test_a_longer_chain_than_there_are_heads_is_refused(tiny_models: Path, tmp_path: Path) -> None:
    _, target, head = models(tiny_models / "tiny-target", tmp_path / "heads", 2)
    with refused(UserError, "medusa:gamma=3: heads has 2 heads, and each drafts one token; give at most that"):
        build_decoder("medusa:gamma=3", target, head)


def test_the_end_of_the_context_leaves_room_for_fewer(tiny_models: Path, tmp_path: Path) -> None:
    _, target, head = models(tiny_models / "tiny-target", tmp_path / "heads")
    target.context = 40
    expected = build_decoder("ar", target).generate(PROMPT, 33, ignore_eos=True).ids
    for options in ("", ":gamma=4", ":tree=confidence"):
        assert build_decoder(f"medusa{options}", target, head).generate(PROMPT, 33, ignore_eos=True).ids == expected


def test_passes_are_those_of_the_tree_from_one_head_on() -> None:
    from specbench_s2d.decoding.spec import parse_decoder

    def kinds(text: str) -> list[PassKind]:
        spec = parse_decoder(text)
        return spec.kind.target_passes(spec.options)

    assert kinds("medusa:gamma=3") == [PassKind(4, least=4, states=(FINAL,))]
    assert kinds("medusa") == [PassKind(64, seen=64, least=11, states=(FINAL,))]
    assert kinds("medusa:tree=confidence,tokens=7") == [PassKind(8, seen=8, least=8, states=(FINAL,))]
