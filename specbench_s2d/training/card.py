"""The model card and `training.json` of a trained model, written from its run and from nothing else."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from specbench_s2d.training.data import Chat, Encoded
from specbench_s2d.training.trainer import TrainSpec

FACTS = "training.json"


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
) -> dict[str, Any]:
    """Everything a reader needs to judge the weights, and the script that made them."""
    final = rows[-1]
    nll = final["validation_nll"]
    return {
        "name": name,
        "base": base,
        "command": command,
        "machine": machine,
        "spec": spec.model_dump(),
        "shape": shape,
        "data": data,
        "steps": final["step"],
        "tokens": final["tokens"],
        "tokens_inherited": inherited_tokens,
        "train_s": round(final["train_s"], 1),
        "validation_nll": nll,
        "validation_perplexity": {suite: math.exp(value) for suite, value in nll.items()},
        "loss_curve": [_curve_point(row) for row in rows if "validation_nll" in row],
    }


def _curve_point(row: dict[str, Any]) -> dict[str, Any]:
    return {"tokens": row["tokens"], "loss": round(row["loss"], 4), "validation_nll": round(row["validation_nll"]["all"], 4)}


def write_card(folder: Path, facts: dict[str, Any]) -> None:
    """Write `training.json` and the card (`README.md`) beside the weights."""
    (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(render_card(facts), encoding="utf-8")


def render_card(facts: dict[str, Any]) -> str:
    data_rows = "\n".join(
        f"| {suite} | {row['chats']:,} | {row['tokens']:,} | {row['answer_tokens']:,} |"
        for suite, row in facts["data"].items()
    )
    validation = "\n".join(
        f"| {suite} | {facts['validation_nll'][suite]:.3f} | {value:.2f} |"
        for suite, value in facts["validation_perplexity"].items()
    )
    curve = "\n".join(f"| {p['tokens']:,} | {p['loss']:.3f} | {p['validation_nll']:.3f} |" for p in facts["loss_curve"])
    shape = ", ".join(f"{key} {value}" for key, value in facts["shape"].items())
    learnt = "answers alone" if facts["spec"]["loss_on"] == "answers" else "all tokens"
    inherited = facts["tokens_inherited"]
    lineage = f", after the {inherited:,} that its source had seen" if inherited else ""
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags: [speculative-decoding, benchmarking]
license: other
---
# {facts["name"]}

A small Llama-architecture model ({shape}) that `specbench-s2d train` made for **benchmarking decoding methods**.
It writes text in the manner of its data and knows next to nothing: use it to measure decoders, not to get answers.
Some of its training data is for research use only, so the weights are too (see `LICENSE-NOTE.md` beside the family).

## How it was made
- start: {facts["base"]}
- command: `{facts["command"]}`
- tokens: {facts["tokens"]:,}{lineage}; loss on {learnt}; sequences of {facts["spec"]["length"]:,}
- optimiser: {facts["spec"]["optimizer"]}, highest learning rate {facts["spec"]["learning_rate"]:g}, {facts["steps"]:,} steps
- time: {facts["train_s"]:,.0f} s on {facts["machine"]}

## Data (training split; one prompt in 50 is held out)
| suite | chats | tokens | answer tokens |
|---|---|---|---|
{data_rows}

## Held-out answers: nats per token and perplexity
| suite | nats/token | perplexity |
|---|---|---|
{validation}

## Loss curve
| tokens | training loss | held-out nats/token |
|---|---|---|
{curve}
"""
