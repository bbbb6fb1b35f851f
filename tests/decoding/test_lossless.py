"""Speculative decoding changes nothing: greedy ids equal AR's, and sampled sequences follow the target's law.

Oracles: greedy, token by token without a cache; sampling, the exact product of the target's distributions, by a
chi-square test over 3,000 draws with a false-alarm rate of 1 in 10,000 per case (the seed is fixed, so a case that
passes once passes always; the rate says how little a correct verifier risks when the code changes its draws). Of laws
that lie w = 0.15 off over 2 tokens, 0.18 over 3, it sees 99 in 100 (Cohen's w: the root of the summed squared
differences, each over its expected share). Verifiers that are wrong on purpose are at p < 1e-50.
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest
import torch
from scipy.stats import chi2

from specbench_s2d.decoding.autoregressive import Autoregressive
from specbench_s2d.decoding.decoder import Decoder, PairDecoder
from specbench_s2d.decoding.drafters.chain import ChainDrafter
from specbench_s2d.decoding.drafters.tree import TreeDrafter
from specbench_s2d.decoding.sampling import Sampler, probabilities
from specbench_s2d.decoding.spec import build_decoder
from specbench_s2d.decoding.tree import children
from specbench_s2d.decoding.types import Proposal, Verdict
from specbench_s2d.decoding.verifiers.token import TokenVerifier
from tests.decoding import clocked
from tests.fakes import Clock, FakeModel, FixedRanking
from tests.slow import slow_but

DRAWS = 3_000
FALSE_ALARM_RATE = 1e-4
PROMPT = [1, 0]


def greedy_by_hand(model: FakeModel, prompt: list[int], count: int) -> list[int]:
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(model.logits_after(tuple(ids)).argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("gamma", [1, 2, 5, "heuristic"])
@pytest.mark.parametrize("seed", range(6))
def test_greedy_ids_equal_token_by_token_argmax(gamma: int | str, seed: int) -> None:
    target, draft = FakeModel(seed=seed), FakeModel(seed=seed + 100)
    # A draft that is right about half of the time, so that every acceptance count occurs.
    draft.logits_after = lambda prefix: (  # type: ignore[method-assign]
        target.logits_after(prefix) if sum(prefix) % 2 else FakeModel.logits_after(draft, prefix)
    )
    expected = greedy_by_hand(target, PROMPT, 40)
    assert build_decoder("ar", target).generate(PROMPT, max_new_tokens=40).ids == expected
    assert build_decoder("sd", target, draft, gamma=gamma).generate(PROMPT, max_new_tokens=40).ids == expected


def right_half_the_time(draft: FakeModel, target: FakeModel) -> None:
    """Every exit of `draft` says what `target` says after every other prefix."""
    own = draft.logits_at
    draft.logits_at = lambda prefix, depth: (  # type: ignore[method-assign]
        target.logits_after(prefix) if sum(prefix) % 2 else own(prefix, depth)
    )


SORTED = (
    "s2d:thresholds=0.5+0.45+0",
    "s2d:thresholds=0.3+0.3+0,gamma=heuristic",
    "s2d-tree:thresholds=0.4+0.4+0,depth=3,topk=2,tokens=5",
    "s2d-tree",
    "s2d-auto",
    "s2d-auto:gamma=2",
    "sd:exit=2",
)


@pytest.mark.parametrize("decoder", SORTED)
@pytest.mark.parametrize("seed", range(4))
def test_greedy_ids_of_sorted_drafts_equal_token_by_token_argmax(decoder: str, seed: int, clock: Clock) -> None:
    """Three generations in a row, since what a decoder learnt in one it uses in the next."""
    target = FakeModel(seed=seed, clock=clock, layer_s=1.0)
    draft = FakeModel(seed=seed + 100, exits=(1, 2, 4), clock=clock, layer_s=0.01)
    right_half_the_time(draft, target)
    expected = greedy_by_hand(target, PROMPT, 40)
    built = clocked.build_decoder(decoder, target, draft, clock)
    for _ in range(3):
        generation = built.generate(PROMPT, max_new_tokens=40)
        assert generation.ids == expected
        assert any(step.drafted for step in generation.steps)


@pytest.mark.parametrize("decoder", ["s2d", "s2d-tree", "s2d-auto"])
@pytest.mark.parametrize("seed", range(4))
def test_eos_inside_a_sorted_draft_or_on_a_trees_path_ends_the_answer(decoder: str, seed: int, clock: Clock) -> None:
    target = FakeModel(seed=seed, eos=3, clock=clock, layer_s=1.0)
    draft = FakeModel(seed=seed, eos=3, exits=(1, 2, 4), clock=clock, layer_s=0.01)
    draft.logits_at = lambda prefix, depth: target.logits_after(prefix)  # type: ignore[method-assign]
    expected = greedy_by_hand(target, PROMPT, 40)
    expected = expected[: expected.index(3) + 1] if 3 in expected else expected
    generation = clocked.build_decoder(decoder, target, draft, clock).generate(PROMPT, max_new_tokens=40)
    assert generation.ids == expected
    assert generation.stop == ("eos" if expected[-1] == 3 else "length")


TRAINING_FREE = (
    "lookup",
    "lookup:match=last,max_ngram=1,gamma=3",
    "suffix",
    "suffix:min_match=1,min_share=0,gamma=4",
    "recycling",
    "recycling:tokens=9,scope=run",
    "first(suffix:min_match=4|recycling)",
)


@pytest.mark.parametrize("decoder", TRAINING_FREE)
@pytest.mark.parametrize("seed", range(2))
def test_drafts_out_of_text_read_before_change_nothing(decoder: str, seed: int) -> None:
    target = FakeModel(5, seed=seed, context=300)
    built = build_decoder(decoder, target)
    for _ in range(2):
        generation = built.generate(PROMPT, max_new_tokens=60)
        assert generation.ids == greedy_by_hand(target, PROMPT, 60)
        assert sum(step.accepted for step in generation.steps) > 0


BEAMS = (
    "beam+token",
    "mjsd+token:beams=3,gamma=heuristic",
    "beam+token:candidates=4",
    "beam+token:gamma=3,beams=5,candidates=5,exit=2",
    "beam+token:draft_temperature=1.5,draft_top_k=4,draft_top_p=0.9,candidates=3",
    "s2d-tree+sd:thresholds=0.4+0.4+0",
)


@pytest.mark.parametrize("decoder", BEAMS)
@pytest.mark.parametrize("seed", range(4))
def test_beams_under_the_token_rule_change_nothing(decoder: str, seed: int) -> None:
    target, draft = FakeModel(seed=seed, context=200), FakeModel(seed=seed + 100, exits=(1, 2, 4), context=200)
    right_half_the_time(draft, target)
    built = build_decoder(decoder, target, draft)
    assert not built.lossy
    generation = built.generate(PROMPT, max_new_tokens=40)
    assert generation.ids == greedy_by_hand(target, PROMPT, 40)
    assert sum(step.accepted for step in generation.steps) > 3


def sequence_law(
    model: FakeModel, length: int, temperature: float, top_k: int, top_p: float
) -> dict[tuple[int, ...], float]:
    """Exact probability of every sequence of `length` after PROMPT."""
    law = {}
    for sequence in itertools.product(range(model.vocabulary), repeat=length):
        probability = 1.0
        for i, token in enumerate(sequence):
            row = model.logits_after((*PROMPT, *sequence[:i]))[None].double()
            probability *= float(probabilities(row, temperature, top_k, top_p)[0, token])
        law[sequence] = probability
    return law


def chi_square_p(decoder: Decoder, law: dict[tuple[int, ...], float], draws: int = DRAWS, **settings: float) -> float:
    """p-value of the decoder's drawn sequences under the law; sequences expected under 5 times are pooled."""
    length = len(next(iter(law)))
    drawn = Counter(
        tuple(decoder.generate(PROMPT, max_new_tokens=length, seed=seed, **settings).ids)  # type: ignore[arg-type]
        for seed in range(draws)
    )
    assert all(law[sequence] > 0 for sequence in drawn), "a sequence was drawn that the target cannot write"
    common = [s for s in law if law[s] * draws >= 5]
    pairs = [(drawn[s], law[s] * draws) for s in common]
    rest = 1 - sum(law[s] for s in common)
    if rest * draws >= 5:
        pairs.append((draws - sum(drawn[s] for s in common), rest * draws))
    statistic = sum((seen - expected) ** 2 / expected for seen, expected in pairs)
    return float(chi2.sf(statistic, len(pairs) - 1))


