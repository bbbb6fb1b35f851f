"""EAGLE's draft head (Li et al. 2024, arXiv 2401.15077): the target's next final state, from its last one and a token.

    f^_{t+1} = layer(W [e(x_{t+1}); f_t] + b)        section 4.1 of the paper; f_t: the target's final state at t
    q(x_{t+2}) = softmax(head(f^_{t+1}))             head: the target's own

Pair t is (x_{t+1}, f_t), and stands at position t of the head's cache. While it drafts, the head's own states stand in
for the target's. Shapes: see `models/base.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from specbench_s2d.models.base import Identity, LanguageModel, Likeliest, PassKind
from specbench_s2d.models.draft_vocabulary import DraftVocabulary
from specbench_s2d.models.engines.base import Engine, Request
from specbench_s2d.models.engines.eager import EagerEngine
from specbench_s2d.models.heads.base import DraftHead
from specbench_s2d.models.heads.shape import HeadShape, Shapes
from specbench_s2d.models.tensors import head_width, kv_heads
from specbench_s2d.models.weights import LayerWeights, LlamaWeights, Weights, rotary_tables


class EagleHead(DraftHead):
    """The head of EAGLE-1 and EAGLE-2, with a cache of its own layers; embedding and LM head are the target's.

    `head_shape`: what the folder holds. It runs after `attach`, which gives it an engine of the target's kind.
    `own_ids`: the target's ids that a head with an LM head of its own proposes; None where the target's is used.
    `target_vocabulary`: how many ids the target has that it is attached to, which may be fewer than the head's.
    """

    head_shape: HeadShape
    own_ids: DraftVocabulary | None
    target_vocabulary: int | None = None
    _embeds = _reads = False  # whether its engine has an embedding, and an LM head

    def __init__(
        self,
        identity: Identity,
        config: Any,
        shape: HeadShape,
        read: Weights,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(identity, shape, device, dtype)
        self._weights = w = self._load(config, read)
        self.vocabulary, self.width, self.depth, self.context = config.vocab_size, w.width, len(w.layers), w.context
        self.own_ids, norm = w.ids, 0 if w.norm_D is None else w.norm_D.nbytes
        self._pass_bytes = w.total_bytes - w.head_bytes - w.embedding_VD.nbytes
        self._norm_bytes, self._row_bytes = norm, w.width * (4 if device.type == "cpu" else dtype.itemsize)
        self._target: LanguageModel | None = None

    def _load(self, config: Any, read: Weights) -> LlamaWeights:
        """The weights as an engine takes them: no embedding, no LM head, and no input norm of the first layer."""
        shapes, layers = self.head_shape.shapes, [f"layers.{index}." for index in range(self.head_shape.layers)]
        norms = [f"{layer}input_layernorm.weight" for layer in layers]
        return weights_of(
            config,
            [layer_of(layer, read, shapes, norm) for layer, norm in zip(layers, norms, strict=True)],
            fc_DX=read("fc.weight"),
            fc_bias_D=read("fc.bias") if "fc.bias" in shapes else None,
        )

    def attach(self, target: LanguageModel) -> None:
        """Run on an engine of the target's kind, with its embedding and LM head where the head has none; the cache is
        emptied where the target changes."""
        if target is self._target:
            return
        weights = self._weights.below(target.vocabulary)
        lent = target.engine_for_head(weights)
        self._target, self.own_ids, self.target_vocabulary = target, weights.ids, target.vocabulary
        self._embeds = lent is not None or len(weights.embedding_VD) > 0
        self._reads = lent is not None or weights.ids is not None
        self._engine: Engine = lent or EagerEngine(weights)
        self._cache, self.torch_threads = self._engine.cache, self._engine.torch_threads

    @property
    def engine(self) -> str:
        return self._engine.name

    @property
    def engine_facts(self) -> dict[str, Any]:
        return {"engine": self.engine, **self._engine.facts()}

    @property
    def length(self) -> int:
        return min(self._cache.lengths)

    def fuse(self, states: Sequence[Tensor]) -> Tensor:
        """The states (T, D) that pairs are made of, from those of the target's layers `head_shape.state_layers`."""
        (states_TD,) = states
        return states_TD

    @torch.inference_mode()
    def advance(self, ids_T: Tensor, states_TD: Tensor) -> Tensor:
        """The states (T, D) predicted of T new pairs: tokens and the states before them."""
        request = self._request(ids_T, states_TD, None)
        predicted_TD = self._engine.run(request)
        self._count(request)
        return predicted_TD

    @torch.inference_mode()
    def predict(
        self,
        ids_T: Tensor,
        states_TD: Tensor,
        mask: Tensor | None = None,
        rows: int = 1,
        best: int = 1,
        vocabulary: DraftVocabulary | None = None,
    ) -> tuple[Tensor, Likeliest]:
        """As `advance`, and the `best` likeliest tokens after the last `rows` pairs, as in `LanguageModel.read`;
        `mask` as in `LanguageModel.extend`."""
        request = self._request(ids_T, states_TD, mask, best, rows, vocabulary)
        if self._reads:
            predicted_TD, likeliest = self._engine.read(request)
            assert predicted_TD is not None
        else:
            predicted_TD = self._engine.run(request)
            likeliest = Likeliest.of(self.logits(predicted_TD[-rows:], vocabulary), best)
        self._count(request)
        return predicted_TD, likeliest

    @torch.inference_mode()
    def chain(self, ids_T: Tensor, states_TD: Tensor, tokens: int, vocabulary: DraftVocabulary | None = None) -> Tensor:
        """The chain of `tokens` (at least 1) likeliest tokens after T new pairs: log-probabilities and ids (2, G)."""
        if self._reads:
            request = self._request(ids_T, states_TD, None, 1, 1, vocabulary)
            self.check_room(request.end, tokens - 1)
            self._engine.reserve(request.end + tokens - 1)
            packed_2G = self._engine.chain(request, tokens)
            if packed_2G is not None:
                self._count(request, tokens)
                return packed_2G
        found: list[Tensor] = []
        for _ in range(tokens):
            states_TD, likeliest = self.predict(ids_T, states_TD, vocabulary=vocabulary)
            found.append(likeliest.packed_2RK[:, :, 0])
            ids_T, states_TD = likeliest.ids_RK[0], states_TD[-1:]
        return torch.cat(found, dim=1)

    def logits(self, states_TD: Tensor, vocabulary: DraftVocabulary | None = None) -> Tensor:
        """The logits (T, V) of predicted states, by the target's LM head or its own, of whose `own_ids` it needs to be
        asked for; -inf for ids outside `vocabulary`."""
        if self.own_ids is None:
            assert self._target is not None
            return self._target.head(states_TD[None], vocabulary, final=True)[0]
        assert vocabulary == self.own_ids, "it has ids of its own"
        self.read_bytes += self._norm_bytes + len(vocabulary) * self._row_bytes
        return vocabulary.spread(self._engine.head(states_TD, vocabulary))

    def _request(
        self,
        ids_T: Tensor,
        states_TD: Tensor,
        mask: Tensor | None,
        best: int = 0,
        rows: int = 0,
        vocabulary: DraftVocabulary | None = None,
    ) -> Request:
        assert self._target is not None, "attach(target) comes first"
        start, inputs = self._cache.lengths[0], ids_T if self._embeds else self._target.embed(ids_T)
        request = Request(inputs, start, 0, self.depth, False, mask, False, best, rows, vocabulary, states=states_TD)
        self.check_room(start, request.new)
        self._engine.reserve(request.end)
        return request

    def _count(self, request: Request, tokens: int = 1) -> None:
        """Update the cache's lengths, and the bytes read by a pass and those of `tokens` - 1 more tokens."""
        end = request.end + tokens - 1
        self._cache.lengths[:] = [end] * self.depth
        read = sum(range(request.end, end + 1)) * self.depth * self._cache.position_bytes
        if request.best and self._reads and self._target:
            rows = len(request.vocabulary) if request.vocabulary else self._target.vocabulary
            read += tokens * (self._norm_bytes + rows * self._row_bytes)
        self.read_bytes += tokens * self._pass_bytes + read

    @torch.inference_mode()
    def reserve(self, length: int) -> None:
        self._engine.reserve(min(length, self.context))

    @torch.inference_mode()
    def prepare(self, kinds: Iterable[PassKind]) -> None:
        self._engine.prepare(kinds)

    def eagerly(self) -> AbstractContextManager[None]:
        return self._engine.eagerly()

    def rollback(self, length: int) -> None:
        self._cache.rollback(length)

    def keep_path(self, positions: Sequence[int], start: int) -> None:
        self._cache.keep_path(positions, start)

    @property
    def parameter_bytes(self) -> int:
        return self._weights.total_bytes


