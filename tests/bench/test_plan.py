"""The plan: which cells a run has, in which order, and what it refuses before anything is loaded."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from specbench_s2d.bench.plan import Plan, make_plan
from specbench_s2d.bench.preflight import check, set_up
from specbench_s2d.config import RunSpec
from specbench_s2d.errors import ModelError, UserError
from specbench_s2d.models.resolve import resolve_model
from specbench_s2d.models.token_ranking import RANKING_FILE, write_ranking
from specbench_s2d.runs.folder import read_manifest, read_records
from tests.documents import DEMO_RUN, OLD_RUN
from tests.refusals import refused
from tests.tiny_run import plan_of, tiny_spec


@pytest.fixture
def spec(tiny_models: Path) -> dict[str, Any]:
    grid = {"suite": ["qa", "mt_bench"], "limit": 3, "repeats": 2}
    return tiny_spec(tiny_models, ["ar,sd", "sd:gamma=3"], **grid, max_new_tokens=None, energy=None)


def drafts_of(plan: Plan) -> list[str | None]:
    """The draft of each lane of the run's first target."""
    return [lane.draft for lane in plan.lanes[plan.spec.target[0]]]


def keys(plan: Plan) -> list[str]:
    found = []
    for target in plan.spec.target:
        for asked in plan.rounds(target):
            found += [cell.key for cells in asked.conversations for cell in cells]
    return found


def test_a_tokenizer_of_more_ids_than_the_model_has_is_refused(tiny_models: Path, tmp_path: Path) -> None:
    """Its ids would be read beyond the embedding."""
    model = Path(shutil.copytree(tiny_models / "tiny-target", tmp_path / "small"))
    weights = load_file(model / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = weights[name][:300].clone()
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "vocab_size": 300}))
    plan = make_plan(RunSpec(target=[str(model)], decoder=["ar"], questions="embedded", device="cpu"))
    with refused(ModelError, "small: its tokenizer encodes question", "ids 0 to 299", "give the tokenizer"):
        set_up(plan, str(model))


@pytest.mark.parametrize(
    ("capability", "used", "given", "lines"),
    [
        ((8, 0), "bfloat16", None, 0),
        ((7, 0), "float16", None, 1),
        ((7, 0), "bfloat16", "bfloat16", 0),
    ],
)
def test_a_gpu_without_bfloat16_gets_float16_and_it_is_said(
    spec: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int],
    used: str,
    given: str | None,
    lines: int,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100")
    plan = plan_of(spec, device="cuda", dtype=given)
    why = "the default on Tesla V100, of compute capability 7.0: bfloat16 takes 8.0 (Ampere) or newer"
    assert plan.spec.dtype == used
    assert [line for line in plan.said if "float16" in line] == [f"float16 is {why}."] * lines
    dtype = plan.manifest("run", {})["dtype"]
    assert dtype["used"] == used
    assert dtype["default"]["name"] == ("float16" if capability < (8, 0) else "bfloat16")
    assert (dtype["default"]["reason"] == why) == (capability < (8, 0))
    assert plan_of(plan.spec.model_dump()).manifest("run", {})["dtype"] == dtype, "of a worker's own plan, too"


def test_every_cell_occurs_once_and_has_its_own_key(spec: dict[str, Any]) -> None:
    plan = plan_of(spec)
    # 3 lanes x 2 repeats x (3 qa questions of 1 turn + 3 mt_bench questions of 2 turns)
    assert plan.cells == 3 * 2 * (3 + 6) == len(set(keys(plan))) == len(keys(plan))


@pytest.mark.parametrize("folder", [OLD_RUN, DEMO_RUN], ids=["of release 0.1.0", "the baseline"])
def test_a_committed_run_is_still_the_same_run(folder: Path) -> None:
    """Else nobody could go on with an older folder, nor pair its records with new ones."""
    manifest, records = read_manifest(folder), read_records(folder)
    plan = replace(make_plan(RunSpec(**manifest["spec"])), key_schema=manifest["schema_version"])
    assert json.loads(json.dumps(plan.identity())) == manifest["identity"]
    launches = range(plan.spec.launches)
    assert {key for n in launches for key in keys(replace(plan, launch=n))} == {r.key for r in records}


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"max_new_tokens": 7},
        {"temperature": 1.0},
        {"ignore_eos": True},
        {"dtype": "bfloat16"},
        {"template": "plain"},
    ],
)
def test_whatever_changes_a_cell_changes_its_key(spec: dict[str, Any], change: dict[str, Any]) -> None:
    assert not set(keys(plan_of(spec))) & set(keys(plan_of(spec, **change)))


