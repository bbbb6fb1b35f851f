"""Memory of a run: target and drafts together, refused before anything is loaded or written; several GPUs as one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from specbench_s2d.bench.memory import plans_together
from specbench_s2d.bench.phase_timer import PhaseTimer
from specbench_s2d.bench.plan import Plan, make_plan
from specbench_s2d.bench.preflight import set_up
from specbench_s2d.bench.runner import execute
from specbench_s2d.bench.session import Session
from specbench_s2d.config import RunSpec
from specbench_s2d.decoding.suffix_index import BYTES_PER_TOKEN
from specbench_s2d.errors import ModelError
from specbench_s2d.models import devices
from specbench_s2d.models.resolve import ResolvedModel, resolve_model
from tests.bench.sessions import never
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
    return set_up(plan, plan.spec.target[0]).memory[0].cache_bytes // (2 * 32 * 4096 * 2)  # a position's, in bfloat16


def test_target_and_drafts_stand_with_each_other() -> None:
    plan = plan_of()
    plans = set_up(plan, "shape:vicuna-7b").memory
    assert [one.name for one in plans] == ["shape:vicuna-7b", "shape:vicuna-68m", "shape:s2d-draft"]
    assert all(one.cache_bytes > 0 and one.graphs_bytes == 0 for one in plans)


def test_the_heads_of_small_vocabularies_are_counted_once_for_each_draft() -> None:
    """Width 4,096 and 768, float32 on a CPU: two decoders of one vocabulary share a head."""
    sizes = [f"s2d:draft_vocabulary={size}" for size in (1000, 3000)]
    plans = [
        set_up(plan_of(decoder=decoders), "shape:vicuna-7b").memory
        for decoders in (["sd", "s2d"], ["sd:draft_vocabulary=500", "s2d", *sizes, "s2d-auto:draft_vocabulary=1000"])
    ]
    more = [with_it.total_bytes - without.total_bytes for without, with_it in zip(*plans, strict=True)]
    assert more == [0, 500 * 768 * 4, 4000 * 4096 * 4]
    assert [b.buffers_bytes - a.buffers_bytes for a, b in zip(*plans, strict=True)] == more


def test_the_cache_is_for_the_longest_sequence_that_the_questions_can_lead_to() -> None:
    """A second turn's prompt holds the first answer, which may be as long as the tokens asked for."""
    assert cache_positions(plan_of()) == 512
    assert cache_positions(plan_of(max_new_tokens=600)) == 1024
    assert cache_positions(plan_of(suite=["mt_bench"], max_new_tokens=500)) == 1536
    assert cache_positions(plan_of(max_new_tokens=10_000)) == 4096  # AR has all of the target's context
    # Cut prompts fit the shortest draft's; a proposal may take up more beyond them in the target's longer context.
    assert cache_positions(plan_of(max_new_tokens=10_000, long_prompts="truncate")) == 2048 + 512


def test_a_run_that_cannot_fit_is_refused_with_figures_and_leaves_nothing(tmp_path: Path) -> None:
    """Each of the models would fit alone; together they do not."""

    def free(device: str) -> int:
        return 15_000_000_000

    with refused(
        ModelError, "--device cpu: 15.0 GB are free", "shape:vicuna-7b", "shape:vicuna-68m", "shape:s2d-draft"
    ):
        execute(plan_of(), tmp_path / "run", open_session=never, free=free)
    assert not (tmp_path / "run").exists()
    alone = plan_of(decoder=["ar"])
    set_up(alone, "shape:vicuna-7b", free).check_fits("cpu")


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_gpus", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))


