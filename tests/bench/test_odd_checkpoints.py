"""Runs of models that are used with a word: what the run says, what the manifest has, and which cells go on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.bench.plan import make_plan
from specbench_s2d.bench.preflight import check, set_up
from specbench_s2d.bench.runner import Event, Outcome, execute
from specbench_s2d.config import RunSpec
from specbench_s2d.errors import PromptTooLongError
from specbench_s2d.models import forward_check
from specbench_s2d.runs.folder import read_manifest
from tests.models.test_tied_head import keep_both, tied
from tests.refusals import refused
from tests.tiny import write_padded
from tests.vicuna import as_safetensors

NEW = 12


def spec_of(target: Path, drafts: list[Path], decoders: tuple[str, ...], **settings: Any) -> RunSpec:
    return RunSpec(
        target=[str(target)], draft=[str(draft) for draft in drafts], decoder=list(decoders), suite=["qa"],
        questions="embedded", limit=1, max_new_tokens=NEW, device="cpu", energy="off",
        **{"ignore_eos": True, **settings},
    )  # fmt: skip


def run(folder: Path, *given: Any, **settings: Any) -> tuple[Outcome, list[str]]:
    """The outcome, and the lines that were said."""
    said: list[str] = []

    def watch(event: Event) -> None:
        said.extend([event.text] if event.text else [])

    return execute(make_plan(spec_of(*given, **settings)), folder, watch), said


def with_context(model: Path, out: Path, context: int) -> Path:
    shutil.copytree(model, out)
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    (out / "config.json").write_text(json.dumps({**config, "max_position_embeddings": context}), encoding="utf-8")
    return out


@pytest.mark.parametrize(("policy", "status", "context"), [("fail", "failed", 20), ("skip", "skipped", 2)])
def test_a_draft_with_a_short_context_takes_only_its_own_cells_with_it(
    policy: str, status: str, context: int, tiny_models: Path, tmp_path: Path
) -> None:
    short = with_context(tiny_models / "tiny-draft", tmp_path / "short", context)
    target, nested = tiny_models / "tiny-target", tiny_models / "tiny-nested"
    outcome, _ = run(tmp_path / "run", target, [short, nested], ("ar", "sd", "s2d", "mjgd"), long_prompts=policy)
    records = {record.label: record for record in outcome.records}
    assert [records[label].status for label in ("ar", "s2d", "mjgd")] == ["ok"] * 3
    assert records["sd"].status == status
    assert f"the context of draft short holds {context}" in (records["sd"].error or "")


def test_a_prompt_that_no_decoder_can_take_is_refused_by_the_model_it_is_too_long_for(
    tiny_models: Path, tmp_path: Path
) -> None:
    short = with_context(tiny_models / "tiny-draft", tmp_path / "short", 20)
    target = tiny_models / "tiny-target"
    with refused(PromptTooLongError, "question ", "the context of draft short holds 20"):
        check(make_plan(spec_of(target, [short], ("sd", "mjsd"))))
    small = with_context(target, tmp_path / "small", 20)
    with refused(PromptTooLongError, "question ", "the context of target small holds 20"):
        check(make_plan(spec_of(small, [tiny_models / "tiny-draft"], ("ar", "sd"))))


def test_truncation_gives_all_decoders_the_prompt_that_the_shortest_context_takes(
    tiny_models: Path, tmp_path: Path
) -> None:
    short = with_context(tiny_models / "tiny-draft", tmp_path / "short", 40)
    outcome, _ = run(tmp_path / "run", tiny_models / "tiny-target", [short], ("ar", "sd"), long_prompts="truncate")
    assert {(record.status, record.prompt_tokens) for record in outcome.records} == {("ok", 40 - NEW)}
    assert len({record.prompt_hash for record in outcome.records}) == 1


def test_a_run_says_what_is_odd_and_its_manifest_keeps_it(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tied(tiny_models / "tiny-target", tmp_path / "granite-like", keep_both, as_safetensors)
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    (target / "config.json").write_text(json.dumps({**config, "eos_token_id": [999]}), encoding="utf-8")
    draft = write_padded(tiny_models / "tiny-draft", tmp_path / "padded", 19)
    monkeypatch.setattr(forward_check, "UNASKED_PARAMETERS", 10**9)
    outcome, said = run(tmp_path / "run", target, [draft], ("ar", "sd"), ignore_eos=False)
    assert outcome.failed == outcome.mismatched == 0
    assert sum("ties its head" in line for line in said) == sum("EOS 999" in line for line in said) == 1
    facts = read_manifest(tmp_path / "run")["targets"]["granite-like"]["checkpoints"]
    assert facts["granite-like"]["head"].startswith("lm_head.weight")
    assert facts["granite-like"]["eos_ids_outside"] == [999] and facts["padded"]["padding_rows"] == 19
    for name in ("granite-like", "padded"):
        assert facts[name]["forward_check"]["checked"]
        assert facts[name]["forward_check"]["largest_difference"] < facts[name]["forward_check"]["bound"]


def test_a_check_that_is_asked_for_is_in_the_manifest_and_in_no_key(tiny_models: Path, tmp_path: Path) -> None:
    given = tiny_models / "tiny-target", [], ("ar",)
    plain, asked = (make_plan(spec_of(*given, verify_forward=verify)) for verify in (False, True))
    assert plain.keys == asked.keys and plain.identity() == asked.identity()
    memory = [set_up(plan, str(given[0])).memory[0] for plan in (plain, asked)]
    assert memory[0].loading_bytes < memory[0].weights_bytes < memory[1].loading_bytes
    execute(asked, tmp_path / "run")
    facts = read_manifest(tmp_path / "run")["targets"]["tiny-target"]["checkpoints"]
    assert facts["tiny-target"]["forward_check"]["positions"] == 16
