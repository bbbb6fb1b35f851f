"""Keys: whatever changes a cell changes its key, an option at its default does not, and schema 1 keeps its own."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from specbench_s2d.bench import keys
from specbench_s2d.bench.plan import Plan, make_plan
from specbench_s2d.bench.runner import execute
from specbench_s2d.config import RunSpec
from specbench_s2d.decoding.decoder import PairDecoder
from specbench_s2d.decoding.drafters.chain import ChainDrafter
from specbench_s2d.decoding.spec import DecoderSpec, parse_decoder
from specbench_s2d.decoding.speculative import SpeculativeDecoding
from specbench_s2d.decoding.verifiers.token import TokenVerifier
from specbench_s2d.runs.folder import MANIFEST, RECORDS, RunStore, read_manifest, read_records
from specbench_s2d.suites import Question
from tests.documents import OLD_RECORDS, OLD_RUN
from tests.tiny_run import tiny_plan

QUESTION = Question("q-1", "qa", "qa", ("Who?",))
WEIGHTS = {"target": "w" * 64, "draft": "v" * 64}
SETTINGS = keys.settings_of(RunSpec(max_new_tokens=48, device="cpu", dtype="float32"))


def key(decoder: DecoderSpec | str, schema: int = 2, **settings: Any) -> str:
    spec = parse_decoder(decoder) if isinstance(decoder, str) else decoder
    weights = WEIGHTS if spec.kind.draft_kind != "none" else {**WEIGHTS, "draft": None}
    return keys.cell_key(keys.lane_identity({**SETTINGS, **settings}, weights, spec, schema), QUESTION, 0, 1)


# System prompts and arguments of the template


def test_a_system_prompt_or_a_template_argument_changes_the_key() -> None:
    lane = keys.lane_identity(SETTINGS, WEIGHTS, parse_decoder("sd"), 2)
    asked = [QUESTION, replace(QUESTION, system_prompt="Be brief."), replace(QUESTION, metrics=("f1",))]
    plain, brief, scored = (keys.cell_key(lane, question, 0, 1) for question in asked)
    assert plain == scored != brief
    for schema in (1, 2):
        assert key("sd", schema) == key("sd", schema, template_args=[])
        assert key("sd", schema) != key("sd", schema, template_args=["enable_thinking=false"])
    said = keys.identity({**SETTINGS, "template_args": ["a=1"]}, [], 2)["settings"]
    assert said["template_args"] == ["a=1"]
    assert "template_args" not in keys.identity(SETTINGS, [], 2)["settings"]


# A new option, a new version


class Warped(ChainDrafter):
    """The chain drafter of a later release: it has one option more."""

    class Options(ChainDrafter.Options):
        warp: int = 0


class WarpedDecoding(PairDecoder):
    drafter_class = Warped
    verifier_class = TokenVerifier


def later(**options: Any) -> DecoderSpec:
    """`sd` in a release that gave it the option `warp`."""
    return DecoderSpec("sd", WarpedDecoding, WarpedDecoding.Options(**options))


@pytest.mark.parametrize("schema", [1, 2])
def test_a_new_option_at_its_default_changes_no_key_and_another_value_does(schema: int) -> None:
    assert key(later(), schema) == key("sd", schema)
    assert key(later(gamma=3), schema) == key("sd:gamma=3", schema)
    assert key(later(warp=1), schema) != key("sd", schema)


class SecondChain(ChainDrafter):
    version: ClassVar[int] = 2


class SecondVerifier(TokenVerifier):
    version: ClassVar[int] = 2


class NewDrafter(PairDecoder):
    drafter_class = SecondChain
    verifier_class = TokenVerifier


class NewVerifier(PairDecoder):
    drafter_class = ChainDrafter
    verifier_class = SecondVerifier


class NewDecoder(SpeculativeDecoding):
    version: ClassVar[int] = 2


def test_a_raised_version_of_any_part_changes_the_key() -> None:
    specs = [DecoderSpec("sd", kind, kind.Options()) for kind in (NewDecoder, NewDrafter, NewVerifier)]
    assert [spec.versions for spec in specs] == [{"decoder": 2}, {"drafter": 2}, {"verifier": 2}]
    assert len({key(spec) for spec in specs} | {key("sd")}) == 4
    assert keys.identity(SETTINGS, specs[:1], 2)["versions"] == {"sd": {"decoder": 2}}
    assert keys.identity(SETTINGS, [parse_decoder("sd")], 2)["versions"] == {}


@pytest.mark.parametrize("schema", [1, 2])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 1),
        ("top_k", 3),
        ("device", "cuda:0"),
        ("engine", "eager"),
        ("max_new_tokens", 47),
        ("ignore_eos", True),
    ],
)
def test_every_setting_that_is_not_at_its_default_is_in_the_key(name: str, value: Any, schema: int) -> None:
    assert key("sd", schema, **{name: value}) != key("sd", schema)


def test_a_setting_at_its_default_is_as_one_that_there_is_not_yet() -> None:
    before = {name: value for name, value in SETTINGS.items() if name != "replay_turns"}
    assert keys.cell_key(keys.lane_identity(before, WEIGHTS, parse_decoder("sd"), 2), QUESTION, 0, 1) == key("sd")
    assert key("sd", replay_turns="ar") != key("sd")


@pytest.mark.parametrize("schema", [1, 2])
def test_what_the_prepared_engine_is_called_changes_no_key(schema: int) -> None:
    assert key("sd", schema, engine="native") == key("sd", schema, engine="graphs") != key("sd", schema)
    on_gpu = {"device": "cuda:0", "schema": schema}
    assert key("sd", engine="cuda-graphs", **on_gpu) == key("sd", engine="graphs", **on_gpu)


def test_the_seed_of_a_cell_comes_of_the_runs_seed() -> None:
    first, second = (keys.cell_seed(key("sd", seed=seed)) for seed in (0, 1))
    assert first != second and 0 <= first < 2**32


# Schema 1: keys that release 0.1.0 gave to the cell above

SCHEMA_1 = {
    "ar": "2da00c27b9d09eba514455654887253f",
    "mjgd": "12b359923f663a503dd842d63cc7c831",
    "mjsd": "399de833da7f21a9fef3b900c35ec225",
    "s2d": "c934345aae026b2029fd8aa6bd3f546c",
    "s2d-auto": "69f1c3a99e4b3903ff98b25c8c21ceab",
    "s2d-tree": "b2ef27d154ff903c008672c458b6ee10",
    "sd": "34dca5af5e5c23a8c734df6d9a1f781f",
    "beam+token": "777fc4fd3bf1fb257def9ea1cfa79719",
    "s2d+joint": "85549b65b0c6e0f113a9084b8da08253",
    "sd:draft=demo-tiny": "a72241ec4c1cb5a5ec26614a02252f12",
    "sd:gamma=heuristic,sampling=greedy": "8abee0a6ce8f0cb18f843a80bbe57855",
    "s2d-tree:depth=3,topk=4,tokens=20,exits=2+3": "7cb3b3120e83281d569def4b214695ab",
    "sorted-scripted+scripted:acceptance=published:s2d,label=s2d": "cf1e1b69f7a4e452f4e93c89fd4eb009",
}


@pytest.mark.parametrize("decoder", SCHEMA_1)
def test_schema_1_keeps_its_keys(decoder: str) -> None:
    assert key(decoder, schema=1) == SCHEMA_1[decoder]


@pytest.mark.parametrize("engine", ["graphs", "native"])
def test_schema_1_called_the_prepared_engine_graphs(engine: str) -> None:
    assert key("sd", schema=1, engine=engine) == "73945d961889e8e3c9c2ff3468b531e5"


def test_a_committed_run_of_schema_1_is_done_and_nothing_is_decoded(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    shutil.copy(OLD_RUN / MANIFEST, folder)
    lines = gzip.decompress(OLD_RECORDS.read_bytes())
    (folder / RECORDS).write_bytes(lines)
    manifest = read_manifest(folder)
    said: list[str | None] = []
    outcome = execute(make_plan(RunSpec(**manifest["spec"])), folder, lambda event: said.append(event.text))
    assert (manifest["schema_version"], said) == (1, [])
    assert list(outcome.records) == read_records(OLD_RUN)
    assert (folder / RECORDS).read_bytes() == lines
    assert read_manifest(folder) == manifest


@pytest.fixture
def plan(tiny_models: Path) -> Plan:
    return tiny_plan(tiny_models, ["ar", "sd:gamma=3"])


def cells_of(plan: Plan) -> Iterator[str]:
    [target] = plan.spec.target
    for asked in plan.rounds(target):
        yield from (cells[0].key for cells in asked.conversations)


def test_a_folder_of_schema_1_goes_on_under_its_own_keys(plan: Plan, tmp_path: Path) -> None:
    manifest = {**plan.manifest("run", {}), "schema_version": 1}
    del manifest["identity"]["versions"]  # which schema 1 did not have
    with RunStore(tmp_path / "run", manifest):
        pass
    first = execute(plan, tmp_path / "run").records
    assert {record.schema_version for record in first} == {1}
    assert not {record.key for record in first} & set(cells_of(plan))
    lines = (tmp_path / "run" / RECORDS).read_text().splitlines(keepends=True)
    (tmp_path / "run" / RECORDS).write_text("".join(lines[:2]))
    again = execute(plan, tmp_path / "run").records
    assert [record.key for record in again] == [record.key for record in first]
    assert [(r.output_ids, r.seed) for r in again] == [(r.output_ids, r.seed) for r in first]
    assert (tmp_path / "run" / RECORDS).read_text().startswith("".join(lines[:2]))
    assert json.loads((tmp_path / "run" / MANIFEST).read_text())["schema_version"] == 1


def test_a_new_folder_is_of_schema_2(plan: Plan, tmp_path: Path) -> None:
    records = execute(plan, tmp_path / "run").records
    assert {record.schema_version for record in records} == {2}
    assert {record.key for record in records} == set(cells_of(plan))
    assert read_manifest(tmp_path / "run")["schema_version"] == 2
