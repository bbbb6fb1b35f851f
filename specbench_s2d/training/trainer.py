"""The training loop of language models and drafts: packed sequences, autocast, exact resume.

A run keeps `checkpoint.pt` (weights, optimiser, step) and `train_log.jsonl` (one line per step) in one folder; after a
kill, the same command resumes from the last checkpoint over the same data. Shapes: `B` sequences, `T` positions, `V`
vocabulary, `E` exits, `N` positions that count in the loss.
"""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from specbench_s2d.errors import RunFolderError, UserError
from specbench_s2d.training.checkpoint import CHECKPOINT, LOG, read_log, restore, save_checkpoint, writing
from specbench_s2d.training.data import Encoded, Packed, batch_rows
from specbench_s2d.training.distributed import Processes
from specbench_s2d.training.spec import TrainSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

IGNORED = -100


@dataclass
class Progress:
    """The state of a run after a step; `loss` and `validation` (by suite) are nats per token."""

    step: int
    steps: int
    tokens: int
    loss: float
    tokens_per_s: float
    validation: dict[str, float] | None = None


Watcher = Callable[[Progress], None]


@dataclass(frozen=True)
class Objective:
    """What is minimised. `sums`: as `sums_of_losses`; `held_out`: as `validation_loss`."""

    sums: Callable[..., torch.Tensor]
    held_out: Callable[..., dict[int, dict[str, float]]]


class DivergedError(UserError):
    """The loss or its gradient is not finite."""


def learning_rate_at(step: int, spec: TrainSpec) -> float:
    """Linear warm-up, then a cosine from the highest rate to `final_lr` times it."""
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
    processes: Processes | None = None,
    vocabulary: Sequence[int] | None = None,
    backward: Callable[[torch.Tensor], None] = torch.autograd.backward,
    objective: Objective | None = None,
) -> list[dict[str, Any]]:
    """Train `model` in place, from `out/checkpoint.pt` on where there is one; returns the rows of the log.

    `vocabulary`: the ids that are learnt, None for all. `backward`: computes the gradients of a loss. `objective`: the
    losses, by default of a language model. In several
    `processes` only the main one validates, writes and returns rows; all end with the same weights. Raises
    `RunFolderError` when the checkpoint in `out` is damaged or belongs to another specification or data set, or when
    `out` cannot be written; `DivergedError` when the loss is not finite. The last checkpoint stays intact.
    """
    processes, objective = processes or Processes(device=spec.device), objective or LANGUAGE_MODEL
    torch.manual_seed(spec.seed)
    torch.nn.Module.to(model, processes.device)
    model.train()
    if spec.gradient_checkpointing:
        compute_layers_twice(model)
    optimizers = _optimizers(model, spec)
    identity = {"spec": spec.model_dump(), "rows": len(packed.ids_BT), "ids_sum": int(packed.ids_BT.sum())}
    step, seconds = restore(out, model, optimizers, identity, processes.device)
    if processes.sum(step) != step * processes.size:
        raise RunFolderError(f"{out}: the processes see different checkpoints; give an --out that all machines share.")
    rows = read_log(out, step) if processes.is_main else []
    kept_V = None if vocabulary is None else torch.tensor(list(vocabulary), device=processes.device)
    while step < spec.steps:
        started = time.perf_counter()
        loss = _optimizer_step(model, optimizers, packed, spec, step, out, processes, backward, kept_V, objective.sums)
        step += 1
        seconds += time.perf_counter() - started
        if not processes.is_main:
            continue
        rows.append(_log_row(model, held_out, spec, step, loss, seconds, out, kept_V, objective.held_out))
        _append(out, rows[-1])
        tokens = rows[-1]["tokens"]
        watch(Progress(step, spec.steps, tokens, loss, tokens / seconds, rows[-1].get("validation_nll")))
        if step == spec.steps or step % spec.checkpoint_every == 0:
            save_checkpoint(out, model, optimizers, identity, step, seconds)
    return rows


