"""The model card and `training.json` of a trained model, written from the facts of its run."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from specbench_s2d.display import code_span, markdown_text, visible
from specbench_s2d.files import write_whole
from specbench_s2d.training.data import HELD_OUT_ONE_IN, Chat, Encoded
from specbench_s2d.training.spec import TrainSpec

FACTS = "training.json"
DATA_LICENCES = "The licences of its training data hold for it."
_NAMED_LICENCES = ("Apache-2.0", "MIT", "CC-BY-4.0", "CC-BY-SA-4.0", "CC0-1.0")
"""Licences that a card's front matter names where its sentence begins with one and a colon; else it says `other`."""


def data_summary(chats: list[Chat], encoded: list[Encoded]) -> dict[str, dict[str, int]]:
    """Chats, tokens and answer tokens per suite of the training split."""
    rows: dict[str, Counter[str]] = {}
    for chat, ids in zip(chats, encoded, strict=True):
        row = rows.setdefault(chat.suite, Counter())
        row.update(chats=1, tokens=len(ids.ids), answer_tokens=int(ids.answer.sum()))
    return {suite: dict(row) for suite, row in sorted(rows.items())}


def training_facts(
    name: str,
    base: str,
    command: str,
    spec: TrainSpec,
    data: dict[str, dict[str, int]],
    rows: list[dict[str, Any]],
    shape: dict[str, Any],
    inherited_tokens: int,
    machine: str,
    template: str,
    licence: str,
) -> dict[str, Any]:
    """The facts of a training run, for `training.json` and the model card."""
    final = rows[-1]
    nll = final["validation_nll"]
    return {
        "name": name,
        "base": base,
        "command": command,
        "machine": machine,
        "template": template,
        "licence": licence,
        "spec": spec.model_dump(mode="json"),
        "shape": shape,
        "data": data,
        "steps": final["step"],
        "tokens": final["tokens"],
        "tokens_inherited": inherited_tokens,
        "train_s": round(final["train_s"], 1),
        "validation_nll": nll,
        "exit_perplexity": {depth: math.exp(value) for depth, value in final["exit_nll"].items() if value is not None},
        "validation_perplexity": {suite: math.exp(value) for suite, value in nll.items()},
        "loss_curve": [_curve_point(row) for row in rows if "validation_nll" in row],
    }


def _curve_point(row: dict[str, Any]) -> dict[str, Any]:
    held_out = row["validation_nll"].get("all")
    return {
        "tokens": row["tokens"],
        "loss": round(row["loss"], 4),
        "validation_nll": None if held_out is None else round(held_out, 4),
    }


def write_card(folder: Path, facts: dict[str, Any]) -> None:
    """Write `training.json` and the card (`README.md`) beside the weights."""
    write_whole(folder / FACTS, json.dumps(facts, indent=1) + "\n")
    write_whole(folder / "README.md", render_card(facts))


def render_card(facts: dict[str, Any]) -> str:
    """The model card as Markdown, from the facts in `training.json`."""
    shape = ", ".join(f"{key} {value}" for key, value in facts["shape"].items())
    inherited, what = facts["tokens_inherited"], facts.get("what", "A Llama-family model")
    lineage = f", after the {inherited:,} that its source had seen" if inherited else ""
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags: [speculative-decoding, benchmarking]
license: {_license(facts)}
---
# {markdown_text(facts["name"])}

{what} ({shape}) that `specbench-s2d train` made for **benchmarking decoding methods**.
Use it to measure decoders, not to get answers: nothing was done to make its text true or safe.
{_licence(facts)}

## How it was made
- start: {markdown_text(facts["base"])}
- command: {code_span(facts["command"])}
- tokens: {facts["tokens"]:,}{lineage}; loss on {_learnt(facts)}; sequences of {facts["spec"]["length"]:,}
- chat template: {markdown_text(facts.get("template", "tokenizer"))}
- optimiser: {_optimiser(facts)}
- time: {facts["train_s"]:,.1f} s on {facts["machine"]}