def test_adding_a_decoder_or_a_repeat_keeps_the_keys_of_the_rest(spec: dict[str, Any]) -> None:
    fewer = plan_of(spec, decoder=["ar"], repeats=1)
    assert set(keys(fewer)) < set(keys(plan_of(spec)))


def test_every_decoder_stands_once_at_every_place_in_as_many_rounds_as_there_are_decoders(spec: dict[str, Any]) -> None:
    """What a place in the round costs or gives falls on all alike."""
    plan = plan_of(spec, decoder=["ar", "sd", "sd:gamma=3"], repeats=6)
    orders = [list(asked.labels) for asked in plan.rounds(spec["target"][0])]
    for start in range(0, len(orders) - len(orders) % 3, 3):
        for place in range(3):
            assert len({order[place] for order in orders[start : start + 3]}) == 3


def test_the_order_of_decoders_is_drawn_and_repeatable(spec: dict[str, Any]) -> None:
    target = spec["target"][0]

    def orders(plan: Plan) -> list[tuple[str, ...]]:
        return [tuple(asked.labels) for asked in plan.rounds(target)]

    assert orders(plan_of(spec)) == orders(plan_of(spec))
    assert len(set(orders(plan_of(spec, repeats=8)))) > 3
    firsts = Counter(order[0] for order in orders(plan_of(spec, repeats=60)))
    assert min(firsts.values()) > 0.2 * sum(firsts.values())  # of three decoders, each leads about a third


def test_where_turns_replay_ar_ar_goes_first(spec: dict[str, Any]) -> None:
    plan = plan_of(spec, replay_turns="ar", repeats=5)
    assert all(asked.labels[0] == "ar" for asked in plan.rounds(spec["target"][0]))


def test_a_decoder_takes_its_own_draft_or_the_runs_first_plain_one(spec: dict[str, Any], tiny_models: Path) -> None:
    plan = plan_of(
        spec, decoder=["sd", f"sd:draft={tiny_models / 'tiny-target'}"], target=[str(tiny_models / "tiny-other")]
    )
    assert drafts_of(plan) == [str(tiny_models / "tiny-draft"), str(tiny_models / "tiny-target")]


def test_a_decoder_takes_the_runs_first_draft_of_its_kind(spec: dict[str, Any], tiny_models: Path) -> None:
    plain, nested = (str(tiny_models / name) for name in ("tiny-draft", "tiny-nested"))
    decoders = ["sd", "s2d", "s2d-tree", "s2d-auto", "sd:exit=2"]
    for drafts in ([plain, nested], [nested, plain]):
        plan = plan_of(spec, draft=drafts, decoder=decoders)
        assert drafts_of(plan) == [plain, nested, nested, nested, nested]


def test_where_there_is_but_one_draft_plain_decoders_take_it_as_it_is(spec: dict[str, Any], tiny_models: Path) -> None:
    plain, nested = (str(tiny_models / name) for name in ("tiny-draft", "tiny-nested"))
    assert drafts_of(plan_of(spec, draft=[nested], decoder=["sd", "s2d"])) == [nested, nested]
    assert drafts_of(plan_of(spec, draft=[plain], decoder=["sd:exit=2"])) == [plain]


