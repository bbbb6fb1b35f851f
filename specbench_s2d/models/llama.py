"""The lean forward of Llama-family checkpoints: Llama, Vicuna, Mistral, Qwen2 and Qwen3.

`LlamaModel` checks requests and keeps count of the cache; an engine (`models/engines`) runs the passes.
Shapes: see `models/base.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from specbench_s2d.models.base import (
    Identity,
    LanguageModel,
    Likeliest,
    PassKind,
    state_layers,
    without_states,
)
from specbench_s2d.models.draft_vocabulary import DraftVocabulary
from specbench_s2d.models.engines.base import Engine, Request
from specbench_s2d.models.engines.choose import MakeEngine
from specbench_s2d.models.engines.eager import EagerEngine, Norm
from specbench_s2d.models.exits import config_exits
from specbench_s2d.models.weights import LlamaWeights, Weights, load_weights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LEAN_ROPES = frozenset({"default", "linear", "llama3", "yarn"})
_LEAN_TYPES = frozenset({"llama", "mistral", "qwen2", "qwen3"})


def quantisation(config: Any) -> str | None:
    """The quantisation method that a config states; None for unquantised weights."""
    given = getattr(config, "quantization_config", None)
    if not given:
        return None
    fields = given if isinstance(given, dict) else given.to_dict()
    return str(getattr(fields.get("quant_method"), "value", None) or fields.get("quant_method", "unknown method"))


def why_not_lean(config: Any) -> str | None:
    """Why a checkpoint must run through transformers' own forward; None where the lean one computes the same."""
    if quantised := quantisation(config):
        return f"quantised ({quantised})"
    if config.model_type not in _LEAN_TYPES:
        return f"model type {config.model_type}"
    if getattr(config, "hidden_act", "silu") != "silu":
        return f"activation {config.hidden_act}"
    if getattr(config, "mlp_bias", False) or (
        config.model_type in ("llama", "qwen3") and getattr(config, "attention_bias", False)
    ):
        return "biases in the layers"
    window = getattr(config, "sliding_window", None)
    if not isinstance(window, int) or not getattr(config, "use_sliding_window", True):
        window = 0
    if 0 < window < config.max_position_embeddings:
        return f"a sliding window of {window}"
    rope = str((config.rope_parameters or {}).get("rope_type", "default"))
    return None if rope in _LEAN_ROPES else f"rotary embedding {rope}"