## Data (training split; one prompt in {HELD_OUT_ONE_IN} is held out)
{_data_table(facts)}

## Held-out answers: nats per token and perplexity
{_validation_table(facts)}
{_exits_section(facts)}{_acceptance_section(facts)}
## Loss curve
{_curve_table(facts)}
"""


def _licence(facts: dict[str, Any]) -> str:
    """The sentence about licences."""
    return visible(str(facts.get("licence", DATA_LICENCES)))


def _license(facts: dict[str, Any]) -> str:
    """The licence as the hub names it."""
    name = _licence(facts).partition(":")[0]
    return name.lower() if name in _NAMED_LICENCES else "other"


def _learnt(facts: dict[str, Any]) -> str:
    spec = facts["spec"]
    learnt = "answers alone" if spec["loss_on"] == "answers" else "all tokens"
    exits = [str(depth) for depth in spec.get("exits", ())]
    if len(exits) > 1:
        learnt += f", the mean of exits {', '.join(exits)}"
    rank = spec.get("lora_rank")
    return f"{learnt}, by LoRA of rank {rank} and alpha {spec['lora_alpha']:g}" if rank else learnt


def _optimiser(facts: dict[str, Any]) -> str:
    spec = facts["spec"]
    return f"{spec['optimizer']}, highest learning rate {spec['learning_rate']:g}, {facts['steps']:,} steps"


def _table(header: str, rows: list[str]) -> str:
    return "\n".join([header, "|" + "---|" * (header.count("|") - 1), *rows])


def _data_table(facts: dict[str, Any]) -> str:
    return _table(
        "| suite | chats | tokens | answer tokens |",
        [
            f"| {markdown_text(suite)} | {row['chats']:,} | {row['tokens']:,} | {row['answer_tokens']:,} |"
            for suite, row in facts["data"].items()
        ],
    )


def _validation_table(facts: dict[str, Any]) -> str:
    if not facts["validation_nll"]:
        return "Not measured: the data holds no prompt of the held-out share."
    return _table(
        "| suite | nats/token | perplexity |",
        [
            f"| {markdown_text(suite)} | {nll:.3f} | {facts['validation_perplexity'][suite]:.2f} |"
            for suite, nll in facts["validation_nll"].items()
        ],
    )


def _exits_section(facts: dict[str, Any]) -> str:
    """A table of perplexity by exit for a nested draft; empty for other models."""
    by_exit = facts.get("exit_perplexity")
    if not facts["spec"].get("exits") or not by_exit:
        return ""
    rows = [f"| {depth} | {perplexity:.2f} |" for depth, perplexity in by_exit.items()]
    return "\n## Held-out perplexity of answers by exit\n" + _table("| exit after layer | perplexity |", rows) + "\n"


def _acceptance_section(facts: dict[str, Any]) -> str:
    """A table of how often each drafted token is the target's choice, for a draft head; empty for other models."""
    by_position = facts.get("acceptance_by_position")
    if not by_position:
        return ""
    suites = list(dict.fromkeys(suite for shares in by_position.values() for suite in shares))
    header = f"| suite |{''.join(f' token {k} |' for k in by_position)}"
    rows = [
        f"| {markdown_text(suite)} |" + "".join(f" {_number(shares.get(suite))} |" for shares in by_position.values())
        for suite in suites
    ]
    said = (
        "Share of held-out answer tokens that token k of a proposal gives as the target would, after the chat's text.\n"
    )
    return f"\n## Held-out acceptance by position\n{said}\n{_table(header, rows)}\n"


def _curve_table(facts: dict[str, Any]) -> str:
    return _table(
        "| tokens | training loss | held-out nats/token |",
        [f"| {p['tokens']:,} | {p['loss']:.3f} | {_number(p['validation_nll'])} |" for p in facts["loss_curve"]],
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
