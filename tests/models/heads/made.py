"""Random EAGLE heads for a target, written as EAGLE publishes them; and their drafts recomputed without caches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from specbench_s2d.models.weight_files import SAFE
from specbench_s2d.training.eagle import EagleModule
from specbench_s2d.training.eagle3 import Eagle3Module
from specbench_s2d.training.heads import save_eagle

IDS = range(1, 320, 2)
"""Of tiny-deep's ids, those that a head proposes."""


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
        _pickle(out)
    return head


def write_eagle3(of: Path, out: Path, seed: int = 0, pickled: bool = False, ids: range | None = IDS) -> Eagle3Module:
    """EAGLE-3's, over `ids` of the target's vocabulary, None for all of them."""
    target = AutoModelForCausalLM.from_pretrained(str(of), dtype=torch.float32)
    head = Eagle3Module(target, seed, ids=ids)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(1.0 if parameter.ndim == 1 else 0.0, std=0.2)
            parameter.copy_(parameter.bfloat16().float())
    out.mkdir(parents=True)
    save_eagle(head, out, of.name)
    if pickled:
        _pickle(out)
    return head


def _pickle(folder: Path) -> None:
    torch.save(load_file(str(folder / SAFE)), folder / "pytorch_model.bin")
    (folder / SAFE).unlink()


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


class Eagle3FromScratch(FromScratch):
    """EAGLE-3 by its formulas in plain torch, from the tensors of a folder in published form, without a cache."""

    def __init__(self, head: Eagle3Module, folder: Path) -> None:
        super().__init__(head)
        self.tensors = {name: tensor.float() for name, tensor in load_file(str(folder / SAFE)).items()}
        self.ids = [i + int(offset) for i, offset in enumerate(self.tensors["d2t"])]

    @torch.no_grad()
    def logits_of(self, state_D: Tensor) -> Tensor:
        """(N,), over the head's own ids."""
        logits_N: Tensor = self.tensors["lm_head.weight"] @ self._normed(state_D, "norm")
        return logits_N

    @torch.no_grad()
    def logprobs_after(self, prefix: list[int], drafted: list[int]) -> Tensor:
        """log q (V,) of the next token: 0 mass outside the head's ids."""
        full_V = torch.full((self.head.config.vocab_size,), float("-inf"))
        full_V[self.ids] = self.logits_of(self.state_after(prefix, drafted)).log_softmax(-1)
        return full_V

    def _normed(self, rows: Tensor, norm: str) -> Tensor:
        return (
            rows
            / (rows.pow(2).mean(-1, keepdim=True) + self.head.config.rms_norm_eps).sqrt()
            * self.tensors[f"{norm}.weight"]
        )

    def _true(self, prefix: list[int]) -> Tensor:
        """g (T, D): of eight layers, the states that enter those numbered 2, 4 and 5."""
        states = self.target.model(input_ids=torch.tensor([prefix]), output_hidden_states=True).hidden_states
        return torch.cat([states[layer][0] for layer in (2, 4, 5)], -1) @ self.tensors["fc.weight"].T

    def _predicted(self, ids_T: Tensor, states_TD: Tensor) -> Tensor:
        w, config, length = self.tensors, self.head.config, len(ids_T)
        width, group = config.head_dim, config.num_attention_heads // config.num_key_value_heads
        embedded = self._normed(self.target.get_input_embeddings()(ids_T), "midlayer.input_layernorm")
        joint = torch.cat((embedded, self._normed(states_TD, "midlayer.hidden_norm")), -1)
        q, k, v = ((joint @ w[f"midlayer.self_attn.{p}_proj.weight"].T).view(length, -1, width) for p in "qkv")
        q, k = self._turned(q), self._turned(k)
        heads = []
        for head in range(config.num_attention_heads):
            scores = q[:, head] @ k[:, head // group].T / width**0.5
            hidden = torch.ones(length, length).triu(1).bool()
            heads.append(scores.masked_fill(hidden, float("-inf")).softmax(-1) @ v[:, head // group])
        states = states_TD + torch.cat(heads, -1) @ w["midlayer.self_attn.o_proj.weight"].T
        normed = self._normed(states, "midlayer.post_attention_layernorm")
        gate, up = (normed @ w[f"midlayer.mlp.{part}_proj.weight"].T for part in ("gate", "up"))
        return states + (gate * gate.sigmoid() * up) @ w["midlayer.mlp.down_proj.weight"].T

    def _turned(self, x_THC: Tensor) -> Tensor:
        """Rotary positions 0, 1, …: pairs (c, c + C / 2) turn by t * 10000 ** (-2 c / C)."""
        half = x_THC.shape[-1] // 2
        angles = torch.arange(len(x_THC))[:, None, None] * 10000.0 ** (-torch.arange(half) / half)
        a, b = x_THC[..., :half], x_THC[..., half:]
        return torch.cat((a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()), -1)


def made_head(version: int, models: Path, out: Path, seed: int = 0) -> tuple[FromScratch, Path]:
    """A random head in `out`, recomputed from scratch, and its target's folder."""
    if version == 3:
        of = models / "tiny-deep"
        return Eagle3FromScratch(write_eagle3(of, out, seed), out), of
    return FromScratch(write_head(models / "tiny-target", out, seed)), models / "tiny-target"
