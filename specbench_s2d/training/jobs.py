"""Training jobs: encode the data, initialise the model, train it, and save it with its card."""

from __future__ import annotations

import copy
import dataclasses
import json
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from specbench_s2d.errors import RunFolderError, UserError, in_one_line
from specbench_s2d.files import replacing, why_no_folder, write_whole
from specbench_s2d.models.chat import ChatTemplate
from specbench_s2d.models.load import hide_progress_bars
from specbench_s2d.models.resolve import resolve_model
from specbench_s2d.models.token_ranking import ranked, write_ranking
from specbench_s2d.training.adapters import add_adapters, import_peft, merge_adapters, save_adapter
from specbench_s2d.training.card import DATA_LICENCES, FACTS, data_summary, training_facts, write_card
from specbench_s2d.training.checkpoint import CHECKPOINT, LOG, writing
from specbench_s2d.training.data import (
    Encoded,
    answer_counts,
    encode_chats,
    held_out_by_suite,
    pack,
    read_chats,
)
from specbench_s2d.training.distributed import Processes, check_processes, process_group
from specbench_s2d.training.exits import check_nested, declare_exits
from specbench_s2d.training.init_model import ModelSource, init_model, resolve_source
from specbench_s2d.training.spec import TrainSpec
from specbench_s2d.training.trainer import Watcher, train

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HELD_OUT_PER_SUITE = 40
START = "start.json"
Trainer = Callable[..., list[dict[str, Any]]]
"""Called as `trainer.train`."""


class Corpus:
    """A chat corpus, read once, and encoded once per tokenizer and template."""

    def __init__(self, sources: Sequence[str]) -> None:
        chats = read_chats(sources)
        self.training = [chat for chat in chats if not chat.held_out]
        self.held_out = [chat for chat in chats if chat.held_out]
        self._encoded: list[tuple[ChatTemplate, tuple[list[Encoded], list[Encoded]]]] = []

    def encode(self, template: ChatTemplate) -> tuple[list[Encoded], list[Encoded]]:
        """(training, held-out) chats as ids."""
        for known, encoded in self._encoded:
            if known.tokenizer is template.tokenizer and known.source == template.source:
                return encoded
        encoded = encode_chats(self.training, template), encode_chats(self.held_out, template)
        self._encoded.append((template, encoded))
        return encoded


def work_folder(out: Path) -> Path:
    """The folder of checkpoint and log while the model `out` is being trained."""
    return out.with_name(out.name + ".work")


def check_out(out: Path) -> None:
    """Raise `RunFolderError` for a folder that a trained model cannot be written to."""
    if why := why_no_folder(out):
        raise RunFolderError(f"{out}: {why}; give another --out.")
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        if (out / "config.json").exists():
            raise RunFolderError(f"{out} already holds a model; give another --out, or remove it to train anew.")
        if out.exists() and any(out.iterdir()):
            raise RunFolderError(f"{out} is not an empty folder; give another --out, or an empty one.")


