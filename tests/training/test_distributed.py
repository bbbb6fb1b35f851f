"""Several processes: what each takes, what they may be asked, and that together they are as good as one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import specbench_s2d
from specbench_s2d.cli.main import main
from specbench_s2d.errors import UserError
from specbench_s2d.training.distributed import Processes, check_processes, is_main, launcher_ranks, process_group

from .factory import sums, tiny_model, tiny_tokenizer, write_chats


def launch(monkeypatch: pytest.MonkeyPatch, size: int, rank: int = 0) -> None:
    """What a launcher says in the environment."""
    for name, value in (("RANK", rank), ("WORLD_SIZE", size), ("LOCAL_RANK", rank), ("LOCAL_WORLD_SIZE", size)):
        monkeypatch.setenv(name, str(value))


def test_without_a_launcher_one_process_does_it_all() -> None:
    assert launcher_ranks() == (0, 1, 0) and is_main()
    check_processes("cuda:7", 3)
    with process_group("cpu") as processes:
        assert processes == Processes() and processes.is_main and processes.sum(2.5) == 2.5


def test_the_first_of_several_is_the_main_one(monkeypatch: pytest.MonkeyPatch) -> None:
    launch(monkeypatch, 3, 2)
    assert launcher_ranks() == (2, 3, 2) and not is_main() and not Processes(2, 3).is_main


def test_what_processes_cannot_share_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    launch(monkeypatch, 3)
    check_processes("cpu", 6)
    for device, batch, message in (
        ("cpu", 8, "--batch 8: 3 processes share the sequences of a step; give a multiple of 3."),
        ("cuda:1", 6, "--device cuda:1: 3 processes take a GPU each; give --device cuda."),
        ("cuda", 6, "--device cuda: 3 processes on this machine and 2 GPUs; launch at most 2."),
    ):
        with pytest.raises(UserError) as caught:
            check_processes(device, batch, gpus=lambda: 2)
        assert str(caught.value) == message


def soft(out: str) -> list[str]:
    given = ["--length", "40", "--batch", "4", "--tokens", "960", "--no-autocast", "--optimizer", "muon"]
    return ["train", "soft", "--source", "whole", "--layers", "3", "--data", "chat.jsonl", *given, "--out", out]


def accelerated(folder: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    """The command in two processes of one machine's CPU, started by accelerate's launcher."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command = [*launcher, "--main_process_port", "0", "-m", "specbench_s2d", *words]
    package = Path(specbench_s2d.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_two_processes_train_the_weights_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their rows hold different numbers of answer tokens, so nothing but sums over both processes can be right."""
    monkeypatch.chdir(tmp_path)
    write_chats(tmp_path / "chat.jsonl", sums(200))
    tiny_tokenizer().save_pretrained(str(tmp_path / "whole"))
    tiny_model(len(tiny_tokenizer()), layers=4).save_pretrained(str(tmp_path / "whole"))
    assert main(soft("one")) == 0
    ended = accelerated(tmp_path, soft("two"))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("two: 960 tokens") == 1 and ended.stderr.count("two: the first 3 layers of whole") == 1
    steps = [[json.loads(line) for line in (tmp_path / name / "train_log.jsonl").open()] for name in ("one", "two")]
    for one, two in zip(*steps, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert steps[1][-1]["exit_nll"] == pytest.approx(steps[0][-1]["exit_nll"], rel=1e-5)
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("one", "two")]
    assert weights[0].keys() == weights[1].keys()
    for name, one in weights[0].items():
        assert torch.allclose(one.float(), weights[1][name].float(), rtol=1e-2, atol=1e-4)  # one step of bfloat16
    assert json.loads((tmp_path / "two" / "training.json").read_text())["machine"].startswith("2 × 1 CPU threads")
