"""`--devices`: which seats it means, on GPUs and on a CPU; bad ones in one line."""

from __future__ import annotations

import pytest
import torch

from specbench_s2d.bench.devices import Seat, seats, torch_devices
from specbench_s2d.config import make_spec
from specbench_s2d.errors import UserError
from specbench_s2d.models.devices import dtype_by_default
from tests.refusals import refused

GPUS = ["GPU-a", "GPU-b", "GPU-c"]
CORES = [0, 1, 2, 3, 4, 6, 8]


def on(device: str, text: str) -> list[Seat]:
    return seats(text, device, lambda: GPUS, lambda: CORES)


@pytest.mark.parametrize(
    ("text", "gpus"), [("all", GPUS), ("2", GPUS[:2]), ("0,2", ["GPU-a", "GPU-c"]), ("1,", ["GPU-b"]), ("1", ["GPU-a"])]
)
def test_gpus_by_all_by_count_and_by_number(text: str, gpus: list[str]) -> None:
    chosen = on("cuda", text)
    assert [seat.gpu for seat in chosen] == gpus
    used = [core for seat in chosen for core in seat.cores]
    assert sorted(used) == CORES and all(seat.device_part == "" for seat in chosen)


def test_on_a_cpu_a_count_shares_the_cores_and_a_list_names_them() -> None:
    assert [list(seat.cores) for seat in on("cpu", "2")] == [[0, 1, 2], [3, 4, 6, 8]]
    assert [list(seat.cores) for seat in on("cpu", "6,0")] == [[6], [0]]
    assert [list(seat.cores) for seat in on("cpu", "all")] == [[core] for core in CORES]
    assert [seat.device_part for seat in on("cpu", "2")] == [":0-2", ":3-8"]
    assert [seat.device_part for seat in on("cpu", "6,")] == [":6"]


@pytest.mark.parametrize(
    ("device", "text", "said"),
    [
        ("cpu", "8", "this process may use 7 cores; give 1 to 7"),
        ("cpu", "0", "this process may use 7 cores"),
        ("cpu", "0,5", "no cores 5 for this process; there are 0, 1, 2, 3, 4, 6, 8"),
        ("cuda", "4", "this process may use 3 GPUs"),
        ("cuda", "3,", "no GPUs 3 for this process; there are 0, 1, 2"),
    ],
)
def test_devices_that_are_not_there_are_refused(device: str, text: str, said: str) -> None:
    with refused(UserError, f"--devices {text}", said):
        on(device, text)


@pytest.mark.parametrize("text", ["one", "0-2", "1,1", "-1", "0;1", ",", "1,,2", "9" * 5000, "1," + "9" * 5000, "٢"])
def test_what_is_no_list_of_devices_is_refused(text: str) -> None:
    with refused(UserError, "--devices", text):
        make_spec(None, {"devices": text})


@pytest.mark.parametrize(
    ("text", "device", "expected"),
    [
        ("all", "cuda", ["cuda:0", "cuda:1"]),
        ("1", "cuda", ["cuda:0"]),
        ("1,", "cuda", ["cuda:1"]),
        ("1,7", "cuda", ["cuda:1"]),
        ("0", "cuda", ["cuda"]),
        ("all", "cpu", ["cpu"]),
        (None, "cuda", ["cuda"]),
        ("all", "cuda:1", ["cuda:1"]),
    ],
)
def test_the_dtype_is_one_of_all_gpus_that_workers_have(
    text: str | None, device: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as torch sees here: what is not there is refused by `seats`."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert torch_devices(text, device) == expected
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda one: (7, 5) if one == "cuda:1" else (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda one: "Tesla T4")
    assert (dtype_by_default(*expected).name == "float16") == ("cuda:1" in expected)


def test_a_run_file_may_give_a_number() -> None:
    assert make_spec(None, {"devices": 2}).devices == "2"


def test_slices_of_gpus_are_seats_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA shows this process the first of them alone."""
    slices = ["MIG-8f6b1c2e-0d3a-4c5b-9e7f-1a2b3c4d5e6f", "MIG-GPU-8f6b1c2e-0d3a-4c5b-9e7f-1a2b3c4d5e6f/2/0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(slices))
    chosen = seats("all", "cuda", list_cores=lambda: CORES)
    assert [seat.environment({})["CUDA_VISIBLE_DEVICES"] for seat in chosen] == slices


def test_a_worker_sees_its_gpu_alone_and_is_in_no_distributed_job() -> None:
    before = {"WORLD_SIZE": "8", "LOCAL_RANK": "3", "MASTER_ADDR": "10.0.0.1", "HOME": "/h", "OMP_NUM_THREADS": "64"}
    given = Seat([2, 3], "GPU-a").environment(before)
    assert given["CUDA_VISIBLE_DEVICES"] == "GPU-a" and given["HOME"] == "/h" and given["OMP_NUM_THREADS"] == "2"
    assert not {"WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"} & set(given)
    assert Seat([2, 3]).environment({"OMP_NUM_THREADS": "1"})["OMP_NUM_THREADS"] == "1"