def check_usable_device(device: str) -> None:
    """Raise `UserError` for a device that cannot be used on this machine."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"--device {device}: not usable here ({in_one_line(error)}); cpu always is.") from error


def train_model(
    name: str,
    start: ModelSource,
    tokenizer: PreTrainedTokenizerBase,
    corpus: Corpus,
    spec: TrainSpec,
    out: Path,
    command: str,
    watch: Watcher = lambda progress: None,
    template: str | None = None,
    licence: str = DATA_LICENCES,
    trainer: Trainer = train,
    adapter: bool = False,
) -> dict[str, Any]:
    """Train, then write `out` as a Hugging Face folder (bfloat16 safetensors, tokenizer, card); returns the facts.

    Work in progress is kept in `out.work`, and `out` appears only when it is complete. `template`: a chat template, by
    default the tokenizer's own, else Vicuna's. `licence`: the sentence about it in the card. `trainer`: as
    `trainer.train`. `adapter`: write LoRA's adapter alone, as one over the source, in place of weights. In several
    processes, only the main one writes and returns facts; the others return none. Raises `RunFolderError` when `out`
    holds a model.
    """
    hide_progress_bars()
    check_out(out)
    check_usable_device(spec.device)
    check_processes(spec.device, spec.batch)
    if spec.lora_rank:
        import_peft(spec.lora_rank)
    chat = ChatTemplate.choose(tokenizer, template)
    check_source(start.source, spec)
    model = init_model(start, tokenizer, spec.seed)
    check_model(model, spec, start.source)
    training, held_out = corpus.encode(chat)
    packed = pack(training, spec.length, spec.loss_on == "answers", spec.seed)
    watched = held_out_by_suite(held_out, HELD_OUT_PER_SUITE, spec.length)
    work = work_folder(out)
    with process_group(spec.device) as processes:
        if processes.is_main:
            claim(work, start)
        counts = answer_counts(training, model.config.vocab_size)
        kept = ranked(counts)[: spec.draft_vocabulary] or None
        tuner = add_adapters(model, spec) if spec.lora_rank else None
        rows = trainer(model, packed, watched, spec, work, watch, processes, kept)
    if not processes.is_main:
        return {}
    if tuner and not adapter:
        model = merge_adapters(tuner)
    declare_exits(model, spec.exits)
    facts = training_facts(
        name,
        start.describe(),
        command,
        spec,
        data_summary(corpus.training, training),
        rows,
        _sizes(model),
        _tokens_seen(start.source),
        machine_text(processes),
        chat.name,
        licence,
    )
    with publishing(facts, counts, work, out) as partial:
        if tuner and adapter:
            _save_adapter(tuner, model, partial, start.source)
        else:
            _save_weights(model, chat, partial)
    return facts


def check_model(model: PreTrainedModel, spec: TrainSpec, source: str) -> None:
    """Raise an error for a model that cannot be trained so."""
    _check_sizes(int(model.config.max_position_embeddings), int(model.config.vocab_size), spec)
    if spec.exits:
        check_nested(model, spec.exits, source)


def check_source(source: str, spec: TrainSpec) -> None:
    """The same of the sizes that the config of a source states, before its weights load; not of a new model, nor of
    one that loading refuses."""
    if source and (found := resolve_model(resolve_source(source))).has_layer_ranges:
        _check_sizes(found.context, found.rows, spec)


def _check_sizes(context: int, vocabulary: int, spec: TrainSpec) -> None:
    if spec.length > context:
        raise UserError(f"--length {spec.length}: the model's context is {context}; lower it.")
    if spec.draft_vocabulary > vocabulary:
        raise UserError(
            f"--draft-vocabulary {spec.draft_vocabulary}: the model has {vocabulary} ids; give at most that."
        )


def claim(work: Path, start: ModelSource, what: str = "") -> None:
    """Record in the work folder what the run starts from, and what it makes where `TrainSpec` does not say; raises
    `RunFolderError` where another start is recorded."""
    note, size = work / START, dataclasses.asdict(start.size)
    asked = {"kind": start.kind, "source": Path(start.source).name, "layers": start.layers, "shape": size}
    asked |= {"what": what} if what else {}
    if (work / CHECKPOINT).is_file() and note.is_file() and _read_json(note) != asked:
        raise RunFolderError(
            f"{work} belongs to another training run (it does not start from {start.describe()}"
            f"{f', or does not make {what}' if what else ''}); give the same command, or another --out."
        )
    with writing(work):
        work.mkdir(parents=True, exist_ok=True)
        write_whole(note, json.dumps(asked))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError:
        return None


@contextmanager
def publishing(facts: dict[str, Any], counts: list[int], work: Path, out: Path) -> Iterator[Path]:
    """A folder to write a model into; then its card, ranking and log are added, and it becomes `out`, complete."""
    with writing(out), replacing(out) as partial:
        partial.mkdir(parents=True)
        yield partial
        write_card(partial, facts)
        write_ranking(partial, counts, facts["data"])
        shutil.copy(work / LOG, partial / LOG)
        for weights in partial.glob("*.safetensors"):  # which are written for their owner alone
            weights.chmod((partial / LOG).stat().st_mode)
    shutil.rmtree(work)


def _save_weights(model: PreTrainedModel, chat: ChatTemplate, folder: Path) -> None:
    tokenizer = copy.deepcopy(chat.tokenizer)
    tokenizer.chat_template = chat.source
    torch.nn.Module.to(model, torch.bfloat16)
    model.config.dtype = torch.bfloat16
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


def _save_adapter(tuner: Any, model: PreTrainedModel, folder: Path, source: str) -> None:
    """The factors, and config.json; a base that is a folder is named by its whole path."""
    model.config.save_pretrained(str(folder))
    save_adapter(tuner, folder, str(Path(source).resolve()) if Path(source).is_dir() else source)


def _sizes(model: PreTrainedModel) -> dict[str, Any]:
    config = model.config
    return {
        "layers": config.num_hidden_layers,
        "width": config.hidden_size,
        "heads": config.num_attention_heads,
        "kv_heads": config.num_key_value_heads,
        "feed_forward": config.intermediate_size,
        "vocabulary": config.vocab_size,
        "context": config.max_position_embeddings,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _tokens_seen(source: str) -> int:
    """Tokens that the source was trained on, according to its `training.json`; 0 where that is missing."""
    if not source:
        return 0
    facts = Path(resolve_source(source)) / FACTS
    known = _read_json(facts) if facts.is_file() else None
    return int(known.get("tokens", 0)) + int(known.get("tokens_inherited", 0)) if isinstance(known, dict) else 0


def machine_text(processes: Processes) -> str:
    """The hardware of one process, and the number of processes."""
    many = f"{processes.size} × " if processes.size > 1 else ""
    if processes.device.startswith("cuda"):
        return many + torch.cuda.get_device_name(processes.device)
    return f"{many}{torch.get_num_threads()} CPU threads ({platform.machine()})"
