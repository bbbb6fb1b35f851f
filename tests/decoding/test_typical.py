"""Typical acceptance against its definition in plain floats."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from specbench_s2d import build_decoder, load_model
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.tree import Tree
from specbench_s2d.decoding.types import Proposal
from specbench_s2d.decoding.verifiers.typical import TypicalVerifier
from specbench_s2d.errors import UserError
from tests.models.heads.medusa_made import write_medusa
from tests.refusals import refused

V = 7


def by_hand(
    ids: list[int], parents: list[int], logits: list[list[float]], temperature: float, epsilon: float, delta: float
) -> tuple[list[int], int]:
    """The accepted path and the next token, by the definition: every path, each of its tokens."""
    rows = []
    for row in logits:
        shares = [math.exp(x / temperature) for x in row]
        rows.append([share / sum(shares) for share in shares])
    best: tuple[int, float, list[int]] = (0, 0.0, [])
    for leaf in range(len(ids)):
        path = [leaf]
        while parents[path[0]] >= 0:
            path.insert(0, parents[path[0]])
        likelihood = 0.0
        for node in path:
            p = rows[parents[node] + 1]
            entropy = -sum(x * math.log(x) for x in p if x)
            if not p[ids[node]] > min(epsilon, delta * math.exp(-entropy)):
                break
            likelihood += math.log(p[ids[node]])
        else:
            if not best[2] or (len(path), likelihood) > best[:2]:
                best = (len(path), likelihood, path)
    after = rows[best[2][-1] + 1 if best[2] else 0]
    return best[2], after.index(max(after))


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.5])
@pytest.mark.parametrize("chain", [True, False])
def test_the_longest_path_of_typical_tokens_is_accepted(chain: bool, temperature: float) -> None:
    """200 random proposals; at temperature 0 p is that at temperature 1."""
    generator, seen = torch.Generator().manual_seed(5), set[int]()
    for trial in range(200):
        parents = [-1, 0, 1, 2] if chain else [-1, -1, 0, 0, 1, 2, 2]
        ids = torch.randint(0, V, (len(parents),), generator=generator)
        logits = 2 * torch.randn(len(parents) + 1, V, generator=generator)
        epsilon, delta = (0.09, 0.3) if trial % 2 else (0.02, 0.9)
        rule = TypicalVerifier(TypicalVerifier.Options(epsilon=epsilon, delta=delta))
        tree = None if chain else Tree.of(parents, torch.device("cpu"))
        verdict = rule.judge(Proposal(ids, tree=tree), logits, Sampler(temperature, 0, 1.0, 0))
        path, next_id = by_hand(ids.tolist(), parents, logits.tolist(), temperature or 1.0, epsilon, delta)
        assert (list(verdict.accepted_path), verdict.next_id, verdict.accepted) == (path, next_id, len(path))
        seen.add(len(path))
    assert seen >= {0, 1, 2, 3}


def test_the_targets_likeliest_token_always_passes() -> None:
    """Its probability is at least exp(-H), and delta is below 1."""
    rule = TypicalVerifier(TypicalVerifier.Options(epsilon=0.9, delta=0.99))
    for logits in torch.randn(50, 2, V, generator=torch.Generator().manual_seed(0)):
        assert rule.judge(Proposal(logits[:1].argmax(-1)), logits, Sampler(0.0, 0, 1.0, 0)).accepted == 1


def test_what_the_run_leaves_out_never_passes() -> None:
    rule = TypicalVerifier(TypicalVerifier.Options(epsilon=0.0))
    logits = torch.tensor([[3.0, 2.0, 1.0], [0.0, 1.0, 0.0]])
    for top_k, accepted in ((0, 1), (2, 0)):
        assert rule.judge(Proposal(torch.tensor([2])), logits, Sampler(1.0, top_k, 1.0, 0)).accepted == accepted


def test_it_pairs_with_medusa_and_chains_and_is_lossy(tiny_models: Path, tmp_path: Path) -> None:
    target = load_model(str(tiny_models / "tiny-target"))
    head = load_model(str(write_medusa(tiny_models / "tiny-target", tmp_path / "heads")))
    loose = build_decoder("medusa+typical:epsilon=0", target, head)
    assert loose.lossy and loose.label == "medusa+typical:epsilon=0"
    steps = loose.generate([5, 9, 3], 20, ignore_eos=True).steps
    assert all(step.accepted == 4 for step in steps)  # every token has some probability
    chain = build_decoder("sd+typical", target, load_model(str(tiny_models / "tiny-draft")))
    assert chain.lossy and chain.generate([5, 9, 3], 8).ids


def test_options_out_of_range_are_refused() -> None:
    for options in ("epsilon=1", "delta=-0.1"):
        with refused(UserError, f"decoder 'medusa+typical': {options}"):
            build_decoder(f"medusa+typical:{options}", load_model("demo-s"))
