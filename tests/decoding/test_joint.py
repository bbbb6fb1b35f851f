"""MJSD against its definition in plain floats: Q, P, n and the ids, from models read from scratch at every step."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from specbench_s2d.decoding.decoder import PairDecoder
from specbench_s2d.decoding.drafters.beam import BeamDrafter
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.spec import build_decoder, parse_decoder
from specbench_s2d.decoding.tree import Tree
from specbench_s2d.decoding.types import Proposal, Step, Verdict, fetch
from specbench_s2d.decoding.verifiers.joint import JointVerifier
from specbench_s2d.errors import ModelError, UserError
from specbench_s2d.models.base import LanguageModel
from tests.decoding.test_beams import log_softmax
from tests.fakes import FakeModel, Prefix
from tests.refusals import refused
from tests.tiny import random_nested, random_pair

PROMPT = (1, 0, 5, 2)
GAMMA, TOKENS = 4, 14


class Scratch:
    """Next-token logits of one model, each from a pass over the whole prefix without a cache, kept by prefix."""

    def __init__(self, model: LanguageModel) -> None:
        self._model, self._logits = model, dict[Prefix, Tensor]()

    def logits(self, prefix: Prefix) -> Tensor:
        if prefix not in self._logits:
            self._model.reset()
            self._logits[prefix] = self._model.extend(torch.tensor([list(prefix)]))[0, -1].clone()
        return self._logits[prefix]

    def logprobs(self, prefix: Prefix) -> list[float]:
        return log_softmax(self.logits(prefix).double().tolist())


@dataclass
class Expected:
    """What one step must be: the candidates with log Q and log P of each prefix, n, and what follows."""

    paths: list[Prefix]
    log_q: list[list[float]]
    log_p: list[list[float]]
    accepted: int
    emitted: list[int]


def mjsd_by_hand(
    target: Scratch, draft: Scratch, beams: int, candidates: int, tau: float, sampler: Sampler
) -> Iterator[Expected | int]:
    """The first token, then step after step, straight from METHODS.md."""
    first = sampler.pick(target.logits(PROMPT))
    yield first
    context = (*PROMPT, first)
    while True:
        paths = _best_beams(draft, context, beams)[:candidates]
        log_q = [_joint(draft, context, path) for path in paths]
        log_p = [_joint(target, context, path) for path in paths]
        passing = [
            (i + 1, log_p[c][i], path)
            for c, path in enumerate(paths)
            for i in range(GAMMA)
            if min(1.0, math.exp(log_p[c][i] - log_q[c][i])) > tau
        ]
        n, _, path = max(passing, default=(0, 0.0, ()))
        after = (*context, *path[:n])
        emitted = [*path[:n], sampler.pick(target.logits(after))]
        yield Expected(paths, log_q, log_p, n, emitted)
        context = (*context, *emitted)


def _best_beams(draft: Scratch, context: Prefix, width: int) -> list[Prefix]:
    beams: list[tuple[float, Prefix]] = [(0.0, ())]
    for _ in range(GAMMA):
        born = [(q + lp, (*path, t)) for q, path in beams for t, lp in enumerate(draft.logprobs((*context, *path)))]
        beams = sorted(born, reverse=True)[:width]
    return [path for _, path in beams]


def _joint(model: Scratch, context: Prefix, path: Prefix) -> list[float]:
    sums, total = [], 0.0
    for i, token in enumerate(path):
        total += model.logprobs((*context, *path[:i]))[token]
        sums.append(total)
    return sums


class _Watched(JointVerifier):
    """The joint rule, keeping the target's log p of each proposed token after its parent."""

    seen: list[tuple[list[int], list[float]]]

    def judge(self, proposal: Proposal, logits_TV: Tensor, sampler: Sampler) -> Verdict:
        drafted, _ = fetch(proposal)
        rows = [log_softmax(row) for row in logits_TV.double().tolist()]
        logprobs = [rows[p + 1][token] for p, token in zip(drafted.all_parents, drafted.ids, strict=True)]
        self.seen.append((drafted.all_parents, logprobs))
        return super().judge(proposal, logits_TV, sampler)


class _WatchedMJSD(PairDecoder):
    drafter_class = BeamDrafter
    verifier_class = _Watched


def sums_along(path: Prefix, step: Step, parents: list[int], logprobs: list[float]) -> list[float]:
    """Joint log-likelihoods of a candidate's prefixes, from its tokens' own in the proposal."""
    sums, total, node = [], 0.0, -1
    for token in path:
        node = next(i for i, p in enumerate(parents) if p == node and step.drafted[i] == token)
        total += logprobs[node]
        sums.append(total)
    return sums


