"""Train EAGLE's draft head on a frozen target's states (Li et al. 2024, arXiv 2401.15077; 2025, arXiv 2503.01840).

The target runs over each batch once, and its states are used and forgotten. The head drafts `steps` tokens from every
position at the same time, as it will while it decodes: the first from the target's states, each further one from its
own (training-time test, arXiv 2503.01840, section 3.2). The loss of each is the cross-entropy of q under the target's
distribution, and
the distance between the states.

Shapes: `B` sequences, `T` pairs, `D` width, `V` ids of the loss, `N` positions that count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specbench_s2d.models.heads.shape import EAGLE
from specbench_s2d.training.data import Encoded
from specbench_s2d.training.held_out import UNREACHED, first_token_loss

DISTANCE = 10.0
"""Weight of the distance between the head's states and the target's (the mean over D of smooth L1, in units of the root
mean square of the target's), beside the cross-entropy: EAGLE's 1 and 0.1."""
_Step = tuple[Tensor, Tensor]
"""Keys and values of a drafting step, (B, K, T, C) each."""


class EagleModule(nn.Module):
    """The head as it is published: `fc`, and one Llama layer without an input norm, named as in EAGLE's checkpoints.

    `target`: transformers' model, frozen; its embedding and LM head are used, and no weight of it is a parameter here.
    """

    version = 1
    distance = DISTANCE

    def __init__(self, target: Any, seed: int, steps: int = 1) -> None:
        super().__init__()
        from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

        torch.manual_seed(seed)
        config = target.config
        self._target, self.steps = [target.eval().requires_grad_(False)], steps
        self.config = config
        width = config.hidden_size
        self.fc = nn.Linear(2 * width, width, bias=True)
        layer = LlamaDecoderLayer(_llama(config), 0)
        del layer.input_layernorm  # it has none, and `forward` calls the parts itself
        self.layers = nn.ModuleList([layer])
        self._rotary = [LlamaRotaryEmbedding(_llama(config))]
        for matrix in (p for p in self.parameters() if p.ndim == 2):
            nn.init.normal_(matrix, std=0.02)

    @property
    def target(self) -> Any:
        return self._target[0]

    @property
    def device(self) -> torch.device:
        return self.fc.weight.device

    @torch.no_grad()
    def target_states(self, ids_BT: Tensor) -> Tensor:
        """The target's final states (B, T, D), after its final norm."""
        states_BTD: Tensor = self.target.model(input_ids=ids_BT, use_cache=False).last_hidden_state
        return states_BTD

    def read(self, ids_BT: Tensor) -> tuple[Tensor, Tensor]:
        """What pairs are made of, and the target's final states, (B, T, D) each."""
        states_BTD = self.target_states(ids_BT)
        return states_BTD, states_BTD

    def logits(self, states_ND: Tensor, target_head_VD: Tensor) -> Tensor:
        """q's logits (N, V) from the head's states; `target_head_VD`: rows of the target's LM head."""
        return F.linear(states_ND, target_head_VD)

    @torch.no_grad()
    def choices(self, ids_1T: Tensor, vocabulary_V: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As `held_out.Choices`: step s at pair t proposes for place t + 2."""
        target_VD = self.target.lm_head.weight
        head_VD = target_VD if vocabulary_V is None else target_VD[vocabulary_V]
        states_1TD, true_1TD = self.read(ids_1T[:, :-1])
        embedded_1TD = self.target.get_input_embeddings()(ids_1T[:, 1:])
        chosen_T = F.pad(F.linear(true_1TD[0], target_VD).argmax(-1), (1, 0), value=UNREACHED)
        drafted, before = list[Tensor](), list[_Step]()
        for step in range(self.steps):
            predicted_1TD = self(embedded_1TD, states_1TD, before)
            ids_T = self.logits(predicted_1TD[0], head_VD).argmax(-1)[:-1]
            ids_T = ids_T if vocabulary_V is None else vocabulary_V[ids_T]
            drafted.append(F.pad(ids_T[step:], (2 + step, 0), value=UNREACHED))
            states_1TD = F.pad(predicted_1TD, (0, 0, 1, 0))[:, :-1]
        return torch.stack(drafted), chosen_T

    def published(self) -> dict[str, Any]:
        """What config.json says of the head, beside the target's own fields."""
        return {"num_hidden_layers": 1, "specbench_head": EAGLE}

    def forward(self, embedded_BTD: Tensor, states_BTD: Tensor, before: list[_Step]) -> Tensor:
        """One drafting step from every position at once: the predicted states (B, T, D).

        Pair t is (e(x_{t+1}), the state at t); in step s it was drafted from base t - s, and sees the target's pairs up
        to its base and the s pairs drafted since. `before`: keys and values of the steps so far, to which this step's
        are added.
        """
        layer: Any = self.layers[0]
        joint_BTD = self.fc(torch.cat((embedded_BTD, states_BTD), dim=-1))
        joint_BTD = joint_BTD + _attend(layer.self_attn, joint_BTD, self._rotary[0], before)
        fed_BTD: Tensor = layer.mlp(layer.post_attention_layernorm(joint_BTD))
        return torch.add(joint_BTD, fed_BTD)


def _llama(config: Any) -> Any:
    """The config of a Llama's layer of the target's sizes."""
    from transformers import LlamaConfig

    names = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "rms_norm_eps",
             "max_position_embeddings", "vocab_size", "head_dim", "rope_parameters")  # fmt: skip
    given: dict[str, Any] = {name: getattr(config, name) for name in names if getattr(config, name, None) is not None}
    return LlamaConfig(**given, num_hidden_layers=1)


def _attend(attention: Any, joint_BTD: Tensor, rotary: Any, before: list[_Step]) -> Tensor:
    """Attention of step s = `len(before)`: to the first step's pairs up to t - s, and one pair of every later step."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    batch, length, _ = joint_BTD.shape
    q, k, v = (
        part(joint_BTD).view(batch, length, -1, attention.head_dim).transpose(1, 2)
        for part in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    cos, sin = rotary.to(joint_BTD.device)(v, torch.arange(length, device=joint_BTD.device)[None])
    q, k = apply_rotary_pos_emb(q, k, cos, sin)
    before.append((k, v))
    step, groups = len(before) - 1, q.shape[1] // k.shape[1]
    first_k, first_v = (part.repeat_interleave(groups, 1) for part in before[0])
    at_T = torch.arange(length, device=q.device)
    seen_TT = at_T[None] <= at_T[:, None] - step
    scores = (q @ first_k.transpose(2, 3)) * attention.scaling
    scores = scores.masked_fill(~seen_TT, torch.finfo(scores.dtype).min)
    later = [
        [_shift(part.repeat_interleave(groups, 1), step - i) for part in drafted]
        for i, drafted in enumerate(before[1:], start=1)
    ]
    own = [(q * key).sum(-1, keepdim=True) * attention.scaling for key, _ in later]
    shares = torch.softmax(torch.cat((scores, *own), dim=-1), dim=-1)
    mixed = shares[..., :length] @ first_v
    for i, (_, value) in enumerate(later):
        mixed = mixed + shares[..., length + i, None] * value
    mixed_BTD: Tensor = attention.o_proj(mixed.transpose(1, 2).reshape(batch, length, -1))
    return mixed_BTD


def _shift(values_BKTC: Tensor, places: int) -> Tensor:
    """Row t becomes row t - `places`; the first rows are zeros."""
    return F.pad(values_BKTC, (0, 0, places, 0))[:, :, : values_BKTC.shape[2]] if places else values_BKTC


def sums_of_losses(
    head: EagleModule,
    ids_BT: Tensor,
    learn_BT: Tensor,
    autocast: bool,
    exits: Sequence[int] = (),
    vocabulary_V: Tensor | None = None,
) -> Tensor:
    """Summed losses (steps,) over the positions whose target is marked in `learn_BT`; without the distance of states
    where the head is evaluated. `exits` is not used."""
    target, device = head.target, ids_BT.device.type
    head_VD = target.lm_head.weight if vocabulary_V is None else target.lm_head.weight[vocabulary_V]
    with torch.autocast(device, dtype=torch.bfloat16, enabled=autocast):
        read_BTD, true_BTD = head.read(ids_BT[:, :-1])
        embedded_BTD = target.get_input_embeddings()(ids_BT[:, 1:-1])
        states_BTD, counted_BT = read_BTD[:, :-1], learn_BT[:, 2:]
        wanted_ND = true_BTD[:, 1:][counted_BT].float()
        unit = wanted_ND.square().mean().sqrt()
        with torch.no_grad():
            target_NV = F.linear(wanted_ND, head_VD).float().softmax(-1)
        losses, before = list[Tensor](), list[_Step]()
        for step in range(head.steps if head.training else 1):
            predicted_BTD = head(embedded_BTD, states_BTD, before)
            logits_NV = head.logits(predicted_BTD[counted_BT], head_VD).float()
            loss = -(target_NV * logits_NV.log_softmax(-1)).sum(-1)
            if head.training and head.distance:
                predicted_ND = predicted_BTD[counted_BT].float() / unit
                distance_ND = F.smooth_l1_loss(predicted_ND, wanted_ND / unit, reduction="none")
                loss = loss + head.distance * distance_ND.mean(-1)
            reached_N = _reached(counted_BT, step)
            losses.append((loss * reached_N).sum())
            states_BTD = F.pad(predicted_BTD, (0, 0, 1, 0))[:, :-1]
    return torch.stack(losses)


def _reached(counted_BT: Tensor, step: int) -> Tensor:
    """Of the positions that count, in order, those that a draft of `step` + 1 tokens can reach: 1 or 0."""
    at_T = torch.arange(counted_BT.shape[1], device=counted_BT.device)
    return (at_T >= step).expand_as(counted_BT)[counted_BT].float()


def held_out_loss(
    head: EagleModule,
    held_out: dict[str, list[Encoded]],
    autocast: bool,
    exits: Sequence[int] = (),
    vocabulary_V: Tensor | None = None,
) -> dict[int, dict[str, float]]:
    """As `first_token_loss`, of the first step."""
    return first_token_loss(head, sums_of_losses, held_out, autocast, vocabulary_V)
