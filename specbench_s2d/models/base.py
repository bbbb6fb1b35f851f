"""What the decoders know of a model: one protocol, whichever code runs the pass.

Shapes in this package: `B` batch, `T` new positions, `S` cached positions, `V` vocabulary, `D` hidden width,
`H` query heads, `K` key-value heads, `C` head width, `L` layers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
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


@dataclass(frozen=True)
class Likeliest:
    """The k likeliest next tokens after each of R positions, best first: `packed_2RK`, float32, holds their
    log-probabilities at temperature 1, then their ids (exact below 2^24), so that a host reads both in one wait."""

    packed_2RK: Tensor

    @classmethod
    def of(cls, logits_RV: Tensor, k: int) -> Likeliest:
        """The k best by logit: of equal logits the first where one is asked for."""
        if k == 1:
            ids_RK = logits_RV.argmax(-1, keepdim=True)
        else:
            ids_RK = logits_RV.topk(min(k, logits_RV.shape[-1]), dim=-1).indices
        return cls(torch.stack((logits_RV.log_softmax(-1).gather(-1, ids_RK), ids_RK.to(torch.float32))))

    @property
    def logprobs_RK(self) -> Tensor:
        return self.packed_2RK[0]

    @property
    def ids_RK(self) -> Tensor:
        """As whole numbers, for a model to read."""
        return self.packed_2RK[1].long()


def positions_under(mask_TM: Tensor, end: int) -> Tensor:
    """Positions (T,) of rows under a mask that ends where the pass does: as many as each sees, less one."""
    return mask_TM.sum(1) + (end - mask_TM.shape[1] - 1)


@dataclass(frozen=True)
class PassKind:
    """A kind of pass that a decoder will ask of a model: what an engine may prepare before anything is timed.

    `from_layer`, `to_layer` (None: to the logits) as in `extend`; from the last layer to the logits is the head alone.
    `rows`: the widest; `least`: the narrowest, but for what the end of the context cuts. `seen`: positions that a mask
    covers at most, 0 without one. `best`: as in `read`, 0: `extend`.
    """

    rows: int
    from_layer: int = 0
    to_layer: int | None = None
    seen: int = 0
    best: int = 0
    least: int = 1


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
    torch_threads: int | None = None
    read_bytes: int = 0

    @property
    def name(self) -> str:
        return self.identity.name

    @property
    def engine(self) -> str:
        """How its passes are run."""
        return "eager"

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
        all. Causal without one. `positions`: (T,); default: as many as a position sees, less one, as in any sequence.
        Returns logits (B, T, V) float32 when `to_layer` is None, else hidden states (B, T, D); with `last_only`,
        of the last position alone (T = 1). Raises `ModelError` beyond the context.
        """

    @abstractmethod
    def head(self, hidden_BTD: Tensor) -> Tensor:
        """Final norm and LM head: hidden states of any depth (B, T, D) to logits (B, T, V), float32."""

    def read(
        self,
        inputs: Tensor,
        from_layer: int = 0,
        to_layer: int | None = None,
        mask: Tensor | None = None,
        rows: int = 1,
        best: int = 1,
    ) -> tuple[Tensor | None, Likeliest]:
        """`extend`, and the `best` likeliest next tokens after the last `rows` positions, read at depth `to_layer`.

        Returns hidden states (B, T, D), None where `to_layer` is None, and the tokens. An engine may do both in one.
        """
        if to_layer is None:
            logits_RV = self.extend(inputs, from_layer, None, mask, last_only=rows == 1)[0, -rows:]
            return None, Likeliest.of(logits_RV, best)
        hidden_BTD = self.extend(inputs, from_layer, to_layer, mask)
        return hidden_BTD, Likeliest.of(self.head(hidden_BTD[:, -rows:])[0], best)

    @abstractmethod
    def rollback(self, length: int) -> None:
        """Forget all positions from `length` on, in every layer; O(1)."""

    @abstractmethod
    def keep_path(self, positions: Sequence[int], start: int) -> None:
        """Of the cached positions from `start` on, keep `start + positions` (ascending), moved together, no others.

        A layer that lags behind keeps those of them that it holds.
        """

    def reset(self) -> None:
        """Forget everything."""
        self.rollback(0)

    def reserve(self, length: int) -> None:  # noqa: B027 - most models grow as they go
        """Make room for a sequence of `length` positions (at most the context), before anything is timed."""

    def prepare(self, kinds: Iterable[PassKind]) -> None:  # noqa: B027 - most engines take passes as they come
        """Make ready for passes of these kinds, before anything is timed; `reserve` first."""

    def eagerly(self) -> AbstractContextManager[None]:
        """Inside, passes run as they come, whatever was prepared: for work that no decoder asks for, as scoring."""
        return nullcontext()

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
