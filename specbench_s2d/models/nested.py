"""The nested draft: sub-models that are views of one model and one cache (S2D, arXiv 2407.01955, section 3).

Stage i of a draft with exits d_1 < ... < d_k is layers d_{i-1}+1 .. d_i. Shapes: see `models/base.py`; `W` states
that wait below a stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from specbench_s2d.models.base import LanguageModel
from specbench_s2d.models.exits import resolve_exits
from specbench_s2d.models.sending import send


class NestedDraft:
    """One draft, read at any of its exits; a state that leaves early waits until a later token goes deeper.

    `layer_runs` counts layers x positions run after the prefill. No layer runs twice for a position that stays, and
    nothing above an exit runs before a later token needs it there, but for the prompt, which runs whole.
    """

    def __init__(self, model: LanguageModel, exits: Sequence[int] | None = None) -> None:
        self.exits = resolve_exits(model, exits)
        self.model = model
        self.layer_runs = 0
        self._waiting: list[list[Tensor]] = [[] for _ in self.exits]

    @property
    def length(self) -> int:
        """Positions that the first stage has seen."""
        return self.model.layer_length(0)

    def waiting(self, stage: int) -> int:
        """W: positions that the stage below has seen and `stage` (from 1) has not."""
        return self.model.layer_length(self.exits[stage - 1] - 1) - self.model.layer_length(self.exits[stage - 1])

    def prefill(self, prompt_ids: Sequence[int]) -> None:
        """Begin anew: run a prompt through every stage."""
        self.model.reset()
        self.model.extend(self._row(prompt_ids), to_layer=self.exits[-1], last_only=True)
        self.layer_runs = 0
        self._waiting = [[] for _ in self.exits]

    def run(self, stage: int, ids: Sequence[int], mask: Tensor | None = None, positions: Tensor | None = None) -> None:
        """Run stage 0 over new `ids`, or a later stage over all states that wait below it, whatever `ids`.

        `mask` and `positions` as in `LanguageModel.extend`, one row per position that runs.
        """
        first = self.exits[stage - 1] if stage else 0
        if stage:
            below = self._waiting[stage - 1]
            inputs = below[0] if len(below) == 1 else torch.cat(below, dim=1)
            below.clear()
        else:
            inputs = self._row(ids)
        last = self.exits[stage]
        hidden_BTD = self.model.extend(inputs, first, last, mask, positions)
        self.layer_runs += inputs.shape[1] * (last - first)
        self._top_BTD = hidden_BTD
        if stage < len(self.exits) - 1:
            self._waiting[stage].append(hidden_BTD)

    def _row(self, ids: Sequence[int]) -> Tensor:
        return send([list(ids)], self.model.device)

    def logits(self, rows: int = 1) -> Tensor:
        """Logits (rows, V) at the exit of the stage that ran last, after its last `rows` positions."""
        return self.model.head(self._top_BTD[:, -rows:])[0]

    def most_likely(self) -> tuple[float, int]:
        """(log of its probability at temperature 1, token) of the likeliest next token, read at the last stage's exit.

        Waits for the device, as every threshold must.
        """
        best, token = self.logits()[0].log_softmax(-1).max(-1)
        logprob, index = torch.stack((best, token.to(best.dtype))).tolist()  # ids below 2^24 are exact in float32
        return logprob, int(index)

    def rollback(self, length: int) -> None:
        """Forget positions from `length` on: keys, values and waiting states alike."""
        if length < self.length:
            spans = self._spans()
            self.model.rollback(length)
            self._keep_waiting(spans, lambda position: position < length)

    def keep(self, positions: Sequence[int], start: int) -> None:
        """Of the positions from `start` on, keep `start + positions` (ascending), moved together, no others."""
        spans, kept = self._spans(), {start + position for position in positions}
        self.model.keep(positions, start)
        self._keep_waiting(spans, lambda position: position < start or position in kept)

    def _spans(self) -> list[range]:
        """The positions that wait above each stage but the last."""
        length = self.model.layer_length
        return [range(length(exit_depth), length(exit_depth - 1)) for exit_depth in self.exits[:-1]]

    def _keep_waiting(self, spans: list[range], stays: Callable[[int], bool]) -> None:
        for states, span in zip(self._waiting, spans, strict=False):
            rows = [i for i, position in enumerate(span) if stays(position)]
            if len(rows) < len(span):
                states[:] = [_rows(torch.cat(states, dim=1), rows)] if rows else []


def _rows(states_BWD: Tensor, rows: list[int]) -> Tensor:
    """Some of the rows, ascending; the first ones are a view."""
    if rows[-1] == len(rows) - 1:
        return states_BWD[:, : len(rows)]
    return states_BWD.index_select(1, send(rows, states_BWD.device))
