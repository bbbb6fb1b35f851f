"""Compiled functions: of more models and lengths than torch keeps variants of, too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from specbench_s2d.models.engines import compiled
from specbench_s2d.models.engines.compiled import compiled_functions
from specbench_s2d.models.engines.layer import run_head
from tests.models.captured import CountingBackend


@pytest.fixture(autouse=True)
def few_variants(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if torch kept two."""
    monkeypatch.setattr(compiled, "_MOST_VARIANTS", 2)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def test_models_of_more_sizes_than_torch_keeps_variants_of_are_compiled_all_the_same() -> None:
    backend = CountingBackend()
    for engine in range(2):  # the second one finds the limit reached
        functions = compiled_functions(backend)
        for width in range(8, 13):
            hidden_TD, norm_D, head_VD = torch.rand(4, width), torch.rand(width), torch.rand(11, width)
            logits_TV = functions.run_head(hidden_TD, norm_D, head_VD, 1e-5)
            torch.testing.assert_close(logits_TV, run_head(hidden_TD, norm_D, head_VD, 1e-5))
        assert backend.compiled >= 5 * (engine + 1) - 2, "nothing runs uncompiled"


def test_what_raises_in_a_compiled_function_is_raised() -> None:
    functions = compiled_functions(CountingBackend())
    with pytest.raises(Exception, match=r"mat1|shapes|size|reduction"):
        functions.run_head(torch.rand(4, 8), torch.rand(8), torch.rand(11, 9), 1e-5)
