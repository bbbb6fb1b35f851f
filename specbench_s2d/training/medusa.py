"""Train Medusa's heads on a frozen target's states (Medusa-1: Cai et al. 2024, arXiv 2401.10774, section 3.2).

The target runs over each batch once. Head k learns the token k + 1 places on from the state of each position; its loss
is the cross-entropy under the target's own distribution of that token, given the text before it, times 0.8^k.

Shapes: `B` sequences, `T` positions, `D` width, `V` ids of the loss, `K` heads, `N` positions that count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specbench_s2d.training.held_out import UNREACHED, HeldOut, first_token_loss

DECAY = 0.8
"""The loss of head k counts DECAY^k."""


class ResidualBlock(nn.Module):
    """x + SiLU(W x + b), the identity at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, states_XD: Tensor) -> Tensor:
        return torch.add(states_XD, F.silu(self.linear(states_XD)))


class MedusaModule(nn.Module):
    """K heads as they are published: blocks, and an LM head that starts as the target's.

    `target`: transformers' model, frozen; no weight of it is a parameter here. `share_head`: the heads have no LM heads
    of their own, and go through the target's.
    """

    def __init__(self, target: Any, heads: int, blocks: int = 1, share_head: bool = False) -> None:
        super().__init__()
        self._target, self.config = [target.eval().requires_grad_(False)], target.config
        self.share_head, width = share_head, target.config.hidden_size
        self.heads = nn.ModuleList()
        for _ in range(heads):
            parts: list[nn.Module] = [ResidualBlock(width) for _ in range(blocks)]
            if not share_head:
                lm_head = nn.Linear(width, len(target.lm_head.weight), bias=False)
                lm_head.weight.data.copy_(target.lm_head.weight)
                parts.append(lm_head)
            self.heads.append(nn.Sequential(*parts).to(target.lm_head.weight.device))

    @property
    def target(self) -> Any:
        return self._target[0]

    @property
    def device(self) -> torch.device:
        device: torch.device = self.target.lm_head.weight.device
        return device

    @torch.no_grad()
    def target_states(self, ids_BT: Tensor) -> Tensor:
        """The target's final states (B, T, D), after its final norm."""
        states_BTD: Tensor = self.target.model(input_ids=ids_BT, use_cache=False).last_hidden_state
        return states_BTD

    def logits(self, k: int, states_XD: Tensor, vocabulary_V: Tensor | None = None) -> Tensor:
        """Logits (X, V) of head number k, from 0, of these ids alone where they are given."""
        parts = list(self.heads[k])  # type: ignore[call-overload]
        head_VD = self.target.lm_head.weight if self.share_head else parts.pop().weight
        for block in parts:
            states_XD = block(states_XD)
        return F.linear(states_XD, head_VD if vocabulary_V is None else head_VD[vocabulary_V])

    @torch.no_grad()
    def choices(self, ids_1T: Tensor, vocabulary_V: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As `held_out.Choices`: head number k at position t proposes for place t + 2 + k."""
        states_TD = self.target_states(ids_1T)[0]
        chosen_T = F.pad(F.linear(states_TD, self.target.lm_head.weight).argmax(-1)[:-1], (1, 0), value=UNREACHED)
        drafted: list[Tensor] = []
        for k in range(len(self.heads)):
            ids_T = self.logits(k, states_TD, vocabulary_V).argmax(-1)
            ids_T = ids_T if vocabulary_V is None else vocabulary_V[ids_T]
            drafted.append(F.pad(ids_T, (2 + k, 0), value=UNREACHED)[: len(ids_T)])
        return torch.stack(drafted), chosen_T


def sums_of_losses(
    head: MedusaModule,
    ids_BT: Tensor,
    learn_BT: Tensor,
    autocast: bool,
    exits: Sequence[int] = (),
    vocabulary_V: Tensor | None = None,
) -> Tensor:
    """Summed losses (K,), weighted by head, over the positions whose target is marked in `learn_BT`; the first head's
    alone, unweighted, where the heads are evaluated. `exits` is not used."""
    target = head.target
    head_VD = target.lm_head.weight if vocabulary_V is None else target.lm_head.weight[vocabulary_V]
    losses: list[Tensor] = []
    with torch.autocast(ids_BT.device.type, dtype=torch.bfloat16, enabled=autocast):
        states_BTD = head.target_states(ids_BT[:, :-1])
        for k in range(len(head.heads) if head.training else 1):
            if states_BTD.shape[1] < 2 + k:  # no token is so far on
                losses.append(states_BTD.new_zeros((), requires_grad=True))
                continue
            counted_BT = learn_BT[:, 2 + k :]
            with torch.no_grad():
                target_NV = F.linear(states_BTD[:, 1 + k :][counted_BT], head_VD).float().softmax(-1)
            logits_NV = head.logits(k, states_BTD[:, : -1 - k][counted_BT], vocabulary_V)
            loss = -(target_NV * logits_NV.float().log_softmax(-1)).sum()
            losses.append(DECAY ** (k + 1) * loss if head.training else loss)
    return torch.stack(losses)


def held_out_loss(
    head: MedusaModule,
    held_out: HeldOut,
    autocast: bool,
    exits: Sequence[int] = (),
    vocabulary_V: Tensor | None = None,
) -> dict[int, dict[str, float]]:
    """The first head's cross-entropy under the target's distribution, nats per answer token; `exits` is not used."""
    return first_token_loss(head, sums_of_losses, held_out, autocast, vocabulary_V)
