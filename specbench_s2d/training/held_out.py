"""What a draft head is worth on held-out chats, whatever its kind: its loss, and how often each of its tokens is right.

Shapes: `B` sequences, `T` places, `K` tokens of a proposal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from specbench_s2d.training.data import Encoded

UNREACHED = -1
HeldOut = dict[str, list[Encoded]]
Choices = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From ids (1, T): for each place the id that the draft would propose there as token k of a proposal, after the chat's
own text (K, T), `UNREACHED` where no proposal's token k stands; and the id that the target would choose there (T,)."""


@torch.no_grad()
def first_token_loss(
    head: Any,
    sums: Callable[..., Tensor],
    held_out: HeldOut,
    autocast: bool,
    vocabulary_V: Tensor | None = None,
) -> dict[int, dict[str, float]]:
    """The cross-entropy of a proposal's first token under the target's distribution, nats per answer token, by suite
    and over all (`all`), as `trainer.Objective.held_out` gives it. `sums`: as `trainer.Objective.sums`; only its first
    value is read."""
    head.train(False)
    found: dict[str, tuple[float, int]] = {}
    for suite, ids_1T, learn_1T in _chats(held_out, head.device):
        total, count = found.get(suite, (0.0, 0))
        total += sums(head, ids_1T, learn_1T, autocast, (), vocabulary_V)[0].item()
        found[suite] = total, count + int(learn_1T[:, 2:].sum())
    head.train()
    return {1: {suite: total / count for suite, (total, count) in _with_all(found).items() if count}}


@torch.no_grad()
def acceptance_by_position(choices: Choices, held_out: HeldOut, device: torch.device) -> dict[str, dict[str, float]]:
    """The share of held-out answer tokens at which token k of a proposal, from 1, is the target's own choice: by suite,
    and over all (`all`).

    The text before is the chat's, so that a token is judged whether or not those before it would have been accepted.
    """
    by_position: dict[int, dict[str, tuple[float, int]]] = {}
    for suite, ids_1T, learn_1T in _chats(held_out, device):
        drafted_KT, chosen_T = choices(ids_1T)
        counted_KT = learn_1T & (drafted_KT != UNREACHED)
        right_K = ((drafted_KT == chosen_T) & counted_KT).sum(1).tolist()
        for k, (right, count) in enumerate(zip(right_K, counted_KT.sum(1).tolist(), strict=True), start=1):
            sums = by_position.setdefault(k, {})
            before = sums.get(suite, (0.0, 0))
            sums[suite] = before[0] + right, before[1] + count
    return {
        str(k): {suite: right / count for suite, (right, count) in _with_all(sums).items() if count}
        for k, sums in by_position.items()
    }


def _chats(held_out: HeldOut, device: torch.device) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(suite, ids (1, T), the answer tokens among them) of every chat that is long enough for one proposal."""
    for suite, chats in held_out.items():
        for chat in chats:
            ids_1T, learn_1T = (torch.from_numpy(part).to(device)[None] for part in (chat.ids, chat.answer))
            if ids_1T.shape[1] > 2:
                yield suite, ids_1T.long(), learn_1T


def _with_all(sums: dict[str, tuple[float, int]]) -> dict[str, tuple[float, int]]:
    return {**sums, "all": (sum(total for total, _ in sums.values()), sum(count for _, count in sums.values()))}
