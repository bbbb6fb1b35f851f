"""A fault in any phase of a run fails the cells that need what failed, by name; everything else is measured."""

from __future__ import annotations

import gc
import pkgutil
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from specbench_s2d.bench import session as session_module
from specbench_s2d.bench.faults import TargetFault, phase, target_phase, told
from specbench_s2d.bench.plan import Plan
from specbench_s2d.bench.runner import Outcome, execute
from specbench_s2d.bench.session import Session
from specbench_s2d.cli.main import main
from specbench_s2d.decoding.faults import PartError
from specbench_s2d.errors import ModelError, UserError
from specbench_s2d.models import LanguageModel, devices, load_model
from specbench_s2d.runs.folder import read_manifest
from tests.bench.sessions import with_methods
from tests.fakes import FakeModel
from tests.refusals import refused
from tests.tiny_run import tiny_plan

TARGETS, DRAFT = ("tiny-target", "tiny-nested"), "tiny-draft"
LABELS = ("ar", "sd:gamma=2", "mjgd:k=2,beams=2")
AR, SD, MJGD = LABELS
ASSERT = "CUDA error: device-side assert triggered\nCompile with TORCH_USE_CUDA_DSA"


class OfAPackage(BaseException):
    """What a package may raise that is no `Exception`."""


class Mute(Exception):
    """Raises again when it is asked what it says."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


RAISED: list[tuple[BaseException, str]] = [
    (Mute(), "Mute (warming up)"),
    (OSError("no file caf\udce9.bin"), r"OSError: no file caf\udce9.bin"),
    (torch.OutOfMemoryError("no memory left\nat all"), "OutOfMemoryError: no memory left"),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: can't allocate"), "RuntimeError: [enforce"),
    (RuntimeError(ASSERT), "RuntimeError: CUDA error: device-side assert triggered"),
    (RuntimeError("probability tensor contains either `inf`, `nan`"), "RuntimeError: probability tensor contains"),
    (AssertionError(), "AssertionError"),
    (KeyError("weights"), "KeyError: 'weights'"),
    (RecursionError("maximum recursion depth exceeded"), "RecursionError: maximum recursion depth exceeded"),
    (RuntimeWarning("overflow"), "RuntimeWarning: overflow"),
    (SystemExit(3), "SystemExit: 3"),
    (OfAPackage("halt"), "OfAPackage: halt"),
    (MemoryError(), "MemoryError"),
    (UserError("mine: give another."), "mine: give another."),
    (ValueError("a value of " + "9" * 100_000), "ValueError: a value of 999"),
]


def plan_of(tiny_models: Path, **changes: Any) -> Plan:
    small = {"limit": 1, "max_new_tokens": 4, "ignore_eos": True}
    return tiny_plan(tiny_models, LABELS, **{"target": TARGETS, "draft": [DRAFT], **small, **changes})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The audit's noise is no part of these tests, nor are long warm-ups and, but for one test, garbage."""
    monkeypatch.setattr(devices, "gc", SimpleNamespace(collect=lambda: 0))
    monkeypatch.setattr(session_module, "logit_noise", lambda *_: 0.1)
    monkeypatch.setattr(session_module, "_WARM_UP_TOKENS", 4)


