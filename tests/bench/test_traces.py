"""Scripts from recorded runs and from papers, and a run that follows them: replayed exactly, marked in every record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.bench.plan import Plan, make_plan
from specbench_s2d.bench.runner import execute
from specbench_s2d.bench.traces import PublishedTraces, RecordedTraces, source_for
from specbench_s2d.config import RunSpec
from specbench_s2d.decoding.spec import parse_decoder
from specbench_s2d.errors import UnknownNameError, UserError
from specbench_s2d.runs.folder import read_finished_run, read_manifest
from specbench_s2d.runs.record import Record
from tests.analysis.factory import decoded
from tests.fakes import FakeModel
from tests.tiny_run import tiny_spec

UNSCORED = ("nll_sum", "perplexity", "quality", "divergence", "tie_positions")


def recorded_turn(question: int, suite: str, accepted: list[int], exits: list[int]) -> Record:
    steps = [(2, n, n + 1) for n in accepted]
    return decoded("s2d", question, steps, decode_s=1, suite=suite, draft="d", exit_depths=exits)


TURNS = [
    recorded_turn(1, "qa", [1, 2], [3, 3, 6, 9]),
    recorded_turn(2, "qa", [0], [9, 9]),
    recorded_turn(3, "rag", [2], [6, 6]),
]


def test_a_recorded_turn_scripts_itself() -> None:
    script = RecordedTraces(TURNS, (3, 6, 9)).script(("qa", 1, 1), seed=7)
    assert (script.accepted, script.stages) == ([1, 2], [0, 0, 1, 2])


def test_another_question_follows_its_suite_s_turns_from_one_that_the_seed_names() -> None:
    source = RecordedTraces(TURNS)
    assert [source.script(("qa", 9, 1), seed).accepted for seed in (0, 1)] == [[1, 2, 0], [0, 1, 2]]
    assert source.script(("math", 9, 1), 0).accepted == [1, 2, 0, 2]


def test_exits_of_other_depths_go_by_rank() -> None:
    assert RecordedTraces(TURNS, (2, 4, 5)).script(("qa", 1, 1), 0).stages == [0, 0, 1, 2]
    with pytest.raises(UserError, match=r"leaves at 3 depths; the draft has 2 exits \(2, 4\)"):
        RecordedTraces(TURNS, (2, 4))


def test_published_figures_are_drawn_with_the_cell_s_seed_and_every_exit_alike() -> None:
    decoder = parse_decoder("sorted-scripted+scripted:acceptance=published:s2d")
    source = source_for(decoder, "shape:vicuna-7b", FakeModel(exits=(1, 2, 3)))
    assert isinstance(source, PublishedTraces)
    script = source.script(("mt_bench", 1, 0), seed=5)
    assert sum(min(n, 5) + 1 for n in script.accepted) / len(script.accepted) == pytest.approx(2.86, rel=0.05)
    assert [script.stages.count(stage) / len(script.stages) for stage in range(3)] == pytest.approx([1 / 3] * 3, 0.1)
    assert source.script(("mt_bench", 1, 0), seed=5) == script


@pytest.fixture(scope="module")
def spec(tiny_models: Path) -> dict[str, Any]:
    return tiny_spec(tiny_models, ["ar"], draft=["tiny-draft", "tiny-nested"], max_new_tokens=12)


@pytest.fixture(scope="module")
def run(spec: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recorded run of sd and s2d."""
    folder = tmp_path_factory.mktemp("runs") / "recorded"
    execute(plan_of(spec, "sd:gamma=3", "s2d:gamma=3"), folder)
    return folder


def plan_of(spec: dict[str, Any], *decoders: str) -> Plan:
    return make_plan(RunSpec(**{**spec, "decoder": ["ar", *decoders]}))


def test_a_scripted_run_takes_the_recorded_steps_and_is_marked(spec: dict[str, Any], run: Path, tmp_path: Path) -> None:
    sd, s2d = f"sd+scripted:gamma=3,acceptance={run}", f"sorted-scripted+scripted:gamma=3,acceptance={run}"
    outcome = execute(plan_of(spec, sd, s2d), tmp_path / "scripted")
    recorded = {(r.label.partition(":")[0], r.question_id, r.turn): r for r in read_finished_run(run)}
    for record in (r for r in outcome.records if r.label != "ar"):
        original = recorded["sd" if record.decoder.startswith("sd") else "s2d", record.question_id, record.turn]
        steps = min(len(record.accepted_per_step or []), len(original.accepted_per_step or []))
        assert (record.accepted_per_step or [])[:steps] == (original.accepted_per_step or [])[:steps]
        assert record.projected and record.projected.endswith("scripted acceptances")
        assert all(getattr(record, name) is None for name in UNSCORED)
        assert {record.reasons[name] for name in UNSCORED} == {f"projected: {record.projected}"}
    measured = [r for r in outcome.records if r.label == "ar"]
    assert all(r.projected is None and r.perplexity for r in measured)
    assert not outcome.mismatched and not outcome.failed
    scripts = read_manifest(tmp_path / "scripted")["targets"]["tiny-target"]["scripts"]
    assert {facts["label"] for facts in scripts.values()} == {"sd:gamma=3", "s2d:gamma=3"}


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        ("sd+scripted", "needs a script; give sd\\+scripted:acceptance=RUN"),
        ("sd+scripted:acceptance=nowhere", "acceptance nowhere: no recorded run there"),
        ("sd+scripted:acceptance=RUN,label=s2d", "unknown label of .*Known: s2d:gamma=3, sd:gamma=3"),
        ("beam+scripted:acceptance=RUN", "no label with the drafter of .* name one with label="),
        ("sd+scripted:acceptance=published:s2d", "no mean accepted tokens for target tiny-target"),
        ("sorted-scripted+scripted:acceptance=RUN,label=sd:gamma=3", "has no exits to script"),
    ],
)
def test_what_cannot_be_scripted_is_refused_before_anything_is_loaded(
    spec: dict[str, Any], run: Path, tmp_path: Path, decoder: str, message: str
) -> None:
    with pytest.raises((UserError, UnknownNameError), match=message):
        execute(plan_of(spec, decoder.replace("RUN", str(run))), tmp_path / "x")
    assert not (tmp_path / "x").exists()