def check_against_the_definition(seed: int, temperature: float, tau: float, candidates: int) -> Counter[int]:
    """One generation beside the definition; returns how often each n occurred."""
    target, draft = random_pair(seed)
    beams = 8 if candidates > 1 else 1 + seed % 8
    options = _WatchedMJSD.Options(gamma=GAMMA, beams=beams, candidates=candidates, tau=tau)  # type: ignore[call-arg]
    decoder = _WatchedMJSD(target, draft, options)
    decoder.verifier.seen = []
    generation = decoder.generate(list(PROMPT), max_new_tokens=TOKENS, temperature=temperature, seed=seed)
    sampler = Sampler(temperature, 0, 1.0, seed)
    by_hand = mjsd_by_hand(Scratch(target), Scratch(draft), beams, candidates, tau, sampler)
    ids = [next(by_hand)]
    counts: Counter[int] = Counter()
    for step, (parents, logprobs), expected in zip(generation.steps, decoder.verifier.seen, by_hand, strict=False):
        assert isinstance(expected, Expected)
        for path, log_q, log_p in zip(expected.paths, expected.log_q, expected.log_p, strict=True):
            assert sums_along(path, step, parents, step.draft_logprobs or []) == pytest.approx(log_q, abs=1e-4)
            assert sums_along(path, step, parents, logprobs) == pytest.approx(log_p, abs=1e-4)
        assert step.accepted == expected.accepted
        ids += expected.emitted
        counts[step.accepted] += 1
    assert generation.ids == ids[:TOKENS]
    return counts