def _log_row(
    model: PreTrainedModel,
    held_out: dict[str, list[Encoded]],
    spec: TrainSpec,
    step: int,
    loss: float,
    seconds: float,
    out: Path,
    vocabulary_V: torch.Tensor | None,
    held_out_loss: Callable[..., dict[int, dict[str, float]]],
) -> dict[str, Any]:
    """The row of a finished step, with held-out losses where validation is due."""
    row: dict[str, Any] = {"step": step, "tokens": step * spec.batch * spec.length, "loss": loss}
    row |= {"learning_rate": learning_rate_at(step - 1, spec), "train_s": seconds}
    if step == spec.steps or step % spec.validate_every == 0:
        by_exit = held_out_loss(model, held_out, spec.autocast, spec.exits, vocabulary_V)
        row["validation_nll"] = by_exit[max(by_exit)]
        row["exit_nll"] = {str(depth): nll.get("all") for depth, nll in by_exit.items()}
        _must_be_finite(row["validation_nll"].get("all", 0.0), "held-out loss", step, out)
    return row


def _append(out: Path, row: dict[str, Any]) -> None:
    with writing(out), (out / LOG).open("a", encoding="utf-8") as log:
        log.write(json.dumps(row) + "\n")


def compute_layers_twice(model: PreTrainedModel) -> None:
    """Gradient checkpointing: keep only the input of each layer, and recompute the layer in the backward pass."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the new name is missing in older versions that we support
        model.gradient_checkpointing_enable({"use_reentrant": False})


def _optimizer_step(
    model: PreTrainedModel,
    optimizers: list[torch.optim.Optimizer],
    packed: Packed,
    spec: TrainSpec,
    step: int,
    out: Path,
    processes: Processes,
    backward: Callable[[torch.Tensor], None],
    vocabulary_V: torch.Tensor | None,
    losses: Callable[..., torch.Tensor],
) -> float:
    """One step over `batch` sequences, shared by the processes; returns the mean loss in nats per counted token."""
    chosen = batch_rows(len(packed.ids_BT), spec.batch, step, spec.seed)
    counted = max(1, int(packed.learn_BT[chosen, 1:].sum()))
    total = 0.0
    own = chosen[processes.rank :: processes.size]
    for start in range(0, len(own), spec.micro_batch):
        part = own[start : start + spec.micro_batch]
        ids_BT = torch.from_numpy(packed.ids_BT[part]).long().to(processes.device)
        learn_BT = torch.from_numpy(packed.learn_BT[part]).to(processes.device)
        sums_E = losses(model, ids_BT, learn_BT, spec.autocast, spec.exits, vocabulary_V)
        loss = sums_E.mean() / counted
        backward(loss)
        total += loss.item()
    total = processes.sum(total)
    processes.sum_gradients(model.parameters())
    _must_be_finite(total, "training loss", step + 1, out)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), spec.clip)
    _must_be_finite(norm.item(), "gradient", step + 1, out)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, spec) * group["lr_scale"]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return total


def _must_be_finite(value: float, what: str, step: int, out: Path) -> None:
    """Raise `DivergedError` for a value that is not finite, before it reaches a checkpoint."""
    if math.isfinite(value):
        return
    kept = "the last checkpoint is kept there" if (out / CHECKPOINT).is_file() else "no checkpoint yet"
    raise DivergedError(
        f"step {step}: the {what} is {value}, so training stopped ({out}: {kept}). "
        "Train again with a lower --learning-rate and another --out."
    )


def sums_of_losses(
    model: PreTrainedModel,
    ids_BT: torch.Tensor,
    learn_BT: torch.Tensor,
    autocast: bool,
    exits: Sequence[int] = (),
    vocabulary_V: torch.Tensor | None = None,
) -> torch.Tensor:
    """Summed next-token cross-entropy (E,), in nats, over the positions whose *target* is marked in `learn_BT`.

    One value per exit, shallow to deep, from one forward pass; without `exits`, that of the last layer. All exits share
    the model's final norm and head, as in SoFT, sorted fine-tuning (arXiv 2407.01955, section 3). `vocabulary_V`: the
    ids that a draft may propose; logits are of these alone, and positions whose target is another do not count.
    """
    head_VD = model.lm_head.weight
    if vocabulary_V is not None:
        head_VD = head_VD[vocabulary_V]
        places_V = torch.full((model.lm_head.weight.shape[0],), IGNORED, device=ids_BT.device)
        places_V[vocabulary_V] = torch.arange(len(vocabulary_V), device=ids_BT.device)
        targets_BT = places_V[ids_BT[:, 1:]].masked_fill(~learn_BT[:, 1:], IGNORED)
    else:
        targets_BT = ids_BT[:, 1:].masked_fill(~learn_BT[:, 1:], IGNORED)
    learnt = targets_BT != IGNORED
    depth = model.config.num_hidden_layers
    inner = [exit_depth for exit_depth in exits if exit_depth < depth]
    losses = []
    with torch.autocast(ids_BT.device.type, dtype=torch.bfloat16, enabled=autocast):
        out = model.model(input_ids=ids_BT[:, :-1], use_cache=False, output_hidden_states=bool(inner))
        # transformers applies the final norm only to the states of the last layer.
        rows = [model.model.norm(out.hidden_states[exit_depth][learnt]) for exit_depth in inner]
        rows.append(out.last_hidden_state[learnt])
        for rows_ND in rows:
            logits_NV = F.linear(rows_ND, head_VD)
            losses.append(F.cross_entropy(logits_NV.float(), targets_BT[learnt], reduction="sum"))
    return torch.stack(losses)


@torch.no_grad()
def validation_loss(
    model: PreTrainedModel,
    held_out: dict[str, list[Encoded]],
    autocast: bool,
    exits: Sequence[int] = (),
    vocabulary_V: torch.Tensor | None = None,
) -> dict[int, dict[str, float]]:
    """Mean nats per answer token on held-out chats, by exit depth, then by suite and over all suites (`all`).

    Without `exits`, only of the last layer. Empty where no answer token is held out.
    """
    model.train(False)
    depths = tuple(exits) or (model.config.num_hidden_layers,)
    sums: dict[str, tuple[torch.Tensor, int]] = {}
    for suite, chats in held_out.items():
        nll_E, count = torch.zeros(len(depths)), 0
        for chat in chats:
            ids_BT = torch.from_numpy(chat.ids).long().to(model.device)[None]
            learn_BT = torch.from_numpy(chat.answer).to(model.device)[None]
            nll_E += sums_of_losses(model, ids_BT, learn_BT, autocast, exits, vocabulary_V).cpu()
            counted = (
                learn_BT[:, 1:] if vocabulary_V is None else learn_BT[:, 1:] & torch.isin(ids_BT[:, 1:], vocabulary_V)
            )
            count += int(counted.sum())
        sums[suite] = (nll_E, count)
    model.train()
    total_E = sum((nll_E for nll_E, _ in sums.values()), torch.zeros(len(depths)))
    sums["all"] = (total_E, sum(count for _, count in sums.values()))
    return {
        depth: {suite: nll_E[i].item() / count for suite, (nll_E, count) in sums.items() if count}
        for i, depth in enumerate(depths)
    }


LANGUAGE_MODEL = Objective(sums_of_losses, validation_loss)


def _optimizers(model: PreTrainedModel, spec: TrainSpec) -> list[torch.optim.Optimizer]:
    """AdamW for all weights, or Muon for the layers' matrices and AdamW for the others (arXiv 2502.16982)."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for name, p in named if p.ndim == 2 and "layer" in name]
    embeddings = [p for name, p in named if p.ndim == 2 and "layer" not in name]
    vectors = [p for _, p in named if p.ndim != 2]
    rate, decay = spec.learning_rate, spec.weight_decay
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
