"""Training jobs of draft heads: the target's data, its frozen states, the head, its folder and card."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from specbench_s2d.files import write_whole
from specbench_s2d.models.chat import ChatTemplate
from specbench_s2d.models.heads.eagle3_shape import check_depth
from specbench_s2d.models.heads.eight_bits import in_bits
from specbench_s2d.models.load import hide_progress_bars
from specbench_s2d.models.token_ranking import ranked
from specbench_s2d.models.weight_files import MEDUSA
from specbench_s2d.training import eagle, medusa
from specbench_s2d.training.card import DATA_LICENCES, data_summary, training_facts
from specbench_s2d.training.data import answer_counts, held_out_by_suite, pack
from specbench_s2d.training.distributed import Processes
from specbench_s2d.training.eagle import EagleModule
from specbench_s2d.training.eagle3 import Eagle3Module
from specbench_s2d.training.held_out import acceptance_by_position
from specbench_s2d.training.init_model import ModelSource, load_source, load_tokenizer
from specbench_s2d.training.jobs import (
    HELD_OUT_PER_SUITE,
    Corpus,
    check_model,
    check_out,
    check_source,
    check_usable_device,
    claim,
    machine_text,
    publishing,
    work_folder,
)
from specbench_s2d.training.medusa import MedusaModule, ResidualBlock
from specbench_s2d.training.spec import TrainSpec
from specbench_s2d.training.trainer import Objective, Watcher, train


@dataclass(frozen=True)
class HeadKind:
    """A kind of draft head in training. `make`: the module on a frozen target, for the ids that are learnt (None for
    all); it has `config`, and `choices` (`held_out.Choices`), by which its acceptance by position is measured. `save`:
    writes it into a folder, with its target's name. `what`, `form`: of the card, with `{target}`."""

    what: str
    form: str
    make: Callable[[Any, list[int] | None], Any]
    objective: Objective
    save: Callable[[Any, Path, str], None]


def eagle_head(target: str, seed: int, steps: int = 1, version: int = 1, bits: int = 16) -> HeadKind:
    """EAGLE's head for `target`, or EAGLE-3's (`version` 3), which drafts `steps` tokens while it learns; written in
    the form that EAGLE publishes, matrices in 8 or 16 `bits`. Its `make` raises `ModelError` for a target that is too
    shallow for EAGLE-3."""

    def make(model: Any, kept: list[int] | None) -> EagleModule:
        if version != 3:
            return EagleModule(model, seed, steps)
        check_depth(Path(target).name, model.config.num_hidden_layers)
        return Eagle3Module(model, seed, steps, kept)

    return HeadKind(
        f"EAGLE-{version}'s head on the states of {{target}}, drafting {steps} tokens",
        "A draft head in EAGLE's form",
        make,
        Objective(eagle.sums_of_losses, eagle.held_out_loss),
        partial(save_eagle, bits=bits),
    )


def medusa_heads(heads: int, blocks: int = 1, share_head: bool = False, bits: int = 16) -> HeadKind:
    """Medusa's heads of `blocks` residual blocks each, with LM heads of their own or the target's (`share_head`);
    written in the form that Medusa publishes, matrices in 8 or 16 `bits`."""
    through = " through its LM head" if share_head else ""
    return HeadKind(
        f"{heads} heads of Medusa, of {blocks} block{'s' if blocks > 1 else ''}, on the states of {{target}}{through}",
        "Draft heads in Medusa's form",
        lambda model, kept: MedusaModule(model, heads, blocks, share_head),
        Objective(medusa.sums_of_losses, medusa.held_out_loss),
        partial(save_medusa, bits=bits),
    )


def train_head(
    kind: HeadKind,
    target: str,
    corpus: Corpus,
    spec: TrainSpec,
    out: Path,
    command: str,
    watch: Watcher = lambda progress: None,
    template: str | None = None,
    licence: str = DATA_LICENCES,
) -> dict[str, Any]:
    """Train a draft head for `target`, and write `out` with its card; returns the facts.

    Work in progress is kept in `out.work`, and `out` appears only when it is complete. Raises `RunFolderError` when
    `out` holds a model, `ModelError` for a target that is no Llama-family checkpoint.
    """
    hide_progress_bars()
    check_out(out)
    check_usable_device(spec.device)
    check_source(target, spec)
    model, chat = load_source(target), ChatTemplate.choose(load_tokenizer(target), template)
    frozen: Any = model
    frozen.to(spec.device, torch.bfloat16 if spec.autocast else torch.float32)  # it is not learnt
    check_model(model, spec, target)
    training, held_out = corpus.encode(chat)
    packed = pack(training, spec.length, spec.loss_on == "answers", spec.seed)
    watched = held_out_by_suite(held_out, HELD_OUT_PER_SUITE, spec.length)
    counts = answer_counts(training, model.config.vocab_size)
    kept = sorted(ranked(counts)[: spec.draft_vocabulary]) or None
    head = kind.make(model, kept)
    work, processes = work_folder(out), Processes(device=spec.device)
    claim(work, ModelSource("continue", target), kind.what.format(target=Path(target).name))
    rows = train(head, packed, watched, spec, work, watch, processes, kept, objective=kind.objective)
    called = Path(target).name
    facts = training_facts(
        out.name, kind.what.format(target=called), command, spec, data_summary(corpus.training, training), rows,
        _sizes(head), 0, machine_text(processes), chat.name, licence,
    )  # fmt: skip
    facts["what"] = kind.form
    kept_V = None if kept is None else torch.tensor(kept, device=model.device)
    choices = partial(head.choices, vocabulary_V=kept_V)
    with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=spec.autocast):
        facts["acceptance_by_position"] = acceptance_by_position(choices, watched, model.device)
    with publishing(facts, counts, work, out) as partial_folder:
        kind.save(head, partial_folder, called)
    return facts


def save_eagle(head: EagleModule, folder: Path, target: str, bits: int = 16) -> None:
    """Weights in bfloat16, or matrices in 8 `bits`, under EAGLE's names, and the target's config with one layer; maps
    of ids stay whole."""
    from safetensors.torch import save_file

    save_file(in_bits(head.state_dict(), bits), str(folder / "model.safetensors"), metadata={"format": "pt"})
    fields = head.config.to_dict() | head.published() | {"specbench_target": target}
    fields.pop("_name_or_path", None)  # a folder of the machine that trained it
    write_whole(folder / "config.json", json.dumps(fields, indent=1, default=str) + "\n")


def save_medusa(head: MedusaModule, folder: Path, target: str, bits: int = 16) -> None:
    """Weights in bfloat16, or matrices in 8 `bits`, under Medusa's names, and a config that names the target."""
    from safetensors.torch import save_file

    tensors = in_bits(head.heads.state_dict(), bits)
    save_file(tensors, str(folder / f"{MEDUSA}.safetensors"), metadata={"format": "pt"})
    blocks = sum(isinstance(part, ResidualBlock) for part in head.heads[0].children())
    fields = {"base_model_name_or_path": target, "medusa_num_heads": len(head.heads), "medusa_num_layers": blocks}
    fields["vocab_size"] = head.config.vocab_size
    write_whole(folder / "config.json", json.dumps(fields, indent=1) + "\n")


def _sizes(head: Any) -> dict[str, Any]:
    parameters = sum(p.numel() for p in head.parameters())
    return {"layers": 1, "width": head.config.hidden_size, "parameters": parameters}
