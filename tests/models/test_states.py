"""Hidden states beside logits: in every engine those of transformers' own forward."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from specbench_s2d import load_model
from specbench_s2d.models.engines.cuda_graphs import CudaGraphEngine
from tests.models.captured import RerunningCapture

IDS = [5, 9, 3, 17, 40, 2, 8, 11, 30]


@pytest.fixture(scope="module")
def reference(tiny_models: Path) -> list[torch.Tensor]:
    """Logits, the states that enter layer 2, and the final ones."""
    module = AutoModelForCausalLM.from_pretrained(str(tiny_models / "tiny-target"), dtype=torch.float32)
    with torch.no_grad():
        out = module(input_ids=torch.tensor([IDS]), output_hidden_states=True)
    return [out.logits[0], out.hidden_states[2][0], out.hidden_states[-1][0]]


@pytest.mark.parametrize("forward", ["lean", "transformers"])
def test_states_of_inner_and_last_layers(forward: str, tiny_models: Path, reference: list[torch.Tensor]) -> None:
    model = load_model(str(tiny_models / "tiny-target"), lean=forward == "lean")
    first, states = model.extend_with_states(torch.tensor([IDS[:4]]), (model.depth, 2))
    rest, more = model.extend_with_states(torch.tensor([IDS[4:]]), (model.depth, 2))
    assert model.length == len(IDS)
    whole = [torch.cat((first[0], rest[0])), *(torch.cat(parts) for parts in zip(states, more, strict=True))]
    for ours, theirs in zip(whole, (reference[0], reference[2], reference[1]), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)
    assert torch.allclose(model.head(whole[1][None], final=True)[0], reference[0], atol=1e-4)


def test_under_a_mask_they_are_those_of_each_branch(tiny_models: Path) -> None:
    model = load_model(str(tiny_models / "tiny-target"))
    model.extend(torch.tensor([IDS[:4]]))
    mask = torch.tensor([[True, False, False], [True, True, False], [True, False, True]])
    _, (branches,) = model.extend_with_states(torch.tensor([[7, 11, 30]]), (model.depth,), mask)
    for row, path in ((1, [7, 11]), (2, [7, 30])):
        model.rollback(4)
        _, (alone,) = model.extend_with_states(torch.tensor([path]), (model.depth,))
        assert torch.allclose(branches[row], alone[-1], atol=1e-4)


def test_graphs_run_them_prepared(tiny_models: Path, reference: list[torch.Tensor]) -> None:
    from specbench_s2d.models.base import FINAL, PassKind

    capture = RerunningCapture()
    model = load_model(
        str(tiny_models / "tiny-target"), engine=lambda weights: CudaGraphEngine(weights, capture=lambda: capture)
    )
    model.reserve(64)
    model.prepare([PassKind(5, states=(FINAL,))])
    before = model.engine_facts["captures"]
    model.extend(torch.tensor([IDS[:4]]), last_only=True)
    seen = model.engine_facts["unannounced"]
    logits, (states,) = model.extend_with_states(torch.tensor([IDS[4:]]), (model.depth,))
    assert torch.allclose(states, reference[2][4:], atol=1e-4)
    assert torch.allclose(logits[0], reference[0][4:], atol=1e-4)
    assert (model.engine_facts["captures"], model.engine_facts["unannounced"]) == (before, seen)


def test_embeddings_are_the_rows_of_the_table(tiny_models: Path) -> None:
    target = tiny_models / "tiny-target"
    table = AutoModelForCausalLM.from_pretrained(str(target), dtype=torch.float32).get_input_embeddings().weight
    for lean in (True, False):
        assert torch.equal(load_model(str(target), lean=lean).embed(torch.tensor(IDS)), table[torch.tensor(IDS)])
    tied = load_model("demo-s", engine="native")
    assert torch.equal(tied.embed(torch.tensor(IDS)), load_model("demo-s", engine="eager").embed(torch.tensor(IDS)))
