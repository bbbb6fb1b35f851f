"""Training jobs of draft heads: the target's data, its frozen states, the head, its folder and card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from specbench_s2d.models.chat import ChatTemplate
from specbench_s2d.models.heads.eagle3_shape import check_depth
from specbench_s2d.models.heads.eight_bits import in_bits
from specbench_s2d.models.load import hide_progress_bars
from specbench_s2d.models.token_ranking import ranked
from specbench_s2d.training.card import DATA_LICENCES, data_summary, training_facts
from specbench_s2d.training.data import answer_counts, held_out_by_suite, pack
from specbench_s2d.training.distributed import Processes
from specbench_s2d.training.eagle import EagleModule, held_out_loss, sums_of_losses
from specbench_s2d.training.eagle3 import Eagle3Module
from specbench_s2d.training.init_model import ModelSource, load_source, load_tokenizer
from specbench_s2d.training.jobs import (
    HELD_OUT_PER_SUITE,
    Corpus,
    check_model,
    check_out,
    check_usable_device,
    claim,
    machine_text,
    publishing,
    work_folder,
)
from specbench_s2d.training.spec import TrainSpec
from specbench_s2d.training.trainer import Objective, Watcher, train


def train_eagle(
    target: str,
    corpus: Corpus,
    spec: TrainSpec,
    out: Path,
    command: str,
    steps: int = 1,
    version: int = 1,
    watch: Watcher = lambda progress: None,
    template: str | None = None,
    licence: str = DATA_LICENCES,
    bits: int = 16,
) -> dict[str, Any]:
    """Train EAGLE's head for `target`, drafting `steps` tokens, and write `out` in the form that EAGLE publishes,
    its matrices in 8 or 16 `bits`; returns the facts.

    `version`: 1, or 3 for EAGLE-3's. Work in progress is kept in `out.work`, and `out` appears only when it is
    complete. Raises `RunFolderError` when `out` holds a model, `ModelError` for a target that is no Llama-family
    checkpoint, or too shallow for EAGLE-3.
    """
    hide_progress_bars()
    check_out(out)
    check_usable_device(spec.device)
    model, chat = load_source(target), ChatTemplate.choose(load_tokenizer(target), template)
    frozen: Any = model
    frozen.to(spec.device, torch.bfloat16 if spec.autocast else torch.float32)  # it is not learnt
    check_model(model, spec, target)
    if version == 3:
        check_depth(Path(target).name, model.config.num_hidden_layers)
    training, held_out = corpus.encode(chat)
    packed = pack(training, spec.length, spec.loss_on == "answers", spec.seed)
    watched = held_out_by_suite(held_out, HELD_OUT_PER_SUITE, spec.length)
    counts = answer_counts(training, model.config.vocab_size)
    kept = sorted(ranked(counts)[: spec.draft_vocabulary]) or None
    head = Eagle3Module(model, spec.seed, steps, kept) if version == 3 else EagleModule(model, spec.seed, steps)
    work, processes = work_folder(out), Processes(device=spec.device)
    start = ModelSource("continue", target)
    claim(work, start)
    objective = Objective(sums_of_losses, held_out_loss)
    module: Any = head
    rows = train(module, packed, watched, spec, work, watch, processes, kept, objective=objective)
    what = f"EAGLE-{version}'s head on the states of {Path(target).name}, drafting {steps} tokens"
    facts = training_facts(
        out.name, what, command, spec,
        data_summary(corpus.training, training), rows, _sizes(head), 0, machine_text(processes), chat.name, licence,
    )  # fmt: skip
    facts["what"] = "A draft head in EAGLE's form"
    with publishing(facts, counts, work, out) as partial:
        save_eagle(head, partial, Path(target).name, bits)
    return facts


def save_eagle(head: EagleModule, folder: Path, target: str, bits: int = 16) -> None:
    """Weights in bfloat16, or matrices in 8 `bits`, under EAGLE's names, and the target's config with one layer; maps
    of ids stay whole."""
    from safetensors.torch import save_file

    save_file(in_bits(head.state_dict(), bits), str(folder / "model.safetensors"), metadata={"format": "pt"})
    fields = head.config.to_dict() | head.published() | {"specbench_target": target}
    fields.pop("_name_or_path", None)  # a folder of the machine that trained it
    (folder / "config.json").write_text(json.dumps(fields, indent=1, default=str) + "\n", encoding="utf-8")


def _sizes(head: EagleModule) -> dict[str, Any]:
    parameters = sum(p.numel() for p in head.parameters())
    return {"layers": 1, "width": head.config.hidden_size, "parameters": parameters}
