"""Heads of half-precision models give float32: what is rounded to 8 bits cannot tell which logit is larger."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from specbench_s2d.models.base import Identity
from specbench_s2d.models.engines.choose import MakeEngine
from specbench_s2d.models.engines.eager import EagerEngine
from specbench_s2d.models.head import head_for, head_logits
from specbench_s2d.models.llama import LlamaModel
from tests.models.captured import graph_engine
from tests.models.reference import family_model, random_ids

HALVES = (torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("prepared", [True, False])
def test_logits_are_the_float32_products_of_the_rounded_numbers(dtype: torch.dtype, prepared: bool) -> None:
    """Against sums in float64; a product that was rounded to half precision would be off by 2^-9 of its size."""
    generator = torch.Generator().manual_seed(3)
    hidden_TD, head_VD = (torch.randn(rows, 256, generator=generator).to(dtype) for rows in (5, 70))
    logits_TV = head_logits(hidden_TD, (head_for(head_VD) if prepared else head_VD).t())
    assert logits_TV.dtype == torch.float32
    exact_TV = hidden_TD.double() @ head_VD.double().t()
    torch.testing.assert_close(logits_TV.double(), exact_TV, atol=1e-4, rtol=1e-5)
    assert float((exact_TV.to(dtype).double() - exact_TV).abs().max()) > 1e-3, "rounding would not be seen"


@pytest.mark.parametrize("dtype", HALVES)
def test_two_logits_that_half_precision_rounds_together_are_told_apart(dtype: torch.dtype) -> None:
    """2,048 and 2,048 + 2^-6: the second is the larger, and in half precision they are one number."""
    hidden_TD = torch.tensor([[2.0, 2.0**-6]], dtype=dtype)
    head_VD = torch.tensor([[1024.0, 0.0], [1024.0, 1.0], [1024.0, 0.5]], dtype=dtype)
    rounded_V = (hidden_TD @ head_VD.t())[0]
    assert len(set(rounded_V.tolist())) == 1
    logits_V = head_logits(hidden_TD, head_for(head_VD).t())[0]
    assert logits_V.tolist() == [2048.0, 2048.0 + 2**-6, 2048.0 + 2**-7]
    assert int(logits_V.argmax()) == 1


def test_a_float32_head_is_the_plain_product_over_the_weights_themselves() -> None:
    hidden_TD, head_VD = torch.randn(3, 16), torch.randn(9, 16)
    assert head_for(head_VD) is head_VD
    assert torch.equal(head_logits(hidden_TD, head_VD.t()), hidden_TD @ head_VD.t())


def test_sizes_alone_stand_for_a_gpus_product() -> None:
    """No copy of the head in float32, as a CPU has one."""
    head_VD = torch.empty(9, 16, dtype=torch.bfloat16, device="meta")
    assert head_for(head_VD) is head_VD
    logits_TV = head_logits(torch.empty(3, 16, dtype=torch.bfloat16, device="meta"), head_VD.t())
    assert (logits_TV.shape, logits_TV.dtype) == ((3, 9), torch.float32)


@pytest.mark.parametrize(("make", "engine"), [(EagerEngine, "eager"), (graph_engine(), "cuda-graphs")])
@pytest.mark.parametrize("dtype", HALVES)
def test_a_half_precision_models_logits_are_finer_than_its_numbers(
    dtype: torch.dtype, make: MakeEngine, engine: str
) -> None:
    """Both engines, in a chain and read at an exit: logits that are not what their own dtype can say."""
    reference, nobody = family_model("llama"), None
    weights: dict[str, Any] = reference.state_dict()
    model = LlamaModel(
        Identity("half"),
        reference.config,
        lambda name: weights[name].to(dtype),
        nobody,  # type: ignore[arg-type]
        frozenset(),
        torch.device("cpu"),
        dtype,
        make,
    )
    model.extend(random_ids(6))
    logits_TV = model.extend(random_ids(3, seed=2))[0]
    assert logits_TV.dtype == torch.float32
    model.rollback(6)
    hidden_BTD = model.extend(random_ids(3, seed=2), to_layer=model.depth)
    assert hidden_BTD.dtype == dtype
    torch.testing.assert_close(model.head(hidden_BTD)[0], logits_TV, atol=1e-6, rtol=1e-6)
    differing = (logits_TV.to(dtype).float() != logits_TV).double().mean()
    assert differing > 0.9
    assert model.engine == engine
