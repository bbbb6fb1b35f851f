"""The energy pass, end to end on an embedded model with a recorded meter: what is metered, in which order, what records
get of it, and what a run that goes on does again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.bench.energy_pass import NOT_YET, blocks_in_order
from specbench_s2d.bench.plan import Cell, Plan, make_plan
from specbench_s2d.bench.prompts import Prompt
from specbench_s2d.bench.runner import Event, execute
from specbench_s2d.bench.session import Session
from specbench_s2d.config import RunSpec
from specbench_s2d.errors import RunFolderError, UserError
from specbench_s2d.measure.energy.choose import OFF
from specbench_s2d.runs.energy_block import EnergyBlock, block_of
from specbench_s2d.runs.folder import ENERGY, read_blocks, read_manifest, read_records
from specbench_s2d.runs.record import ENERGY_FIELDS, Record
from tests.bench.sessions import never, with_methods
from tests.measure.energy.replay import Recording, ReplayMeter, VirtualClock
from tests.plugins import Plugins
from tests.refusals import refused

IDLE_W, BUSY_W = 40.0, 100.0


def a_meter(lost_at_s: float = float("inf"), idle_w: float = IDLE_W) -> ReplayMeter:
    """A board that draws `idle_w` for the run's first nine seconds, its idle ones, and 100 W ever after; its clock goes
    on by two seconds at each look, so that a block takes a few rounds."""
    idle_j = 9 * idle_w
    recording = Recording([0, 9, 9, 1e5], [idle_w] * 2 + [BUSY_W] * 2, [0, idle_j, idle_j, idle_j + BUSY_W * (1e5 - 9)])
    return ReplayMeter(recording, VirtualClock(tick_s=2.0), lost_at_s=lost_at_s)


def plan_of(**changes: Any) -> Plan:
    fields = {
        "target": ["demo-s"], "draft": ["demo-draft-sft"], "decoder": ["ar", "sd:gamma=3"], "suite": ["qa", "mt_bench"],
        "questions": "embedded", "limit": 1, "max_new_tokens": 6, "device": "cpu",
        "energy_blocks": True,
    }  # fmt: skip
    return make_plan(RunSpec(**{**fields, **changes}))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("metered") / "run"
    execute(plan_of(), folder, meter=a_meter())
    return folder


class Counted:
    """An `open_session` whose sessions count what they decode again, by label, suite and turn."""

    def __init__(self, **methods: Any) -> None:
        self.cells: list[tuple[Cell, Prompt]] = []

        def decode_again(session: Session, cell: Cell, prompt: Prompt) -> int:
            self.cells.append((cell, prompt))
            return Session.decode_again(session, cell, prompt)

        self.open = with_methods(decode_again=decode_again, **methods)

    @property
    def blocks(self) -> list[tuple[str, str, int]]:
        return list(dict.fromkeys((c.lane.label, c.question.suite, c.repeat) for c, _ in self.cells))


def open_recorded(device: str) -> ReplayMeter:
    """A meter as another package registers it."""
    assert device == "cpu"
    return a_meter()


def test_a_meter_of_another_package_is_opened_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Plugins(tmp_path / "site", monkeypatch).register("meters", "recorded", f"{__name__}:open_recorded")
    execute(plan_of(energy="recorded", decoder=["ar"], suite=["qa"]), tmp_path / "run")
    assert read_manifest(tmp_path / "run")["energy"] == {"meter": "replay", "reason": None}
    [block] = read_blocks(tmp_path / "run")
    assert block.energy_j == pytest.approx(BUSY_W * block.block_s)


def test_there_is_one_block_per_label_and_suite_and_each_is_long_enough(run: Path) -> None:
    blocks = read_blocks(run)
    assert {b.key for b in blocks} == {
        ("demo-s", label, s, 0) for label in ("ar", "sd:gamma=3") for s in ("qa", "mt_bench")
    }
    for block in blocks:
        assert block.rounds > 1 and block.block_s >= 5 and block.reason is None
        assert block.energy_j == pytest.approx(BUSY_W * block.block_s)
        assert block.energy_net_j == pytest.approx((BUSY_W - IDLE_W) * block.block_s)
        per_round = sum(r.new_tokens or 0 for r in read_records(run) if block_of(r) == block.key)
        assert block.new_tokens == block.rounds * per_round


def test_records_get_their_share_by_tokens(run: Path) -> None:
    blocks = {block.key: block for block in read_blocks(run)}
    records = read_records(run)
    assert len(records) == plan_of().cells
    for record in records:
        block = blocks[block_of(record)]
        assert record.new_tokens and block.energy_j_per_token and block.energy_net_j_per_token
        assert record.energy_j == pytest.approx(block.energy_j_per_token * record.new_tokens)
        assert record.energy_net_j == pytest.approx(block.energy_net_j_per_token * record.new_tokens)
        assert block.trace_j and record.energy_trace_j == pytest.approx(
            block.trace_j / block.new_tokens * record.new_tokens
        )
        assert record.energy_s is None and not set(ENERGY_FIELDS) & record.reasons.keys()


def test_the_manifest_names_meter_and_idle_power(run: Path) -> None:
    manifest = read_manifest(run)
    assert manifest["energy"] == {"meter": "replay", "reason": None}
    assert manifest["idle_power_w"] == pytest.approx(IDLE_W)
    assert "idle_power_w" not in manifest["reasons"]


def test_the_very_prompts_and_seeds_of_the_timed_cells_are_decoded_again(tmp_path: Path) -> None:
    for policy in ("own", "ar"):
        again = Counted()
        plan = plan_of(suite=["mt_bench"], replay_turns=policy, temperature=1.0)
        records = execute(plan, tmp_path / policy, meter=a_meter(), open_session=again.open).records
        assert {(c.key, p.hash, c.seed) for c, p in again.cells} == {(r.key, r.prompt_hash, r.seed) for r in records}
        assert {c.turn for c, _ in again.cells} == {0, 1}


def test_the_pass_comes_after_the_timing(tmp_path: Path) -> None:
    log: list[str] = []

    def noted(name: str) -> Callable[..., Any]:
        def call(session: Session, *arguments: Any) -> Any:
            log.append(name)
            return getattr(Session, name)(session, *arguments)

        return call

    opened = with_methods(**{name: noted(name) for name in ("decode", "decode_again")})
    execute(plan_of(), tmp_path / "run", meter=a_meter(), open_session=opened)
    first = log.index("decode_again")
    assert set(log[:first]) == {"decode"} and set(log[first:]) == {"decode_again"}


def test_labels_and_suites_are_rotated_between_repeats() -> None:
    order = [(suite, lane.label) for lane, suite, _ in blocks_in_order(plan_of(repeats=2), "demo-s")]
    first, second = order[:4], order[4:]
    assert first == [(s, label) for s in ("qa", "mt_bench") for label in ("ar", "sd:gamma=3")]
    assert second == first[::-1]


class Stop(KeyboardInterrupt):
    """Stands for Ctrl-C in the middle of a block."""


def stopped_after(count: int) -> type[Session]:
    calls = iter(range(count))

    def decode_again(session: Session, cell: Cell, prompt: Prompt) -> int:
        if next(calls, None) is None:
            raise Stop
        return Session.decode_again(session, cell, prompt)

    return with_methods(decode_again=decode_again)


def test_a_run_that_goes_on_measures_only_the_blocks_that_are_missing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Stop):
        execute(plan_of(), folder, meter=a_meter(), open_session=stopped_after(5))
    done = read_blocks(folder)
    assert 0 < len(done) < 4
    assert {r.reasons.get("energy_j") for r in read_records(folder)} == {NOT_YET}
    with (folder / ENERGY).open("a") as file:
        file.write('{"target": "demo-s", "torn')

    again = Counted(decode=lambda *_: pytest.fail("every cell was timed already"))
    idle_w = read_manifest(folder)["idle_power_w"]
    records = execute(plan_of(), folder, meter=a_meter(idle_w=70), open_session=again.open).records
    assert len(again.blocks) == 4 - len(done)
    assert not {(b.label, b.suite, b.repeat) for b in done} & set(again.blocks)
    assert read_blocks(folder)[: len(done)] == done and len(read_blocks(folder)) == 4
    assert all(r.energy_j is not None for r in records)
    assert read_manifest(folder)["idle_power_w"] == idle_w


def test_a_finished_run_loads_nothing_and_writes_nothing(run: Path) -> None:
    before = (run / "records.jsonl").read_bytes(), (run / ENERGY).read_bytes()
    execute(plan_of(), run, meter=a_meter(), open_session=never)
    assert ((run / "records.jsonl").read_bytes(), (run / ENERGY).read_bytes()) == before
    execute(plan_of(), run, open_session=never)
    assert read_manifest(run)["energy"]["meter"] == "replay", "a sitting without a meter takes nothing away"


def test_records_that_a_kill_kept_from_their_share_get_it(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("manifest.json", ENERGY):
        (folder / name).write_bytes((run / name).read_bytes())
    lines = (run / "records.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "records.jsonl").write_bytes(b"".join(lines[: plan_of().cells]))  # timed, and nothing after it
    records = execute(plan_of(), folder, meter=a_meter(), open_session=never).records
    assert sorted(map(str, records)) == sorted(map(str, read_records(run)))


def test_without_a_meter_there_is_no_pass_and_records_say_why(tmp_path: Path) -> None:
    again = Counted()
    plan = plan_of(suite=["qa"], energy_blocks=False)  # demo models on a CPU, nothing said: off
    records = execute(plan, tmp_path / "run", open_session=again.open).records
    assert {(r.energy_j, r.reasons["energy_j"]) for r in records} == {(None, OFF)}
    manifest = read_manifest(tmp_path / "run")
    assert manifest["energy"] == {"meter": None, "reason": OFF}
    assert manifest["idle_power_w"] is None and manifest["reasons"]["idle_power_w"] == OFF
    assert not again.cells and not (tmp_path / "run" / ENERGY).exists()

    metered = execute(plan_of(suite=["qa"]), tmp_path / "run", meter=a_meter()).records
    assert all(r.energy_j and "energy_j" not in r.reasons for r in metered), "a later sitting may meter"
    assert untouched(metered) == untouched(records)


def untouched(records: list[Record]) -> list[dict[str, Any]]:
    return [r.model_dump(exclude={*ENERGY_FIELDS, "reasons"}) for r in records]


def test_a_driver_lost_in_mid_run_costs_the_later_blocks_only_and_they_are_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    records = execute(plan_of(), folder, meter=a_meter(lost_at_s=30)).records
    lost = "the recorded driver was lost at 30 s"
    assert {r.reasons.get("energy_j") for r in records} == {None, lost}
    assert {b.reason for b in read_blocks(folder)} == {None, lost}
    assert all(r.status == "ok" for r in records)
    assert all(r.energy_j for r in execute(plan_of(), folder, meter=a_meter()).records)


def test_work_that_fails_costs_its_block_only(tmp_path: Path) -> None:
    def decode_again(session: Session, cell: Cell, prompt: Prompt) -> int:
        if cell.lane.label == "ar":
            raise RuntimeError("CUDA out of memory\nand more")
        return Session.decode_again(session, cell, prompt)

    opened = with_methods(decode_again=decode_again)
    records = execute(plan_of(suite=["qa"]), tmp_path / "run", meter=a_meter(), open_session=opened).records
    reasons = {r.label: r.reasons.get("energy_j") for r in records}
    assert reasons == {"ar": "RuntimeError: CUDA out of memory", "sd:gamma=3": None}


def test_cells_that_failed_are_not_metered(tmp_path: Path) -> None:
    plan = plan_of(suite=["qa"], limit=2)
    failing = plan.questions.by_suite["qa"][0].id

    def decode(session: Session, cell: Cell, prompt: Prompt) -> dict[str, Any]:
        if cell.lane.label == "ar" or cell.question.id == failing:
            raise RuntimeError("out of memory")
        return Session.decode(session, cell, prompt)

    again = Counted(decode=decode)
    records = execute(plan, tmp_path / "run", meter=a_meter(), open_session=again.open).records
    assert [block.key for block in read_blocks(tmp_path / "run")] == [("demo-s", "sd:gamma=3", "qa", 0)]
    assert {c.key for c, _ in again.cells} == {r.key for r in records if r.status == "ok"} != set()
    assert {r.status: r.energy_j is None for r in records} == {"failed": True, "ok": False}


def test_a_watcher_is_told_of_the_pass_and_the_manifest_of_its_time(tmp_path: Path) -> None:
    events: list[Event] = []
    execute(plan_of(suite=["qa"]), tmp_path / "run", events.append, meter=a_meter())
    assert "demo-s: metering energy, 2 blocks of at least 5 s" in [event.text for event in events]
    assert read_manifest(tmp_path / "run")["harness"]["energy_s"] > 0


def test_a_meter_asked_for_that_is_not_there_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with refused(UserError, "--energy nvml", "the run is on cpu"):
        execute(plan_of(energy="nvml"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_meter_is_no_part_of_what_a_run_is() -> None:
    off, on, blocks = plan_of(energy="off", energy_blocks=False), plan_of(energy_blocks=False), plan_of(energy="auto")
    assert off.identity() == on.identity() == blocks.identity()
    lane, question = off.lanes["demo-s"][0], next(iter(off.questions))
    keys = {plan.conversation("demo-s", lane, question, 0)[0].key for plan in (off, on, blocks)}
    assert len(keys) == 1


def test_a_line_that_is_no_block_is_refused(tmp_path: Path) -> None:
    (tmp_path / ENERGY).write_text(json.dumps({"target": "demo-s"}) + "\n")
    with refused(RunFolderError, f"{ENERGY}:1", "not a metered block"):
        read_blocks(tmp_path)


def test_a_block_survives_the_file(run: Path) -> None:
    for block in read_blocks(run):
        assert EnergyBlock.model_validate_json(block.model_dump_json()) == block
