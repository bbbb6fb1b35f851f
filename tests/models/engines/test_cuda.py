"""The graph engine on a CUDA device: the same ids as eager, and no wait for the device in a pass."""

from __future__ import annotations

import pytest
import torch

from specbench_s2d import build_decoder, load_model
from specbench_s2d.models.base import PassKind
from specbench_s2d.models.engines.compiled import VARIABLE
from tests.models.reference import random_tree, tree_mask

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
PROMPT = list(range(20, 60))


@pytest.fixture(params=["0", "1"], ids=["plain", "compiled"])
def compiling(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, request.param)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_passes_equal_the_eager_ones(compiling: None, dtype: str) -> None:
    ours, eager = (load_model("demo-s", "cuda", dtype, engine=engine) for engine in ("cuda-graphs", "eager"))
    parents = random_tree(12)
    mask_TT = tree_mask(parents).cuda()
    ours.reserve(200)
    ours.prepare([PassKind(6), PassKind(12, seen=12)])
    tolerance = 1e-3 if dtype == "float32" else 0.25
    for ids, named in (
        (PROMPT, {}),
        ([7], {}),
        ([1, 2, 3, 4, 5, 6], {}),
        (list(range(12)), {"mask": mask_TT}),
    ):
        ids_BT = torch.tensor([ids], device="cuda")
        torch.testing.assert_close(
            ours.extend(ids_BT, **named), eager.extend(ids_BT, **named), atol=tolerance, rtol=tolerance
        )
    facts = ours.engine_facts
    assert (facts["engine"], facts["unannounced"]) == ("cuda-graphs", 0)
    assert facts["captures"] > 0


@pytest.mark.parametrize(("spec", "draft"), [("ar", None), ("s2d", "demo-draft"), ("s2d-tree", "demo-draft")])
def test_methods_write_the_same(compiling: None, spec: str, draft: str | None) -> None:
    ids = []
    for engine in ("cuda-graphs", "eager"):
        target, own = (load_model(n, "cuda", "float32", engine=engine) if n else None for n in ("demo-s", draft))
        assert target is not None
        ids.append(build_decoder(spec, target, own).generate(PROMPT, 60, ignore_eos=True).ids)
    assert ids[0] == ids[1]


def test_a_pass_does_not_wait_for_the_device() -> None:
    model = load_model("demo-s", "cuda", "bfloat16", engine="cuda-graphs")
    prompt_BT, ids_BT = torch.tensor([PROMPT], device="cuda"), torch.tensor([[5, 6, 7]], device="cuda")
    model.reserve(200)
    model.prepare([PassKind(3), PassKind(3, to_layer=4), PassKind(3, seen=3, to_layer=model.depth)])
    model.prepare([PassKind(3, to_layer=model.depth), PassKind(3, from_layer=model.depth)])
    model.extend(prompt_BT)
    mask_TT = torch.ones(3, 3, dtype=torch.bool, device="cuda").tril()

    def passes() -> None:
        for named in ({}, {"to_layer": 4}, {"mask": mask_TT}):
            model.head(model.extend(ids_BT, **{"to_layer": model.depth, **named}))
            model.rollback(len(PROMPT))

    passes()
    torch.cuda.set_sync_debug_mode("error")
    try:
        passes()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert model.engine_facts["unannounced"] == 0