def weights_of(config: Any, layers: list[LayerWeights], **own: Any) -> LlamaWeights:
    """A head's weights by its target's or its own config; `own`: those that it has beside its layers."""
    like_DX = layers[0].out_DA
    none_VD = like_DX.new_empty(0, len(like_DX))
    cos_SC, sin_SC = rotary_tables(config, config.max_position_embeddings, like_DX.device, like_DX.dtype)
    lacking = {"embedding_VD": none_VD, "norm_D": None, "head_VD": none_VD, "vocabulary": config.vocab_size}
    return LlamaWeights(
        width=len(like_DX),
        heads=config.num_attention_heads,
        kv_heads=kv_heads(config),
        head_width=head_width(config),
        context=config.max_position_embeddings,
        eps=config.rms_norm_eps,
        layers=layers,
        cos_SC=cos_SC,
        sin_SC=sin_SC,
        **lacking | own,
    )


def layer_of(prefix: str, read: Weights, shapes: Shapes, norm: str | None = None) -> LayerWeights:
    """The layer of the tensors that start with `prefix`; `norm`: its input norm, where `shapes` have it."""
    attention, mlp = prefix + "self_attn.", prefix + "mlp."
    biased = f"{attention}q_proj.bias" in shapes
    return LayerWeights(
        attention_norm_D=read(norm) if norm and norm in shapes else None,
        qkv_AD=torch.cat([read(f"{attention}{part}_proj.weight") for part in "qkv"]),
        qkv_bias_A=torch.cat([read(f"{attention}{part}_proj.bias") for part in "qkv"]) if biased else None,
        q_norm_C=None,
        k_norm_C=None,
        out_DA=read(attention + "o_proj.weight"),
        mlp_norm_D=read(prefix + "post_attention_layernorm.weight"),
        gate_up_FD=torch.cat([read(f"{mlp}{part}_proj.weight") for part in ("gate", "up")]),
        down_DF=read(mlp + "down_proj.weight"),
    )
