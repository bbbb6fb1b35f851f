"""Models with known probabilities: the test bed of every decoder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from specbench_s2d.models.base import Identity, LanguageModel
from specbench_s2d.models.draft_vocabulary import DraftVocabulary

Prefix = tuple[int, ...]


class Clock:
    """A clock that moves only when a fake model works."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FixedRanking:
    """A ranking of a draft's ids, as given."""

    def __init__(self, ids: list[int]) -> None:
        self._ids = ids

    def ids(self, vocabulary: int) -> list[int]:
        assert vocabulary == len(self._ids)
        return self._ids


class FakeModel(LanguageModel):
    """Next-token logits are a random but fixed function of the prefix that a position sees; a pass costs nothing.

    `sharpness` spreads the logits; two fakes of different `seed` disagree as two models do. With `exits` it is a nested
    draft whose depths disagree likewise. A hidden state is the number of the (prefix, depth) that it stands for, and a
    layer refuses one that it should not get. A layer takes `layer_s` on `clock`, whatever it runs.
    """

    def __init__(
        self,
        vocabulary: int = 5,
        seed: int = 0,
        sharpness: float = 1.0,
        context: int = 64,
        eos: int | None = None,
        exits: tuple[int, ...] = (),
        clock: Clock | None = None,
        layer_s: float = 0.0,
    ) -> None:
        self.identity = Identity(name=f"fake-{seed}")
        self.vocabulary, self.context, self.width = vocabulary, context, 1
        self.depth, self.exits = (exits[-1] if exits else 1), exits
        self.eos_ids = frozenset() if eos is None else frozenset({eos})
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.tokenizer: Any = SimpleNamespace(get_vocab=lambda: {str(i): i for i in range(vocabulary)})
        self._seed, self._sharpness = seed, sharpness
        self._layers: list[list[int]] = [[] for _ in range(self.depth)]
        self._known: dict[tuple[Prefix, int | None], Tensor] = {}
        self._numbers: dict[tuple[Prefix, int], int] = {}
        self._states: list[tuple[Prefix, int]] = []
        self.passes = 0
        self._clock, self._layer_s = clock or Clock(), layer_s

    @property
    def has_layer_ranges(self) -> bool:  # type: ignore[override]
        return bool(self.exits)

    @property
    def length(self) -> int:
        return min(len(layer) for layer in self._layers)

    def layer_length(self, layer: int) -> int:
        return len(self._layers[layer])

    def logits_after(self, prefix: Prefix) -> Tensor:
        """(V,) logits after a prefix, the same for ever."""
        return self._random(prefix, None)

    def logits_at(self, prefix: Prefix, depth: int) -> Tensor:
        """(V,) logits of the sub-model of that depth."""
        return self.logits_after(prefix) if depth == self.depth else self._random(prefix, depth)

    def _random(self, prefix: Prefix, exit_depth: int | None) -> Tensor:
        """Drawn once, seeded by SHA-256: Python's `hash` has one value for -1 and -2, and for tuples that differ so."""
        if (prefix, exit_depth) not in self._known:
            text = f"seed {self._seed}, exit {exit_depth}, prefix {list(prefix)}"
            seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
            logits_V = torch.randn(self.vocabulary, generator=torch.Generator().manual_seed(seed))
            self._known[prefix, exit_depth] = logits_V * self._sharpness
        return self._known[prefix, exit_depth]

    def extend(
        self,
        inputs: Tensor,
        from_layer: int = 0,
        to_layer: int | None = None,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        last_only: bool = False,
        vocabulary: DraftVocabulary | None = None,
    ) -> Tensor:
        start, new = len(self._layers[from_layer]), inputs.shape[1]
        self.check_room(start, new)
        self.passes += 1
        end = self.depth if to_layer is None else to_layer
        self._clock.now += self._layer_s * (end - from_layer)
        tokens = self._tokens(inputs, from_layer)
        self._layers[from_layer:end] = [[*layer, *tokens] for layer in self._layers[from_layer:end]]
        prefixes = self._prefixes(self._layers[from_layer], start, new, mask)
        if positions is not None:
            assert [len(prefix) - 1 for prefix in prefixes] == positions.tolist()
        if from_layer:
            given = [self._states[int(number)] for number in inputs[0, :, 0].tolist()]
            assert given == [(prefix, from_layer) for prefix in prefixes], "a layer got states that are not its own"
        kept = prefixes[-1:] if last_only else prefixes
        if to_layer is None:
            return _cut(torch.stack([self.logits_at(prefix, end) for prefix in kept]), vocabulary)[None]
        return torch.tensor([[[float(self._number(prefix, end))] for prefix in kept]])

    def _tokens(self, inputs: Tensor, from_layer: int) -> list[int]:
        if not from_layer:
            return [int(token) for token in inputs[0].tolist()]
        return [self._states[int(number)][0][-1] for number in inputs[0, :, 0].tolist()]

    @staticmethod
    def _prefixes(cached: list[int], start: int, new: int, mask: Tensor | None) -> list[Prefix]:
        """What each new position sees, itself included."""
        if mask is None:
            return [tuple(cached[: start + i + 1]) for i in range(new)]
        before = start + new - mask.shape[1]
        tail = cached[before:]
        return [
            (*cached[:before], *(token for token, seen in zip(tail, row, strict=True) if seen)) for row in mask.tolist()
        ]

    def _number(self, prefix: Prefix, depth: int) -> int:
        if (prefix, depth) not in self._numbers:
            self._numbers[prefix, depth] = len(self._states)
            self._states.append((prefix, depth))
        return self._numbers[prefix, depth]

    def head(self, hidden_BTD: Tensor, vocabulary: DraftVocabulary | None = None) -> Tensor:
        states = [self._states[int(number)] for number in hidden_BTD[0, :, 0].tolist()]
        return _cut(torch.stack([self.logits_at(prefix, depth) for prefix, depth in states]), vocabulary)[None]

    def rollback(self, length: int) -> None:
        for layer in self._layers:
            del layer[length:]

    def keep_path(self, positions: Sequence[int], start: int) -> None:
        for layer in self._layers:
            layer[start:] = [layer[start + p] for p in positions if start + p < len(layer)]


def _cut(logits_TV: Tensor, vocabulary: DraftVocabulary | None) -> Tensor:
    """Logits, -inf outside the vocabulary."""
    if vocabulary is None:
        return logits_TV
    outside_V = torch.ones(logits_TV.shape[1], dtype=torch.bool)
    outside_V[list(vocabulary.ids)] = False
    return logits_TV.masked_fill(outside_V, float("-inf"))
