"""The pool: the records of one process, each once, whatever dies on the way."""

from __future__ import annotations

import os
import signal
from collections import Counter
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from specbench_s2d.bench.blocks import cut
from specbench_s2d.bench.devices import Seat
from specbench_s2d.bench.launches import run_launches
from specbench_s2d.bench.local_workers import LocalWorkers
from specbench_s2d.bench.messages import Facts, Gone, Link, Order, Refused
from specbench_s2d.bench.plan import Cell, Plan
from specbench_s2d.bench.pool import MOST_DEATHS, in_pool
from specbench_s2d.bench.runner import Event, Outcome, execute
from specbench_s2d.bench.worker import SentStore, work
from specbench_s2d.errors import RunFolderError, UnfitMachineError, UserError
from specbench_s2d.measure.machine import usable_cores
from specbench_s2d.models.file_hash import known_hashes
from specbench_s2d.runs.folder import RunStore, read_manifest, read_records
from specbench_s2d.runs.record import Record
from tests.bench.crews import Killed, Script, ThreadWorkers, hello, skipped, worker_of
from tests.refusals import refused
from tests.tiny_run import plan_of, tiny_spec

OF_THE_DEVICE = {
    "run_id", "device_id", "prefill_s", "decode_s", "total_s", "draft_s", "verify_s", "other_s", "bound_s", "reasons",
}  # fmt: skip


@pytest.fixture(scope="module")
def spec(tiny_models: Path) -> dict[str, Any]:
    targets, suites = ["tiny-target", "tiny-deep"], ["qa", "mt_bench"]
    return tiny_spec(tiny_models, ["ar", "sd:gamma=3"], target=targets, suite=suites, devices="2")


@pytest.fixture(scope="module")
def plan(spec: dict[str, Any]) -> Plan:
    return plan_of(spec)


