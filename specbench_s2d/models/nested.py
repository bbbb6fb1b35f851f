"""The nested draft: sub-models that share one model and one cache (S2D, arXiv 2407.01955, section 3).

Stage i of a draft with exits d_1 < ... < d_k is layers d_{i-1}+1 .. d_i. A token that exited at d_i has no keys and
values above layer d_i; its hidden state waits there, and runs through the next stage together with the first later
token that goes deeper. Shapes: see `models/base.py`; `W` waiting states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from specbench_s2d.models.base import LanguageModel, Likeliest, PassKind
from specbench_s2d.models.draft_vocabulary import DraftVocabulary
from specbench_s2d.models.exits import resolve_exits
from specbench_s2d.models.transfer import to_device

MANY = 64
"""The most waiting states that passes are prepared for; passes over more run eagerly."""


class NestedDraft:
    """A draft that can be read at any of its exits.

    `layer_runs`: layers times positions run since the prefill. No layer runs twice for a position that is kept, and no
    layer above an exit runs before a later token needs it; only the prompt runs through all layers at once.
    `vocabulary`: the ids that its exits predict, None for all.
    """

    def __init__(
        self, model: LanguageModel, exits: Sequence[int] | None = None, vocabulary: DraftVocabulary | None = None
    ) -> None:
        self.exits, self._vocabulary = resolve_exits(model, exits), vocabulary
        self.model = model
        self.layer_runs = 0
        self._waiting: list[list[Tensor]] = [[] for _ in self.exits]

    @property
    def length(self) -> int:
        """Positions that the first stage has run."""
        return self.model.layer_length(0)

    def waiting(self, stage: int) -> int:
        """W: positions that the stage below has run and `stage` (from 1) has not."""
        return self.model.layer_length(self.exits[stage - 1] - 1) - self.model.layer_length(self.exits[stage - 1])

    def prefill(self, prompt_ids: Sequence[int]) -> None:
        """Empty the cache, and run a prompt through every stage."""
        self.model.reset()
        self.model.extend(self._row(prompt_ids), to_layer=self.exits[-1], last_only=True)
        self.layer_runs = 0
        self._waiting = [[] for _ in self.exits]

    def read(
        self, stage: int, ids: Sequence[int] | Tensor, mask: Tensor | None = None, rows: int = 1, best: int = 1
    ) -> Likeliest:
        """Run a stage; returns the `best` likeliest tokens at its exit after its last `rows` positions.

        Stage 0 runs over new `ids` (a list, or a tensor (B, T) on the device); later stages run over all states that
        wait below them, and ignore `ids`. `mask`: as in `LanguageModel.extend`, one row per position that runs.
        """
        inputs, first, last = self._inputs(stage, ids), self.exits[stage - 1] if stage else 0, self.exits[stage]
        hidden_BTD, likeliest = self.model.read(inputs, first, last, mask, rows, best, self._vocabulary)
        assert hidden_BTD is not None
        self._ran(stage, hidden_BTD, last - first)
        return likeliest

    def run(self, stage: int, ids: Sequence[int]) -> Tensor:
        """Only the layers of `read`: hidden states (B, T, D); for timing layers and exit check separately."""
        first, last = self.exits[stage - 1] if stage else 0, self.exits[stage]
        hidden_BTD = self.model.extend(self._inputs(stage, ids), first, last)
        self._ran(stage, hidden_BTD, last - first)
        return hidden_BTD

    def _inputs(self, stage: int, ids: Sequence[int] | Tensor) -> Tensor:
        """New ids (B, T), or the states (B, W, D) that wait below a later stage, which are taken from there."""
        if not stage:
            return ids if isinstance(ids, Tensor) else self._row(ids)
        below = self._waiting[stage - 1]
        inputs_BWD = below[0] if len(below) == 1 else torch.cat(below, dim=1)
        below.clear()
        return inputs_BWD

    def _ran(self, stage: int, hidden_BTD: Tensor, layers: int) -> None:
        self.layer_runs += hidden_BTD.shape[1] * layers
        if stage < len(self.exits) - 1:
            self._waiting[stage].append(hidden_BTD)

    def _row(self, ids: Sequence[int]) -> Tensor:
        return to_device([list(ids)], self.model.device)

    def rollback(self, length: int) -> None:
        """Cut keys, values and waiting states to the first `length` positions."""
        if length < self.length:
            spans = self._spans()
            self.model.rollback(length)
            self._cut_waiting(spans, lambda position: position < length)

    def keep_path(self, positions: Sequence[int], start: int) -> None:
        """Of the positions from `start` on, keep only `start + positions` (ascending), moved together."""
        spans, path = self._spans(), {start + position for position in positions}
        self.model.keep_path(positions, start)
        self._cut_waiting(spans, lambda position: position < start or position in path)

    def _spans(self) -> list[range]:
        """The positions that wait above each stage except the last."""
        length = self.model.layer_length
        return [range(length(exit_depth), length(exit_depth - 1)) for exit_depth in self.exits[:-1]]

    def _cut_waiting(self, spans: list[range], stays: Callable[[int], bool]) -> None:
        for states, span in zip(self._waiting, spans, strict=False):
            rows = [i for i, position in enumerate(span) if stays(position)]
            if len(rows) < len(span):
                states[:] = [_rows(torch.cat(states, dim=1), rows)] if rows else []


def stage_passes(
    exits: Sequence[int],
    rows: int,
    best: int = 1,
    seen: int = 0,
    least: int = 1,
    vocabulary: DraftVocabulary | None = None,
) -> list[PassKind]:
    """The passes of all stages with their exit checks: the first over `least` to `rows` new tokens, the others over
    waiting states."""
    ends = zip((0, *exits), exits, strict=False)
    return [PassKind(rows if first == 0 else MANY, first, last, seen, best, least, vocabulary) for first, last in ends]


def _rows(states_BWD: Tensor, rows: list[int]) -> Tensor:
    """Some rows, in ascending order; a view where they are the first."""
    if rows[-1] == len(rows) - 1:
        return states_BWD[:, : len(rows)]
    return states_BWD.index_select(1, to_device(rows, states_BWD.device))
