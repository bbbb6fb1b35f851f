"""Which draft serves which target: names for all, `TARGET=DRAFT` for one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.bench.drafts import drafts_of, narrowed, split_pair, with_full_names
from specbench_s2d.bench.plan import Plan, make_plan
from specbench_s2d.bench.preflight import set_up
from specbench_s2d.config import RunSpec
from specbench_s2d.errors import UserError
from specbench_s2d.models.named import SMOLLM2_DRAFT
from tests.refusals import refused

OPT, LLAMA = "facebook/opt-13b", "meta-llama/Llama-2-13b-hf"


@pytest.fixture
def families(tiny_models: Path, tiny_opt: Path) -> dict[str, Any]:
    """Two targets that share no vocabulary, each with a draft of its own."""
    llama, opt = str(tiny_models / "tiny-target"), str(tiny_opt / "tiny-opt")
    return {
        "target": [llama, opt],
        "draft": [f"{llama}={tiny_models / 'tiny-draft'}", f"{opt}={tiny_opt / 'tiny-opt-draft'}"],
        "decoder": ["ar", "sd"],
        "suite": ["qa"],
        "questions": "embedded",
        "limit": 1,
        "device": "cpu",
    }


def plan_of(spec: dict[str, Any], **changes: Any) -> Plan:
    return make_plan(RunSpec(**{**spec, **changes}))


def names(plan: Plan) -> dict[str, list[str | None]]:
    return {Path(t).name: [lane.draft and Path(lane.draft).name for lane in lanes] for t, lanes in plan.lanes.items()}


@pytest.mark.parametrize(
    ("entry", "targets", "expected"),
    [
        (f"{OPT}=facebook/opt-125m", [OPT, LLAMA], (OPT, "facebook/opt-125m")),
        ("facebook/opt-125m", [OPT], (None, "facebook/opt-125m")),
        ("runs/a=b=draft", ["runs/a=b"], ("runs/a=b", "draft")),
        ("t=lr=3e-5", ["t"], ("t", "lr=3e-5")),
        (f"{OPT}=facebook/opt-125m", [f"{OPT}@refs/pr/7"], (OPT, "facebook/opt-125m")),
    ],
    ids=["a pair", "for all", "a target with a sign in its name", "a draft with one", "a target at a revision"],
)
def test_an_entry_is_a_pair_where_a_target_stands_before_the_sign(
    entry: str, targets: list[str], expected: tuple[str | None, str]
) -> None:
    assert split_pair(entry, targets) == expected


def test_without_a_draft_a_named_model_takes_the_one_that_ships(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specbench_s2d.models.named.shipped_drafts", lambda: [SMOLLM2_DRAFT])
    named = RunSpec(target=["smollm2-135m", OPT])
    assert [drafts_of(target, named) for target in named.target] == [[SMOLLM2_DRAFT], []]
    assert drafts_of("smollm2-135m", named.model_copy(update={"draft": ["other"]})) == ["other"]


def test_a_folder_whose_name_holds_the_sign_is_a_draft_for_all(tmp_path: Path) -> None:
    (tmp_path / "lr=3e-5").mkdir()
    assert split_pair(str(tmp_path / "lr=3e-5"), [OPT]) == (None, str(tmp_path / "lr=3e-5"))


def test_a_targets_own_pair_goes_before_what_serves_all() -> None:
    spec = RunSpec(target=[OPT, LLAMA], draft=["general", f"{OPT}=own"])
    assert drafts_of(OPT, spec) == ["own", "general"]
    assert drafts_of(LLAMA, spec) == ["general"]


def test_a_pair_serves_its_target_at_any_revision() -> None:
    spec = RunSpec(target=[f"{OPT}@refs/pr/7"], draft=[f"{OPT}=own"])
    assert drafts_of(f"{OPT}@refs/pr/7", spec) == ["own"]
    flags = narrowed(Path("papers/mjsd"), {"target": [f"{OPT}@refs/pr/7"]})
    assert flags["draft"] == [f"{OPT}=facebook/opt-125m"]


def test_models_and_a_template_are_named_in_full_however_they_are_written() -> None:
    """So that the run is the same one, and its labels and keys."""
    spec = RunSpec(
        target=["Demo_S", "demol"],
        draft=["demo_s=Demo Draft", "demo-draft-s", "runs/a=b"],
        decoder=["sd:draft=demo_tiny"],
        template="Llama2",
    )
    full = with_full_names(spec)
    assert (full.target, full.template) == (["demo-s", "demo-l"], "llama-2")
    assert full.draft == ["demo-s=demo-draft", "demo-draft-sft", "runs/a=b"]
    asked: dict[str, Any] = {"suite": ["qa"], "limit": 1, "device": "cpu", "max_new_tokens": 8}
    plan = make_plan(RunSpec(target=["Demo S"], decoder=["sd:draft=demo_tiny"], template="Demo", **asked))
    same = make_plan(RunSpec(target=["demo-s"], decoder=["sd:draft=demo-tiny"], template="demo", **asked))
    assert plan.keys == same.keys and plan.labels == ["sd:draft=demo-tiny"]
    with refused(UserError, "unknown template 'vicuna-v1'. Did you mean 'vicuna'?", "Jinja file"):
        with_full_names(spec.model_copy(update={"template": "vicuna-v1"}))


def test_a_run_files_pairs_are_known_by_any_name_of_their_target(tmp_path: Path) -> None:
    (file := tmp_path / "run.toml").write_text('target = ["demo-s", "demo-m"]\ndraft = ["demo-s=a", "demo-m=b"]\n')
    assert narrowed(file, {"target": ["demo_m"]})["draft"] == ["demo-m=b"]


def test_each_target_gets_the_draft_of_its_pair(families: dict[str, Any]) -> None:
    plan = plan_of(families)
    assert names(plan) == {"tiny-target": [None, "tiny-draft"], "tiny-opt": [None, "tiny-opt-draft"]}
    assert plan.labels == ["ar", "sd"]
    assert plan.identity()["drafts"] == names(plan)
    cells = [
        plan.conversation(t, lane, plan.questions.questions[0], 0)[0]
        for t in plan.spec.target
        for lane in plan.lanes[t]
    ]
    assert [cell.draft for cell in cells] == [None, "tiny-draft", None, "tiny-opt-draft"]
    assert len({cell.key for cell in cells}) == 4


def test_a_decoders_own_draft_serves_every_target(families: dict[str, Any], tiny_models: Path) -> None:
    own = tiny_models / "tiny-draft"
    assert names(plan_of(families, decoder=[f"sd:draft={own}"])) == {"tiny-target": [own.name], "tiny-opt": [own.name]}


def test_a_pair_that_says_what_a_name_says_is_the_same_run(families: dict[str, Any], tiny_models: Path) -> None:
    target, draft = families["target"][0], str(tiny_models / "tiny-draft")
    paired = plan_of(families, target=[target], draft=[f"{target}={draft}"])
    plain = plan_of(families, target=[target], draft=[draft])
    assert paired.identity() == plain.identity()
    question = plain.questions.questions[0]
    lanes = [(plan, lane) for plan in (paired, plain) for lane in plan.lanes[target]]
    assert len({plan.conversation(target, lane, question, 0)[0].key for plan, lane in lanes}) == 2


def test_a_target_without_a_draft_is_named(families: dict[str, Any]) -> None:
    opt = families["target"][1]
    with refused(UserError, "decoder 'sd' needs a plain draft", f"none for {opt};", f"--draft {opt}=NAME"):
        plan_of(families, draft=families["draft"][:1])


@pytest.mark.parametrize("decoder", ["ar", "sd"])
def test_a_pair_for_another_target_is_one_line_whoever_needs_it(families: dict[str, Any], decoder: str) -> None:
    entry = f"{OPT}=facebook/opt-125m"
    with refused(UserError, f"--draft {entry}: '{OPT}' is no target of this run", families["target"][1]):
        plan_of(families, decoder=[decoder], draft=[*families["draft"], entry])
    with refused(UserError, "Did you mean 'demo-s'?"):
        split_pair("demos=demo-draft", ["demo-s", "facebook/opt-13b"])
    with refused(UserError, f"--draft {OPT}=: no draft"):
        split_pair(f"{OPT}=", [OPT])


def test_a_run_files_pairs_go_with_its_targets(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(f'target = ["{OPT}", "{LLAMA}"]\ndraft = ["{OPT}=a", "{LLAMA}=b", "c"]\n')
    assert narrowed(file, {"target": [LLAMA]}) == {"target": [LLAMA], "draft": [f"{LLAMA}=b", "c"]}
    for flags in ({}, {"limit": 3}, {"target": [OPT], "draft": ["d"]}):
        assert narrowed(file, flags) == flags
    assert narrowed(None, {"target": [OPT]}) == {"target": [OPT]}


def test_a_draft_head_is_taken_by_the_decoders_that_read_states_alone(
    families: dict[str, Any], tiny_models: Path, tmp_path: Path
) -> None:
    from tests.models.heads.made import write_head
    from tests.models.heads.medusa_made import write_medusa

    write_head(tiny_models / "tiny-target", tmp_path / "head")
    both = {**families, "target": [str(tiny_models / "tiny-target")], "decoder": ["medusa", "eagle"]}
    heads = [str(tmp_path / "head"), str(write_medusa(tiny_models / "tiny-target", tmp_path / "medusa"))]
    assert names(plan_of(both, draft=heads)) == {"tiny-target": ["medusa", "head"]}
    one = {**families, "target": [str(tiny_models / "tiny-target")], "decoder": ["sd", "eagle", "s2d"]}
    drafts = [str(tmp_path / "head"), str(tiny_models / "tiny-draft"), str(tiny_models / "tiny-nested")]
    assert names(plan_of(one, draft=drafts)) == {"tiny-target": ["tiny-draft", "head", "tiny-nested"]}
    with refused(UserError, "decoder 'sd' needs a plain draft, and the run has only", "head"):
        plan_of(one, draft=drafts[:1])
    with refused(UserError, "decoder 'eagle' needs an eagle draft, and the run has only"):
        plan_of(one, draft=drafts[1:])


def test_medusas_heads_inside_a_model_s_checkpoint_are_refused(
    families: dict[str, Any], tiny_models: Path, tmp_path: Path
) -> None:
    from tests.models.heads.medusa_made import write_medusa

    shutil.copytree(tiny_models / "tiny-draft", tmp_path / "both")
    fields = json.loads((tmp_path / "both" / "config.json").read_text()) | {"medusa_num_heads": 4}
    (tmp_path / "both" / "config.json").write_text(json.dumps(fields))
    one = {**families, "target": [str(tiny_models / "tiny-target")], "decoder": ["medusa"]}
    with refused(UserError, "decoder 'medusa': ", "both is read as a model", "save its tensors medusa_head.*"):
        plan_of(one, draft=[str(tmp_path / "both")])
    heads = str(write_medusa(tiny_models / "tiny-target", tmp_path / "medusa"))
    longer = plan_of({**one, "decoder": ["medusa:gamma=5"]}, draft=[heads])
    with refused(UserError, "medusa:gamma=5: medusa has 4 heads"):
        set_up(longer, longer.spec.target[0])


def test_the_head_that_ships_for_a_target_is_taken_without_a_name() -> None:
    plan = plan_of({"target": ["demo-m"], "decoder": ["ar", "eagle"], "suite": ["qa"], "limit": 1, "device": "cpu"})
    assert names(plan) == {"demo-m": [None, "demo-m-eagle"]}


def test_a_draft_of_another_kind_than_the_head_that_ships_is_said(tiny_models: Path, tmp_path: Path) -> None:
    """One that another decoder uses, and a head that a decoder names, are nothing to say."""
    from tests.models.heads.medusa_made import write_medusa

    medusa = str(write_medusa(tiny_models / "tiny-target", tmp_path / "medusa"))
    given = {"target": ["demo-m"], "suite": ["qa"], "limit": 1, "device": "cpu", "energy": "off"}
    for draft, what in {medusa: "a medusa head", "demo-draft": "a model"}.items():
        (line,) = plan_of(given, decoder=["ar", "eagle"], draft=[draft]).said
        assert line == (
            f"--draft {draft}: no decoder of this run uses it, for it is {what}; eagle takes demo-m-eagle, which ships."
        )
    for decoders in (["ar", "sd", "eagle"], ["ar", "eagle:draft=demo-m-eagle"], ["ar"]):
        assert plan_of(given, decoder=decoders, draft=["demo-draft-sft"]).said == []