@pytest.mark.parametrize("tau", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_q_p_n_and_ids_on_twenty_random_pairs(temperature: float, tau: float) -> None:
    counts = sum((check_against_the_definition(seed, temperature, tau, 1) for seed in range(20)), Counter[int]())
    assert set(counts) == set(range(GAMMA + 1)), "an acceptance count that never occurred was not tested"


@pytest.mark.parametrize("tau", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_longest_accepted_of_several_candidates_wins(temperature: float, tau: float) -> None:
    counts = sum((check_against_the_definition(seed, temperature, tau, 4) for seed in range(6)), Counter[int]())
    assert counts[GAMMA] and len(counts) > 2


def judged(log_p: list[float], log_q: list[float], tau: float, parents: list[int] | None = None) -> Verdict:
    """The verdict on tokens 1, 2, 3 … of given probabilities under target and draft; token 0 follows everywhere."""
    rows = len(log_p) + 1
    above = list(range(-1, len(log_p) - 1)) if parents is None else parents
    logits_TV = torch.full((rows, rows), -50.0)
    for node, (parent, logprob) in enumerate(zip(above, log_p, strict=True)):
        logits_TV[parent + 1, node + 1] = logprob
    left_T = 1 - logits_TV.exp().sum(-1)
    logits_TV[:, 0] = left_T.clamp_min(1e-6).log()
    tree = None if parents is None else Tree.of(parents, torch.device("cpu"))
    proposal = Proposal(torch.arange(1, rows), logprobs_G=torch.tensor(log_q, dtype=torch.float64), tree=tree)
    return JointVerifier(JointVerifier.Options(tau=tau)).judge(proposal, logits_TV, Sampler(0.0, 0, 1.0, 0))


def logs(*probabilities: float) -> list[float]:
    return [math.log(p) for p in probabilities]


def test_the_longest_prefix_above_tau_is_accepted_though_a_shorter_one_fails() -> None:
    """P/Q is 0.2, 0.16, 0.8: at 0.5 the third passes, and takes the first two along."""
    assert judged(logs(0.1, 0.4, 0.5), logs(0.5, 0.5, 0.1), 0.5).accepted == 3
    assert judged(logs(0.1, 0.4, 0.05), logs(0.5, 0.5, 0.1), 0.5).accepted == 0


@pytest.mark.parametrize(("tau", "accepted"), [(0.0, 3), (0.1, 3), (0.3, 2), (0.45, 1), (0.5, 0), (1.0, 0)])
def test_tau_is_the_ratio_that_must_be_passed(tau: float, accepted: int) -> None:
    """P/Q is 0.5, 0.4, 0.2; at 0.5 the first only reaches it, and nothing is above 1."""
    assert judged([*logs(0.25, 0.4), math.log(0.25)], [*logs(0.5, 0.5), math.log(0.5)], tau).accepted == accepted


def test_nothing_passes_at_one_even_where_the_target_is_surer() -> None:
    assert judged(logs(0.9, 0.9), logs(0.5, 0.5), 1.0) == Verdict(0, 1)


def test_of_equally_long_candidates_the_likelier_wins() -> None:
    """Two children of the context, both with P = Q: the second has the higher P."""
    verdict = judged(logs(0.2, 0.3, 0.4), logs(0.2, 0.3, 0.4), 0.5, parents=[-1, -1, -1])
    assert verdict.path == [2]


def test_a_longer_candidate_beats_a_likelier_one() -> None:
    verdict = judged(logs(0.1, 0.6, 0.1), logs(0.1, 0.6, 0.1), 0.5, parents=[-1, -1, 0])
    assert verdict.path == [0, 2]


THREE_EXITS = 1
PAIRS = ("s2d+joint", "sd+joint", "chain+joint:sampling=greedy", "s2d-tree+joint", "s2d-auto+joint", "beam+joint")


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_every_drafter_meets_the_joint_rule(name: str, temperature: float) -> None:
    """n is the rule's on the drafter's own tokens: P from the target read from scratch, Q what the drafter says, or
    where it says nothing (a chain) the draft from scratch."""
    target, draft = random_nested(THREE_EXITS), random_nested(THREE_EXITS)
    decoder = build_decoder(f"{name}{',' if ':' in name else ':'}tau=0.4", target, draft)
    assert decoder.lossy
    generation = decoder.generate(list(PROMPT), max_new_tokens=40, temperature=temperature, seed=1)
    p, q = Scratch(target), Scratch(draft)
    context = (*PROMPT, generation.ids[0])
    for step in generation.steps:
        parents = step.parents or list(range(-1, len(step.drafted) - 1))
        paths = [_ids_above(node, parents, step.drafted) for node in range(len(parents))]
        if step.draft_logprobs is None:
            log_q = [_joint(q, context, path)[-1] for path in paths]
        else:
            log_q = [sum(step.draft_logprobs[i] for i in _above(node, parents)) for node in range(len(parents))]
        passing = [
            (len(path), log_p, path)
            for path, lq in zip(paths, log_q, strict=True)
            if min(0.0, (log_p := _joint(p, context, path)[-1]) - lq) > math.log(0.4)
        ]
        n, _, path = max(passing, default=(0, 0.0, ()))
        assert step.accepted == n
        assert step.emitted[:n] == list(path)[: len(step.emitted)]
        context = (*context, *step.emitted)
    assert sum(step.accepted for step in generation.steps) > 0


def _above(node: int, parents: list[int]) -> list[int]:
    path = []
    while node >= 0:
        path.append(node)
        node = parents[node]
    return path[::-1]


def _ids_above(node: int, parents: list[int], ids: list[int]) -> Prefix:
    return tuple(ids[i] for i in _above(node, parents))


def test_a_chains_q_is_taken_at_temperature_one_whatever_it_drew_by() -> None:
    target, draft = FakeModel(seed=1), FakeModel(seed=2)
    decoder = build_decoder("sd+joint:gamma=3", target, draft)
    decoder.drafter.start([1, 0], Sampler(0.3, 2, 0.9, seed=4))  # type: ignore[attr-defined]
    proposal: Proposal = decoder.drafter.propose([1, 0, 3], 9)  # type: ignore[attr-defined]
    ids = proposal.ids_G.tolist()
    expected = [log_softmax(draft.logits_after((1, 0, 3, *ids[:i])).double().tolist())[t] for i, t in enumerate(ids)]
    assert proposal.token_logprobs().tolist() == pytest.approx(expected, abs=1e-5)


def test_ar_under_the_joint_rule_proposes_nothing() -> None:
    generation = build_decoder("ar+joint", FakeModel()).generate([1, 0], max_new_tokens=5)
    assert [step.emitted for step in generation.steps] == [[token] for token in generation.ids[1:]]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("tau=-0.1", "greater than or equal to 0"),
        ("tau=1.1", "less than or equal to 1"),
        ("tau=nan", "less than or equal to 1"),
        ("gamma=0", "greater than or equal to 1"),
        ("beams=0", "greater than or equal to 1"),
        ("candidates=0", "greater than or equal to 1"),
        ("candidates=9", "at most as many as there are beams (8)"),
        ("draft_temperature=-1", "greater than or equal to 0"),
        ("draft_temperature=inf", "finite"),
        ("draft_top_p=0", "greater than 0"),
        ("exit=0", "greater than or equal to 1"),
    ],
)
def test_bad_options_are_refused_in_one_line(given: str, why: str) -> None:
    with refused(UserError, f"decoder 'mjsd': {given}", why):
        parse_decoder(f"mjsd:{given}")


def test_an_exit_that_the_draft_cannot_have_is_refused() -> None:
    target, draft = random_pair(0)
    with refused(ModelError, "exits 9"):
        build_decoder("mjsd:exit=9", target, draft)
