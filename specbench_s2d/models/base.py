"""`LanguageModel`, the interface through which decoders use a model.

Shapes in this package: `B` batch, `T` new positions, `S` cached positions, `V` vocabulary, `D` hidden width,
`H` query heads, `K` key-value heads, `C` head width, `L` layers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from specbench_s2d.errors import ModelError
from specbench_s2d.models.draft_vocabulary import DraftVocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from specbench_s2d.models.engines.base import Engine
    from specbench_s2d.models.heads.shape import HeadShape
    from specbench_s2d.models.named import WeightsSource
    from specbench_s2d.models.token_ranking import Ranking
    from specbench_s2d.models.weights import LlamaWeights


@dataclass(frozen=True)
class Identity:
    """The identity of a model, for the manifest, the keys of records, and the pairing of runs.

    `forward`: `lean`, or `transformers` with the reason. `random_weights`: its output means nothing. `source`: where
    the weights of a named model or of a GGUF file came from.
    """

    name: str
    revision: str | None = None
    weights_sha256: str | None = None
    architecture: str = ""
    forward: str = ""
    random_weights: bool = False
    source: WeightsSource | None = None


@dataclass(frozen=True)
class Likeliest:
    """The k likeliest next tokens after each of R positions, best first.

    `packed_2RK`: float32, their log-probabilities at temperature 1, then their ids (exact below 2^24), so that the host
    reads both in one wait.
    """

    packed_2RK: Tensor

    @classmethod
    def of(cls, logits_RV: Tensor, k: int, vocabulary: DraftVocabulary | None = None) -> Likeliest:
        """The k tokens with the highest logits; of equal ones, the first where `k` is 1.

        `vocabulary`: the ids that the logits (R, N) are of, None for all; log-probabilities are over those alone.
        """
        if k == 1:
            ids_RK = logits_RV.argmax(-1, keepdim=True)
        else:
            ids_RK = logits_RV.topk(min(k, logits_RV.shape[-1]), dim=-1).indices
        logprobs_RK = logits_RV.log_softmax(-1).gather(-1, ids_RK)
        if vocabulary is not None:
            ids_RK = vocabulary.ids_on(ids_RK.device)[ids_RK]
        return cls(torch.stack((logprobs_RK, ids_RK.to(torch.float32))))

    @classmethod
    def after_pass(
        cls,
        out_TX: Tensor,
        is_logits: bool,
        rows: int,
        k: int,
        head: Callable[[Tensor], Tensor],
        vocabulary: DraftVocabulary | None = None,
    ) -> tuple[Tensor | None, Likeliest]:
        """The output of a pass as hidden states (None where it is logits), and the k likeliest tokens after its last
        `rows` positions; `head` turns hidden states (R, D) into logits. `vocabulary`: as in `of`."""
        if is_logits:
            return None, cls.of(out_TX[-rows:], k, vocabulary)
        return out_TX, cls.of(head(out_TX[-rows:]), k, vocabulary)

    @property
    def logprobs_RK(self) -> Tensor:
        return self.packed_2RK[0]

    @property
    def ids_RK(self) -> Tensor:
        """The ids as integers, the input of a next pass."""
        return self.packed_2RK[1].long()


def positions_under(mask_TM: Tensor, end: int) -> Tensor:
    """Position (T,) in the sequence of each row under a mask whose last column is position `end` - 1: the number of
    positions that the row sees, less one."""
    return mask_TM.sum(1) + (end - mask_TM.shape[1] - 1)


@dataclass(frozen=True)
class PassKind:
    """A kind of pass that a decoder declares before it runs, so that the engine can prepare it before anything is
    timed.

    `from_layer`, `to_layer`: as in `extend`; from the last layer to None is the head alone. `rows`: the most positions
    of a pass; `least`: the fewest, other than at the end of the context window. `seen`: the most positions that a mask
    covers, 0 without one. `best`: as in `read`, 0 for `extend`. `vocabulary`: the ids that logits are computed of,
    None for all. `states`: the layers whose states are read beside the logits (`extend_with_states`), `FINAL` for those
    after the final norm.
    """

    rows: int
    from_layer: int = 0
    to_layer: int | None = None
    seen: int = 0
    best: int = 0
    least: int = 1
    vocabulary: DraftVocabulary | None = None
    states: tuple[int, ...] = ()


FINAL = -1
"""In `PassKind.states`, the final states, whatever a model's depth."""


def state_layers(layers: Iterable[int], depth: int) -> list[int]:
    """Where a pass that gives the states of `layers` is cut: each of them once, ascending, and the last layer."""
    return sorted({*(depth if layer == FINAL else layer for layer in layers), depth})


def without_states(kinds: Iterable[PassKind], depth: int) -> list[PassKind]:
    """The passes that kinds which read states are run as: layers range by range, then the head."""
    found: list[PassKind] = []
    for kind in kinds:
        if not kind.states:
            found.append(kind)
            continue
        cuts, plain = state_layers(kind.states, depth), replace(kind, states=())
        found += [replace(plain, from_layer=a, to_layer=b) for a, b in zip((0, *cuts), cuts, strict=False)]
        found.append(replace(plain, from_layer=depth, seen=0))
    return found


