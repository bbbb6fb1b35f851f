"""The layer that graphs are made of, against one in float32 where half precision has no room."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from specbench_s2d.models.engines.layer import PLAIN, Sizes, Tables, TreeMask
from specbench_s2d.models.weights import LayerWeights

WIDTH, HEADS, HEAD_WIDTH, CACHED = 64, 2, 64, 5
SIZES = Sizes(HEADS, 1, HEAD_WIDTH, 1e-5, HEAD_WIDTH**-0.5)


def weights(dtype: torch.dtype) -> LayerWeights:
    """A norm to 2.2; queries and keys that repeat the normed state, 12 and 20 times as large; a small feed-forward."""
    generator = torch.Generator().manual_seed(1)
    eye = torch.eye(HEAD_WIDTH, WIDTH)
    names = {
        "attention_norm_D": torch.full((WIDTH,), 2.2),
        "qkv_AD": torch.cat((12 * eye, 12 * eye, 20 * eye, eye)),
        "qkv_bias_A": None,
        "q_norm_C": None,
        "k_norm_C": None,
        "out_DA": torch.randn(WIDTH, HEADS * HEAD_WIDTH, generator=generator) * 0.05,
        "mlp_norm_D": torch.ones(WIDTH),
        "gate_up_FD": torch.randn(32, WIDTH, generator=generator) * 0.05,
        "down_DF": torch.randn(WIDTH, 16, generator=generator) * 0.05,
    }
    return LayerWeights(**{name: None if part is None else part.to(dtype) for name, part in names.items()})


def states(dtype: torch.dtype) -> Tensor:
    """Rows of ones and minus ones: their products are far smaller than 64, so that each attends to itself alone."""
    signs = torch.randn(CACHED, WIDTH, generator=torch.Generator().manual_seed(2)).sign()
    return signs.to(dtype)


def run(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(states after the layer, keys (S, C))."""
    keys_KSC, values_KSC = (torch.zeros(1, 8, HEAD_WIDTH, dtype=dtype) for _ in range(2))
    unturned_SC = torch.zeros(8, HEAD_WIDTH, dtype=dtype)
    tables = Tables(unturned_SC + 1, unturned_SC, HEADS)
    start_1 = torch.zeros(1, dtype=torch.long)
    inputs = PLAIN.attention_inputs(torch.arange(CACHED), start_1, torch.arange(8), None, tables)
    out_TD = PLAIN.run_layer(states(dtype), inputs, keys_KSC, values_KSC, weights(dtype), SIZES)
    return out_TD, keys_KSC[0, :CACHED]


def test_products_beyond_float16_come_out_finite_and_right() -> None:
    """A query of 26.4s and its own key of 44s: 64 x 26.4 x 44 is 74,342, beyond 65,504, and scaled by 1/8 9,293."""
    half_TD, keys_SC = run(torch.float16)
    exact_TD, exact_keys_SC = run(torch.float32)
    raw_SS = (exact_keys_SC * 12 / 20) @ exact_keys_SC.t()
    assert raw_SS.diagonal().tolist() == pytest.approx([74_342] * CACHED, rel=1e-3)
    torch.testing.assert_close(keys_SC.float(), exact_keys_SC, atol=0, rtol=1e-3)
    assert torch.isfinite(half_TD).all()
    torch.testing.assert_close(half_TD.float(), exact_TD, atol=0.01, rtol=2e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_row_under_a_mask_stands_where_it_sees_to(dtype: torch.dtype) -> None:
    """Cached: 3. Rows: one that sees itself, its child, and a sibling; then one that is not asked for."""
    cos_SC = torch.arange(16.0)[:, None].expand(16, 4).to(dtype)
    mask_TM = torch.zeros(4, 64, dtype=torch.bool)
    mask_TM[:3, :3] = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 1]]).bool()
    tree = TreeMask(mask_TM, torch.tensor([3]), torch.tensor([3]))
    tables = Tables(cos_SC, cos_SC, 2)
    inputs = PLAIN.attention_inputs(torch.arange(4), torch.tensor([3]), torch.arange(8), tree, tables)
    assert inputs.slots_T.tolist() == [3, 4, 5, 6]
    assert inputs.cos_T1C[:3, 0, 0].tolist() == [3, 4, 3]
    visible = (inputs.mask_RS == 0).tolist()
    assert visible[::2] == visible[1::2], "the heads of a group see the same"
    assert [[s for s, sees in enumerate(row) if sees] for row in visible[::2]] == [
        [0, 1, 2, 3],
        [0, 1, 2, 3, 4],
        [0, 1, 2, 5],
        list(range(8)),
    ]