class LlamaModel(LanguageModel):
    """A Llama-family model; any range of its layers can be run separately, over one cache.

    `vocabulary`: the ids that it gives logits of, by default all rows of its head.
    """

    has_layer_ranges: ClassVar[bool] = True

    def __init__(
        self,
        identity: Identity,
        config: Any,
        weights: Weights,
        tokenizer: PreTrainedTokenizerBase,
        eos_ids: frozenset[int],
        device: torch.device,
        dtype: torch.dtype,
        engine: MakeEngine = EagerEngine,
        vocabulary: int | None = None,
    ) -> None:
        self.identity, self.tokenizer, self.eos_ids = identity, tokenizer, eos_ids
        self.device, self.dtype = device, dtype
        self.exits = config_exits(identity.name, config)
        loaded = load_weights(weights, identity.name, config, device, dtype, vocabulary)
        self.vocabulary, self.width, self.context = loaded.vocabulary, loaded.width, loaded.context
        self.depth = len(loaded.layers)
        self._layer_bytes, self._head_bytes, self._total_bytes = (
            loaded.layer_bytes, loaded.head_bytes, loaded.total_bytes,
        )  # fmt: skip
        self._head_rows = len(loaded.head_VD)  # padding rows too, which passes read and leave out of the logits
        self._head_row_bytes = loaded.head_VD.nbytes // self._head_rows
        assert loaded.norm_D is not None, "only a draft head may have none"
        self._final_norm = Norm(loaded.norm_D, loaded.eps)
        self._engine = engine(loaded)
        self._cache, self.torch_threads = self._engine.cache, self._engine.torch_threads

    @property
    def engine(self) -> str:
        return self._engine.name

    @property
    def length(self) -> int:
        return min(self._cache.lengths)

    def layer_length(self, layer: int) -> int:
        return self._cache.lengths[layer]

    @torch.inference_mode()
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
        request = self._request(inputs, from_layer, to_layer, mask, last_only, vocabulary=vocabulary)
        out_TX = self._engine.run(request)
        self._count(request)
        return (vocabulary.spread(out_TX) if vocabulary and request.head else out_TX)[None]

    @torch.inference_mode()
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
        last_only, best = rows == 1 and to_layer is None, self._at_most_all(best, vocabulary)
        request = self._request(inputs, from_layer, to_layer, mask, last_only, best, rows, vocabulary)
        hidden_TD, likeliest = self._engine.read(request)
        self._count(request)
        return None if hidden_TD is None else hidden_TD[None], likeliest

    def _request(
        self,
        inputs: Tensor,
        from_layer: int,
        to_layer: int | None,
        mask: Tensor | None,
        last_only: bool,
        best: int = 0,
        rows: int = 0,
        vocabulary: DraftVocabulary | None = None,
    ) -> Request:
        """The request for a pass, with room for it in the cache; raises `ModelError` beyond the context."""
        start, last = self._cache.lengths[from_layer], self.depth if to_layer is None else to_layer
        head = to_layer is None
        request = Request(inputs[0], start, from_layer, last, head, mask, last_only, best, rows, vocabulary)
        self.check_room(start, request.new)
        self._engine.reserve(request.end)
        return request

    def _count(self, request: Request) -> None:
        """Update the cache's lengths and the bytes read after a pass."""
        layers = request.to_layer - request.from_layer
        self._cache.lengths[request.from_layer : request.to_layer] = [request.end] * layers
        self.read_bytes += layers * (self._layer_bytes + request.end * self._cache.position_bytes)
        if request.head or request.best:
            self._count_head(request.vocabulary)

    def _count_head(self, vocabulary: DraftVocabulary | None) -> None:
        left_out = self._head_rows - len(vocabulary) if vocabulary else 0
        self.read_bytes += self._head_bytes - left_out * self._head_row_bytes

    def _at_most_all(self, best: int, vocabulary: DraftVocabulary | None) -> int:
        return min(best, len(vocabulary) if vocabulary else self.vocabulary)

    @torch.inference_mode()
    def head(self, hidden_BTD: Tensor, vocabulary: DraftVocabulary | None = None, *, final: bool = False) -> Tensor:
        self._count_head(vocabulary)
        logits_TX = self._engine.head(hidden_BTD[0], vocabulary, final=final)
        return (vocabulary.spread(logits_TX) if vocabulary else logits_TX)[None]

    @torch.inference_mode()
    def extend_with_states(
        self, ids_BT: Tensor, layers: Sequence[int], mask: Tensor | None = None, *, last_only: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        found: dict[int, Tensor] = {}
        hidden, at = ids_BT, 0
        for layer in state_layers(layers, self.depth):
            hidden, at = self.extend(hidden, at, layer, mask), layer
            found[layer] = hidden[0]
        if self.depth in found:
            found[self.depth] = self._final_norm(found[self.depth])
        return self.head(hidden[:, -1:] if last_only else hidden), [found[layer] for layer in layers]

    @torch.inference_mode()
    def embed(self, ids_T: Tensor) -> Tensor:
        return self._engine.embed(ids_T)

    @torch.inference_mode()
    def reserve(self, length: int) -> None:
        self._engine.reserve(min(length, self.context))

    @torch.inference_mode()
    def prepare(self, kinds: Iterable[PassKind]) -> None:
        plain = without_states(kinds, self.depth)
        self._engine.prepare(replace(kind, best=self._at_most_all(kind.best, kind.vocabulary)) for kind in plain)

    def engine_for_head(self, weights: LlamaWeights) -> Engine | None:
        return self._engine.for_head(weights)

    def eagerly(self) -> AbstractContextManager[None]:
        return self._engine.eagerly()

    def rollback(self, length: int) -> None:
        self._cache.rollback(length)

    @torch.inference_mode()
    def keep_path(self, positions: Sequence[int], start: int) -> None:
        self._cache.keep_path(positions, start)

    @property
    def parameter_bytes(self) -> int:
        return self._total_bytes

    @property
    def engine_facts(self) -> dict[str, Any]:
        return {"engine": self.engine, "head_dtype": "float32", **self._engine.facts()}
