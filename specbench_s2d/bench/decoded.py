"""What a record takes of a generation: ids and text, times, and the steps' counts."""

from __future__ import annotations

from typing import Any

from specbench_s2d.bench.prompts import Prompt
from specbench_s2d.decoding.types import Generation


def decoded_fields(generation: Generation, prompt: Prompt, tokenizer: Any, bytes_per_s: float) -> dict[str, Any]:
    """The fields of a record that decoding gives; `bytes_per_s`: the read rate that bounds the steps."""
    steps = generation.steps
    text: str = tokenizer.decode(generation.ids, skip_special_tokens=True)
    draft_s, verify_s = sum(step.draft_s for step in steps), sum(step.verify_s for step in steps)
    return {
        "prompt_hash": prompt.hash,
        "prompt_tokens": len(prompt.ids),
        "prompt_truncated": prompt.truncated,
        "new_tokens": len(generation.ids),
        "retokenized_tokens": len(tokenizer.encode(text)) - 1,
        "stop": generation.stop,
        "output_ids": generation.ids,
        "output_text": text,
        "prefill_s": generation.prefill_s,
        "decode_s": generation.decode_s,
        "total_s": generation.total_s,
        "draft_s": draft_s,
        "verify_s": verify_s,
        "other_s": max(generation.decode_s - draft_s - verify_s, 0.0),
        "bound_s": generation.decode_bytes / bytes_per_s,
        "target_passes": sum(step.passes for step in steps),
        "drafted": sum(len(step.drafted) for step in steps),
        "accepted": sum(step.accepted for step in steps),
        "drafted_per_step": [len(step.drafted) for step in steps],
        "accepted_per_step": [step.accepted for step in steps],
        "emitted_per_step": [len(step.emitted) for step in steps],
        "levels_per_step": [step.levels for step in steps],
        "exit_depths": [depth for step in steps for depth in step.exit_depths],
        "draft_layers": sum(step.draft_layers for step in steps),
    }