# Decoder, settings, and the length of the sequences: two tokens are half the work of three.
CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    "sampled draft, gamma 2": ("sd:gamma=2", {"temperature": 1.0}, 3),
    "greedy draft, top-k and top-p": ("sd:gamma=3,sampling=greedy", {"temperature": 0.7, "top_k": 3, "top_p": 0.9}, 2),
    "fixed exit": ("sd:exit=2,gamma=2", {"temperature": 1.0}, 2),
    "sorted": ("s2d:thresholds=0.4+0.4+0,gamma=2", {"temperature": 1.0}, 3),
    "tree": ("s2d-tree:thresholds=0.4+0.4+0,depth=2,topk=3,tokens=5", {"temperature": 1.0}, 3),
    "tree, top-k": ("s2d-tree:thresholds=0.4+0.4+0,depth=2,topk=2,tokens=5", {"temperature": 0.7, "top_k": 3}, 2),
    "auto": ("s2d-auto:gamma=2", {"temperature": 1.0}, 3),
    "lookup": ("lookup:gamma=2", {"temperature": 1.0}, 3),
    "suffix, top-k": ("suffix:min_match=1,min_share=0,gamma=2", {"temperature": 0.7, "top_k": 3}, 2),
    "recycling": ("recycling:tokens=12", {"temperature": 1.0}, 2),
    "first": ("first(lookup:max_ngram=1|sd:gamma=2)", {"temperature": 1.0}, 2),
    "small vocabulary": ("sd:gamma=2,draft_vocabulary=2", {"temperature": 1.0}, 2),
    "small vocabulary, top-k": ("sd:gamma=2,draft_vocabulary=3", {"temperature": 0.7, "top_k": 2, "top_p": 0.9}, 2),
    "tree of a small vocabulary": (
        "s2d-tree:draft_vocabulary=2,thresholds=0.4+0.4+0,depth=2,topk=2,tokens=5",
        {"temperature": 1.0},
        2,
    ),
    "beams": ("beam+token:gamma=2,beams=3", {"temperature": 1.0}, 3),
    "drawn beams as a tree": (
        "beam+token:gamma=2,beams=3,candidates=2,draft_temperature=1",
        {"temperature": 0.7, "top_k": 3},
        2,
    ),
}


