"""The folder of a training run in progress: `checkpoint.pt` (replaced atomically) and `train_log.jsonl` (appended).

A checkpoint belongs to one identity (specification and data), and is refused for any other. Every problem with the
folder is raised as a `RunFolderError` that says what to do.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from specbench_s2d.errors import RunFolderError, in_one_line
from specbench_s2d.files import remedy, replacing, write_whole
from specbench_s2d.training.spec import TrainSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHECKPOINT = "checkpoint.pt"
SPEC_DEFAULTS = {name: field.default for name, field in TrainSpec.model_fields.items() if not field.is_required()}
LOG = "train_log.jsonl"


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a failed write below `folder` (a full disk, a missing permission, a file in the way) into
    `RunFolderError`."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or in_one_line(error)
        raise RunFolderError(
            f"{folder} cannot be written ({reason}). What was saved before is intact: "
            f"{remedy(error, 'make room or grant access')} and give the same command to go on, or give another --out."
        ) from error


def save_checkpoint(
    out: Path,
    model: PreTrainedModel,
    optimizers: list[torch.optim.Optimizer],
    identity: dict[str, Any],
    step: int,
    seconds: float,
) -> None:
    """Write trained weights, optimiser states and step to a new file, then replace the last checkpoint by it."""
    state = {
        "identity": identity,
        "step": step,
        "train_s": seconds,
        "model": {name: tensor for name, tensor in model.state_dict().items() if name not in _frozen(model)},
        "optimizers": [o.state_dict() for o in optimizers],
    }
    with writing(out), replacing(out / CHECKPOINT) as partial, partial.open("wb") as file:
        _save(state, file)
        file.flush()
        os.fsync(file.fileno())


def _frozen(model: PreTrainedModel) -> set[str]:
    """Weights that are not trained (the base of LoRA), which checkpoints leave out."""
    return {name for name, p in model.named_parameters(remove_duplicate=False) if not p.requires_grad}


def _save(state: dict[str, Any], file: Any) -> None:
    try:
        torch.save(state, file)
    except RuntimeError as error:  # torch's zip writer raises this in place of the OSError of a full disk
        raise OSError(None, f"the checkpoint could not be written: {in_one_line(error)}") from error


def load_checkpoint(out: Path, identity: dict[str, Any], device: str) -> dict[str, Any] | None:
    """The checkpoint in `out`, or None where there is none.

    Raises `RunFolderError` when it is damaged, or belongs to another specification or data set.
    """
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    path = out / CHECKPOINT
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        state["identity"]["spec"] = {**SPEC_DEFAULTS, **state["identity"]["spec"]}
        found = {**state["identity"]["spec"], **state["identity"]}
    except Exception as error:  # damaged bytes surface as struct, pickle, zip, key and many other errors
        raise RunFolderError(
            f"{path} is a damaged checkpoint ({type(error).__name__}); remove {out} to train anew."
        ) from error
    given = {**identity["spec"], **identity}
    changed = sorted(k for k in given if k != "spec" and given[k] != found.get(k))
    if state["identity"] != identity:
        raise RunFolderError(
            f"{path} belongs to another training run (differs in {', '.join(changed)}); "
            "give the same settings and data to go on, or another --out."
        )
    assert isinstance(state, dict)
    return state


def restore(
    out: Path,
    model: PreTrainedModel,
    optimizers: list[torch.optim.Optimizer],
    identity: dict[str, Any],
    device: str,
) -> tuple[int, float]:
    """Load the checkpoint into weights and optimisers; returns (step, seconds trained), (0, 0) without a checkpoint."""
    state = load_checkpoint(out, identity, device)
    if state is None:
        return 0, 0.0
    try:
        frozen = _frozen(model)
        if state["model"].keys() != model.state_dict().keys() - frozen:
            raise KeyError("other weights")
        model.load_state_dict(state["model"], strict=not frozen)
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        return int(state["step"]), float(state["train_s"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise RunFolderError(
            f"{out / CHECKPOINT} holds a model of another shape; give the same model to go on, or another --out."
        ) from error


def read_log(out: Path, step: int) -> list[dict[str, Any]]:
    """One row per step up to the checkpoint's step; later ones, from before a kill, are removed from the file too.

    Raises `RunFolderError` when a row before the checkpoint is missing.
    """
    path = out / LOG
    rows = [row for row in _json_lines(path) if row["step"] <= step]
    if len(rows) != step:
        raise RunFolderError(
            f"{path} holds {len(rows)} of the {step} steps that the checkpoint has seen; remove {out} to train anew."
        )
    with writing(out):
        write_whole(path, "".join(json.dumps(row) + "\n" for row in rows))
    return rows


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    for line in path.read_bytes().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return  # a line cut by a kill: this step and later ones are trained again
