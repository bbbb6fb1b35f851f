"""What a person should know of a model that is used all the same, a line each: its head, and what ends its answers."""

from __future__ import annotations

from typing import Any

from specbench_s2d.models.resolve import ResolvedModel


def remarks(model: ResolvedModel, is_draft: bool = False, ignore_eos: bool = False) -> list[str]:
    """The lines on a model; what ends answers is the target's, and of no matter with `ignore_eos`."""
    lines = []
    if model.has_separate_head:
        lines.append(
            f"{model.name}: config.json ties its head to the embedding (tie_word_embeddings), and the weights have an "
            "lm_head.weight that differs from it; the head is lm_head.weight, as in transformers."
        )
    if is_draft or ignore_eos:
        return lines
    if outside := model.eos_ids_outside:
        listed = ", ".join(map(str, outside))
        lines.append(f"{model.name}: EOS {listed} left out: its ids are 0 to {model.vocabulary - 1:,}.")
    if not model.eos_ids:
        lines.append(
            f"{model.name}: no EOS in config.json, generation_config.json or tokenizer; answers end at "
            "--max-new-tokens alone."
        )
    return lines


def head_remarks(head: ResolvedModel, target: ResolvedModel) -> list[str]:
    """The line on a draft head whose config names another target than the one that it drafts for."""
    made_for = str(head.fields.get("specbench_target") or target.name)
    if head.head_shape is None or made_for.rpartition("/")[2] == target.name.rpartition("/")[2]:
        return []
    return [f"{head.name}: trained on the states of {made_for}, and {target.name} is the target: few tokens will pass."]


def load_facts(model: ResolvedModel) -> dict[str, Any]:
    """What the manifest says of how a model's files were read; empty for most."""
    facts: dict[str, Any] = {}
    if model.has_separate_head:
        facts["head"] = "lm_head.weight, which differs from the embedding that config.json ties it to"
    if padding := model.rows - model.vocabulary:
        facts["padding_rows"] = padding
    if outside := model.eos_ids_outside:
        facts["eos_ids_outside"] = list(outside)
    return facts
