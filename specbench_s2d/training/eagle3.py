"""EAGLE-3's draft head in training (Li et al. 2025, arXiv 2503.01840): three layers' states in, its own LM head out.

Drafts in parallel as EAGLE-1's does (`training/eagle.py`); the loss is the cross-entropy of q under the target's
distribution over the head's ids alone, so its states are free. Shapes: as there; `N` ids of the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specbench_s2d.models.heads.eagle3_shape import LAYERS_FIELD, published_layers
from specbench_s2d.models.heads.shape import EAGLE3
from specbench_s2d.training.eagle import EagleModule, _attend, _llama, _Step


class Eagle3Module(EagleModule):
    """The head as EAGLE publishes it; its LM head starts as those rows of the target's.

    `ids`: the target's ids that it proposes, ascending; None for all, and then there are no maps `d2t` and `t2d`.
    """

    version = 3
    distance = 0.0

    def __init__(self, target: Any, seed: int, steps: int = 1, ids: Sequence[int] | None = None) -> None:
        nn.Module.__init__(self)
        from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm, LlamaRotaryEmbedding

        torch.manual_seed(seed)
        config = target.config
        self._target, self.steps, self.config = [target.eval().requires_grad_(False)], steps, config
        self.state_layers = published_layers(config.num_hidden_layers)
        width, like = config.hidden_size, _llama(config)
        self.fc = nn.Linear(3 * width, width, bias=False)
        self.midlayer = LlamaDecoderLayer(like, 0)
        attention: Any = self.midlayer.self_attn
        for part in ("q_proj", "k_proj", "v_proj"):
            setattr(attention, part, nn.Linear(2 * width, getattr(attention, part).out_features, bias=False))
        self.midlayer.hidden_norm = LlamaRMSNorm(width, eps=config.rms_norm_eps)
        self.norm = LlamaRMSNorm(width, eps=config.rms_norm_eps)
        self._rotary = [LlamaRotaryEmbedding(like)]
        for matrix in (p for p in self.parameters() if p.ndim == 2):
            nn.init.normal_(matrix, std=0.02)
        kept_N = torch.arange(config.vocab_size) if ids is None else torch.tensor(list(ids))
        self.lm_head = nn.Linear(width, len(kept_N), bias=False)
        with torch.no_grad():  # it starts in the basis of the target's last layers, which its own head reads
            self.lm_head.weight.copy_(target.lm_head.weight[kept_N.to(target.lm_head.weight.device)])
            self.norm.weight.copy_(target.model.norm.weight)
            self.fc.weight[:, -width:] += torch.eye(width)
        if ids is not None:
            self.register_buffer("d2t", kept_N - torch.arange(len(kept_N)))
            self.register_buffer("t2d", torch.isin(torch.arange(config.vocab_size), kept_N))
        torch.nn.Module.to(self, target.lm_head.weight.device)

    def read(self, ids_BT: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            out = self.target.model(input_ids=ids_BT, use_cache=False, output_hidden_states=True)
        chosen_BTX = torch.cat([out.hidden_states[layer] for layer in self.state_layers], dim=-1)
        return self.fc(chosen_BTX), out.last_hidden_state

    def logits(self, states_ND: Tensor, target_head_VD: Tensor) -> Tensor:
        return F.linear(self.norm(states_ND), self.lm_head.weight)

    def published(self) -> dict[str, Any]:
        return {
            "architectures": ["LlamaForCausalLMEagle3"],
            "num_hidden_layers": 1,
            "tie_word_embeddings": False,
            "draft_vocab_size": self.lm_head.out_features,
            LAYERS_FIELD: list(self.state_layers),
            "specbench_head": EAGLE3,
        }

    def forward(self, embedded_BTD: Tensor, states_BTD: Tensor, before: list[_Step]) -> Tensor:
        layer: Any = self.midlayer
        attended_BTX = torch.cat((layer.input_layernorm(embedded_BTD), layer.hidden_norm(states_BTD)), dim=-1)
        states_BTD = states_BTD + _attend(layer.self_attn, attended_BTX, self._rotary[0], before)
        return torch.add(states_BTD, layer.mlp(layer.post_attention_layernorm(states_BTD)))
