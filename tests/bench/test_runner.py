"""The benchmark loop: every cell once, whatever interrupts it; failures kept apart; what a record holds."""

from __future__ import annotations

import dataclasses
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.backends import cuda

from specbench_s2d.bench.plan import Cell, Plan
from specbench_s2d.bench.prompts import Prompt
from specbench_s2d.bench.runner import Event, execute
from specbench_s2d.bench.session import Session
from specbench_s2d.cli.main import main
from specbench_s2d.decoding.decoder import PairDecoder
from specbench_s2d.decoding.drafters.chain import ChainDrafter
from specbench_s2d.decoding.types import Verdict
from specbench_s2d.decoding.verifiers.token import TokenVerifier
from specbench_s2d.errors import ModelError, PromptTooLongError, RunFolderError, UserError
from specbench_s2d.models import LanguageModel, cache, load_model
from specbench_s2d.models.cache import KVCache
from specbench_s2d.runs.folder import read_manifest, read_records
from specbench_s2d.runs.record import ANOTHER_TURN_FAILED, Record
from tests.bench.sessions import never, with_methods
from tests.plugins import Plugins
from tests.tiny_run import plan_of, tiny_spec

# Fields that differ between two runs of one cell on one machine.
TIMING_FIELDS = {
    "run_id", "prefill_s", "decode_s", "total_s", "draft_s", "verify_s", "other_s", "bound_s", "energy_j",
    "energy_net_j",
}  # fmt: skip
KILLS = int(os.environ.get("SPECBENCH_KILLS", "1"))


@pytest.fixture(scope="module")
def spec(tiny_models: Path) -> dict[str, Any]:
    return tiny_spec(tiny_models, ["ar", "sd:gamma=3"], suite=["qa", "mt_bench"], max_new_tokens=12)


