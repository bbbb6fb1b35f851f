"""Models whose passes give what is no number: their cells fail, and say which model, and where first.

The weights hold it here, which is the simplest way; such weights are refused when they are loaded (`tests/models/
test_damaged_folders.py`), and that check is left out.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from specbench_s2d.bench.plan import make_plan
from specbench_s2d.bench.runner import execute
from specbench_s2d.config import RunSpec
from specbench_s2d.models import load
from specbench_s2d.models.demo import demo_folder
from specbench_s2d.runs.folder import read_manifest
from specbench_s2d.runs.record import Record

NAN, INF = float("nan"), float("inf")
ALL = slice(None)
WITH_DRAFT = ("sd:gamma=3", "s2d", "s2d-tree:depth=2", "s2d-auto", "mjsd:beams=2")
WITHOUT = ("ar", "mjgd")


@pytest.fixture(autouse=True)
def unchecked_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "check_finite", lambda *_: None)


def planted(model: Path, out: Path, tensor: str, rows: Any, value: float) -> str:
    """A copy of a checkpoint with `value` in some rows of a tensor."""
    shutil.copytree(model, out)
    weights = load_file(out / "model.safetensors")
    weights[tensor][rows] = value
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    return str(out)


def run(folder: Path, target: str, drafts: list[str], decoders: tuple[str, ...], **settings: Any) -> dict[str, Record]:
    """Records by label, of one question."""
    spec = RunSpec(
        target=[target], draft=drafts, decoder=list(decoders), suite=["qa"], questions="embedded", limit=1,
        max_new_tokens=12, ignore_eos=True, device="cpu", energy="off", **settings,
    )  # fmt: skip
    return {record.label: record for record in execute(make_plan(spec), folder).records}


@pytest.fixture(scope="module")
def right(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    """Every decoder with sound models, greedily."""
    drafts = [str(tiny_models / "tiny-draft"), str(tiny_models / "tiny-nested")]
    return run(
        tmp_path_factory.mktemp("runs") / "right", str(tiny_models / "tiny-target"), drafts, WITHOUT + WITH_DRAFT
    )


def test_sound_models_fail_nothing(right: dict[str, Record]) -> None:
    assert {record.status for record in right.values()} == {"ok"}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [NAN, INF])
def test_a_draft_of_which_nothing_is_a_number(
    tiny_models: Path, tmp_path: Path, temperature: float, value: float
) -> None:
    drafts = [
        planted(tiny_models / name, tmp_path / f"{name}-bad", "lm_head.weight", ALL, value)
        for name in ("tiny-draft", "tiny-nested")
    ]
    records = run(
        tmp_path / "run", str(tiny_models / "tiny-target"), drafts, WITHOUT + WITH_DRAFT, temperature=temperature
    )
    assert [records[label].status for label in WITHOUT] == ["ok", "ok"]
    for label in WITH_DRAFT:
        record = records[label]
        name = "tiny-draft-bad" if label.startswith(("sd", "mjsd")) else "tiny-nested-bad"
        assert record.status == "failed"
        assert (record.error or "").startswith(f"draft {name}: logits are not finite numbers, first at position ")
        assert record.perplexity is record.divergence is None


def test_a_draft_that_breaks_at_one_token_is_told_with_the_position_after_it(
    right: dict[str, Record], tiny_models: Path, tmp_path: Path
) -> None:
    """The first draft's logits after that token are no numbers; a tree drafts more than what is emitted."""
    ids = right["ar"].output_ids or []
    token = ids[4]
    assert ids.index(token) == 4
    drafts = [
        planted(tiny_models / name, tmp_path / f"{name}-bad", "model.embed_tokens.weight", token, NAN)
        for name in ("tiny-draft", "tiny-nested")
    ]
    records = run(tmp_path / "run", str(tiny_models / "tiny-target"), drafts, ("ar", "sd:gamma=3", "s2d", "s2d-tree"))
    said = "logits are not finite numbers, first at position"
    assert records["sd:gamma=3"].error == f"draft tiny-draft-bad: {said} 5 of the output"
    assert records["s2d"].error == f"draft tiny-nested-bad: {said} 5 of the output (warming up)"
    assert (records["s2d-tree"].error or "").startswith(f"draft tiny-nested-bad: {said} ")
    assert records["ar"].status == "ok"
    (facts,) = read_manifest(tmp_path / "run")["targets"].values()
    assert set(facts["warm_up"]) == {"ar", "sd:gamma=3"}