class LanguageModel(ABC):
    """A causal language model with a key-value cache that is extended, rolled back, or cut to one path of a tree.

    Attributes: `vocabulary` (V), `depth` (L), `context` (the longest sequence), `width` (D), `eos_ids` (ids that end an
    answer), `exits` (depths of a nested draft, `()` for a plain model), `tokenizer`; `has_layer_ranges` (ranges of its
    layers can be run), `takes_masks` (trees and beams can be run); `torch_threads` (the number of torch's threads at
    which steps are fastest, None for any); `read_bytes` (the least that all passes so far had to read from memory: the
    weights of their layers, the cache that these attend to, and the head where logits are computed; rows of the
    embedding are left out); `ranking` (what a small vocabulary of it is chosen by, None where nothing is stored);
    `load_facts` (what was found when it was loaded, for the manifest); `head_shape` (what it holds where it is a draft
    head, which only proposes).
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
    ranking: Ranking | None = None
    head_shape: HeadShape | None = None
    load_facts: dict[str, Any] = {}  # noqa: RUF012 - replaced, never changed

    @property
    def name(self) -> str:
        return self.identity.name

    @property
    def engine(self) -> str:
        """The name of the engine that runs its passes."""
        return "eager"

    @property
    @abstractmethod
    def length(self) -> int:
        """Positions that every layer holds keys and values of."""

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
        *,
        last_only: bool = False,
        vocabulary: DraftVocabulary | None = None,
    ) -> Tensor:
        """Run layers `from_layer+1 .. to_layer` over new positions and cache their keys and values.

        `inputs`: ids (B, T), or hidden states (B, T, D) where `from_layer > 0`. `mask`: bool (T, M), which of the last
        M positions (M - T cached ones, then the new) each new position sees; all see what lies before them; causal
        without a mask. A position's index in its sequence is the number of positions that it sees, less one. Returns
        logits (B, T, V) float32 when `to_layer` is None, else hidden states (B, T, D); with `last_only`, only those of
        the last position (T = 1). With a `vocabulary`, logits of other ids are -inf, and not computed. Raises
        `ModelError` beyond the context.
        """

    @abstractmethod
    def head(self, hidden_BTD: Tensor, vocabulary: DraftVocabulary | None = None, *, final: bool = False) -> Tensor:
        """Final norm and LM (language model) head: hidden states of any depth (B, T, D) to logits (B, T, V),
        float32; `vocabulary` as in `extend`. `final`: the states are as after the final norm; only the head runs."""

    def extend_with_states(
        self, ids_BT: Tensor, layers: Sequence[int], mask: Tensor | None = None, *, last_only: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """`extend` of ids to logits, and for each of `layers` the states (T, D) of every new position.

        The states of layer number l (from 0) are those that enter it; those of layer `depth` are the final ones, after
        the final norm, which the head multiplies. `last_only` holds for the logits.
        """
        raise ModelError(f"{self.name}: it gives no hidden states, which draft heads read; give another target.")

    def embed(self, ids_T: Tensor) -> Tensor:
        """The embeddings (T, D) of ids; the cache stays as it is."""
        raise ModelError(f"{self.name}: it gives no embeddings, which draft heads read; give another target.")

    def read(
        self,
        inputs: Tensor,
        from_layer: int = 0,
        to_layer: int | None = None,
        mask: Tensor | None = None,
        rows: int = 1,
        best: int = 1,
        vocabulary: DraftVocabulary | None = None,
    ) -> tuple[Tensor | None, Likeliest]:
        """`extend`, and the `best` likeliest next tokens after the last `rows` positions, read at depth `to_layer`.

        With a `vocabulary`, of its ids alone, their log-probabilities renormalised over them. Returns hidden states
        (B, T, D), None where `to_layer` is None, and the tokens. An engine may run both as one.
        """
        is_logits = to_layer is None
        last_only = is_logits and rows == 1
        out_BTX = self.extend(inputs, from_layer, to_layer, mask, last_only=last_only, vocabulary=vocabulary)
        hidden_TD, likeliest = Likeliest.after_pass(
            out_BTX[0], is_logits, rows, best, lambda hidden_RD: self.head(hidden_RD[None], vocabulary)[0]
        )
        return None if hidden_TD is None else hidden_TD[None], likeliest

    @abstractmethod
    def rollback(self, length: int) -> None:
        """Cut the cache to its first `length` positions, in every layer; O(1)."""

    @abstractmethod
    def keep_path(self, positions: Sequence[int], start: int) -> None:
        """Of the cached positions from `start` on, keep only `start + positions` (ascending), moved together.

        A layer that holds fewer positions keeps those of them that it holds.
        """

    def reset(self) -> None:
        """Empty the cache."""
        self.rollback(0)

    def reserve(self, length: int) -> None:  # noqa: B027 - most models grow as they go
        """Allocate the cache for a sequence of `length` positions (at most the context), before anything is timed."""

    def prepare(self, kinds: Iterable[PassKind]) -> None:  # noqa: B027 - most engines prepare nothing
        """Prepare passes of these kinds, before anything is timed and after `reserve`."""

    def attach(self, target: LanguageModel) -> None:  # noqa: B027 - a draft model needs nothing of its target
        """For a draft head: use this target's embedding, LM head and engine from now on."""

    def engine_for_head(self, weights: LlamaWeights) -> Engine | None:
        """An engine for a draft head of these weights, as `Engine.for_head`; None where this model's engine cannot run
        it, and where passes run through transformers' own forward."""
        return None

    def eagerly(self) -> AbstractContextManager[None]:
        """Inside, passes run eagerly, whatever was prepared: for work outside decoding, such as scoring."""
        return nullcontext()

    @property
    def engine_facts(self) -> dict[str, Any]:
        """The engine that runs the passes (`engine`), and what it chose and prepared, for the manifest."""
        return {"engine": self.engine}

    def check_room(self, start: int, new: int) -> None:
        """Raise `ModelError` where `new` positions from `start` on go beyond the context."""
        if start + new > self.context:
            raise ModelError(
                f"{self.name}: {start + new} positions asked for, its context holds {self.context}; "
                "shorten the prompt or ask for fewer new tokens."
            )

    @property
    def parameter_bytes(self) -> int:
        """Bytes of all weights as loaded."""
        return 0
