"""A random EAGLE head for a target, written as EAGLE publishes it; and its drafts recomputed without caches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from specbench_s2d.training.eagle import EagleModule
from specbench_s2d.training.heads import save_eagle


def write_head(of: Path, out: Path, seed: int = 0, pickled: bool = False) -> EagleModule:
    """A head with weights large enough that its states depend on what it reads."""
    target = AutoModelForCausalLM.from_pretrained(str(of), dtype=torch.float32)
    head = EagleModule(target, seed)
    with torch.no_grad():
        for matrix in (p for p in head.parameters() if p.ndim == 2):
            matrix.normal_(std=0.2)
            matrix.copy_(matrix.bfloat16().float())
        head.fc.bias.normal_(std=0.1)
        head.fc.bias.copy_(head.fc.bias.bfloat16().float())
    out.mkdir(parents=True)
    save_eagle(head, out, of.name)
    if pickled:
        from safetensors.torch import load_file

        torch.save(load_file(str(out / "model.safetensors")), out / "pytorch_model.bin")
        (out / "model.safetensors").unlink()
    return head


class FromScratch:
    """EAGLE by its formulas: every state anew, by transformers' own layer over all pairs, without a cache."""

    def __init__(self, head: EagleModule) -> None:
        self.head, self.target = head, head.target
        self._rotary = LlamaRotaryEmbedding(head.config)

    @torch.no_grad()
    def state_after(self, prefix: list[int], drafted: list[int]) -> Tensor:
        """The head's state (D,) after `prefix` and the tokens drafted after it."""
        states = list(self._true(prefix)[:-1])
        for count in range(len(drafted) + 1):
            tokens = [*prefix[1:], *drafted[:count]]
            states.append(self._predicted(torch.tensor(tokens), torch.stack(states))[-1])
        return states[-1]

    @torch.no_grad()
    def logprobs_after(self, prefix: list[int], drafted: list[int]) -> Tensor:
        """log q (V,) of the next token."""
        logits: Tensor = self.target.lm_head(self.state_after(prefix, drafted))
        return logits.log_softmax(-1)

    def _true(self, prefix: list[int]) -> Tensor:
        states_TD: Tensor = self.target.model(input_ids=torch.tensor([prefix])).last_hidden_state[0]
        return states_TD

    def _predicted(self, ids_T: Tensor, states_TD: Tensor) -> Tensor:
        """The states that follow each pair of a token and the state before it."""
        layer: Any = self.head.layers[0]
        joint = self.head.fc(torch.cat((self.target.get_input_embeddings()(ids_T), states_TD), -1))[None]
        length = joint.shape[1]
        mask = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)[None, None]
        rotated = self._rotary(joint, torch.arange(length)[None])
        attended = layer.self_attn(joint, attention_mask=mask, position_embeddings=rotated)[0]
        joint = joint + attended
        predicted: Tensor = joint + layer.mlp(layer.post_attention_layernorm(joint))
        return predicted.reshape(length, -1)