def test_a_target_that_breaks_at_one_token_is_told_with_the_position_after_it(
    right: dict[str, Record], tiny_models: Path, tmp_path: Path
) -> None:
    token = (right["ar"].output_ids or [])[4]
    bad = planted(tiny_models / "tiny-target", tmp_path / "bad", "model.embed_tokens.weight", token, NAN)
    drafts = [str(tiny_models / "tiny-draft"), str(tiny_models / "tiny-nested")]
    records = run(tmp_path / "run", bad, drafts, ("ar", "sd:gamma=3", "s2d"))
    errors = {record.error for record in records.values()}
    assert errors == {"target bad: logits are not finite numbers, first at position 5 of the output"}
    assert {record.status for record in records.values()} == {"failed"}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [NAN, INF])
def test_a_target_with_one_logit_that_is_no_number_fails_all_its_cells(
    tiny_models: Path, tmp_path: Path, temperature: float, value: float
) -> None:
    bad = planted(tiny_models / "tiny-target", tmp_path / "bad", "lm_head.weight", 5, value)
    drafts = [str(tiny_models / "tiny-draft"), str(tiny_models / "tiny-nested")]
    records = run(tmp_path / "run", bad, drafts, WITHOUT + WITH_DRAFT, temperature=temperature)
    said = "target bad: logits are not finite numbers, first at position 0 of a warm-up prompt"
    assert {(record.status, record.error) for record in records.values()} == {("failed", said)}
    assert read_manifest(tmp_path / "run")["targets"] == {}, "nothing of it was measured"


@pytest.mark.parametrize("engine", ["native", "eager"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_either_engine_tells_of_target_and_draft(tmp_path: Path, engine: str, temperature: float) -> None:
    bad = {
        name: planted(demo_folder() / name, tmp_path / f"{name}-bad", "model.norm.weight", ALL, NAN)
        for name in ("demo-tiny", "demo-draft-sft")
    }
    settings = {"engine": engine, "temperature": temperature}
    of_draft = run(tmp_path / "draft", "demo-tiny", [bad["demo-draft-sft"]], ("ar", "sd"), **settings)
    assert of_draft["ar"].status == "ok"
    said = "draft demo-draft-sft-bad: logits are not finite numbers, first at position 0 of the output"
    assert (of_draft["sd"].status, of_draft["sd"].error) == ("failed", said)
    of_target = run(tmp_path / "target", bad["demo-tiny"], ["demo-draft-sft"], ("ar", "sd"), **settings)
    said = "target demo-tiny-bad: logits are not finite numbers, first at position 0 of a warm-up prompt"
    assert {(record.status, record.error) for record in of_target.values()} == {("failed", said)}


@pytest.mark.parametrize("settings", [{"top_k": 1}, {"top_p": 1e-8}])
def test_settings_that_are_greedy_in_effect_are_audited(
    right: dict[str, Record], tiny_models: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    drafts = [str(tiny_models / "tiny-draft")]
    decoders = ("ar", "sd:gamma=3")
    records = run(
        tmp_path / "run", str(tiny_models / "tiny-target"), drafts, decoders, temperature=1.0, seed=3, **settings
    )
    for label in decoders:
        assert records[label].output_ids == right[label].output_ids
        assert records[label].divergence == right[label].divergence is not None
