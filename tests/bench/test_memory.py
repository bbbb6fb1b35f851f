"""Memory of a run: target and drafts together, refused before anything is loaded or written; several GPUs as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.bench import memory as module
from specbench_s2d.bench import session
from specbench_s2d.bench.account import Account
from specbench_s2d.bench.memory import check_memory, memory_plans
from specbench_s2d.bench.plan import Plan, make_plan
from specbench_s2d.bench.runner import execute
from specbench_s2d.bench.session import Session, prompts_for
from specbench_s2d.config import RunSpec
from specbench_s2d.errors import ModelError
from specbench_s2d.models import devices
from tests.refusals import refused

SPEC: dict[str, Any] = {
    "target": ["shape:vicuna-7b"],
    "draft": ["shape:vicuna-68m", "shape:s2d-draft"],
    "decoder": ["ar", "sd", "s2d"],
    "suite": ["qa"],
    "questions": "embedded",
    "limit": 1,
    "max_new_tokens": 16,
    "device": "cpu",
    "dtype": "bfloat16",
    "energy": "off",
}


def plan_of(**changes: Any) -> Plan:
    return make_plan(RunSpec(**{**SPEC, **changes}))


def cache_positions(plan: Plan) -> int:
    (target, *_), prompts = plan.spec.target, prompts_for(plan, plan.spec.target[0])
    return memory_plans(plan, target, prompts)[0].cache_bytes // (2 * 32 * 4096 * 2)  # of one position, in bfloat16


def test_target_and_drafts_stand_with_each_other() -> None:
    plan = plan_of()
    plans = memory_plans(plan, "shape:vicuna-7b", prompts_for(plan, "shape:vicuna-7b"))
    assert [one.name for one in plans] == ["shape:vicuna-7b", "shape:vicuna-68m", "shape:s2d-draft"]
    assert all(one.cache_bytes > 0 and one.graphs_bytes == 0 for one in plans)


def test_the_cache_is_for_the_longest_sequence_that_the_questions_can_lead_to() -> None:
    """A second turn's prompt holds the first answer, which may be as long as the tokens asked for."""
    assert cache_positions(plan_of()) == 512
    assert cache_positions(plan_of(max_new_tokens=600)) == 1024
    assert cache_positions(plan_of(suite=["mt_bench"], max_new_tokens=500)) == 1536
    assert cache_positions(plan_of(max_new_tokens=10_000)) == 2048  # the context that target and drafts share


def test_a_run_that_cannot_fit_is_refused_with_figures_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the models would fit alone; together they do not."""
    monkeypatch.setattr(module, "free_bytes", lambda device: 15_000_000_000)
    monkeypatch.setattr(session, "load_model", lambda *a, **k: pytest.fail("nothing may be loaded"))
    with refused(
        ModelError, "--device cpu: 15.0 GB are free", "shape:vicuna-7b", "shape:vicuna-68m", "shape:s2d-draft"
    ):
        execute(plan_of(), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    alone = plan_of(decoder=["ar"])
    check_memory(alone, "shape:vicuna-7b", prompts_for(alone, "shape:vicuna-7b"))


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_gpus", lambda: 2)


def test_over_several_gpus_the_target_is_spread_and_drafts_are_on_the_first(
    two_gpus: None, tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, draft = str(tiny_models / "tiny-target"), str(tiny_models / "tiny-nested")
    plan = plan_of(target=[target], draft=[draft], decoder=["s2d"], device="auto", dtype=None)
    assert (plan.spec.device, plan.device, plan.spec.dtype) == ("auto", "cuda:0", "bfloat16")
    asked: list[tuple[str, str]] = []

    def load(name: str, device: str, dtype: str, engine: str | None) -> None:
        asked.append((name, device))
        if len(asked) == 2:
            raise InterruptedError

    monkeypatch.setattr(session, "load_model", load)
    with pytest.raises(InterruptedError):
        Session(plan, target, "run", prompts_for(plan, target), 1.0, Account())
    assert asked == [(target, "auto"), (draft, "cuda:0")]


def test_a_shape_cannot_be_spread(two_gpus: None) -> None:
    with refused(ModelError, "shape:vicuna-7b", "--device cuda"):
        plan_of(device="auto")
