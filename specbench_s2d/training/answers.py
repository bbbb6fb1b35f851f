"""`train answers`: a model's own answers to prompts, the text on which its draft learns what it would say.

Prompts are the first user turns of chats, or questions that the model writes itself (Magpie, arXiv 2406.08464).
Answers are decoded in batches by transformers. The file grows by whole batches, so that a killed run goes on.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from specbench_s2d.errors import RunFolderError, UserError
from specbench_s2d.files import write_whole
from specbench_s2d.models.chat import ChatTemplate, Message
from specbench_s2d.models.load import hide_progress_bars
from specbench_s2d.models.resolve import resolve_model
from specbench_s2d.training.checkpoint import writing
from specbench_s2d.training.data import Chat, read_chats
from specbench_s2d.training.init_model import load_source, load_tokenizer

OWN = "own"
"""The suite of prompts that the model writes itself."""
_MARK = "\u241fprompt\u241f"
_BATCHES_SORTED = 16
_OWN_TOKENS = 64


@dataclass(frozen=True)
class AnswerSpec:
    """How answers are decoded. `temperature` 0: the likeliest token. `prompt_tokens`: longer prompts are left out."""

    max_new_tokens: int = 96
    temperature: float = 0.0
    batch: int = 48
    prompt_tokens: int = 512
    own_prompts: int = 0
    limit: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Prompt:
    """A user's turn, its suite and source, and its ids by the model's template."""

    suite: str
    source: str
    text: str
    ids: tuple[int, ...]


def chosen_prompts(chats: Sequence[Chat], template: ChatTemplate, spec: AnswerSpec) -> list[Prompt]:
    """First user turns of `chats`, each once, suites in turn, in an order drawn by the seed; too long ones left out.

    Raises `UserError` where none is left.
    """
    by_suite: dict[str, list[Prompt]] = {}
    seen: set[str] = set()
    for chat in random.Random(spec.seed).sample(chats, len(chats)):
        text = next(message["content"] for message in chat.messages if message["role"] == "user")
        if text in seen:
            continue
        seen.add(text)
        if spec.limit and len(by_suite.get(chat.suite, ())) >= spec.limit:
            continue
        ids = tuple(template.encode([Message(role="user", content=text)]))
        if len(ids) <= spec.prompt_tokens:
            by_suite.setdefault(chat.suite, []).append(Prompt(chat.suite, chat.source, text, ids))
    found = list(_in_turn(list(by_suite.values())))[: spec.limit]
    if not found and not spec.own_prompts:
        raise UserError(
            f"--prompt-tokens {spec.prompt_tokens}: no prompt of the data is that short; raise it, or give other data."
        )
    return found


def _in_turn(lists: list[list[Prompt]]) -> Iterator[Prompt]:
    for place in range(max(map(len, lists), default=0)):
        yield from (prompts[place] for prompts in lists if place < len(prompts))


class Answerer:
    """A model that answers prompts in batches, through transformers, in bfloat16."""

    def __init__(self, module: Any, template: ChatTemplate, spec: AnswerSpec, eos_ids: Sequence[int]) -> None:
        self.module, self.template, self.spec = module.eval(), template, spec
        self.eos_ids = sorted(eos_ids)
        self._pad = self.eos_ids[0] if self.eos_ids else 0

    def answers(self, prompts: Sequence[Prompt]) -> list[str]:
        """The answers' texts, without special tokens."""
        new = self._generate([list(p.ids) for p in prompts], self.spec.max_new_tokens, self.spec.temperature)
        return [self._text(ids) for ids in new]

    def own_prompts(self, number: int) -> list[Prompt]:
        """`number` turns that the model writes as the user, sampled at temperature 1 after the template's opening."""
        opening, _, _ = self.template.render([Message(role="user", content=_MARK)]).partition(_MARK)
        bos, rest = self.template.split_bos(opening)
        start = [*bos, *self.template.tokenizer.encode(rest, add_special_tokens=False)]
        written = map(self._text, self._generate([start] * number, _OWN_TOKENS, 1.0))
        texts = dict.fromkeys(text.strip() for text in written)
        return [_own_prompt(text, self.template) for text in texts if text]

    def _text(self, ids: list[int]) -> str:
        return str(self.template.tokenizer.decode(ids, skip_special_tokens=True))

    @torch.inference_mode()
    def _generate(self, prompts: list[list[int]], max_new_tokens: int, temperature: float) -> list[list[int]]:
        """New ids of each prompt, up to its end of sequence."""
        width = max(map(len, prompts))
        device = next(self.module.parameters()).device
        ids_BT = torch.tensor([[self._pad] * (width - len(p)) + p for p in prompts], device=device)
        mask_BT = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
        options: dict[str, Any] = {"do_sample": temperature > 0, "top_k": None, "top_p": None, "temperature": None}
        if temperature > 0:
            options |= {"temperature": temperature, "top_k": 0, "top_p": 1.0}
        out_BT: Tensor = self.module.generate(
            ids_BT,
            attention_mask=mask_BT,
            max_new_tokens=max_new_tokens,
            eos_token_id=self.eos_ids or None,
            pad_token_id=self._pad,
            **options,
        )
        return [self._until_end(row) for row in out_BT[:, width:].tolist()]

    def _until_end(self, ids: list[int]) -> list[int]:
        end = next((i for i, token in enumerate(ids) if token in self.eos_ids), len(ids))
        return ids[:end]


