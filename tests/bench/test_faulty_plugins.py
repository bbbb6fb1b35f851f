"""Plug-ins that raise or propose what cannot be: their cells fail by name, the others are measured, the run exits 1."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.bench.plan import Plan
from specbench_s2d.bench.runner import execute
from specbench_s2d.bench.session import Session
from specbench_s2d.cli.main import main
from specbench_s2d.decoding.decoder import Decoder
from specbench_s2d.decoding.drafters.none import NoDrafter
from specbench_s2d.decoding.loop import DraftAndVerify, decode
from specbench_s2d.decoding.types import Options, Proposal, chain_of
from specbench_s2d.decoding.verifiers.token import TokenVerifier
from specbench_s2d.models.base import PassKind
from specbench_s2d.runs.folder import read_manifest, read_records
from specbench_s2d.runs.record import Record
from tests.bench.sessions import with_methods
from tests.plugins import Plugins
from tests.tiny_run import tiny_plan


class Sound(NoDrafter):
    """The empty drafter, of which each of the others spoils a part."""

    def prepare(self, target: Any, prompt_ids: Any) -> None:
        """Nothing."""

    def facts(self) -> dict[str, Any]:
        return {}

    def start(self, prompt_ids: Any, sampler: Any) -> None:
        super().start(prompt_ids, sampler)
        self.device = sampler.device


class Unmade(Sound):
    def __init__(self, draft: None, options: Any) -> None:
        raise KeyError("weights")


class UndeclaredPasses(Sound):
    @staticmethod
    def target_passes(options: Any) -> list[PassKind]:
        raise ZeroDivisionError


class OddPasses(Sound):
    @staticmethod
    def target_passes(options: Any) -> Any:
        return [4]


class NoRows(Sound):
    @staticmethod
    def target_passes(options: Any) -> list[PassKind]:
        return [PassKind(0)]


class FractionOfRows(Sound):
    @staticmethod
    def target_passes(options: Any) -> list[PassKind]:
        return [PassKind(2.5)]  # type: ignore[arg-type]


class Unprepared(Sound):
    def prepare(self, target: Any, prompt_ids: Any) -> None:
        raise OSError("no such file")


class NoStart(Sound):
    def start(self, prompt_ids: Any, sampler: Any) -> None:
        raise ZeroDivisionError


class TooLarge(Sound):
    def propose(self, context: Any, room: int) -> Proposal:
        return chain_of([1, 99_999], self.device)


class Negative(Sound):
    def propose(self, context: Any, room: int) -> Proposal:
        return chain_of([-3], self.device)


class TooLong(Sound):
    def propose(self, context: Any, room: int) -> Proposal:
        return chain_of([1] * (room + 1), self.device)


class NoCommit(Sound):
    def commit(self, committed: int, verdict: Any) -> None:
        raise RuntimeError("cache\nlines")


class NoFacts(Sound):
    def facts(self) -> dict[str, Any]:
        raise ValueError("nothing learnt")


class LateDrafter(Sound):
    """Raises in timed cells alone: they have more tokens than a warm-up."""

    def propose(self, context: Any, room: int) -> Proposal:
        if len(context) > self.began + 18:
            raise IndexError("list index out of range")
        return super().propose(context, room)

    def start(self, prompt_ids: Any, sampler: Any) -> None:
        super().start(prompt_ids, sampler)
        self.began = len(prompt_ids)


class NoJudge(TokenVerifier):
    def judge(self, *given: Any) -> Any:
        raise AttributeError("judge")


class Alone(Decoder):
    """A decoder of its own kind."""

    def _run(self, *given: Any) -> Any:
        raise TypeError("not a pair")


EXPECTED = {
    "Unmade": "drafter Unmade raised KeyError: 'weights' (when it was made) (being built)",
    "UndeclaredPasses": "drafter UndeclaredPasses raised ZeroDivisionError (in target_passes)",
    "OddPasses": "drafter OddPasses.target_passes gave [4], which is no list of PassKind",
    "NoRows": f"drafter NoRows.target_passes gave {PassKind(0)!r}; rows and least are int, 1 or more",
    "FractionOfRows": f"drafter FractionOfRows.target_passes gave {PassKind(2.5)!r}; "  # type: ignore[arg-type]
    "rows and least are int, 1 or more",
    "Unprepared": "drafter Unprepared raised OSError: no such file (in prepare) (warming up)",
    "NoStart": "drafter NoStart.start raised ZeroDivisionError (before the first step) (warming up)",
    "TooLarge": "drafter TooLarge proposed token 99999; the target's ids are 0 to 319 (step 1, after 1 new tokens) "
    "(warming up)",
    "Negative": "drafter Negative proposed token -3; the target's ids are 0 to 319 (step 1, after 1 new tokens) "
    "(warming up)",
    "NoCommit": "drafter NoCommit.commit raised RuntimeError: cache (step 1, after 1 new tokens) (warming up)",
    "LateDrafter": "drafter LateDrafter.propose raised IndexError: list index out of range (step 19, after 19 new "
    "tokens)",
}


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugins:
    added = Plugins(tmp_path / "site", monkeypatch)
    for part in (*EXPECTED, "Sound", "TooLong", "NoFacts"):
        added.register("drafters", part, f"{__name__}:{part}")
    added.register("verifiers", "NoJudge", f"{__name__}:NoJudge")
    return added


def plan_of(tiny_models: Path, *decoders: str, target: Sequence[str] = ("tiny-target",)) -> Plan:
    return tiny_plan(tiny_models, decoders, target=target, draft=[], max_new_tokens=24, ignore_eos=True)


def by_label(records: list[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.label, []).append(record)
    return found


def test_each_fault_fails_its_own_cells_by_name_and_the_run_goes_on(
    plugins: Plugins, tiny_models: Path, tmp_path: Path
) -> None:
    """On both targets; the decoders without a fault are measured and equal AR."""
    labels = [f"{part}+token" for part in EXPECTED]
    decoders = ["ar", *labels, "TooLong+token", "none+NoJudge", "NoFacts+token", "Sound+token"]
    plan = plan_of(tiny_models, *decoders, target=("tiny-target", "tiny-other"))
    outcome = execute(plan, tmp_path / "run")
    assert {record.target for record in outcome.records} == {"tiny-target", "tiny-other"}
    of_first = by_label([record for record in outcome.records if record.target == "tiny-target"])
    for part, told in EXPECTED.items():
        label = f"{part}+token"
        assert {(r.status, r.error) for r in of_first[label]} == {("failed", f"decoder {label!r}: {told}")}
    [told] = {r.error for r in of_first["TooLong+token"]}
    assert re.fullmatch(
        r"decoder 'TooLong\+token': drafter TooLong proposed (\d+) tokens where there is room for \d+ "
        r"\(step 1, after 1 new tokens\) \(warming up\)",
        told or "",
    )
    [told] = {r.error for r in of_first["none+NoJudge"]}
    assert told == (
        "decoder 'none+NoJudge': verifier NoJudge.judge raised AttributeError: judge (step 1, after 1 new tokens) "
        "(warming up)"
    )
    for target in ("tiny-target", "tiny-other"):
        whole = by_label([record for record in outcome.records if record.target == target])
        for label in ("ar", "NoFacts+token", "Sound+token"):
            assert [r.status for r in whole[label]] == ["ok", "ok"]
            assert [r.output_ids for r in whole[label]] == [r.output_ids for r in whole["ar"]]
    facts = read_manifest(tmp_path / "run")["targets"]["tiny-target"]
    assert set(facts["warm_up"]) == {"ar", "LateDrafter+token", "NoFacts+token", "Sound+token"}
    assert facts["decoders"] == {
        "NoFacts+token": {
            "fault": "decoder 'NoFacts+token': drafter NoFacts raised ValueError: nothing learnt (in facts)"
        }
    }


def test_a_decoder_of_its_own_kind_is_named_by_its_class(plugins: Plugins, tiny_models: Path, tmp_path: Path) -> None:
    plugins.register("decoders", "alone", f"{__name__}:Alone")
    outcome = execute(plan_of(tiny_models, "ar", "alone"), tmp_path / "run")
    told = "decoder 'alone': class Alone raised TypeError: not a pair (warming up)"
    assert {r.error for r in outcome.records if r.label == "alone"} == {told}
    assert {r.status for r in outcome.records if r.label == "ar"} == {"ok"}


def test_a_warm_up_that_fails_in_a_model_is_the_decoder_s_alone(
    plugins: Plugins, tiny_models: Path, tmp_path: Path
) -> None:
    """Memory that ends, a kernel that fails: no part of the decoder raised it."""

    def generate(one: Session, label: str, *given: Any) -> Any:
        if label == "Sound+token":
            raise MemoryError("no memory left\nat all")
        return Session._generate(one, label, *given)

    opened = with_methods(_generate=generate)
    outcome = execute(plan_of(tiny_models, "ar", "Sound+token"), tmp_path / "run", open_session=opened)
    found = {(record.label, record.status, record.error) for record in outcome.records}
    assert found == {
        ("ar", "ok", None), ("Sound+token", "failed", "MemoryError: no memory left (warming up)"),
    }  # fmt: skip


def test_the_command_exits_with_1_and_says_which_once(
    plugins: Plugins, tiny_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--target", str(tiny_models / "tiny-target"), "--suite", "qa", "--questions", "embedded", "--limit", "1"]
    rest = ["--max-new-tokens", "8", "--device", "cpu", "--energy", "off", "--out", str(tmp_path / "run")]
    assert main(["run", *given, "--decoder", "ar,TooLarge+token", *rest]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "TooLarge" in line and "failed: " in line]
    assert lines == [f"tiny-target, TooLarge+token: failed: {EXPECTED['TooLarge']}"]
    assert {r.label for r in read_records(tmp_path / "run") if r.status == "ok"} == {"ar"}


def test_a_dry_run_goes_past_what_a_class_cannot_declare(
    plugins: Plugins, tiny_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--target", str(tiny_models / "tiny-target"), "--suite", "qa", "--questions", "embedded", "--limit", "1"]
    assert main(["run", *given, "--decoder", "ar,UndeclaredPasses+token", "--device", "cpu", "--dry-run"]) == 0


class Returning(Decoder):
    """A decoder of its own kind that returns what `answer` makes of a sound generation, in timed cells alone."""

    answer: Any = None

    def _run(self, prompt_ids: Any, limits: Any, sampler: Any) -> Any:
        method = DraftAndVerify(self.target, NoDrafter(None, NoDrafter.Options()), TokenVerifier(Options()))
        made = decode(self.target, None, method, prompt_ids, limits, sampler)
        return made if limits.max_new_tokens == WARM_UP else type(self).answer(made)


RETURNED = {
    "nope": (lambda made: replace(made, stop="nope"), "gave stop 'nope'; it is 'eos' or 'length'"),
    "empty": (lambda made: replace(made, ids=[], steps=[]), "gave ids []; they are a list of int, at least one"),
    "late": (lambda made: replace(made, decode_s=-1.0), "gave decode_s -1.0; it is a number from 0 to 1e+30"),
    "text": (lambda made: "a text", "gave 'a text', which is no Generation"),
}
WARM_UP = 16  # tokens; timed cells have 24


def test_a_generation_that_no_record_can_hold_fails_its_cell_and_poisons_nothing(
    plugins: Plugins, tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, (answer, _) in RETURNED.items():
        monkeypatch.setitem(globals(), name, type(name, (Returning,), {"answer": staticmethod(answer)}))
        plugins.register("decoders", name, f"{__name__}:{name}")
    plan = plan_of(tiny_models, "ar", *RETURNED)
    outcome = execute(plan, tmp_path / "run")
    found = by_label(outcome.records)
    assert [r.status for r in found.pop("ar")] == ["ok", "ok"]
    for name, records in found.items():
        told = f"decoder {name!r}: class {name} {RETURNED[name][1]}"
        assert {(r.status, r.error) for r in records} == {("failed", told)}
    assert read_records(tmp_path / "run") == list(outcome.records)
    assert list(execute(plan, tmp_path / "run").records) == list(outcome.records)


class Second(Decoder):
    """Sound in the first warm-up alone."""

    def _run(self, *given: Any) -> Any:
        self._run = lambda *given: None  # type: ignore[method-assign]
        return Returning._run(self, *given)  # type: ignore[arg-type]


def test_every_warm_up_is_held_to_what_a_record_can_store(plugins: Plugins, tiny_models: Path, tmp_path: Path) -> None:
    plugins.register("decoders", "second", f"{__name__}:Second")
    outcome = execute(plan_of(tiny_models, "second"), tmp_path / "run")
    told = "decoder 'second': class Second gave None, which is no Generation (warming up)"
    assert {r.error for r in outcome.records} == {told}


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"a": {1, 2}}, "TypeError: Object of type set is not JSON serializable"),
        ({"a": float("nan")}, "ValueError: Out of range float values are not JSON compliant"),
        (["a"], "TypeError: list is no dict"),
    ],
)
def test_facts_that_are_no_json_cost_no_cell(
    facts: Any, told: str, plugins: Plugins, tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NoFacts, "facts", lambda self: facts)
    outcome = execute(plan_of(tiny_models, "NoFacts+token"), tmp_path / "run")
    assert {r.status for r in outcome.records} == {"ok"}
    [known] = read_manifest(tmp_path / "run")["targets"].values()
    fault = known["decoders"]["NoFacts+token"]["fault"]
    assert fault.startswith("decoder 'NoFacts+token': class ") and told in fault


def test_a_plug_in_that_exits_ends_no_run(
    plugins: Plugins, tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NoStart, "start", lambda *given: sys.exit(3))
    outcome = execute(plan_of(tiny_models, "ar", "NoStart+token"), tmp_path / "run")
    told = "decoder 'NoStart+token': drafter NoStart.start raised SystemExit: 3 (before the first step) (warming up)"
    assert {(r.label, r.error) for r in outcome.records} == {("ar", None), ("NoStart+token", told)}
