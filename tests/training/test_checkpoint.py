"""Stopping and going on: bit for bit, from any moment, and never over somebody else's work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from specbench_s2d.errors import RunFolderError
from specbench_s2d.training.checkpoint import CHECKPOINT, LOG
from specbench_s2d.training.spec import TrainSpec
from specbench_s2d.training.trainer import Progress, train

from .factory import held_out, random_rows, tiny_model, tiny_spec

DATA = random_rows(7, 8)  # seven rows, four a step: epochs end inside steps


class StoppedError(Exception):
    """Stands for a kill: nothing in the package catches it."""


def run(out: Path, spec: TrainSpec, stop_at: int = 0, seed: int = 0, layers: int = 2) -> dict[str, torch.Tensor]:
    """Train from the start's weights, stopping after `stop_at` steps; returns the weights."""

    def watch(progress: Progress) -> None:
        if progress.step == stop_at:
            raise StoppedError

    model = tiny_model(seed=seed, layers=layers)
    train(model, DATA, held_out(), spec, out, watch)
    return model.state_dict()


def log(out: Path) -> list[dict[str, Any]]:
    """The log's rows without the one field that is a time."""
    rows = [json.loads(line) for line in (out / LOG).read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "train_s"} for row in rows]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("stop_at", [1, 4, 6, 11, 12])
def test_a_stopped_run_goes_on_bit_for_bit(optimizer: str, stop_at: int, tmp_path: Path) -> None:
    spec = tiny_spec(optimizer=optimizer, autocast=True)
    undisturbed = run(tmp_path / "whole", spec)
    with pytest.raises(StoppedError):
        run(tmp_path / "cut", spec, stop_at)
    assert same(run(tmp_path / "cut", spec), undisturbed)
    assert log(tmp_path / "cut") == log(tmp_path / "whole")


def test_the_weights_go_on_from_the_checkpoint_and_not_from_the_start(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        run(tmp_path, tiny_spec(), stop_at=6)
    told: list[int] = []
    train(tiny_model(seed=9), DATA, held_out(), tiny_spec(), tmp_path, lambda p: told.append(p.step))
    assert told == [5, 6, 7, 8, 9, 10, 11, 12]


def test_time_trained_adds_up_over_stops(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        run(tmp_path, tiny_spec(), stop_at=6)
    run(tmp_path, tiny_spec())
    seconds = [json.loads(line)["train_s"] for line in (tmp_path / LOG).read_text().splitlines()]
    assert seconds == sorted(seconds)


def test_a_finished_run_trains_no_more(tmp_path: Path) -> None:
    first = run(tmp_path, tiny_spec())
    assert same(run(tmp_path, tiny_spec(), stop_at=12), first)


def test_a_log_line_torn_by_a_kill_is_written_again(tmp_path: Path) -> None:
    undisturbed = run(tmp_path / "whole", tiny_spec())
    with pytest.raises(StoppedError):
        run(tmp_path / "cut", tiny_spec(), stop_at=6)
    with (tmp_path / "cut" / LOG).open("ab") as file:
        file.write(b'{"step": 7, "lo\xff')
    assert same(run(tmp_path / "cut", tiny_spec()), undisturbed)
    assert log(tmp_path / "cut") == log(tmp_path / "whole")


# Bad input


@pytest.mark.parametrize("damage", [lambda b: b"junk", lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b"PK" * 99])
def test_a_damaged_checkpoint_is_one_line(damage: Any, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        run(tmp_path, tiny_spec(), stop_at=6)
    path = tmp_path / CHECKPOINT
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RunFolderError, match=r"is a damaged checkpoint .*remove .* to train anew") as caught:
        run(tmp_path, tiny_spec())
    assert "\n" not in str(caught.value)


def test_another_runs_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        run(tmp_path, tiny_spec(), stop_at=6)
    with pytest.raises(RunFolderError, match=r"another training run \(differs in learning_rate, seed\)"):
        run(tmp_path, tiny_spec(seed=1, learning_rate=1e-4))
    with pytest.raises(RunFolderError, match=r"differs in ids_sum"):
        train(tiny_model(), random_rows(7, 8, seed=1), {}, tiny_spec(), tmp_path)
    with pytest.raises(RunFolderError, match="a model of another shape"):
        run(tmp_path, tiny_spec(), layers=3)


def test_a_checkpoint_older_than_a_setting_is_gone_on_from(tmp_path: Path) -> None:
    undisturbed = run(tmp_path / "whole", tiny_spec())
    with pytest.raises(StoppedError):
        run(tmp_path / "cut", tiny_spec(), stop_at=6)
    path = tmp_path / "cut" / CHECKPOINT
    state = torch.load(path, weights_only=True)
    del state["identity"]["spec"]["lora_rank"], state["identity"]["spec"]["gradient_checkpointing"]
    torch.save(state, path)
    with pytest.raises(RunFolderError, match=r"differs in gradient_checkpointing\)"):
        run(tmp_path / "cut", tiny_spec(gradient_checkpointing=True))
    assert same(run(tmp_path / "cut", tiny_spec()), undisturbed)


def test_a_log_shorter_than_its_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        run(tmp_path, tiny_spec(), stop_at=6)
    lines = (tmp_path / LOG).read_text().splitlines()
    (tmp_path / LOG).write_text("\n".join(lines[:2]) + "\n")
    with pytest.raises(RunFolderError, match="holds 2 of the 4 steps"):
        run(tmp_path, tiny_spec())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_is_one_line_and_the_last_checkpoint_stays(tmp_path: Path) -> None:
    undisturbed = run(tmp_path / "whole", tiny_spec())
    out = tmp_path / "out"
    with pytest.raises(StoppedError):
        run(out, tiny_spec(), stop_at=6)
    partial = out / (CHECKPOINT + ".partial")
    partial.symlink_to("/dev/full")
    with pytest.raises(RunFolderError, match=r"cannot be written .*saved before is intact.*go on") as caught:
        run(out, tiny_spec())
    assert "\n" not in str(caught.value) and not partial.is_symlink()
    assert same(run(out, tiny_spec()), undisturbed)


def test_a_file_in_the_way_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"cannot be written \(Not a directory\)"):
        run(tmp_path / "file" / "out", tiny_spec())


def test_a_checkpoint_that_cannot_be_replaced_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").mkdir()
    with pytest.raises(RunFolderError, match=r"cannot be written \(Is a directory\)"):
        run(tmp_path, tiny_spec())
