"""What is checked before anything is loaded: options of decoders that no run has use for."""

from __future__ import annotations

from pathlib import Path

import pytest

from specbench_s2d.bench.plan import make_plan
from specbench_s2d.bench.preflight import set_up
from specbench_s2d.config import RunSpec
from specbench_s2d.errors import UserError
from tests.refusals import refused


@pytest.mark.parametrize(
    ("decoder", "said"),
    [
        ("sd:gamma=100000", "drafts of 100,000 tokens; with --max-new-tokens 16 none above 96 is of use"),
        ("s2d:gamma=97", "drafts of 97 tokens"),
        (
            "mjsd:beams=100000",
            "its trees or beams take 300,000 positions of tiny-nested, whose cache has at most 4,192",
        ),
        ("s2d-tree:depth=100000", "its trees or beams take 1,000,0"),
        ("mjgd:k=100000", "its trees or beams take 799,992 positions of tiny-target"),
    ],
)
def test_options_beyond_all_use_are_refused_before_weights_load(decoder: str, said: str, tiny_models: Path) -> None:
    given = {"target": [str(tiny_models / "tiny-target")], "draft": [str(tiny_models / "tiny-nested")], "limit": 1,
             "suite": ["qa"], "questions": "embedded", "max_new_tokens": 16, "device": "cpu"}  # fmt: skip
    plan = make_plan(RunSpec(**given, decoder=["ar", decoder]))
    with refused(UserError, f"decoder '{decoder}': ", said, "give smaller options"):
        set_up(plan, plan.spec.target[0])


@pytest.mark.parametrize("decoder", ["sd:gamma=96", "s2d:gamma=heuristic", "mjsd:beams=500", "s2d-tree:tokens=500"])
def test_options_that_can_be_of_use_are_taken(decoder: str, tiny_models: Path) -> None:
    given = {"target": [str(tiny_models / "tiny-target")], "draft": [str(tiny_models / "tiny-nested")], "limit": 1,
             "suite": ["qa"], "questions": "embedded", "max_new_tokens": 16, "device": "cpu"}  # fmt: skip
    plan = make_plan(RunSpec(**given, decoder=["ar", decoder]))
    assert set_up(plan, plan.spec.target[0]).faults == {}
