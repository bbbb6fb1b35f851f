"""A run over graphs: room first, each graph captured once, nothing captured in a timed window or for a score."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from specbench_s2d.bench.grader import Grader
from specbench_s2d.bench.phase_timer import PhaseTimer
from specbench_s2d.bench.plan import Plan
from specbench_s2d.bench.preflight import set_up
from specbench_s2d.bench.runner import execute
from specbench_s2d.bench.session import Session
from specbench_s2d.models import cache
from specbench_s2d.models.engines import cuda_graphs as graphs
from specbench_s2d.models.graph_memory import GraphNeeds
from specbench_s2d.runs.folder import read_manifest
from tests.analysis.factory import make_record
from tests.models.captured import RerunningCapture, graph_engine
from tests.tiny_run import tiny_plan

DECODERS = ["ar", "sd:gamma=heuristic", "s2d:thresholds=0.4+0.4+0", "s2d-tree", "s2d-auto", "mjgd", "mjsd:candidates=4"]


@pytest.fixture
def captures() -> Iterator[list[RerunningCapture]]:
    """One for each model that is loaded, the target first; two lengths of a cache that grows in small steps."""
    found: list[RerunningCapture] = []

    def engine(*_: object) -> object:
        found.append(RerunningCapture())
        return graph_engine(found[-1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("specbench_s2d.models.load.choose_engine", engine)
        patch.setattr(cache, "_GROWTH", 8)
        patch.setattr(graphs, "buckets", lambda capacity: (capacity // 2, capacity))
        yield found


def plan_of(tiny_models: Path, tokens: int) -> Plan:
    drafts = ["tiny-draft", "tiny-nested"]
    return tiny_plan(tiny_models, DECODERS, draft=drafts, max_new_tokens=tokens, ignore_eos=True)


@pytest.mark.parametrize("tokens", [5, 40])
def test_a_session_captures_each_shape_once_and_scoring_none(
    tokens: int, tiny_models: Path, captures: list[RerunningCapture]
) -> None:
    plan = plan_of(tiny_models, tokens)
    (target,) = plan.spec.target
    session = Session(plan, set_up(plan, target), PhaseTimer())
    grader = Grader(session.target, session.noise, plan.scorer, sampled=False)
    ready = [capture.recorded for capture in captures]
    assert len(ready) == 3 and all(ready)
    engines = list(session.facts()["engines"].values())
    assert [engine["captures"] for engine in engines] == [engine["graphs"] for engine in engines] == ready
    asked = [kind for lane in plan.lanes[target] for kind in lane.decoder.kind.target_passes(lane.decoder.options)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("specbench_s2d.models.graph_memory.buckets", graphs.buckets)
        assert ready[0] == GraphNeeds.of(asked, session.target.depth).count(engines[0]["buckets"][-1])
    cells = [conversation[0] for asked in plan.rounds(target) for conversation in asked.conversations]
    assert len(cells) == 2 * len(DECODERS)
    for cell in cells:
        prompt = session.prompts.lay_out(cell.question, [])
        decoded = session.decode(cell, prompt)
        assert decoded["new_tokens"] == tokens
        repeated = captures[0].repeated
        record = make_record(cell.lane.label, lossy=cell.lane.decoder.kind.lossy, **decoded)
        assert grader.grade(record, prompt, cell.question, None).nll_sum is not None
        assert captures[0].repeated == repeated, "a score came from graphs"
    assert session.unprepared == {"captures": 0, "unannounced": 0}
    assert [capture.recorded for capture in captures] == ready


def test_a_whole_run_over_graphs_raises_no_alarm(
    tiny_models: Path, captures: list[RerunningCapture], tmp_path: Path
) -> None:
    outcome = execute(plan_of(tiny_models, 30), tmp_path / "run")
    assert (outcome.failed, outcome.mismatched) == (0, 0)
    conditions = read_manifest(tmp_path / "run")["conditions"]
    assert [found for found in conditions if found["about"] == "the engine"] == []
    assert len(captures) == 3