def test_over_several_gpus_the_target_is_spread_and_drafts_are_on_the_first(two_gpus: None, tiny_models: Path) -> None:
    target, draft = str(tiny_models / "tiny-target"), str(tiny_models / "tiny-nested")
    plan = plan_of(target=[target], draft=[draft], decoder=["s2d"], device="auto", dtype=None)
    assert (plan.spec.device, plan.device, plan.spec.dtype) == ("auto", "cuda:0", "bfloat16")
    asked: list[tuple[ResolvedModel, str, dict[int, int] | None]] = []

    def load(
        model: ResolvedModel, device: str, dtype: str, engine: str | None, limits: dict[int, int] | None = None
    ) -> Any:
        asked.append((model, device, limits))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return SimpleNamespace(name=model.name)

    with pytest.raises(KeyboardInterrupt):
        Session(plan, set_up(plan, target, lambda device: 10**9), PhaseTimer(), load=load)
    (name, device, limits), *others = asked
    assert (name, device, others) == (plan.models[target], "auto", [(plan.models[draft], "cuda:0", None)])
    assert limits is not None and limits[0] > 0 and limits[1] > 0


def test_a_shape_cannot_be_spread(two_gpus: None) -> None:
    with refused(ModelError, "shape:vicuna-7b", "--device cuda"):
        plan_of(device="auto")


def test_a_draft_takes_its_room_from_the_first_gpu_alone(two_gpus: None, tiny_models: Path) -> None:
    target, draft = str(tiny_models / "tiny-target"), str(tiny_models / "tiny-nested")
    alone, both = (
        plan_of(target=[target], draft=[draft], decoder=decoder, device="auto", dtype=None)
        for decoder in (["ar"], ["ar", "s2d"])
    )
    needed = set_up(both, target).memory[1].total_bytes
    whole = set_up(both, target).memory[0].total_bytes
    free = {"cuda:0": needed + whole // 2, "cuda:1": 4 * whole}
    set_up(both, target, free.__getitem__).check_fits("auto")
    tight = {**free, "cuda:0": needed - 1}
    with refused(ModelError, "--device auto", "too little room on cuda:0", "tiny-nested"):
        set_up(both, target, tight.__getitem__).check_fits("auto")
    set_up(alone, target, tight.__getitem__).check_fits("auto")
    with_draft, without = (set_up(one, target, free.__getitem__).weight_limits("auto") for one in (both, alone))
    assert with_draft and without and with_draft[0] < without[0]
    assert set_up(plan_of(), "shape:vicuna-7b").weight_limits("cpu") is None


def test_graphs_are_planned_where_lean_passes_run_on_a_gpu(tiny_opt: Path) -> None:
    """A target that is spread, and another family, run through transformers' own forward, which has no graphs."""
    names = ("shape:vicuna-7b", "shape:vicuna-68m", str(tiny_opt / "tiny-opt"))
    found = [resolve_model(name) for name in names]

    def graphs(device: str, engine: str | None = None) -> list[int]:
        return [one.graphs for one in plans_together(found, torch.bfloat16, 700, device, engine)]

    on_gpu = graphs("cuda")
    # 1,024 - 64 positions: five lengths, for chains of up to 8 rows; and 9 by which they are tried (see
    # test_graph_memory). The draft's last layer is read with one row, and has no head alone.
    assert on_gpu == [8 * 5 + 9, 5 + 2 * 2 + 9, 0]
    assert graphs("auto") == [0, *on_gpu[1:]]
    assert graphs("cuda", "eager") == graphs("cpu") == [0, 0, 0]


def test_what_a_drafter_indexes_is_counted_on_the_host() -> None:
    """With the models where they are on a CPU; beside them, in the host's own memory, where they are on a GPU."""
    plan = plan_of(decoder=["ar", "suffix"])
    setup = set_up(plan, "shape:vicuna-7b")
    (index,) = setup.indexes
    assert index.name == "suffix (index)"
    assert index.total_bytes == setup.positions * BYTES_PER_TOKEN
    assert setup.plans_on("cpu")[-1] is index and index not in setup.plans_on("cuda:0")
    room = sum(one.total_bytes for one in setup.memory)
    replace(setup, free=lambda device: room + index.total_bytes).check_fits("cpu")
    with refused(ModelError, "--device cpu", "suffix (index)"):
        replace(setup, free=lambda device: room).check_fits("cpu")
    free = {"cuda:0": room, "cpu": index.total_bytes - 1}
    with refused(ModelError, "--device cpu", "suffix (index)"):
        replace(setup, free=free.__getitem__).check_fits("cuda:0")