QUICK = ("sampled draft, gamma 2", "greedy draft, top-k and top-p", "tree, top-k", "fixed exit", "recycling", "first")


@pytest.mark.parametrize("case", slow_but(QUICK, CASES))
def test_sampled_sequences_follow_the_targets_law(case: str, clock: Clock) -> None:
    decoder, settings, length = CASES[case]
    target = FakeModel(4, seed=1, clock=clock, layer_s=1.0)
    draft = FakeModel(4, seed=2, exits=(1, 2, 4), clock=clock, layer_s=0.01)
    draft.ranking = FixedRanking([3, 1, 0, 2])
    law = sequence_law(target, length, settings["temperature"], settings.get("top_k", 0), settings.get("top_p", 1.0))
    assert sum(law.values()) == pytest.approx(1.0)
    built = clocked.build_decoder(decoder, target, draft, clock)
    assert chi_square_p(built, law, **settings) > FALSE_ALARM_RATE


class _NoResidual(TokenVerifier):
    """Wrong on purpose: after a rejection it draws from p itself, not from max(0, p - q)."""

    def judge(self, proposal: Proposal, logits_TV: torch.Tensor, sampler: Sampler) -> Verdict:
        verdict = super().judge(proposal, logits_TV, sampler)
        if verdict.accepted == len(proposal.ids_G):
            return verdict
        return Verdict(verdict.accepted, int(sampler.draw(sampler.probs(logits_TV)[verdict.accepted])))


class _WrongSpeculativeDecoding(PairDecoder):
    drafter_class = ChainDrafter
    verifier_class = _NoResidual


class _SiblingsAlone(TokenVerifier):
    """Wrong on purpose: each child is accepted with its own p(x), whatever its rejected siblings took of it."""

    def judge(self, proposal: Proposal, logits_TV: torch.Tensor, sampler: Sampler) -> Verdict:
        assert proposal.tree is not None
        below, path, node = children(proposal.tree.parents_N.tolist()), list[int](), -1
        while True:
            p_V = sampler.probs(logits_TV[node + 1][None])[0]
            for child in below.get(node, []):
                if float(sampler.uniforms(1, p_V.device)) < float(p_V[proposal.ids_G[child]]):
                    path.append(child)
                    node = child
                    break
            else:
                return Verdict(len(path), int(sampler.draw(p_V)), path)


class _WrongTree(PairDecoder):
    drafter_class = TreeDrafter
    verifier_class = _SiblingsAlone


def test_the_sampling_oracle_fails_for_a_verifier_that_is_wrong_on_purpose() -> None:
    target, draft = FakeModel(4, seed=1), FakeModel(4, seed=2)
    wrong = _WrongSpeculativeDecoding(target, draft, _WrongSpeculativeDecoding.Options(gamma=2))
    law = sequence_law(target, 3, 1.0, 0, 1.0)
    assert chi_square_p(wrong, law, draws=DRAWS, temperature=1.0) < FALSE_ALARM_RATE


def test_the_sampling_oracle_fails_for_a_tree_verifier_that_is_wrong_on_purpose() -> None:
    target, draft = FakeModel(4, seed=1), FakeModel(4, seed=2, exits=(1, 2, 4))
    wrong = _WrongTree(target, draft, _WrongTree.Options(depth=2, topk=3, tokens=5))
    law = sequence_law(target, 2, 1.0, 0, 1.0)
    assert chi_square_p(wrong, law, draws=DRAWS, temperature=1.0) < FALSE_ALARM_RATE


def test_ar_is_the_loop_with_nothing_drafted() -> None:
    decoder = Autoregressive(FakeModel(), None, Autoregressive.Options())
    generation = decoder.generate(PROMPT, max_new_tokens=6)
    assert [step.drafted for step in generation.steps] == [[]] * 5
    assert all(len(step.emitted) == 1 and step.passes == 1 for step in generation.steps)
