"""Which heads are compiled: those of float32 models; of half precision they stay torch calls, for their product gives
another dtype than it takes."""

from __future__ import annotations

import pytest
import torch

from specbench_s2d.models.engines.compiled import compiled_functions
from specbench_s2d.models.engines.layer import run_head
from tests.models.captured import CountingBackend


@pytest.mark.parametrize(("dtype", "expected"), [(torch.float32, 2), (torch.bfloat16, 0), (torch.float16, 0)], ids=str)
def test_the_head_of_half_precision_is_not_compiled(dtype: torch.dtype, expected: int) -> None:
    """One row and several are two variants."""
    backend = CountingBackend()
    torch._dynamo.reset()
    functions = compiled_functions(backend)
    norm_D, head_VD = torch.rand(8).to(dtype), torch.rand(11, 8).to(dtype)
    for rows in (1, 4, 6):
        hidden_TD = torch.rand(rows, 8).to(dtype)
        logits_TV = functions.run_head(hidden_TD, norm_D, head_VD, 1e-5)
        assert logits_TV.dtype == torch.float32
        torch.testing.assert_close(logits_TV, run_head(hidden_TD, norm_D, head_VD, 1e-5))
    assert backend.compiled == expected
