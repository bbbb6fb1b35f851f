"""Decoders that follow an acceptance trace: its acceptances and exits, at the token rule's cost."""

from __future__ import annotations

import pytest
import torch

from specbench_s2d.decoding.acceptance_trace import AcceptanceTrace
from specbench_s2d.decoding.decoder import PairDecoder
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.spec import build_decoder, describe_decoders
from specbench_s2d.decoding.tree import Tree
from specbench_s2d.decoding.types import Proposal
from specbench_s2d.decoding.verifiers.scripted import ScriptedVerifier
from specbench_s2d.errors import UserError
from tests.fakes import FakeModel

PROMPT = [1, 2, 3]
EXITS = (1, 2, 4)


def scripted(name: str, trace: AcceptanceTrace | None, **options: object) -> PairDecoder:
    nested = name.startswith("sorted")
    decoder = build_decoder(name, FakeModel(), FakeModel(seed=1, exits=EXITS if nested else ()), **options)
    assert isinstance(decoder, PairDecoder)
    if trace:
        decoder.follow(trace)
    return decoder


def test_the_trace_is_followed_in_order_and_again_and_cut_at_what_was_proposed() -> None:
    decoder = scripted("chain+scripted", AcceptanceTrace([2, 0, 9]), gamma=3)
    steps = decoder.generate(PROMPT, max_new_tokens=20, ignore_eos=True).steps
    assert [step.accepted for step in steps][:6] == [2, 0, 3, 2, 0, 3]
    assert all(step.emitted[: step.accepted] == step.drafted[: step.accepted] for step in steps[:-1])


def test_every_generation_begins_the_trace_anew() -> None:
    decoder = scripted("chain+scripted", AcceptanceTrace([1, 0, 2]), gamma=3)
    first, second = (decoder.generate(PROMPT, max_new_tokens=6, ignore_eos=True) for _ in range(2))
    assert [step.accepted for step in first.steps] == [step.accepted for step in second.steps]


def test_the_next_token_is_the_target_s_argmax_whatever_the_temperature() -> None:
    logits_TV = torch.tensor([[0.0, 5, 0], [0, 0, 5], [5, 0, 0]])
    verifier = ScriptedVerifier(ScriptedVerifier.Options())
    verifier.follow(AcceptanceTrace([1, 0, 7]))
    sampler = Sampler(1.0, 0, 1.0, 0, torch.device("cpu"))
    verdicts = [verifier.judge(Proposal(torch.tensor([0, 0])), logits_TV, sampler) for _ in range(3)]
    assert [(v.accepted, v.next_id) for v in verdicts] == [(1, 2), (0, 1), (2, 0)]


def test_a_tree_is_walked_along_its_first_children() -> None:
    verifier = ScriptedVerifier(ScriptedVerifier.Options())
    verifier.follow(AcceptanceTrace([2, 9]))
    tree = Proposal(torch.tensor([4, 5, 6, 7]), tree=Tree.of([-1, -1, 0, 2], torch.device("cpu")))
    logits_TV = torch.eye(5)
    sampler = Sampler(0.0, 0, 1.0, 0, torch.device("cpu"))
    two, all_levels = (verifier.judge(tree, logits_TV, sampler) for _ in range(2))
    assert (two.path, two.next_id) == ([0, 2], 3)
    assert (all_levels.path, all_levels.next_id) == ([0, 2, 3], 4)


def test_tokens_leave_where_the_trace_says_and_no_layer_runs_above() -> None:
    decoder = scripted("sorted-scripted+scripted", AcceptanceTrace([0], [0, 2, 1]), gamma=3)
    step = decoder.generate(PROMPT, max_new_tokens=3, ignore_eos=True).steps[0]
    assert step.exit_depths == [1, 4, 2]
    # Layers: 1; then 4 for the second and the 3 that the first left out; then 2.
    assert step.draft_layers == 1 + (4 + 3) + 2


def test_a_scripted_decoder_says_that_it_projects() -> None:
    decoder = scripted("sorted-scripted+scripted", None)
    assert decoder.projected == "scripted exits, scripted acceptances"
    assert scripted("chain+token", None).projected is None
    rows = {row["name"]: row["output"] for row in describe_decoders() if row["kind"] == "verifier"}
    assert rows == {"joint": "lossy", "scripted": "projected", "token": "lossless", "typical": "lossy"}


@pytest.mark.parametrize(
    ("name", "trace", "message"),
    [
        ("chain+scripted", None, "has no acceptance trace"),
        ("chain+scripted", AcceptanceTrace(), "no acceptances"),
        ("sorted-scripted+scripted", AcceptanceTrace([1]), "no exits"),
        ("sorted-scripted+scripted", AcceptanceTrace([1], [3]), r"exit number 4; the draft has 3 exits \(1, 2, 4\)"),
    ],
)
def test_a_trace_that_lacks_something_is_refused(name: str, trace: AcceptanceTrace | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        scripted(name, trace).generate(PROMPT, max_new_tokens=4)