@pytest.fixture(scope="module")
def alone(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The records of one process, by key."""
    return untimed(execute(plan, tmp_path_factory.mktemp("alone") / "run").records)


def untimed(records: list[Record]) -> dict[str, dict[str, Any]]:
    assert len({record.key for record in records}) == len(records)
    return {record.key: record.model_dump(exclude=OF_THE_DEVICE) for record in records}


def run_with(plan: Plan, folder: Path, scripts: list[Script], workers: int = 2, **given: Any) -> Outcome:
    crew = ThreadWorkers(workers, scripts)
    return run_launches(plan, folder, launcher=in_pool(lambda: crew), **given)


def lines_of(folder: Path) -> Counter[str]:
    """How often each key stands in the file itself."""
    return Counter(line.split('"key":"', 1)[1][:32] for line in (folder / "records.jsonl").read_text().splitlines())


def test_workers_give_the_records_of_one_process(
    plan: Plan, alone: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("specbench_s2d.bench.worker.make_plan", lambda spec: plan)
    learnt: list[Any] = []
    monkeypatch.setattr("specbench_s2d.bench.worker.learn_hashes", learnt.append)

    def really(order: Order, connection: Connection) -> None:
        work(order, Link(connection))

    outcome = run_with(plan, tmp_path / "run", [really], workers=1)
    assert untimed(outcome.records) == alone
    assert learnt == [known_hashes()], "what the driver has read, no worker reads again"
    manifest = read_manifest(tmp_path / "run")
    assert manifest["ended"] and set(manifest["targets"]) == {"tiny-target", "tiny-deep"}
    (part,) = manifest["parts"]
    assert part["device_id"] == outcome.records[0].device_id and str(part["device_id"]).endswith(":0")
    assert part["environment"]["cpu"] and part["targets"] == manifest["targets"]
    assert manifest["environment"] == part["environment"] and manifest["harness"]["decoding_s"] > 0
    assert len(outcome.records) == plan.cells


def test_a_real_process_that_is_killed_with_its_target_loaded(
    spec: dict[str, Any], alone: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    plan = plan_of(spec, target=spec["target"][:1])
    core, killed = usable_cores()[:1], list[int]()
    workers = LocalWorkers([Seat(core)])

    def kill(event: Event) -> None:
        if event.records and not killed:
            process, _ = workers._running[0]
            killed.append(int(process.pid or 0))
            os.kill(killed[0], signal.SIGKILL)

    outcome = run_launches(plan, tmp_path / "run", kill, launcher=in_pool(lambda: workers))
    assert killed and untimed(outcome.records) == {key: alone[key] for key in plan.keys}
    assert set(lines_of(tmp_path / "run").values()) == {1}
    assert read_manifest(tmp_path / "run")["parts"][0]["environment"]["settings"]["OMP_NUM_THREADS"] == "1"
    with pytest.raises(ProcessLookupError):
        os.kill(killed[0], 0)


@pytest.mark.parametrize("dies_after", [0, 1, 3])
def test_a_worker_that_dies_leaves_its_block_to_others_and_nothing_runs_twice(
    plan: Plan, tmp_path: Path, dies_after: int
) -> None:
    seen: list[Cell] = []
    scripts = [worker_of(plan, dies_after, seen), worker_of(plan, seen=seen)]
    outcome = run_with(plan, tmp_path / "run", scripts)
    assert {r.key for r in outcome.records} == plan.keys == set(lines_of(tmp_path / "run"))
    assert set(lines_of(tmp_path / "run").values()) == {1}
    assert all(count == 1 for count in Counter(cell.key for cell in seen).values())


def test_a_block_that_kills_three_workers_fails_with_the_reason(plan: Plan, tmp_path: Path) -> None:
    poison, good = plan.targets[0], worker_of(plan)

    def dies_at_poison(order: Order, connection: Connection) -> None:
        class Watched:
            send = connection.send

            def recv(self) -> Any:
                given = connection.recv()
                if getattr(given, "block", None) and given.block.target == poison and 1 in given.block.places:
                    raise Killed
                return given

        good(order, Watched())  # type: ignore[arg-type]

    crew = ThreadWorkers(2, [dies_at_poison])
    lines: list[str] = []
    outcome = run_launches(plan, tmp_path / "run", lambda e: lines.append(e.text or ""), launcher=in_pool(lambda: crew))
    failed = [r for r in outcome.records if r.status == "failed"]
    assert {(r.target, r.question_id) for r in failed} == {("tiny-target", plan.questions.questions[1].id)}
    assert {r.error for r in failed} == {"3 workers died at its block, the last one so: killed by signal 9"}
    assert {r.key for r in outcome.records} == plan.keys
    assert sum("died (killed by signal 9); what is left of its block runs again" in line for line in lines) == 2
    assert sum(line.endswith("died (killed by signal 9).") for line in lines) == 1  # the third: its cells fail
    assert len(crew.started) == 2 + MOST_DEATHS or len(crew.started) == 1 + MOST_DEATHS


def test_workers_that_never_begin_end_the_run_with_their_reason(plan: Plan, tmp_path: Path) -> None:
    def fails(order: Order, connection: Connection) -> None:
        connection.send(Gone("RuntimeError: no such device"))

    crew = ThreadWorkers(2, [fails])
    with refused(UserError, "every worker died as it started (RuntimeError: no such device)", "--out"):
        run_launches(plan, tmp_path / "run", launcher=in_pool(lambda: crew))
    assert len(crew.started) == 2 * MOST_DEATHS
    assert len(run_with(plan, tmp_path / "run", [worker_of(plan)]).records) == plan.cells


def test_what_a_worker_refuses_ends_the_run_and_frees_the_folder(plan: Plan, tmp_path: Path) -> None:
    def refuses(order: Order, connection: Connection) -> None:
        hello(order, connection)
        connection.send(Refused(UnfitMachineError("--strict: busy")))
        connection.recv()

    with refused(UnfitMachineError, "--strict: busy"):
        run_with(plan, tmp_path / "run", [refuses])
    assert len(run_with(plan, tmp_path / "run", [worker_of(plan)]).records) == plan.cells


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"libraries": {"torch": "1.0"}}, "torch 1.0 instead of"),
        ({"code": {"version": "9"}}, "specbench-s2d 9 instead of"),
    ],
)
def test_a_worker_of_another_version_is_refused_unless_allowed(
    plan: Plan, tmp_path: Path, environment: dict[str, Any], said: str
) -> None:
    def other(order: Order, connection: Connection) -> None:
        hello(order, connection, **environment)

    with refused(UserError, "worker 1 has", said, "--allow-mixed"):
        run_with(plan, tmp_path / "run", [other], workers=1)
    crew = ThreadWorkers(1, [other, worker_of(plan)])
    run_launches(plan, tmp_path / "run", launcher=in_pool(lambda: crew, allow_mixed=True))


def test_workers_of_two_device_models_are_refused(plan: Plan, tmp_path: Path) -> None:
    def on(model: str) -> Script:
        def script(order: Order, connection: Connection) -> None:
            hello(order, connection, gpu={"name": model, "driver": "1"})
            connection.recv()

        return script

    with refused(UserError, "the device model", "instead of"):
        run_with(plan, tmp_path / "run", [on("A"), on("B")])


def test_a_worker_whose_files_differ_is_refused(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(plan, settings={**plan.settings, "seed": 5})
    monkeypatch.setattr("specbench_s2d.bench.worker.make_plan", lambda spec: other)

    def really(order: Order, connection: Connection) -> None:
        work(order, Link(connection))

    with refused(RunFolderError, "worker 1: its files give another run", "settings"):
        run_with(plan, tmp_path / "run", [really], workers=1)


def test_the_same_command_goes_on_after_the_driver_stopped(plan: Plan, tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if event.done > plan.cells // 2:
            raise KeyboardInterrupt

    crew = ThreadWorkers(2, [worker_of(plan)])
    with pytest.raises(KeyboardInterrupt):
        run_launches(plan, tmp_path / "run", stop, launcher=in_pool(lambda: crew))
    before = lines_of(tmp_path / "run")
    assert 0 < len(before) < plan.cells and read_manifest(tmp_path / "run")["ended"] is None
    seen: list[Cell] = []
    run_with(plan, tmp_path / "run", [worker_of(plan, seen=seen)])
    assert len(seen) == plan.cells - len(before)
    assert set(lines_of(tmp_path / "run").values()) == {1} and read_manifest(tmp_path / "run")["ended"]
    never: list[Script] = []
    assert len(run_with(plan, tmp_path / "run", never).records) == plan.cells


def test_a_retry_runs_the_failed_cells_and_no_others(plan: Plan, tmp_path: Path) -> None:
    failing = set(sorted(plan.keys)[::5])
    first = run_with(plan, tmp_path / "run", [worker_of(plan, fails=failing)])
    assert {r.key for r in first.records if r.status == "failed"} == failing and first.failed == len(failing) > 1
    never: list[Script] = []
    assert list(run_with(plan, tmp_path / "run", never).records) == list(first.records), "failures stay until then"
    seen: list[Cell] = []
    again = run_with(plan, tmp_path / "run", [worker_of(plan, seen=seen)], retry_failed=True)
    assert Counter(cell.key for cell in seen) == Counter(failing)
    assert again.failed == 0 and {r.key for r in again.records} == plan.keys
    assert {key for key, times in lines_of(tmp_path / "run").items() if times == 2} == failing
    assert [r for r in again.records if r.key not in failing] == [r for r in first.records if r.key not in failing]


def test_the_drivers_hashes_are_the_workers(plan: Plan, tmp_path: Path) -> None:
    """No worker reads a weight file to hash it that the driver has read."""
    orders: list[Order] = []

    def script(order: Order, connection: Connection) -> None:
        orders.append(order)
        worker_of(plan)(order, connection)

    run_with(plan, tmp_path / "run", [script], workers=1)
    target = plan.targets[0]
    weights = Path(target).resolve() / "model.safetensors"
    assert {Path(state.path) for state in orders[0].hashes} >= {weights}


def test_a_full_disk_is_one_line_and_ends_the_workers(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: RunStore, records: Any) -> None:
        raise RunFolderError("records.jsonl: cannot be written (No space left on device)")

    monkeypatch.setattr(RunStore, "append", full)
    crew = ThreadWorkers(2, [worker_of(plan)])
    with refused(RunFolderError, "No space left on device"):
        run_launches(plan, tmp_path / "run", launcher=in_pool(lambda: crew))
    assert not crew._running


def test_facts_of_devices_stand_apart_and_together(plan: Plan, tmp_path: Path) -> None:
    good = worker_of(plan)

    def says(order: Order, connection: Connection) -> None:
        class Telling:
            recv = connection.recv

            def send(self, message: Any) -> None:
                connection.send(message)
                if type(message).__name__ == "Kept":
                    condition = {"about": "CPU", "what": f"busy {order.seat}", "advice": "wait"}
                    targets = {"tiny-deep": {"seat": order.seat}}
                    part = {"conditions": [condition], "harness": {"loop_s": 2.0}, "targets": targets}
                    connection.send(Facts(part))

        good(order, Telling())  # type: ignore[arg-type]

    run_with(plan, tmp_path / "run", [says])
    manifest = read_manifest(tmp_path / "run")
    devices = {part["device_id"] for part in manifest["parts"]}
    assert devices <= {"cpu:test:0", "cpu:test:1"} and len(manifest["parts"]) == len(devices)
    assert len(manifest["conditions"]) == len(devices) and manifest["harness"] == {"loop_s": 2.0 * len(devices)}
    assert {r.device_id for r in read_records(tmp_path / "run")} == devices


def test_each_launch_begins_with_fresh_workers(spec: dict[str, Any], tmp_path: Path) -> None:
    plan, crews = plan_of(spec, launches=2), list[ThreadWorkers]()

    def script(order: Order, connection: Connection) -> None:
        worker_of(replace(plan, launch=order.launch))(order, connection)

    def fresh() -> ThreadWorkers:
        crews.append(ThreadWorkers(2, [script]))
        return crews[-1]

    outcome = run_launches(plan, tmp_path / "run", launcher=in_pool(fresh))
    assert len(crews) == 2 and Counter(r.launch for r in outcome.records) == {0: plan.cells // 2, 1: plan.cells // 2}
    assert read_manifest(tmp_path / "run")["ended"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"decoder": ["ar", "recycling:scope=run"]}, "drafts from earlier questions"),
        ({"energy": "auto", "energy_blocks": True}, "--energy-blocks"),
    ],
)
def test_what_needs_the_whole_grid_is_refused(spec: dict[str, Any], changes: dict[str, Any], said: str) -> None:
    with refused(UserError, "--devices 2", said):
        plan_of(spec, **changes)


def test_a_shard_is_cut_into_blocks_like_a_grid(spec: dict[str, Any], tmp_path: Path) -> None:
    plan = plan_of(spec, shard="2/3")
    outcome = run_with(plan, tmp_path / "run", [partial(worker_of(plan))])
    assert {r.key for r in outcome.records} == plan.keys and plan.cells < plan_of(spec).cells


def test_failed_cells_of_a_device_that_is_lost_are_left_to_others(plan: Plan, tmp_path: Path) -> None:
    def lost() -> None:
        raise RuntimeError("CUDA error: device lost")

    sent: list[Any] = []
    link = SimpleNamespace(send=sent.append)
    order = Order(plan.spec, {}, plan.key_schema, 0, tmp_path, plan.cells, False, 0)
    cell = next(cut(plan, dict.fromkeys(plan.targets, 1.0), 1)[0].cells(plan))
    fine, failed = skipped(plan, cell), skipped(plan, cell).updated(status="failed")
    store = SentStore(order, {}, link, lost)  # type: ignore[arg-type]
    store.append([fine])
    with pytest.raises(RuntimeError, match="device lost"):
        store.append([fine, failed])
    SentStore(order, {}, link, lambda: None).append([failed])  # type: ignore[arg-type]
    assert [message.records for message in sent] == [[fine], [failed]]
