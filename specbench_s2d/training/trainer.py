"""One training loop for language models and their drafts: packed sequences, autocast, exact resume.

Shapes: `B` sequences, `T` positions, `V` vocabulary. A run lives in one folder: `checkpoint.pt` while it goes
on (weights, optimiser, step), `train_log.jsonl` (one line per logged step), and at its end the Hugging Face
folder itself. Killed at any point, the same command goes on from the last checkpoint over the same data.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field

from specbench_s2d.errors import RunFolderError, UserError
from specbench_s2d.training.data import Encoded, Packed, batch_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHECKPOINT = "checkpoint.pt"
LOG = "train_log.jsonl"
IGNORED = -100


class TrainSpec(BaseModel):
    """Everything that decides the weights, apart from the data and the starting point."""

    model_config = ConfigDict(extra="forbid")

    tokens: int = Field(gt=0, description="tokens to train on, prompts included")
    length: int = Field(1024, gt=1, description="positions of a packed sequence")
    batch: int = Field(8, gt=0, description="sequences of one optimiser step")
    micro_batch: int = Field(4, gt=0, description="sequences of one forward pass")
    loss_on: Literal["all", "answers"] = "all"
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = Field(2e-3, gt=0)
    warmup: float = Field(0.04, ge=0, lt=1, description="share of the steps that warm up")
    final_lr: float = Field(0.05, ge=0, le=1, description="last learning rate over the highest")
    weight_decay: float = Field(0.05, ge=0)
    clip: float = Field(1.0, gt=0)
    seed: int = 0
    autocast: bool = True
    validate_every: int = Field(200, gt=0, description="steps")
    checkpoint_every: int = Field(100, gt=0, description="steps")
    device: str = "cpu"

    @property
    def steps(self) -> int:
        return max(1, round(self.tokens / (self.batch * self.length)))


@dataclass
class Progress:
    """What a watcher is told after every logged step."""

    step: int
    steps: int
    tokens: int
    loss: float
    tokens_per_s: float
    validation: dict[str, float] | None = None


Watcher = Callable[[Progress], None]


def learning_rate_at(step: int, spec: TrainSpec) -> float:
    """Linear warm-up, then a cosine from the highest rate to `final_lr` of it."""
    warm = max(1, round(spec.warmup * spec.steps))
    if step < warm:
        return spec.learning_rate * (step + 1) / warm
    along = (step - warm) / max(1, spec.steps - warm)
    low = spec.final_lr
    return spec.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * along)))


def train(
    model: PreTrainedModel,
    packed: Packed,
    held_out: dict[str, list[Encoded]],
    spec: TrainSpec,
    out: Path,
    watch: Watcher = lambda progress: None,
) -> list[dict[str, Any]]:
    """Train `model` in place and return the log's rows; goes on from `out/checkpoint.pt` where there is one.

    Raises `RunFolderError` when the checkpoint in `out` belongs to another specification or data set.
    """
    torch.manual_seed(spec.seed)
    model.to(spec.device).train()  # type: ignore[arg-type]
    optimizers = _optimizers(model, spec)
    identity = {"spec": spec.model_dump(), "rows": len(packed.ids_BT), "ids_sum": int(packed.ids_BT.sum())}
    step, seconds = _restore(out, model, optimizers, identity, spec)
    rows = _read_log(out, step)
    with (out / LOG).open("a", encoding="utf-8") as log:
        while step < spec.steps:
            started = time.perf_counter()
            loss = _optimizer_step(model, optimizers, packed, spec, step)
            step += 1
            seconds += time.perf_counter() - started
            last = step == spec.steps
            row: dict[str, Any] = {"step": step, "tokens": step * spec.batch * spec.length, "loss": loss}
            row |= {"learning_rate": learning_rate_at(step - 1, spec), "train_s": seconds}
            if last or step % spec.validate_every == 0:
                row["validation_nll"] = validation_loss(model, held_out, spec.device, spec.autocast)
            rows.append(row)
            log.write(json.dumps(row) + "\n")
            log.flush()
            watch(Progress(step, spec.steps, row["tokens"], loss, row["tokens"] / seconds, row.get("validation_nll")))
            if last or step % spec.checkpoint_every == 0:
                _checkpoint(out, model, optimizers, identity, step, seconds)
    return rows


def _optimizer_step(
    model: PreTrainedModel, optimizers: list[torch.optim.Optimizer], packed: Packed, spec: TrainSpec, step: int
) -> float:
    """One step over `batch` sequences; returns the mean loss per counted token, in nats."""
    chosen = batch_rows(len(packed.ids_BT), spec.batch, step, spec.seed)
    counted = max(1, int(packed.learn_BT[chosen, 1:].sum()))
    total = 0.0
    for start in range(0, spec.batch, spec.micro_batch):
        part = chosen[start : start + spec.micro_batch]
        ids_BT = torch.from_numpy(packed.ids_BT[part]).long().to(spec.device)
        learn_BT = torch.from_numpy(packed.learn_BT[part]).to(spec.device)
        loss = sum_of_losses(model, ids_BT, learn_BT, spec.autocast) / counted
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    torch.nn.utils.clip_grad_norm_(model.parameters(), spec.clip)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, spec) * group["lr_scale"]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return total


def sum_of_losses(
    model: PreTrainedModel, ids_BT: torch.Tensor, learn_BT: torch.Tensor, autocast: bool
) -> torch.Tensor:
    """Summed next-token cross-entropy, in nats, over the positions whose *target* is marked in `learn_BT`."""
    targets_BT = ids_BT[:, 1:].masked_fill(~learn_BT[:, 1:], IGNORED)
    with torch.autocast(ids_BT.device.type, dtype=torch.bfloat16, enabled=autocast):
        hidden_BTD = model.model(input_ids=ids_BT[:, :-1], use_cache=False).last_hidden_state
        learnt = targets_BT != IGNORED
        logits_NV = model.lm_head(hidden_BTD[learnt])
    return F.cross_entropy(logits_NV.float(), targets_BT[learnt], reduction="sum")


@torch.no_grad()
def validation_loss(
    model: PreTrainedModel, held_out: dict[str, list[Encoded]], device: str, autocast: bool
) -> dict[str, float]:
    """Mean nats per answer token on held-out chats, per suite and over all of them (`all`)."""
    model.eval()
    sums: dict[str, tuple[float, int]] = {}
    for suite, chats in held_out.items():
        nll, count = 0.0, 0
        for chat in chats:
            ids_BT = torch.from_numpy(chat.ids).long().to(device)[None]
            learn_BT = torch.from_numpy(chat.answer).to(device)[None]
            nll += sum_of_losses(model, ids_BT, learn_BT, autocast).item()
            count += int(learn_BT[:, 1:].sum())
        sums[suite] = (nll, count)
    model.train()
    total = (sum(nll for nll, _ in sums.values()), sum(count for _, count in sums.values()))
    return {suite: nll / max(1, count) for suite, (nll, count) in {**sums, "all": total}.items()}


def _optimizers(model: PreTrainedModel, spec: TrainSpec) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for the layers' matrices and AdamW for the rest (arXiv 2502.16982)."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for name, p in named if p.ndim == 2 and ".layers." in name]
    others = [p for name, p in named if not (p.ndim == 2 and ".layers." in name)]
    rate, decay = spec.learning_rate, spec.weight_decay
    embeddings = [p for p in others if p.ndim == 2]
    vectors = [p for p in others if p.ndim != 2]
    adamw_groups: list[dict[str, Any]] = [
        {"params": embeddings, "weight_decay": decay, "lr_scale": 1.0},
        {"params": vectors, "weight_decay": 0.0, "lr_scale": 1.0},
    ]
    if spec.optimizer == "adamw":
        adamw_groups.append({"params": matrices, "weight_decay": decay, "lr_scale": 1.0})
        return [torch.optim.AdamW(adamw_groups, lr=rate, betas=(0.9, 0.95))]
    muon = torch.optim.Muon(
        [{"params": matrices, "lr_scale": 1.0}],
        lr=rate,
        weight_decay=decay,
        momentum=0.95,
        adjust_lr_fn="match_rms_adamw",
    )
    return [muon, torch.optim.AdamW(adamw_groups, lr=rate, betas=(0.9, 0.95))]


def _checkpoint(
    out: Path,
    model: PreTrainedModel,
    optimizers: list[torch.optim.Optimizer],
    identity: dict[str, Any],
    step: int,
    seconds: float,
) -> None:
    state = {
        "identity": identity,
        "step": step,
        "train_s": seconds,
        "model": model.state_dict(),
        "optimizers": [o.state_dict() for o in optimizers],
    }
    partial = out / (CHECKPOINT + ".partial")
    torch.save(state, partial)
    os.replace(partial, out / CHECKPOINT)


def _restore(
    out: Path,
    model: PreTrainedModel,
    optimizers: list[torch.optim.Optimizer],
    identity: dict[str, Any],
    spec: TrainSpec,
) -> tuple[int, float]:
    """(step, seconds trained) to go on from: (0, 0) without a checkpoint."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / CHECKPOINT
    if not path.is_file():
        return 0, 0.0
    state = torch.load(path, map_location=spec.device, weights_only=True)
    if state["identity"] != identity:
        given, found = {**identity["spec"], **identity}, {**state["identity"]["spec"], **state["identity"]}
        changed = sorted(k for k in given if k != "spec" and given[k] != found.get(k))
        raise RunFolderError(
            f"{path} belongs to another training run (differs in {', '.join(changed)}); "
            "give the same settings to go on, or another --out."
        )
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return int(state["step"]), float(state["train_s"])


def _read_log(out: Path, upto_step: int) -> list[dict[str, Any]]:
    """Rows up to the checkpoint's step; later ones (written before a kill) are dropped, in the file too."""
    path = out / LOG
    rows = [row for row in _json_lines(path) if row["step"] <= upto_step]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return rows


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            return  # a line torn by a kill: it and what follows is trained again


def new_model(
    vocabulary: int, width: int, layers: int, heads: int, kv_heads: int, feed_forward: int, context: int,
    seed: int, bos: int, eos: int,
) -> PreTrainedModel:
    """A fresh Llama with tied embeddings; every matrix drawn with standard deviation 0.02.

    Raises `UserError` for a shape that Llama cannot take.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    if width % heads or heads % kv_heads:
        raise UserError(f"--width {width} must divide by --heads {heads}, and that by --kv-heads {kv_heads}.")
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=bos,
        eos_token_id=eos,
    )
    return LlamaForCausalLM(config).float()
