"""Random Medusa heads for a target in each published form, and what they draft by the paper's formula."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

CONFIG = {"base_model_name_or_path": "lmsys/vicuna-7b-v1.3", "medusa_num_heads": 2, "medusa_num_layers": 1}
"""As published beside five heads: neither a model type nor sizes, and too few heads."""


class MedusaFromScratch:
    """The heads by their formula, in float64, on states of transformers' own model, recomputed for every context."""

    def __init__(self, of: Path, heads: int, blocks: int, own: bool, seed: int) -> None:
        torch.manual_seed(seed)
        self.target: Any = AutoModelForCausalLM.from_pretrained(str(of), dtype=torch.float32)
        vocabulary, width = self.target.lm_head.weight.shape
        self.tensors: dict[str, Tensor] = {}
        self.heads, self.blocks, self.own = heads, blocks, own
        for head in range(heads):
            for block in range(blocks):
                self.tensors[f"{head}.{block}.linear.weight"] = 0.3 * torch.randn(width, width)
                self.tensors[f"{head}.{block}.linear.bias"] = 0.3 * torch.randn(width)
            if own:
                self.tensors[f"{head}.{blocks}.weight"] = 0.3 * torch.randn(vocabulary, width)

    @torch.no_grad()
    def logits(self, verified: list[int]) -> Tensor:
        """Logits (K, V) of all heads from the state of the last of these tokens."""
        state = self.target.model(input_ids=torch.tensor([verified])).last_hidden_state[0, -1].double()
        found = []
        for head in range(self.heads):
            x = state
            for block in range(self.blocks):
                linear = self.tensors[f"{head}.{block}.linear.weight"].double() @ x
                linear = linear + self.tensors[f"{head}.{block}.linear.bias"].double()
                x = x + linear / (1 + torch.exp(-linear))
            last = self.tensors[f"{head}.{self.blocks}.weight"] if self.own else self.target.lm_head.weight
            found.append(last.double() @ x)
        return torch.stack(found)

    def write(self, out: Path, name: str = "medusa_lm_head.pt", prefix: str = "") -> Path:
        """A folder with these tensors, in this file and under this prefix."""
        out.mkdir(parents=True, exist_ok=True)
        tensors = {prefix + key: tensor for key, tensor in self.tensors.items()}
        if name.endswith(".safetensors"):
            save_file(tensors, out / name)
        else:
            torch.save(tensors, out / name)
        fields = CONFIG if self.own else CONFIG | {"vocab_size": len(self.target.lm_head.weight)}
        (out / "config.json").write_text(json.dumps(fields), encoding="utf-8")
        return out


def write_medusa(of: Path, out: Path, heads: int = 4, blocks: int = 1, own: bool = True, seed: int = 0) -> Path:
    """Heads as Medusa publishes them."""
    return MedusaFromScratch(of, heads, blocks, own, seed).write(out)
