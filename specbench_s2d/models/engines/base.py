"""The interface of an engine, which runs the passes of `LlamaModel`. Shapes: see `models/base.py`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from specbench_s2d.models.base import Likeliest, PassKind
from specbench_s2d.models.cache import KVCache
from specbench_s2d.models.draft_vocabulary import DraftVocabulary
from specbench_s2d.models.weights import LlamaWeights


@dataclass(frozen=True, slots=True)
class Request:
    """One pass over T new positions, from `start` on in the cache.

    `inputs`: ids (T,) or hidden states (T, D). `mask`: as in `LanguageModel.extend`. `head`: return logits instead of
    hidden states. `last_only`: only of the last position. `best`, `rows`: as in `LanguageModel.read`, 0 for `extend`.
    `vocabulary`: the N ids that logits are computed of, (T, N); None for all, (T, V). `final`: hidden states are as
    after the final norm. `states`: those (T, D) that a draft head reads beside ids, or beside their embeddings.
    """

    inputs: Tensor
    start: int
    from_layer: int
    to_layer: int
    head: bool
    mask: Tensor | None = None
    last_only: bool = False
    best: int = 0
    rows: int = 0
    vocabulary: DraftVocabulary | None = None
    final: bool = False
    states: Tensor | None = None

    @property
    def new(self) -> int:
        """T: the number of new positions."""
        return self.inputs.shape[0]

    @property
    def end(self) -> int:
        """Positions in the cache after the pass."""
        return self.start + self.inputs.shape[0]


class Engine(ABC):
    """Runs the passes of one model, whose weights and cache it holds; by default it prepares nothing.

    `cache`: its keys and values, whose lengths `LlamaModel` updates. `torch_threads`: as in `LanguageModel`.
    """

    cache: KVCache
    torch_threads: int | None = None

    @property
    @abstractmethod
    def name(self) -> str:
        """`eager`, `native` or `cuda-graphs`; it may become `eager` when the cache is first reserved."""

    @abstractmethod
    def run(self, request: Request) -> Tensor:
        """Run the pass and cache its keys and values; returns hidden states (T, D), or float32 logits (T, V or N).

        The caller has reserved room in the cache, and updates its lengths.
        """

    @abstractmethod
    def head(self, hidden_TD: Tensor, vocabulary: DraftVocabulary | None = None, *, final: bool = False) -> Tensor:
        """Final norm and LM head: float32 logits (T, V), or (T, N) of a vocabulary's ids. `final`: the head alone."""

    @abstractmethod
    def embed(self, ids_T: Tensor) -> Tensor:
        """The embeddings (T, D) of ids."""

    @abstractmethod
    def reserve(self, length: int) -> None:
        """Allocate the cache for `length` positions."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What the engine chose and prepared, for the manifest."""

    def read(self, request: Request) -> tuple[Tensor | None, Likeliest]:
        """As `run`, for a request with `best`: hidden states (None with `head`), and the likeliest tokens."""
        vocabulary = request.vocabulary
        head = partial(self.head, vocabulary=vocabulary)
        return Likeliest.after_pass(self.run(request), request.head, request.rows, request.best, head, vocabulary)

    def chain(self, request: Request, tokens: int) -> Tensor | None:
        """A draft head's chain after a request with states, in one call: log-probabilities and ids (2, `tokens`), each
        token the likeliest after the state predicted there. None where the engine runs its passes one by one.

        The caller has reserved room for `tokens` - 1 positions more than the request's.
        """
        return None

    def prepare(self, kinds: Iterable[PassKind]) -> None:  # noqa: B027 - most engines prepare nothing
        """Prepare passes of these kinds, after `reserve`."""

    def for_head(self, weights: LlamaWeights) -> Engine | None:
        """An engine of this kind for a draft head, with this engine's embedding and LM head where `weights` have none;
        None where this kind cannot run it."""
        raise NotImplementedError(self.name)

    def eagerly(self) -> AbstractContextManager[None]:
        """Inside, passes run eagerly."""
        return nullcontext()