@pytest.fixture(scope="module")
def undisturbed(spec: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    execute(plan_of(spec), folder)
    return folder


def untimed(records: list[Record]) -> list[dict[str, Any]]:
    return [record.model_dump(exclude=TIMING_FIELDS) for record in records]


def test_a_run_records_every_cell_once_and_all_are_ok(spec: dict[str, Any], tmp_path: Path) -> None:
    plan = plan_of(spec, repeats=2)
    outcome = execute(plan, tmp_path / "run")
    assert len(outcome.records) == plan.cells == len({r.key for r in outcome.records})
    assert (outcome.failed, outcome.mismatched) == (0, 0)
    assert read_records(tmp_path / "run") == list(outcome.records)
    assert read_manifest(tmp_path / "run")["ended"]


def test_a_record_adds_up(spec: dict[str, Any], tmp_path: Path) -> None:
    for r in execute(plan_of(spec), tmp_path / "run").records:
        assert r.output_ids and r.new_tokens == len(r.output_ids) <= 12
        assert r.emitted_per_step is not None and r.accepted_per_step is not None and r.drafted_per_step is not None
        assert 1 + sum(r.emitted_per_step) == r.new_tokens
        assert r.target_passes == len(r.emitted_per_step)
        assert r.drafted == sum(r.drafted_per_step) and r.accepted == sum(r.accepted_per_step)
        assert r.draft_s is not None and r.verify_s is not None and r.other_s is not None and r.decode_s is not None
        assert r.draft_s + r.verify_s + r.other_s == pytest.approx(r.decode_s)
        assert r.prefill_s is not None and r.total_s == pytest.approx(r.prefill_s + r.decode_s)
        assert r.nll_sum is not None and r.perplexity == pytest.approx(math.exp(r.nll_sum / r.new_tokens))
        assert r.divergence is not None and r.divergence.verdict in ("identical", "near_tie")
        assert r.energy_j is None and r.reasons["energy_j"]


def test_a_second_turn_continues_the_decoders_own_first_or_ars(spec: dict[str, Any], tmp_path: Path) -> None:
    sampled = {**spec, "suite": ["mt_bench"], "temperature": 1.0}
    for policy, expected in (("own", 2), ("ar", 1)):
        records = execute(plan_of(sampled, replay_turns=policy, limit=1), tmp_path / policy).records
        second = {r.prompt_hash for r in records if r.turn == 1}
        assert len({tuple(r.output_ids or ()) for r in records if r.turn == 0}) == 2, "the two first turns must differ"
        assert len(second) == expected
        assert {r.replay_turns for r in records} == {policy}


def test_a_finished_run_does_nothing_more(spec: dict[str, Any], tmp_path: Path) -> None:
    first = list(execute(plan_of(spec), tmp_path / "run").records)
    assert list(execute(plan_of(spec), tmp_path / "run", open_session=never).records) == first


def test_another_runs_folder_is_refused(spec: dict[str, Any], tmp_path: Path) -> None:
    execute(plan_of(spec, limit=1), tmp_path / "run")
    with pytest.raises(RunFolderError, match="differs in questions"):
        execute(plan_of(spec, limit=2), tmp_path / "run")


class Stop(BaseException):
    """Stands for Ctrl-C and for whatever else ends a process between two questions."""


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_run_stopped_after_any_question_goes_on_to_the_same_records(
    spec: dict[str, Any], undisturbed: Path, tmp_path: Path, after: int
) -> None:
    expected = untimed(read_records(undisturbed))
    seen = 0

    def stop(event: Event) -> None:
        nonlocal seen
        seen += bool(event.records)
        if seen == after:
            raise Stop

    with pytest.raises(Stop):
        execute(plan_of(spec), tmp_path / "stopped", stop)
    assert 0 < len(read_records(tmp_path / "stopped")) < len(expected)
    assert untimed(execute(plan_of(spec), tmp_path / "stopped").records) == expected


@pytest.mark.parametrize("kept_lines", range(1, 12))
def test_records_cut_at_any_line_are_completed_to_the_same_set(
    spec: dict[str, Any], undisturbed: Path, tmp_path: Path, kept_lines: int
) -> None:
    """A kill in the middle of a question's write leaves some of its lines: the rest is decoded again."""
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    expected = read_records(undisturbed)
    lines = (folder / "records.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "records.jsonl").write_bytes(b"".join(lines[:kept_lines]) + lines[kept_lines][:37])
    again = execute(plan_of(spec), folder).records
    assert sorted(map(str, untimed(again))) == sorted(map(str, untimed(expected)))
    assert len((folder / "records.jsonl").read_bytes().splitlines()) == len(expected)


@pytest.mark.slow
def test_killed_at_random_moments_every_cell_is_there_once(tiny_models: Path, tmp_path: Path) -> None:
    """kill -9 in a real process, once some of its lines are there; SPECBENCH_KILLS sets how often (default 1)."""
    models = ["--target", str(tiny_models / "tiny-target"), "--draft", str(tiny_models / "tiny-draft")]
    given = ["run", *models, "--questions", "embedded", "--max-new-tokens", "24", "--limit", "4"]
    assert main([*given, "--out", str(tmp_path / "undisturbed")]) == 0
    expected = untimed(read_records(tmp_path / "undisturbed"))
    moments = random.Random(0)
    for attempt in range(KILLS):
        folder = tmp_path / f"killed-{attempt}"
        kill_at(moments.randrange(1, len(expected) // 2), [*given, "--out", str(folder)], folder / "records.jsonl")
        assert main([*given, "--out", str(folder)]) == 0
        assert untimed(read_records(folder)) == expected
        assert len((folder / "records.jsonl").read_bytes().splitlines()) == len(expected)


def kill_at(lines: int, given: list[str], records: Path) -> None:
    """Start the command, and kill it once it has written that many lines."""
    command = [sys.executable, "-m", "specbench_s2d", *given]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and (not records.exists() or records.read_bytes().count(b"\n") < lines):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert records.exists(), f"it ended by itself with {process.returncode}, and wrote nothing"


def test_a_cell_that_fails_leaves_the_others_ok_and_can_be_retried(spec: dict[str, Any], tmp_path: Path) -> None:
    def fail_on_sd(self: Session, cell: Cell, prompt: Prompt) -> dict[str, Any]:
        if cell.lane.label != "ar" and cell.turn == 0:
            raise torch.OutOfMemoryError("no memory left")
        return Session.decode(self, cell, prompt)

    outcome = execute(plan_of(spec), tmp_path / "run", open_session=with_methods(decode=fail_on_sd))
    by_status = {(r.label, r.status) for r in outcome.records}
    assert by_status == {("ar", "ok"), ("sd:gamma=3", "failed"), ("sd:gamma=3", "skipped")}
    assert outcome.failed == 4
    assert {r.error for r in outcome.records if r.status == "failed"} == {"OutOfMemoryError: no memory left"}
    assert {r.error for r in outcome.records if r.status == "skipped"} == {ANOTHER_TURN_FAILED}
    assert execute(plan_of(spec), tmp_path / "run").failed == 4, "failures stay until a retry is asked for"
    retried = execute(plan_of(spec), tmp_path / "run", retry_failed=True)
    assert {r.status for r in retried.records} == {"ok"}
    assert len(retried.records) == plan_of(spec).cells


class _TakesAnything(TokenVerifier):
    """Wrong on purpose: accepts every draft token."""

    def judge(self, proposal: Any, logits_TV: Any, sampler: Any) -> Verdict:
        honest = super().judge(proposal, logits_TV, sampler)
        return Verdict(len(proposal.ids_G), honest.next_id)


class _WrongDecoder(PairDecoder):
    drafter_class = ChainDrafter
    verifier_class = _TakesAnything


def test_a_lossless_decoder_that_is_wrong_comes_out_as_mismatched(
    spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Plugins(tmp_path / "site", monkeypatch).register("decoders", "wrong", f"{__name__}:_WrongDecoder")
    outcome = execute(plan_of(spec, decoder=["ar", "wrong"]), tmp_path / "run")
    assert outcome.mismatched > 0
    wrong = [r for r in outcome.records if r.divergence and r.divergence.verdict == "mismatch"]
    assert {r.label for r in wrong} == {"wrong"}
    assert all(r.divergence and r.divergence.position is not None for r in wrong)


def test_long_prompts_fail_before_anything_is_loaded_or_are_skipped_or_cut(
    spec: dict[str, Any], tmp_path: Path
) -> None:
    long = {**spec, "suite": ["rag", "qa"], "max_new_tokens": 3900}
    with pytest.raises(PromptTooLongError, match="--long-prompts skip or truncate"):
        execute(plan_of(long), tmp_path / "fail", open_session=never)
    assert not (tmp_path / "fail").exists()
    skipped = execute(plan_of(long, long_prompts="skip"), tmp_path / "skip", open_session=_four_tokens).records
    assert {(r.suite, r.status) for r in skipped} == {("rag", "skipped"), ("qa", "ok")}
    cut = execute(plan_of(long, long_prompts="truncate"), tmp_path / "cut", open_session=_four_tokens).records
    assert {(r.suite, r.status, r.prompt_truncated) for r in cut} == {("rag", "ok", True), ("qa", "ok", False)}


def _four_tokens(plan: Plan, *given: Any) -> Session:
    """A session that answers in four tokens, whatever prompts were laid out for."""
    return Session(dataclasses.replace(plan, spec=plan.spec.model_copy(update={"max_new_tokens": 4})), *given)


def test_a_draft_of_another_vocabulary_or_an_unknown_template_is_refused_before_anything_is_loaded(
    spec: dict[str, Any], tmp_path: Path, tiny_models: Path
) -> None:
    with pytest.raises(ModelError, match="tiny-target has a vocabulary of 320 ids and draft tiny-other one of 288"):
        execute(plan_of(spec, draft=[str(tiny_models / "tiny-other")]), tmp_path / "run", open_session=never)
    with pytest.raises(UserError, match=r"unknown template 'vicunha'\. Did you mean 'vicuna'"):
        execute(plan_of(spec, template="vicunha", long_prompts="skip"), tmp_path / "run", open_session=never)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        ("s2d:thresholds=0.5+0", r"thresholds=0\.5\+0: 2 thresholds for the 3 exits of draft tiny-nested \(1, 2, 3\)"),
        ("s2d:exits=3+1,thresholds=0+0", "draft tiny-nested: exits 3, 1: give each depth once, shallow to deep"),
        ("sd:exit=4", "draft tiny-nested: exits 4: an exit is a depth from 1 to 3"),
    ],
)
def test_exits_that_do_not_fit_the_draft_are_refused_before_anything_is_loaded(
    spec: dict[str, Any],
    tmp_path: Path,
    tiny_models: Path,
    decoder: str,
    message: str,
) -> None:
    with pytest.raises(UserError, match=message):
        execute(
            plan_of(spec, draft=[str(tiny_models / "tiny-nested")], decoder=[decoder]),
            tmp_path / "run",
            open_session=never,
        )
    assert not (tmp_path / "run").exists()


def test_sorted_decoders_record_levels_exits_and_layers(
    spec: dict[str, Any], tmp_path: Path, tiny_models: Path
) -> None:
    decoders = ["ar", "sd:exit=2", "s2d", "s2d-tree:depth=3,topk=2,tokens=5", "s2d-auto"]
    outcome = execute(plan_of(spec, draft=[str(tiny_models / "tiny-nested")], decoder=decoders), tmp_path / "run")
    assert (outcome.failed, outcome.mismatched) == (0, 0)
    for r in outcome.records:
        assert r.drafted_per_step is not None and r.levels_per_step is not None and r.exit_depths is not None
        assert len(r.exit_depths) == r.drafted
        assert set(r.exit_depths) <= {1, 2, 3}
        if r.decoder == "s2d-tree":
            assert set(r.levels_per_step) <= {1, 2, 3}
            assert max(r.drafted_per_step) <= 5
        else:
            assert r.levels_per_step == r.drafted_per_step
        assert r.draft_layers is not None and (r.draft_layers > 0) == (
            r.decoder != "ar" and len(r.drafted_per_step) > 0
        )
    known = read_manifest(tmp_path / "run")["targets"]["tiny-target"]["decoders"]
    assert list(known) == ["s2d-auto"]
    assert known["s2d-auto"]["exits"] == [1, 2, 3]
    assert all(seconds > 0 for seconds in known["s2d-auto"]["costs"]["verify_s"])


def test_sampling_is_repeatable_and_differs_between_repeats(spec: dict[str, Any], tmp_path: Path) -> None:
    sampled = {**spec, "temperature": 1.0, "repeats": 2, "suite": ["qa"]}
    one, two = (execute(plan_of(sampled), tmp_path / name).records for name in "ab")
    assert untimed(one) == untimed(two)
    first, second = ([r.output_ids for r in one if r.repeat == n] for n in (0, 1))
    assert first != second


def test_a_cached_model_is_as_good_as_a_fresh_one(spec: dict[str, Any], tmp_path: Path) -> None:
    """AR's recorded ids are those of a model that has decoded nothing before."""
    records = execute(plan_of(spec, decoder=["sd", "ar"]), tmp_path / "run").records
    fresh = load_model(spec["target"][0], device="cpu")
    last = [r for r in records if r.label == "ar" and r.turn == 0][-1]
    from specbench_s2d import build_decoder
    from specbench_s2d.suites import load_questions

    question = next(q for q in load_questions("embedded") if q.id == last.question_id)
    ids = fresh.tokenizer.encode(
        fresh.tokenizer.apply_chat_template(
            [{"role": "user", "content": question.turns[0]}], tokenize=False, add_generation_prompt=True
        ),
        add_special_tokens=False,
    )
    assert build_decoder("ar", fresh).generate(ids, max_new_tokens=12).ids == last.output_ids


def test_targets_of_two_families_run_each_with_its_own_draft(
    spec: dict[str, Any], tiny_models: Path, tiny_opt: Path, tmp_path: Path
) -> None:
    llama, opt = spec["target"][0], str(tiny_opt / "tiny-opt")
    drafts = [f"{opt}={tiny_opt / 'tiny-opt-draft'}", f"{llama}={tiny_models / 'tiny-draft'}"]
    plan = plan_of(spec, target=[llama, opt], draft=drafts, suite=["qa"], limit=1)
    said: list[str] = []
    outcome = execute(plan, tmp_path / "run", lambda event: said.append(event.text or ""))
    assert (outcome.failed, outcome.mismatched, len(outcome.records)) == (0, 0, plan.cells)
    drafted = {(r.target, r.draft) for r in outcome.records if r.label != "ar"}
    assert drafted == {("tiny-target", "tiny-draft"), ("tiny-opt", "tiny-opt-draft")}
    assert f"{opt}: loading and warming up; prompts by the template 'plain'" in said
    manifest = read_manifest(tmp_path / "run")
    assert manifest["targets"]["tiny-opt"]["template"] == "plain"
    assert manifest["identity"]["drafts"]["tiny-opt"] == [None, "tiny-opt-draft"]
    assert list(execute(plan, tmp_path / "run").records) == list(outcome.records)


def test_an_answer_that_cannot_be_scored_stands_and_says_why(spec: dict[str, Any], tmp_path: Path) -> None:
    class NoRoom(Session):
        """Its target has no memory left for a pass over a finished answer, which begins at an empty cache."""

        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            self.target = _WithoutRoom(self.target)  # type: ignore[assignment]

    outcome = execute(plan_of(spec, suite=["qa"]), tmp_path / "run", open_session=NoRoom)
    assert outcome.failed == 0
    for record in outcome.records:
        assert record.output_ids and record.decode_s is not None
        assert record.nll_sum is None and record.divergence is None and record.perplexity is None
        assert "no room for the logits" in record.reasons["nll_sum"] and "divergence" in record.reasons


class _WithoutRoom:
    """A model that decoders hold already and that nobody else can reset."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def reset(self) -> None:
        raise torch.OutOfMemoryError("no room for the logits")


def test_a_finished_run_stays_as_it_was_when_its_command_is_given_again(spec: dict[str, Any], tmp_path: Path) -> None:
    """It measures nothing, so nothing is said of the machine it would have measured on."""
    execute(plan_of(spec, suite=["qa"]), tmp_path / "run")
    before = (tmp_path / "run" / "manifest.json").read_bytes()
    execute(plan_of(spec, suite=["qa"]), tmp_path / "run")
    assert (tmp_path / "run" / "manifest.json").read_bytes() == before


def test_the_manifest_says_where_the_time_went_and_how_warm_up_went(spec: dict[str, Any], tmp_path: Path) -> None:
    execute(plan_of(spec, suite=["qa"]), tmp_path / "run")
    manifest = read_manifest(tmp_path / "run")
    harness = manifest["harness"]
    assert harness["decoding_s"] > 0 and harness["warm_up_s"] > 0 and harness["scoring_s"] > 0
    assert harness["loop_s"] == pytest.approx(sum(v for k, v in harness.items() if k != "loop_s"))
    assert set(manifest["targets"]["tiny-target"]["warm_up"]) == {"ar", "sd:gamma=3"}


def test_the_manifest_says_which_engine_ran_each_model(spec: dict[str, Any], tmp_path: Path) -> None:
    execute(plan_of(spec, engine="eager"), tmp_path / "run")
    for facts in read_manifest(tmp_path / "run")["targets"].values():
        assert {engine["engine"] for engine in facts["engines"].values()} == {"eager"}
        assert len(facts["engines"]) == 2, "the target and its draft"


def test_what_was_captured_while_timed_is_told(spec: dict[str, Any], tmp_path: Path) -> None:
    told = property(lambda self: {"captures": 3, "unannounced": 0})
    execute(plan_of(spec), tmp_path / "run", open_session=with_methods(unprepared=told))
    found = [c["what"] for c in read_manifest(tmp_path / "run")["conditions"] if c["about"] == "the engine"]
    assert found == ["captured 3 graphs while it was timed"]


def test_caches_have_room_for_the_whole_run_before_anything_is_timed(
    spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one grows after the warm-up."""
    grown, timing = list[int](), [False]

    def watched(self: KVCache, length: int, reserve: Any = KVCache.reserve) -> bool:
        moved: bool = reserve(self, length)
        grown.extend([length] * (moved and timing[0]))
        return moved

    def timed(self: Session, cell: Cell, prompt: Prompt) -> dict[str, Any]:
        timing[0] = True
        return Session.decode(self, cell, prompt)

    monkeypatch.setattr(cache, "_GROWTH", 1)
    monkeypatch.setattr(KVCache, "reserve", watched)
    plan = plan_of(spec, target=spec["target"][:1])
    execute(plan, tmp_path / "run", open_session=with_methods(decode=timed))
    assert not grown


def test_attention_needs_no_plans_while_a_run_lasts_whatever_becomes_of_it(
    spec: dict[str, Any], tmp_path: Path
) -> None:
    before, seen = cuda.cudnn_sdp_enabled(), list[bool]()

    def seen_and_opened(*given: Any) -> Session:
        seen.append(cuda.cudnn_sdp_enabled())
        return Session(*given)

    cuda.enable_cudnn_sdp(True)
    try:
        execute(plan_of(spec, limit=1), tmp_path / "run", open_session=seen_and_opened)
        assert seen == [False] and cuda.cudnn_sdp_enabled()
        with pytest.raises(ZeroDivisionError):
            execute(plan_of(spec, limit=1), tmp_path / "other", open_session=lambda *_: 1 / 0)  # type: ignore[arg-type, return-value]
        assert cuda.cudnn_sdp_enabled()
    finally:
        cuda.enable_cudnn_sdp(before)
    assert read_manifest(tmp_path / "run")["environment"]["attention"]["sdpa_backends"] == ["flash", "math"]