def batches_of(prompts: Sequence[Prompt], batch: int) -> list[list[Prompt]]:
    """Batches of prompts of like length: sorted within sixteen batches at a time, so that any first part of the file is
    a fair sample of the whole."""
    made = []
    for start in range(0, len(prompts), _BATCHES_SORTED * batch):
        part = sorted(prompts[start : start + _BATCHES_SORTED * batch], key=lambda p: len(p.ids))
        parts = [part[i : i + batch] for i in range(0, len(part), batch)]
        random.Random(start).shuffle(parts)
        made += parts
    return made


def write_answers(
    answerer: Answerer,
    prompts: Sequence[Prompt],
    out: Path,
    facts: dict[str, Any],
    watch: Callable[[int, int, int], None] = lambda done, of, tokens: None,
) -> int:
    """Append one chat per prompt to `out`, JSON Lines in the format that training reads; returns the rows there.

    `facts`: what decides the answers, kept in `out`.json. Rows that are there already are kept, and their prompts not
    asked again. `watch(done, of, tokens)` after each batch, tokens of new answers. Raises `RunFolderError` where `out`
    was written by another model, or with other settings.
    """
    done = _claim(out, facts)
    prompts = [*prompts, *_own_prompts(answerer, out)]
    random.Random(answerer.spec.seed).shuffle(prompts)
    tokens = 0
    place = 0
    for batch in batches_of(prompts, answerer.spec.batch):
        place += len(batch)
        if place <= done:
            continue
        rows = [_row(prompt, answer) for prompt, answer in zip(batch, answerer.answers(batch), strict=True)]
        with writing(out), out.open("a", encoding="utf-8") as file:
            file.write("".join(rows))
        tokens += sum(len(answerer.template.tokenizer.encode(json.loads(r)["messages"][1]["content"])) for r in rows)
        watch(place, len(prompts), tokens)
    return place


def _row(prompt: Prompt, answer: str) -> str:
    messages = [{"role": "user", "content": prompt.text}, {"role": "assistant", "content": answer}]
    return json.dumps({"suite": prompt.suite, "source": prompt.source, "messages": messages}) + "\n"


def _own_prompts(answerer: Answerer, out: Path) -> list[Prompt]:
    """The model's own prompts: read where an earlier run wrote them, else written to `out`.prompts.json."""
    wanted, beside = answerer.spec.own_prompts, out.with_name(out.name + ".prompts.json")
    if not wanted:
        return []
    if not beside.is_file():
        torch.manual_seed(answerer.spec.seed)
        found: list[Prompt] = []
        while len(found) < wanted:
            found += answerer.own_prompts(min(answerer.spec.batch, wanted - len(found)))
        write_whole(beside, json.dumps([prompt.text for prompt in found], indent=1))
    texts = json.loads(beside.read_text(encoding="utf-8-sig"))
    return [_own_prompt(text, answerer.template) for text in texts]


def _own_prompt(text: str, template: ChatTemplate) -> Prompt:
    ids = template.encode([Message(role="user", content=text)])
    return Prompt(OWN, "written by the model", text, tuple(ids))


def _claim(out: Path, facts: dict[str, Any]) -> int:
    """Whole rows that `out` holds, a cut one removed; raises `RunFolderError` where others' facts stand beside it."""
    beside = out.with_name(out.name + ".json")
    known = json.loads(beside.read_text(encoding="utf-8-sig")) if beside.is_file() else None
    if known is None and out.exists():
        raise RunFolderError(f"{out} exists, and nothing beside it says how it was made; give another --out.")
    if known is not None and known != facts:
        changed = ", ".join(sorted(name for name in facts | known if facts.get(name) != known.get(name)))
        raise RunFolderError(
            f"{out} was written with other settings (differs in {changed}); give the same, or another --out."
        )
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(beside, json.dumps(facts, indent=1))
        lines = out.read_bytes().splitlines(keepends=True) if out.is_file() else []
        whole = [line for line in lines if line.endswith(b"\n")]
        if len(whole) < len(lines):
            write_whole(out, b"".join(whole))
    return len(whole)


def answer_chats(
    source: str,
    data: Sequence[str],
    only: Sequence[str],
    spec: AnswerSpec,
    out: Path,
    template: str | None = None,
    device: str = "cpu",
    watch: Callable[[int, int, int], None] = lambda done, of, tokens: None,
) -> int:
    """Answer the prompts of `data`, of rows whose source starts with one of `only`, with the model `source`.

    Returns the number of rows of `out`. Raises `DataError`, `ModelError`, `UserError` or `RunFolderError`.
    """
    chats = [c for c in read_chats(data) if not only or c.source.startswith(tuple(only))]
    if not chats and not spec.own_prompts:
        raise UserError(f"--only {', '.join(only)}: no row of the data has such a source.")
    chat = ChatTemplate.choose(load_tokenizer(source), template)
    hide_progress_bars()
    module = torch.nn.Module.to(load_source(source), device, torch.bfloat16)
    model = resolve_model(source)
    facts = {**dataclasses.asdict(spec), "model": Path(source).name, "weights_sha256": model.sha256}
    facts |= {"only": list(only), "template": chat.name, "prompts": len(chats)}
    answerer = Answerer(module, chat, spec, sorted(model.eos_ids))
    return write_answers(answerer, chosen_prompts(chats, chat, spec), out, facts, watch)
