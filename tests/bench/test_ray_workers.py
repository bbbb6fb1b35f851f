"""Workers as Ray tasks: what a cluster does not have is refused at once; a worker that dies leaves nothing undone."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing.connection import Client
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from specbench_s2d.bench import ray_workers
from specbench_s2d.bench.launches import run_launches
from specbench_s2d.bench.messages import Kept, Link, Order
from specbench_s2d.bench.plan import Plan, make_plan
from specbench_s2d.bench.pool import in_pool
from specbench_s2d.bench.ray_workers import RayWorkers, claim_cores, connect, default_dtype_there, resources_each
from specbench_s2d.bench.runner import Event
from specbench_s2d.config import RunSpec
from specbench_s2d.errors import UserError
from specbench_s2d.models.devices import DtypeChoice, dtype_by_default
from tests.bench.crews import worker_of
from tests.bench.test_pool import lines_of
from tests.refusals import refused

TWO_NODES = [{"CPU": 4.0, "GPU": 1.0}, {"CPU": 2.0, "GPU": 2.0}]


@pytest.mark.parametrize(
    ("text", "device", "expected"),
    [
        ("all", "cuda", (3, {"num_gpus": 1, "num_cpus": 1})),
        ("2", "cuda", (2, {"num_gpus": 1, "num_cpus": 1})),
        ("all", "cpu", (6, {"num_cpus": 1})),
        ("3", "cpu", (3, {"num_cpus": 2})),
        ("2", "cpu", (2, {"num_cpus": 2})),
        ("1", "cpu", (1, {"num_cpus": 4})),
    ],
)
def test_every_worker_has_room(text: str, device: str, expected: tuple[int, dict[str, float]]) -> None:
    assert resources_each(text, device, TWO_NODES) == expected


def test_a_gpu_needs_a_core_of_its_node() -> None:
    with refused(UserError, "has 1 GPUs on 1 nodes", "Give 1 to 1, or add nodes"):
        resources_each("2", "cuda", [{"CPU": 1.0, "GPU": 4.0}])


@pytest.mark.parametrize(
    ("text", "device", "said"),
    [
        ("4", "cuda", "has 3 GPUs on 2 nodes; Ray would wait for ever. Give 1 to 3"),
        ("7", "cpu", "has 6 CPUs on 2 nodes"),
        ("0", "cpu", "has 6 CPUs on 2 nodes"),
        ("0,1", "cuda", "Ray places the workers; give all, or how many"),
    ],
)
def test_what_the_cluster_does_not_have_is_refused(text: str, device: str, said: str) -> None:
    with refused(UserError, f"--devices {text}", said):
        resources_each(text, device, TWO_NODES)


def test_a_cluster_without_gpus_is_named() -> None:
    with refused(UserError, "the Ray cluster has 0 GPUs on 1 nodes", "Add nodes that have GPUs"):
        resources_each("all", "cuda", [{"CPU": 4.0}])


class Cluster:
    """Stands in for Ray: three nodes, one of them without a GPU, each of which answers as told."""

    def __init__(self, *answers: DtypeChoice | Exception) -> None:
        self.answers, self.asked = list(answers), list[dict[str, Any]]()

    def nodes(self) -> list[dict[str, Any]]:
        there = [{"GPU": 1.0}, {"CPU": 8.0}, {"GPU": 2.0}]
        return [{"NodeID": f"{n:056x}", "Alive": True, "Resources": one} for n, one in enumerate(there)]

    def remote(self, **options: Any) -> Any:
        self.asked.append(options)
        return lambda function: SimpleNamespace(remote=lambda *given: (function, given))

    def get(self, tasks: list[Any], timeout: float) -> list[Any]:
        assert tasks == [(dtype_by_default, ("cuda",))] * 2 and timeout
        if errors := [answer for answer in self.answers if isinstance(answer, Exception)]:
            raise errors[0]
        return self.answers


AMPERE, VOLTA = DtypeChoice("bfloat16", "it is new"), DtypeChoice("float16", "it is a V100")


def test_the_dtype_by_default_is_one_that_every_node_of_the_cluster_multiplies() -> None:
    """Whatever GPU the driver has, or none."""
    pytest.importorskip("ray", reason="Ray is not installed")
    assert default_dtype_there(cluster := Cluster(AMPERE, VOLTA)) == VOLTA
    assert [one["scheduling_strategy"].node_id for one in cluster.asked] == [f"{n:056x}" for n in (0, 2)]
    assert default_dtype_there(Cluster(AMPERE, AMPERE)) == AMPERE
    with refused(UserError, "--ray: a node does not say which GPUs it has (it is gone); give --dtype."):
        default_dtype_there(Cluster(AMPERE, TimeoutError("it is gone")))


def test_a_run_elsewhere_takes_the_dtype_of_the_devices_there(tiny_models: Path) -> None:
    asked = RunSpec(target=[str(tiny_models / "tiny-target")], decoder=["ar"], suite=["qa"], limit=1, device="cuda")
    plan = make_plan(asked, elsewhere=lambda: VOLTA)
    assert plan.spec.dtype == "float16" and plan.said == ["float16 is it is a V100."]
    assert plan.manifest("run", {})["dtype"] == {"used": "float16", "default": VOLTA._asdict()}

    def not_asked() -> DtypeChoice:
        raise AssertionError

    for given in ({"dtype": "bfloat16"}, {"device": "cpu"}):
        make_plan(asked.model_copy(update=given), elsewhere=not_asked)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with refused(UserError, "--ray", "pip install 'specbench-s2d[ray]'"):
        connect()


def test_no_two_workers_of_a_node_have_one_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_workers, "usable_cores", lambda: [0, 2, 5])
    monkeypatch.setattr(ray_workers, "_held", held := [])
    assert claim_cores(2, tmp_path) == [0, 2]
    assert claim_cores(2, tmp_path) == []
    assert claim_cores(1, tmp_path) == [5]
    for lock in held:
        lock.release()
    assert claim_cores(3, tmp_path) == [0, 2, 5]


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Ray with two cores, for this module alone."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    os.environ["RAY_USAGE_STATS_ENABLED"], os.environ["RAY_AUTH_MODE"] = "0", "disabled"
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=200 * 2**20, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def plan(tiny_models: Path) -> Plan:
    return make_plan(
        RunSpec(
            target=[str(tiny_models / "tiny-target")],
            decoder=["ar", "lookup"],
            suite=["qa"],
            questions="embedded",
            limit=8,
            max_new_tokens=4,
            device="cpu",
            energy="off",
            devices="2",
        )
    )


def _in_ray_skipping(plan: Plan, marker: Path, order: Order, address: tuple[str, int], secret: bytes) -> None:
    """A worker in Ray that skips its cells; the first of all dies after its first round."""
    with Client(address, authkey=secret) as connection:
        connection.send(order.seat)
        try:
            marker.touch(exist_ok=False)
        except FileExistsError:
            worker_of(plan)(order, connection)
            return

        class Dies(Link):
            def send(self, message: Any) -> None:
                connection.send(message)
                if isinstance(message, Kept):
                    os._exit(1)

            recv = connection.recv

        worker_of(plan)(order, Dies(connection))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1", "ray://somewhere:10001", "127.0.0.1:port", "127.0.0.1:65536", "h:" + "9" * 5000]
)
def test_an_address_that_is_none_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with refused(UserError, f"--ray-address {address}", "give HOST:PORT of the head, or auto"):
        connect(address)


def test_an_address_where_nothing_answers_is_refused() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with refused(UserError, f"--ray-address {address}", "nothing answers there"):
            ray_workers._check_answers(address)


def test_a_worker_that_dies_in_ray_leaves_its_block_to_others(
    ray: Any, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_ray(order: Order, cores: int, address: tuple[str, int], secret: bytes) -> None:
        _in_ray_skipping(plan, tmp_path / "marker", order, address, secret)

    monkeypatch.setattr(ray_workers, "_in_ray", in_ray)
    lines: list[str] = []

    def watch(event: Event) -> None:
        lines.append(event.text or "")

    make_workers = partial(RayWorkers, ray, 1, {"num_cpus": 1}, True)
    outcome = run_launches(plan, tmp_path / "run", watch, launcher=in_pool(make_workers))
    assert any("died" in line for line in lines)
    keys = lines_of(tmp_path / "run")
    assert set(keys) == plan.keys and set(keys.values()) == {1} and len(outcome.records) == plan.cells


def test_a_worker_that_ray_cannot_start_is_given_up_with_the_reason(
    ray: Any, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_workers, "START_S", 0.3)
    monkeypatch.setattr(ray_workers, "_GRACE_S", 0.1)
    make_workers = partial(RayWorkers, ray, 1, {"num_cpus": 1, "num_gpus": 1}, True)  # there is no GPU
    with refused(UserError, "every worker died as it started (Ray started no worker within 0 s)"):
        run_launches(plan, tmp_path / "run", launcher=in_pool(make_workers))


def test_a_caller_that_says_nothing_keeps_no_worker_out(ray: Any) -> None:
    workers = RayWorkers(ray, 1, {"num_cpus": 1}, True)
    try:
        with socket.create_connection(workers._listener.address), Client(workers._listener.address) as stranger:
            stranger.send_bytes(b"nothing that is known")
            with Client(workers._listener.address, authkey=workers._secret) as ours:
                ours.send(3)
                give_up = time.monotonic() + 5
                while 3 not in workers._connections and time.monotonic() < give_up:
                    time.sleep(0.01)
                assert list(workers._connections) == [3]
    finally:
        workers.close()


def test_what_nodes_say_is_not_printed_where_the_table_goes(ray: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert connect() is ray
    client = ray._private.worker.global_worker.gcs_client
    ray._private.utils.publish_error_to_driver("raylet", "a node died", gcs_client=client)
    time.sleep(1.5)
    assert "a node died" not in capsys.readouterr().out
