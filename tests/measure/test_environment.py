"""The manifest's environment: what is known, and why what is not known is not."""

from __future__ import annotations

import json
import subprocess
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from specbench_s2d import __version__
from specbench_s2d.measure.environment import commit_of, environment, library_version
from specbench_s2d.measure.gpu import GpuProbe
from tests.measure.nvml import FakeCuda, FakeNvml


def test_code_libraries_and_machine_are_named() -> None:
    facts = environment("cpu")
    assert facts["code"]["version"] == __version__
    assert facts["libraries"]["torch"] == version("torch")  # a CUDA build calls itself 2.13.0+cu130
    assert all(facts["libraries"].values())
    assert facts["cpu"]["threads"] == torch.get_num_threads()
    assert facts["cpu"]["cores"] >= facts["cpu"]["usable_cores"] >= 1
    assert facts["cpu"]["other_load_cores"] >= 0
    assert 0 < facts["memory"]["available_bytes"] < facts["memory"]["total_bytes"]
    assert facts["gpu"] == {"name": None, "reason": "the run used cpu"}
    assert json.loads(json.dumps(facts)) == facts


def test_a_gpus_load_is_read_before_its_clocks_are_woken() -> None:
    cuda = FakeCuda("cuda:0")
    nvml = FakeNvml(nvmlDeviceGetUtilizationRates=lambda uuid: SimpleNamespace(gpu=cuda.woken))
    facts = environment("cuda:0", GpuProbe("cuda:0", lambda device: cuda, nvml.open))["gpu"]
    assert len(nvml.asked) == 2 and cuda.woken == 1
    assert (facts["utilization_percent"], facts["sm_clock_mhz"], facts["name"]) == (0, 1755, "NVIDIA H100")


def test_a_library_that_is_not_installed_is_none() -> None:
    assert library_version("torch") == version("torch")
    assert library_version("no-such-library") is None


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git checkout with one file."""
    (tmp_path / "file.py").write_text("before")
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    for command in (("init", "-q"), ("add", "file.py"), (*identity, "commit", "-q", "-m", "first")):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    return tmp_path


def test_changed_files_mark_the_commit(checkout: Path) -> None:
    head = commit_of(checkout)
    assert head and len(head) == 40
    (checkout / "untracked.py").write_text("new")
    assert commit_of(checkout) == head
    (checkout / "file.py").write_text("after")
    assert commit_of(checkout) == head + "+"


def test_outside_a_checkout_and_without_git_the_commit_is_none(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert commit_of(tmp_path_factory.mktemp("elsewhere")) is None
    monkeypatch.setenv("PATH", "")
    assert commit_of(checkout) is None