class Planted:
    """Raises `error` wherever it is planted, while the first target is at work: the second one is sound."""

    def __init__(self, error: BaseException) -> None:
        self.error, self.at_work = error, ""

    def load(self, model: Any, **options: Any) -> LanguageModel:
        """`load_model`, noting which target is at work."""
        self.at_work = model.name if model.name in TARGETS else self.at_work
        return load_model(model, **options)

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise self.error

    def before(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """The method, raising first."""

        def planted(*given: Any, **named: Any) -> Any:
            if self.at_work in ("", TARGETS[0]):
                raise self.error
            return method(*given, **named)

        return planted


Plant = Callable[[Planted, pytest.MonkeyPatch], Any]
"""Plants a fault in a place; returns a `load` in place of the usual one, or None."""


def patched(path: str) -> Plant:
    """Plants it in a function or a method of the package."""

    def plant(fault: Planted, patch: pytest.MonkeyPatch) -> None:
        module, name = path.rsplit(".", 1)
        owner: Any = _found(module)
        patch.setattr(owner, name, fault.before(getattr(owner, name)))

    return plant


def _found(path: str) -> Any:
    return pkgutil.resolve_name(f"specbench_s2d.{path}")


def loading(name: str) -> Plant:
    """Plants it where a model is loaded."""

    def plant(fault: Planted, patch: pytest.MonkeyPatch) -> Callable[..., LanguageModel]:
        def load(model: Any, **options: Any) -> LanguageModel:
            loaded = fault.load(model, **options)
            return loaded if model.name != name else fault.before(lambda: loaded)()  # type: ignore[no-any-return]

        return load

    return plant


def passing(name: str) -> Plant:
    """Plants it in every pass of a model."""

    def plant(fault: Planted, patch: pytest.MonkeyPatch) -> Callable[..., LanguageModel]:
        def load(model: Any, **options: Any) -> LanguageModel:
            loaded = fault.load(model, **options)
            if model.name == name:
                kind: Any = type(loaded)

                def extend(self: Any, *given: Any, **named: Any) -> Any:
                    return fault.before(kind.extend)(self, *given, **named)

                loaded.__class__ = type("Planted", (kind,), {"extend": extend})
            return loaded

        return load

    return plant


def timed(fault: Planted, patch: pytest.MonkeyPatch) -> None:
    """Plants it in the timed cells of `sd`, after warm-ups that were sound."""
    generate = Session._generate

    def planted(self: Session, label: str, prompt_ids: Any, new_tokens: int, cell: Any = None) -> Any:
        if cell and label == SD:
            return fault.before(generate)(self, label, prompt_ids, new_tokens, cell)
        return generate(self, label, prompt_ids, new_tokens, cell)

    patch.setattr(Session, "_generate", planted)


CELLS: dict[str, tuple[Plant, dict[str, str]]] = {
    # where: how it is planted, and what the failed cells of the first target say, {} being what was raised
    "loading the target": (loading(TARGETS[0]), dict.fromkeys(LABELS, "target tiny-target: {} (loading)")),
    "loading the draft": (loading(DRAFT), {SD: "draft tiny-draft: {} (loading)"}),
    "building": (
        patched("decoding.speculative.SpeculativeDecoding.__init__"), {SD: "{} (being built)"},
    ),
    "preparing": (
        patched("decoding.joint_greedy.JointGreedy.make_ready"),
        {MJGD: "{} (preparing its passes)"},
    ),
    "probing the noise": (
        patched("bench.session.logit_noise"), dict.fromkeys(LABELS, "target tiny-target: {} (probing its noise)"),
    ),
    "probing the read rate": (
        patched("bench.session.read_rate_of"),
        dict.fromkeys(LABELS, "target tiny-target: {} (measuring the read rate)"),
    ),
    "a pass of the target": (
        passing(TARGETS[0]), dict.fromkeys(LABELS, "target tiny-target: {} (measuring the read rate)"),
    ),
    "a pass of the draft": (
        passing(DRAFT),
        {SD: "decoder 'sd:gamma=2': drafter ChainDrafter.start raised {} (before the first step) (in a pass of "
         "tiny-draft; warming up)"},
    ),
    "warming up AR": (patched("decoding.autoregressive.Autoregressive.generate"), {AR: "{} (warming up)"}),
    "forgetting": (patched("decoding.decoder.PairDecoder.forget"), {AR: "{} (warming up)", SD: "{} (warming up)"}),
    "a timed cell": (timed, {SD: "{}"}),
}  # fmt: skip


def run(plan: Plan, folder: Path, load: Callable[..., LanguageModel], said: list[str]) -> Outcome:
    return execute(plan, folder, lambda event: said.append(event.text or ""), open_session=partial(Session, load=load))


def errors(outcome: Outcome, target: str) -> dict[str, str]:
    """Of cells that are not ok, by label."""
    return {r.label: r.error or "" for r in outcome.records if r.target == target and r.status != "ok"}


@pytest.mark.parametrize("where", CELLS)
def test_a_fault_fails_the_cells_that_need_what_failed(
    where: str, tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name, in the records and in what the run says; the other target is whole."""
    plant, expected = CELLS[where]
    fault, said, plan = Planted(AssertionError("planted")), list[str](), plan_of(tiny_models)
    with monkeypatch.context() as patch:
        load = plant(fault, patch) or fault.load
        outcome = run(plan, tmp_path / "run", load, said)
    assert len(outcome.records) == plan.cells
    assert errors(outcome, TARGETS[0]) == {
        label: text.format("AssertionError: planted") for label, text in expected.items()
    }
    assert errors(outcome, TARGETS[1]) == {}
    assert outcome.failed == len(expected)
    if len(expected) == len(LABELS):
        assert f"{plan.spec.target[0]}: failed: {errors(outcome, TARGETS[0])[AR]}" in said
    elif where != "a timed cell":
        for label, text in errors(outcome, TARGETS[0]).items():
            assert f"{plan.spec.target[0]}: {label} will not run: {text}" in said
    if len(expected) < len(LABELS) and AR in expected:
        assert {r.divergence for r in outcome.records if r.target == TARGETS[0]} == {None}


@pytest.mark.parametrize("where", ["loading the draft", "probing the read rate"])
def test_a_retry_runs_the_failed_cells_and_no_others(
    where: str, tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (plant, expected), fault = CELLS[where], Planted(torch.OutOfMemoryError("no memory left"))
    plan = plan_of(tiny_models)
    with monkeypatch.context() as patch:
        first = list(run(plan, tmp_path / "run", plant(fault, patch) or fault.load, []).records)
    assert list(execute(plan, tmp_path / "run").records) == first, "failures stay until a retry"
    again = execute(plan, tmp_path / "run", retry_failed=True)
    assert ({r.status for r in again.records}, len(again.records)) == ({"ok"}, plan.cells)
    whole = [r for r in first if r.status == "ok"]
    assert len(whole) == plan.cells - len(expected) and all(r in again.records for r in whole)


@pytest.mark.parametrize(("error", "text"), RAISED, ids=lambda value: type(value).__name__)
def test_whatever_is_raised_is_told_on_one_line(error: BaseException, text: str) -> None:
    said: list[str] = []
    with phase("warming up", said.append):
        raise error
    assert len(said) == 1 and "\n" not in said[0]
    assert said[0].startswith(text) and said[0].endswith(" (warming up)")
    assert len(said[0].encode()) < 2_000
    with pytest.raises(TargetFault) as caught, target_phase("loading", "demo-x"):
        raise error
    assert str(caught.value).startswith(f"target demo-x: {text.removesuffix(' (warming up)')}")
    assert caught.value.__cause__ is error


def test_ctrl_c_ends_the_run_as_ever() -> None:
    for block in (phase("loading", list[str]().append), target_phase("loading", "demo-x")):
        with pytest.raises(KeyboardInterrupt), block:
            raise KeyboardInterrupt


def test_a_part_is_named_once_and_so_is_the_model_at_work() -> None:
    of_loading = ModelError("tiny: the weights lack 'x'; fetch them again.")
    assert told(of_loading, "loading", "draft tiny") == "draft tiny: the weights lack 'x'; fetch them again. (loading)"

    class Failing(FakeModel):
        def extend(self, *_: Any, **__: Any) -> Any:
            raise KeyError("cache")

    def a_step() -> None:
        try:
            Failing(seed=7).extend()
        except KeyError as error:
            raise PartError("decoder 'x': drafter Y raised KeyError (step 1)") from error

    with pytest.raises(PartError) as caught:
        a_step()
    assert told(caught.value) == "decoder 'x': drafter Y raised KeyError (step 1) (in a pass of fake-7)"


def test_memory_is_given_back_before_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the frames of an out-of-memory error hold, in cycles too, is gone when the phase ends."""
    monkeypatch.setattr(devices, "gc", gc)
    held: list[weakref.ref[Any]] = []

    class Large:
        """Stands for what a pass had allocated."""

    def a_pass() -> None:
        large = Large()
        large.itself = large  # type: ignore[attr-defined]
        held.append(weakref.ref(large))
        raise torch.OutOfMemoryError("no memory left")

    gc.disable()
    try:
        with phase("warming up", lambda text: None):
            a_pass()
        with pytest.raises(TargetFault) as caught, target_phase("loading", "x"):
            a_pass()
        assert [ref() for ref in held] == [None, None], caught
    finally:
        gc.enable()


@pytest.mark.parametrize("fails", [False, True], ids=["measured", "failed"])
def test_a_targets_models_are_gone_before_the_next_one_loads(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """Target and draft, those of a target that failed too."""
    monkeypatch.setattr(devices, "gc", gc)
    held: list[weakref.ref[LanguageModel]] = []
    alive: list[str] = []

    def load(model: Any, **options: Any) -> LanguageModel:
        if model.name == TARGETS[1]:
            alive.extend(one.name for one in (ref() for ref in held) if one)
        loaded: Any = load_model(model, **options)
        loaded.itself = loaded  # as transformers' modules refer to each other
        held.append(weakref.ref(loaded))
        if fails and model.name == TARGETS[0]:
            loaded.extend = Planted(AssertionError("planted"))
        return loaded  # type: ignore[no-any-return]

    gc.disable()
    try:
        outcome = run(plan_of(tiny_models), tmp_path / "run", load, [])
    finally:
        gc.enable()
    assert len(held) == 4 and not alive
    assert outcome.failed == (len(LABELS) if fails else 0)


def test_a_gpu_that_is_lost_is_not_asked_for_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> None:
        raise RuntimeError(ASSERT)

    said: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lost)
    with phase("warming up", said.append):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    assert said == ["RuntimeError: CUDA error: an illegal memory access was encountered (warming up)"]


@pytest.fixture
def only_target(tiny_models: Path) -> Plan:
    return plan_of(tiny_models, target=[str(tiny_models / TARGETS[0])])


def test_what_a_person_did_wrong_with_the_only_target_is_a_refusal(only_target: Plan, tmp_path: Path) -> None:
    """There is nothing to go on with, and nothing was timed: exit code 2, as for all bad input."""
    load = Planted(ModelError("tiny-target: the weights lack 'x'."))
    with refused(ModelError, "tiny-target: the weights lack 'x'."):
        execute(only_target, tmp_path / "run", open_session=partial(Session, load=load))


def test_a_fault_of_the_only_target_fails_its_cells(only_target: Plan, tmp_path: Path) -> None:
    load = Planted(torch.OutOfMemoryError("no memory left"))
    outcome = execute(only_target, tmp_path / "run", open_session=partial(Session, load=load))
    told = "target tiny-target: OutOfMemoryError: no memory left (loading)"
    assert {(r.status, r.error) for r in outcome.records} == {("failed", told)}
    manifest = read_manifest(tmp_path / "run")
    assert manifest["targets"] == {} and manifest["ended"]


def test_without_an_answer_of_ar_the_audit_says_why(only_target: Plan, tmp_path: Path) -> None:
    def generate(one: Session, label: str, *given: Any) -> Any:
        if label == AR:
            raise AssertionError("planted")
        return Session._generate(one, label, *given)

    records = execute(only_target, tmp_path / "run", open_session=with_methods(_generate=generate)).records
    [of_sd] = [r for r in records if r.label == SD]
    assert of_sd.status == "ok" and of_sd.divergence is None
    assert of_sd.reasons["divergence"] == "ar has no answer to this turn: AssertionError: planted (warming up)"


@pytest.mark.parametrize("where", ["bench.grader.score", "bench.grader.classify"])
def test_a_fault_in_scoring_leaves_the_answer_and_says_why(
    where: str, only_target: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patched(where)(Planted(AssertionError("planted")), monkeypatch)
    records = execute(only_target, tmp_path / "run").records
    assert {r.status for r in records} == {"ok"}
    [of_sd] = [r for r in records if r.label == SD]
    assert of_sd.nll_sum is of_sd.divergence is None
    assert of_sd.reasons["nll_sum"] == "its teacher-forced pass failed: AssertionError: planted"


def test_a_later_probe_that_fails_is_said_and_costs_nothing(
    only_target: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    patched("measure.bandwidth.ReadRate.measure_if_due")(Planted(AssertionError("planted")), monkeypatch)
    outcome = run(only_target, tmp_path / "run", load_model, said)
    assert outcome.failed == 0
    assert "target tiny-target: AssertionError: planted (measuring the read rate again)" in said


def test_the_next_launch_begins_anew(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tiny_models, target=[str(tiny_models / TARGETS[0])], launches=2)
    with monkeypatch.context() as patch:
        patched("bench.session.logit_noise")(Planted(KeyError("noise")), patch)
        execute(plan, tmp_path / "run")
    records = execute(replace(plan, launch=1), tmp_path / "run").records
    assert {(r.launch, r.status) for r in records} == {(0, "failed"), (1, "ok")}


@pytest.fixture
def failing_command(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(session_module, "logit_noise", Planted(torch.OutOfMemoryError("no memory left")))
    targets = [word for name in TARGETS for word in ("--target", str(tiny_models / name))]
    given = ["run", *targets, "--draft", str(tiny_models / DRAFT), "--decoder", "ar,sd", "--suite", "qa"]
    rest = ["--questions", "embedded", "--limit", "1", "--max-new-tokens", "4", "--device", "cpu", "--energy", "off"]
    return [*given, *rest, "--out", str(tmp_path / "run")]


def test_the_command_exits_with_1_and_says_it_in_a_line(
    failing_command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(failing_command) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tiny-")]
    why = "OutOfMemoryError: no memory left (probing its noise)"
    expected = [f"{target}, ar, sd: failed: target {target}: {why}" for target in TARGETS]
    assert [line.replace("sd, ar", "ar, sd") for line in lines] == expected, "labels stand in the order of decoding"