BAD = {
    "no nested draft": ({"decoder": ["s2d"]}, "decoder 's2d' needs a nested draft, and the run has only"),
    "no draft": ({"draft": []}, "decoder 'sd' needs a plain draft, and the run has none; give --draft NAME"),
    "unknown suite": ({"suite": ["transaltion"]}, "unknown suite 'transaltion'. Did you mean 'translation'"),
    "unknown decoder": ({"decoder": ["s"]}, "unknown decoder 's'"),
    "unknown target": ({"target": ["demo-xl"]}, "unknown model 'demo-xl'"),
    "unknown question file": ({"questions": "missing.jsonl"}, "missing.jsonl"),
    "replay without ar": ({"decoder": ["sd"], "replay_turns": "ar"}, "add --decoder ar"),
    "no such device": ({"device": "tpu"}, "--device tpu: not a device"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_before_anything_is_loaded(spec: dict[str, Any], case: str) -> None:
    change, message = BAD[case]
    with pytest.raises(UserError) as caught:
        plan_of(spec, **change)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_target_given_twice_and_namesakes_are_refused(
    spec: dict[str, Any], tiny_models: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="given twice"):
        plan_of(spec, target=spec["target"] * 2)
    (tmp_path / "tiny-target").symlink_to(tiny_models / "tiny-draft")
    with pytest.raises(UserError, match="both called 'tiny-target'"):
        plan_of(spec, target=[*spec["target"], f"{tmp_path}/./tiny-target"])


# A draft's small vocabulary


def weights_of(plan: Plan) -> dict[str, str]:
    found: dict[str, str] = plan.identity()["weights"]
    return found


def test_keys_and_identity_depend_on_the_ids_of_a_small_vocabulary(
    spec: dict[str, Any], tiny_models: Path, tmp_path: Path
) -> None:
    """The weights' hash is the same; another ranking of the same ids is another name for the same cells."""
    draft = tmp_path / "tiny-draft"
    shutil.copytree(tiny_models / "tiny-draft", draft)
    given = {"draft": [str(draft)], "decoder": ["sd", "sd:draft_vocabulary=3"]}
    size = resolve_model(str(draft)).vocabulary

    def by_label(counts: list[int]) -> tuple[dict[str, set[str]], dict[str, str]]:
        write_ranking(draft, counts, {})
        os.utime(draft / RANKING_FILE, ns=(1, sum(counts)))
        plan = plan_of(spec, **given)
        cells = [cell for asked in plan.rounds(plan.spec.target[0]) for own in asked.conversations for cell in own]
        return {label: {c.key for c in cells if c.label == label} for label in plan.labels}, weights_of(plan)

    first, weights = by_label([9, 8, 7] + [0] * (size - 3))
    same, same_weights = by_label([1, 2, 4] + [0] * (size - 3))
    other, other_weights = by_label([1, 2, 0, 5] + [0] * (size - 4))
    assert first == same and weights == same_weights
    assert first["sd"] == other["sd"]
    assert not first["sd:draft_vocabulary=3"] & other["sd:draft_vocabulary=3"]
    assert set(weights) == {"tiny-target", "tiny-draft", "tiny-draft draft_vocabulary=3"}
    assert weights["tiny-draft"] == other_weights["tiny-draft"]
    assert weights["tiny-draft draft_vocabulary=3"] != other_weights["tiny-draft draft_vocabulary=3"]
    assert set(weights_of(plan_of(spec))) == {"tiny-target", "tiny-draft"}


@pytest.mark.parametrize(
    ("decoder", "said"),
    [
        ("sd:draft_vocabulary=321", "draft_vocabulary=321: draft tiny-draft has a vocabulary of 320 ids"),
        ("sd:draft=DRAFT,draft_vocabulary=5", "draft_vocabulary=5: draft tiny-target holds no token_ranking.json"),
        ("sd:draft_vocabulary=5,vocabulary_from=nowhere.txt", "vocabulary_from=nowhere.txt: no such file"),
    ],
)
def test_a_small_vocabulary_that_cannot_be_is_refused_before_anything_is_loaded(
    spec: dict[str, Any], tiny_models: Path, decoder: str, said: str
) -> None:
    plan = plan_of(spec, decoder=["ar", decoder.replace("DRAFT", str(tiny_models / "tiny-target"))])
    with refused(UserError, said):
        check(plan)


def test_shards_have_the_cells_of_the_grid_each_once_in_its_order(spec: dict[str, Any], tiny_models: Path) -> None:
    spec |= {
        "target": [str(tiny_models / "tiny-target"), str(tiny_models / "tiny-nested")],
        "draft": [],
        "decoder": ["ar", "lookup"],
    }
    whole = plan_of(spec)
    for of in (2, 3, 5):
        shards = [plan_of(spec, shard=f"{i}/{of}") for i in range(1, of + 1)]
        found = [cell for shard in shards for target in shard.targets for cell in cells_in_order(shard, target)]
        assert sorted(found) == sorted(keys(whole)) and sum(shard.cells for shard in shards) == whole.cells
        for shard in shards:
            assert shard.identity() == whole.identity()
            for target in shard.targets:
                mine = cells_in_order(shard, target)
                assert mine == [key for key in cells_in_order(whole, target) if key in set(mine)]


def cells_in_order(plan: Plan, target: str) -> list[str]:
    return [cell.key for asked in plan.rounds(target) for cells in asked.conversations for cell in cells]


@pytest.mark.parametrize(("changes", "said"), [
    ({"energy_blocks": True, "energy": "auto"}, "--energy-blocks meters whole suites"),
    ({"decoder": ["ar", "recycling:scope=run"], "draft": []}, "recycling:scope=run drafts from earlier questions"),
    ({"decoder": ["ar", "first(suffix|recycling:scope=run)"], "draft": []}, "first(suffix|recycling:scope=run) drafts"),
    ({"shard": "1/100"}, "at most 6 shards"),
])  # fmt: skip
def test_what_needs_the_whole_grid_is_not_cut(spec: dict[str, Any], changes: dict[str, Any], said: str) -> None:
    with refused(UserError, "--shard 1/", said):
        plan_of(spec, **{"shard": "1/2", **changes})
