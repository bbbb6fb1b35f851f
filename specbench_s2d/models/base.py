"""What the decoders know of a model: one protocol, whichever code runs the pass.

Shapes in this package: `B` batch, `T` new positions, `S` cached positions, `V` vocabulary, `D` hidden width,
`H` query heads, `K` key-value heads, `C` head width, `L` layers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from specbench_s2d.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Identity:
    """Which weights these are: for the manifest, the records' keys, and the pairing of runs."""

    name: str
    source: str
    revision: str | None = None
    weights_sha256: str | None = None
    architecture: str = ""
    forward: str = ""
    random_weights: bool = False
    facts: dict[str, Any] = field(default_factory=dict)


class LanguageModel(ABC):
    """A causal language model with a key-value cache that grows at its end, is cut there, or keeps a path of it.

    Attributes: `vocabulary` (V), `depth` (L), `context` (the longest sequence), `width` (D), `eos_ids` (ids that end
    an answer), `exits` (depths of a nested draft, `()` for a plain model), `tokenizer`, `engine`, `torch_threads`
    (what torch's are best set to while steps are taken), `takes_masks` (trees and beams can run on it); `read_bytes`
    (what all passes so far had to read at least: the weights of their layers, the cache those attend to, and the head
    where they ask for logits; embedding rows are left out).
    """

    identity: Identity
    vocabulary: int
    depth: int
    context: int
    width: int
    eos_ids: frozenset[int]
    exits: tuple[int, ...]
    device: torch.device
    dtype: torch.dtype
    tokenizer: PreTrainedTokenizerBase
    has_layer_ranges: ClassVar[bool] = False
    takes_masks: bool = True
    engine: str = "eager"
    torch_threads: int | None = None
    read_bytes: int = 0

    @property
    def name(self) -> str:
        return self.identity.name

    @property
    @abstractmethod
    def length(self) -> int:
        """Positions whose keys and values every layer holds."""

    def layer_length(self, layer: int) -> int:
        """Positions that layer number `layer` (from 0) holds; more than `length` below an early exit."""
        return self.length

    @abstractmethod
    def extend(
        self,
        inputs: Tensor,
        from_layer: int = 0,
        to_layer: int | None = None,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Run layers `from_layer+1 .. to_layer` over new positions and keep their keys and values.

        `inputs`: ids (B, T), or hidden states (B, T, D) where `from_layer > 0`. `mask`: bool (T, M), which of
        the last M positions (M - T cached ones, then the new) each new position sees; what lies before them is seen by
        all. Causal without one. `positions`: (T,), default: on from the
        cache. Returns logits (B, T, V) float32 when `to_layer` is None, else hidden states (B, T, D); with `last_only`,
        of the last position alone (T = 1). Raises `ModelError` beyond the context.
        """

    @abstractmethod
    def head(self, hidden_BTD: Tensor) -> Tensor:
        """Final norm and LM head: hidden states of any depth (B, T, D) to logits (B, T, V), float32."""

    @abstractmethod
    def rollback(self, length: int) -> None:
        """Forget all positions from `length` on, in every layer; O(1)."""

    @abstractmethod
    def keep(self, positions: Sequence[int], start: int) -> None:
        """Of the cached positions from `start` on, keep `start + positions` (ascending), moved together, no others.

        A layer that lags behind keeps those of them that it holds.
        """

    def reset(self) -> None:
        """Forget everything."""
        self.rollback(0)

    def reserve(self, length: int) -> None:  # noqa: B027 - most models grow as they go
        """Make room for a sequence of `length` positions (at most the context), before anything is timed."""

    @property
    def engine_facts(self) -> dict[str, Any]:
        """Which engine runs the passes (`engine`), and what it chose and made ready, for the manifest."""
        return {"engine": self.engine}

    def check_room(self, start: int, new: int) -> None:
        if start + new > self.context:
            raise ModelError(
                f"{self.name}: {start + new} positions asked for, its context holds {self.context}; "
                "shorten the prompt or lower --max-new-tokens."
            )

    @property
    def parameter_bytes(self) -> int:
        """Bytes of all weights as loaded."""
        return 0
