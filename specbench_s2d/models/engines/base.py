"""What `LlamaModel` asks of an engine. Shapes: see `models/base.py`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from specbench_s2d.models.base import Likeliest, PassKind
from specbench_s2d.models.cache import KVCache


@dataclass(frozen=True, slots=True)
class Request:
    """One pass over T new positions, which stand at `start` in the cache.

    `inputs`: ids (T,) or hidden states (T, D). `mask`, `positions`: as in `LanguageModel.extend`. `head`: logits are
    wanted, not hidden states. `last_only`: of the last position alone. `best`, `rows`: as in `LanguageModel.read`, 0
    for `extend`.
    """

    inputs: Tensor
    start: int
    from_layer: int
    to_layer: int
    head: bool
    mask: Tensor | None = None
    positions: Tensor | None = None
    last_only: bool = False
    best: int = 0
    rows: int = 0

    @property
    def new(self) -> int:
        """T."""
        return self.inputs.shape[0]

    @property
    def end(self) -> int:
        """Positions cached after the pass."""
        return self.start + self.inputs.shape[0]


class Engine(Protocol):
    """An engine with a model's weights and its cache."""

    @property
    def engine(self) -> str:
        """`eager` or `graphs`; settled when room was first reserved."""
        ...

    @property
    def torch_threads(self) -> int | None:
        """What torch's intra-op threads are best set to while steps are taken; None: as they are."""
        ...

    @property
    def cache(self) -> KVCache:
        """Where its keys and values are; `LlamaModel` moves the lengths."""
        ...

    def run(self, request: Request) -> Tensor:
        """Hidden states (T, D) after `to_layer`, or float32 logits (T, V), the new keys and values in the cache.

        There is room in the cache; its lengths are the caller's to move.
        """
        ...

    def read(self, request: Request) -> tuple[Tensor | None, Likeliest]:
        """As `run`, for a request with `best`: hidden states (None with `head`), and the likeliest tokens."""
        ...

    def head(self, hidden_TD: Tensor) -> Tensor:
        """Final norm and LM head: float32 logits (T, V)."""
        ...

    def reserve(self, length: int) -> None:
        """Make room for `length` positions."""
        ...

    def prepare(self, kinds: Iterable[PassKind]) -> None:
        """Make ready for passes of these kinds; `reserve` first."""
        ...

    def eagerly(self) -> AbstractContextManager[None]:
        """Inside, passes run as they come."""
        ...

    def facts(self) -> dict[str, Any]:
        """What the engine chose and made ready, for the manifest."""
        ...


class UnpreparedEngine(ABC):
    """What an engine does that prepares nothing: the parts of `Engine` that are the same for all such."""

    @abstractmethod
    def run(self, request: Request) -> Tensor:
        """As in `Engine`."""

    @abstractmethod
    def head(self, hidden_TD: Tensor) -> Tensor:
        """As in `Engine`."""

    def read(self, request: Request) -> tuple[Tensor | None, Likeliest]:
        """The pass, then the head over the last rows, then the likeliest."""
        out_TX = self.run(request)
        if request.head:
            return None, Likeliest.of(out_TX[-request.rows :], request.best)
        return out_TX, Likeliest.of(self.head(out_TX[-request.rows :]), request.best)

    def prepare(self, kinds: Iterable[PassKind]) -> None:  # noqa: B027 - there is nothing to make ready
        """Nothing to make ready."""

    def eagerly(self) -> AbstractContextManager[None]:
        return nullcontext()
