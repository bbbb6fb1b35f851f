"""Any causal model through transformers' own forward pass and cache: slower, but for every architecture."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from specbench_s2d.display import cut
from specbench_s2d.errors import ModelError
from specbench_s2d.models.base import Identity, LanguageModel, positions_under
from specbench_s2d.models.draft_vocabulary import DraftVocabulary
from specbench_s2d.models.hf_head import CuttableHead, give_float32_logits, make_cuttable

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


# Kinds of layers whose keys and values can be cut, and those of them that `_masks` can build masks for.
_CUTTABLE = frozenset({"full_attention", "sliding_attention", "chunked_attention"})
_MASKABLE = frozenset({"full_attention", "sliding_attention"})
_LIMITS = ("max_position_embeddings", "max_seq_len", "seq_length")  # of most families; of MPT; of Bloom


class TransformersModel(LanguageModel):
    """A transformers model whose cache can be cut; it has no layer ranges, which need the lean forward.

    Its parameters may lie on several devices; ids go to the first, and logits are returned there. A half-precision
    model gets a head with float32 logits (`hf_head.py`) where its own is a plain linear layer. Raises `ModelError` for
    a model whose state cannot be cut back, such as Mamba. `vocabulary`: the ids that it gives logits of, by default all
    rows of its head.
    """

    def __init__(
        self,
        identity: Identity,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        eos_ids: frozenset[int],
        vocabulary: int | None = None,
    ) -> None:
        self.identity, self.tokenizer, self.eos_ids = identity, tokenizer, eos_ids
        self._model = model.eval()
        config = model.config.get_text_config()
        if getattr(model, "_is_stateful", False) or not _layer_kinds(config) <= _CUTTABLE:
            raise ModelError(
                f"{identity.name} ({identity.architecture}) keeps a running state that cannot be cut back to an "
                "earlier token, as every decoder needs; give a model whose layers are all attention."
            )
        self.device, self.dtype = model.device, model.dtype
        self._why_rounded = give_float32_logits(model)
        self.vocabulary, self.width = vocabulary or config.vocab_size, config.hidden_size
        self.depth, self.context = config.num_hidden_layers, context_of(config, identity.name)
        self.exits = ()
        self._cache: Any = None
        self._length = 0
        self._no_masks = _why_no_masks(model, config)
        self.takes_masks = self._no_masks is None
        self._pass_bytes = self.parameter_bytes - _looked_up_bytes(model)
        self._head: CuttableHead | None = None  # in place of the model's own once a small vocabulary is asked for

    @property
    def length(self) -> int:
        return self._length

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
        if from_layer or to_layer is not None:
            raise ModelError(
                f"{self.name} ({self.identity.architecture}) runs through transformers' own forward, which has no "
                "layer ranges; nested drafts must be Llama-family checkpoints."
            )
        logits_BTX = self._logits(self._forward(inputs, mask, last_only, vocabulary), last_only)
        return logits_BTX if vocabulary is None else _spread(logits_BTX[0], vocabulary)[None]

    def _forward(
        self, inputs: Tensor, mask: Tensor | None, last_only: bool, vocabulary: DraftVocabulary | None, **also: Any
    ) -> Any:
        """transformers' output of a pass over new ids, counted."""
        from transformers import DynamicCache

        new, start = inputs.shape[1], self._length
        self.check_room(start, new)
        if self._no_masks and mask is not None:
            raise ModelError(
                f"{self.name} ({self.identity.architecture}) takes no tree masks: {self._no_masks}; decoders without "
                "trees and beams (ar, sd) run on it."
            )
        if self._cache is None:
            self._cache = DynamicCache()  # full layers even under a sliding window, as only those can be cut
        options: dict[str, Any] = {"logits_to_keep": 1} if last_only else {}
        options |= also
        if mask is not None:
            positions_T = positions_under(mask, start + new)
            options["attention_mask"] = self._masks(mask, positions_T, start)
            options["position_ids"] = positions_T[None]
        self._cut_head(vocabulary)
        out = self._model(input_ids=inputs, past_key_values=self._cache, use_cache=True, **options)
        self._length = start + new
        self.read_bytes += self._pass_bytes + self._cache_bytes() - self._unread_bytes(vocabulary)
        return out

    def _logits(self, out: Any, last_only: bool) -> Tensor:
        logits_BTX: Tensor = out.logits.to(self.device)
        return (logits_BTX[:, -1:] if last_only else logits_BTX).float()[..., : self.vocabulary]

    def _cut_head(self, vocabulary: DraftVocabulary | None) -> None:
        """Let the next pass compute the logits of these ids alone, where the head can be cut; of all for None."""
        if vocabulary is not None and self._head is None:
            self._head = make_cuttable(self._model)
        if self._head is not None:
            self._head.vocabulary = vocabulary

    def _unread_bytes(self, vocabulary: DraftVocabulary | None) -> int:
        """Bytes of the head's rows that a pass with this vocabulary does not read."""
        if vocabulary is None or self._head is None:
            return 0
        rows = self._head.weight.shape[0]
        return (rows - len(vocabulary)) * (self._head.weight.nbytes // rows)

    @torch.inference_mode()
    def head(self, hidden_BTD: Tensor, vocabulary: DraftVocabulary | None = None, *, final: bool = False) -> Tensor:
        if not final:
            raise ModelError(
                f"{self.name}: transformers' own forward gives no hidden states before its final norm; nested drafts "
                "must be Llama-family."
            )
        self._cut_head(vocabulary)
        logits_BTX: Tensor = self._model.get_output_embeddings()(hidden_BTD).float()[..., : self.vocabulary]
        return logits_BTX if vocabulary is None else _spread(logits_BTX[0], vocabulary)[None]

    @torch.inference_mode()
    def extend_with_states(
        self, ids_BT: Tensor, layers: Sequence[int], mask: Tensor | None = None, *, last_only: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """transformers' own last hidden states are those after the final norm."""
        out = self._forward(ids_BT, mask, last_only, None, output_hidden_states=True)
        return self._logits(out, last_only), [out.hidden_states[layer][0].to(self.device) for layer in layers]

    def embed(self, ids_T: Tensor) -> Tensor:
        embedded_TD: Tensor = self._model.get_input_embeddings()(ids_T).to(self.device)
        return embedded_TD

    def rollback(self, length: int) -> None:
        if length < self._length:
            if length == 0:
                self._cache = None
            else:
                self._cache.crop(length - self._length)
            self._length = length

    @torch.inference_mode()
    def keep_path(self, positions: Sequence[int], start: int) -> None:
        end = start + len(positions)
        placed = next((i for i, position in enumerate(positions) if position != i), len(positions))
        if placed < len(positions):  # positions already in place are not copied
            moved_N = torch.tensor(positions[placed:], device=self.device) + start
            for layer in self._cache.layers:
                for cached in (layer.keys, layer.values):  # on the layer's own device
                    cached[:, :, start + placed : end] = cached.index_select(2, moved_N.to(cached.device))
        self.rollback(end)

    @property
    def parameter_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in (*self._model.parameters(), *_stored_buffers(self._model)))

    @property
    def engine_facts(self) -> dict[str, Any]:
        """With `head_dtype`, the dtype that logits are rounded to, and the reason where it is not float32."""
        if self._why_rounded is None:
            return {**super().engine_facts, "head_dtype": "float32"}
        rounded = str(self.dtype).removeprefix("torch.")
        return {**super().engine_facts, "head_dtype": rounded, "head_dtype_reason": self._why_rounded}

    def _cache_bytes(self) -> int:
        """Bytes of all cached keys and values."""
        return sum(cached.nbytes for layer in self._cache.layers for cached in (layer.keys, layer.values))

    def _masks(self, mask_TM: Tensor, positions_T: Tensor, start: int) -> Tensor | dict[str, Tensor]:
        """`mask` in the form that the model's attention takes: one mask, or one per kind of layer."""
        config = self._model.config.get_text_config()
        kinds = _layer_kinds(config)
        window = getattr(config, "sliding_window", None)
        if len(kinds) > 1:
            windows = {kind: window if kind == "sliding_attention" else None for kind in kinds}
            return {kind: self._additive(mask_TM, positions_T, start, windows[kind]) for kind in kinds}
        windowed = window is not None and kinds != {"full_attention"}
        return self._additive(mask_TM, positions_T, start, window if windowed else None)

    def _additive(self, mask_TM: Tensor, positions_T: Tensor, start: int, window: int | None) -> Tensor:
        """(1, 1, T, S + T): 0 where a new position attends, the dtype's lowest value elsewhere.

        A given mask replaces the model's own, so a sliding window is applied here.
        """
        at_S = torch.cat((torch.arange(start, device=self.device), positions_T))
        hidden_TS = torch.zeros(len(positions_T), len(at_S), device=self.device, dtype=torch.bool)
        hidden_TS[:, start + len(positions_T) - mask_TM.shape[1] :] = ~mask_TM
        if window is not None:
            hidden_TS |= positions_T[:, None] - at_S[None] >= window
        seen_TS = torch.zeros_like(hidden_TS, dtype=self.dtype).masked_fill_(hidden_TS, torch.finfo(self.dtype).min)
        return seen_TS[None, None]


def _spread(logits_TX: Tensor, vocabulary: DraftVocabulary) -> Tensor:
    """Logits (T, V), -inf outside the vocabulary, from those of its ids; or of all ids, where the head cannot be
    cut."""
    if logits_TX.shape[1] == len(vocabulary):
        return vocabulary.spread(logits_TX)
    return vocabulary.spread(logits_TX.index_select(1, vocabulary.ids_on(logits_TX.device)))


def _stored_buffers(model: Any) -> list[Tensor]:
    """Buffers that are stored in checkpoints, such as the numbers and scales of quantised weights."""
    stored = model.state_dict().keys()
    return [buffer for name, buffer in model.named_buffers() if name in stored]


def _looked_up_bytes(model: Any) -> int:
    """Bytes of the input embedding where it is not the head as well: a pass reads only single rows of it.

    A mixture of experts is not subtracted, though a pass may read only some of it.
    """
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings()
    tied = head is not None and head.weight.data_ptr() == embedding.data_ptr()
    return 0 if tied else int(embedding.nbytes)


def context_of(config: Any, name: str) -> int:
    """The longest sequence that a model's config allows; raises `ModelError` where it states none."""
    found = next((getattr(config, limit) for limit in _LIMITS if getattr(config, limit, None)), None)
    if found is None:
        raise ModelError(
            f"{name}: its config.json names no longest sequence ({', '.join(_LIMITS)}); add max_position_embeddings."
        )
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise ModelError(
            f"{name}: config.json: the longest sequence is {cut(str(found), 80)}, and must be a whole number."
        )
    return found


def _layer_kinds(config: Any) -> set[str]:
    """The kinds of layers that a config lists; empty where all layers are alike."""
    return set(getattr(config, "layer_types", None) or ())


def _why_no_masks(model: Any, config: Any) -> str | None:
    """Why a model cannot be run with a mask and positions of a tree; None where it can."""
    if "position_ids" not in inspect.signature(model.forward).parameters or getattr(config, "alibi", False):
        return "it derives positions from their order in the cache"
    if not _layer_kinds(config) <= _MASKABLE or "local" in (getattr(config, "attention_layers", None) or ()):
        return "some of its layers attend to parts of the sequence only"
    return None
