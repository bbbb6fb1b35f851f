"""The native engine: on a CPU in float32, a pass is one call of a C kernel (`native.c`). Shapes: see `models/base.py`.

Matrices are packed into panels of 64 outputs, (panels, in, 64), which a pass over any number of rows reads once; the
loaded weights are released layer by layer. The logits of a position are the same to the last bit for every width of the
pass and every number of threads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from specbench_s2d.models.base import Likeliest
from specbench_s2d.models.cache import KVCache
from specbench_s2d.models.draft_vocabulary import DraftVocabulary
from specbench_s2d.models.engines.base import Engine, Request
from specbench_s2d.models.engines.native_build import native_library
from specbench_s2d.models.engines.native_memory import PANEL, large_page_block
from specbench_s2d.models.engines.threads import fastest_threads
from specbench_s2d.models.weights import LayerWeights, LlamaWeights

LANES = 16
_MOST_ROWS = 128
_Pointer, _Long, _Float = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


class _Layer(ctypes.Structure):
    _fields_ = [
        (name, _Pointer)
        for name in (
            "attention_norm", "qkv", "qkv_bias", "q_norm", "k_norm", "out", "mlp_norm", "gate_up", "down",
            "keys", "values",
        )
    ]  # fmt: skip


_SIZES = (
    "width", "heads", "kv_heads", "head_width", "inner", "capacity", "ids",
)  # fmt: skip

_TENSORS = ("embedding", "cos", "sin", "norm", "head", "fc", "fc_bias", "embedding_norm", "state_norm")


class _Model(ctypes.Structure):
    _fields_ = [
        *((name, _Long) for name in _SIZES),
        *((name, _Float) for name in ("eps", "scale")),
        *((name, _Pointer) for name in _TENSORS),
    ]


class _Pass(ctypes.Structure):
    _fields_ = [
        *((name, _Pointer) for name in ("ids", "hidden_in", "mask")),
        *((name, _Long) for name in ("rows", "start", "seen", "from_layer", "to_layer")),
        *((name, _Pointer) for name in ("hidden_out", "logits")),
        *((name, _Long) for name in ("hidden_rows", "logit_rows", "threads")),
        ("head", _Pointer),
        *((name, _Long) for name in ("outputs", "kept")),
        *((name, _Pointer) for name in ("kept_ids", "best")),
        ("scratch", _Pointer),
        ("final", _Long),
        ("chain", _Long),
        ("drafted", _Pointer),
    ]


def why_not_native(config: Any, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why the kernel cannot run a model; None where it can."""
    if device.type != "cpu" or dtype != torch.float32:
        return f"the native kernel computes in float32 on a CPU, not in {dtype} on {device.type}".replace("torch.", "")
    head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return _why_not_of(config.hidden_size, head_width, config.intermediate_size)


def _why_not_of(*widths: int) -> str | None:
    if any(width % LANES for width in widths):
        return f"the native kernel takes widths that are multiples of {LANES}, not {', '.join(map(str, widths))}"
    return None


class NativeEngine(Engine):
    """Runs passes as calls of the kernel, on the number of threads that is fastest for one token.

    The kernel has its own threads; torch's calls around a pass are small, and fastest on one thread. `owner`: the
    target's engine, whose embedding and head a draft head uses where it has none.
    """

    name, torch_threads = "native", 1

    def __init__(
        self,
        weights: LlamaWeights,
        threads: int | None = None,
        library: ctypes.CDLL | None = None,
        owner: NativeEngine | None = None,
    ) -> None:
        self._kernel = library or native_library()
        self._kernel.scratch_floats.restype = _Long
        self._width, self._vocabulary = weights.width, weights.vocabulary
        self._ids: int = owner._ids if owner and not len(weights.embedding_VD) else len(weights.embedding_VD)
        self._own_ids = weights.ids
        layers, inner = len(weights.layers), weights.layers[0].down_DF.shape[1]
        self._arena = _Arena(_packed_floats(weights), self._kernel)
        self._packed = _packed(weights, self._arena)  # the kernel holds pointers to these
        self._small_heads: dict[DraftVocabulary, tuple[Tensor, Tensor]] = {}
        if owner is not None:
            self._borrow(owner, weights)
        self.cache = PanelCache(layers, weights.kv_heads, weights.head_width, weights.context)
        self._layers = (_Layer * layers)()
        for i, layer in enumerate(self._packed["layers"]):
            for name, tensor in layer.items():
                setattr(self._layers[i], name, _address(tensor))
        self._model = _Model(
            weights.width, weights.heads, weights.kv_heads, weights.head_width,
            inner, 0, self._ids, weights.eps, weights.scale,
            *(_address(self._packed[name]) for name in _TENSORS),
        )  # fmt: skip
        self._pass = _Pass()
        self._refs = tuple(map(ctypes.byref, (self._model, self._layers, self._pass)))
        self._scratch, self._scratch_for = torch.empty(0), (0, 0)
        self._times_ms: dict[int, float] = {}
        self._pass.threads = threads or 1
        if threads is None:
            self._choose_threads()

    def run(self, request: Request) -> Tensor:
        """Run a pass; a wide one in parts, which gives the same bits and keeps the working memory small."""
        logits = len(request.vocabulary) if request.vocabulary else self._vocabulary
        width = _up(logits, LANES) if request.head else self._width
        out_TX = torch.empty(1 if request.last_only else request.new, width)
        step = _MOST_ROWS if request.mask is None else request.new
        for first in range(0, request.new, step):
            last = min(first + step, request.new)
            wanted = not request.last_only or last == request.new
            out_RX = (out_TX if request.last_only else out_TX[first:last]) if wanted else None
            self._call(request, first, last, *((None, out_RX) if request.head else (out_RX, None)))
        return out_TX[:, :logits] if request.head else out_TX

    def read(self, request: Request) -> tuple[Tensor | None, Likeliest]:
        """As of every engine; layers and exit check are one call, which gives the same bits as two.

        One likeliest id is found by the kernel too.
        """
        if request.mask is None and request.new > _MOST_ROWS:
            return super().read(request)
        vocabulary, rows = request.vocabulary, request.rows
        logits = len(vocabulary) if vocabulary else self._vocabulary
        hidden_TD = None if request.head else torch.empty(request.new, self._width)
        logits_RX = torch.empty(rows, _up(logits, LANES))
        best_2R1 = torch.empty(2, rows, 1) if request.best == 1 else None
        self._call(request, 0, request.new, hidden_TD, logits_RX, best_2R1)
        if best_2R1 is not None:
            return hidden_TD, Likeliest(best_2R1)
        return hidden_TD, Likeliest.of(logits_RX[:, :logits], request.best, vocabulary)

    def chain(self, request: Request, tokens: int) -> Tensor | None:
        if request.new > _MOST_ROWS:
            return None
        logits = len(request.vocabulary) if request.vocabulary else self._vocabulary
        hidden_GD, logits_1X = torch.empty(tokens, self._width), torch.empty(1, _up(logits, LANES))
        best_G2, drafted_G = torch.empty(tokens, 2), torch.empty(tokens, dtype=torch.long)
        self._reserve_scratch(request.new, request.end + tokens - 1)
        self._pass.chain, self._pass.drafted = tokens, drafted_G.data_ptr()
        try:
            self._call(request, 0, request.new, hidden_GD[:1], logits_1X, best_G2)
        finally:
            self._pass.chain = 0
        return best_G2.t()

    def head(self, hidden_TD: Tensor, vocabulary: DraftVocabulary | None = None, *, final: bool = False) -> Tensor:
        return self.run(Request(hidden_TD, 0, 0, 0, head=True, vocabulary=vocabulary, final=final))

    def embed(self, ids_T: Tensor) -> Tensor:
        embedding_VD, head_PDX = self._packed["embedding"], self._packed["head"]
        if embedding_VD is not None:
            return torch.nn.functional.embedding(ids_T, embedding_VD)
        rows_TD: Tensor = head_PDX[ids_T // PANEL, :, ids_T % PANEL]
        return rows_TD

    def for_head(self, weights: LlamaWeights) -> NativeEngine | None:
        if _why_not_of(weights.width, weights.head_width, weights.layers[0].down_DF.shape[1]):
            return None
        kept = replace(weights, layers=list(weights.layers))  # packing empties the list
        return NativeEngine(kept, library=self._kernel, owner=self)

    def _borrow(self, owner: NativeEngine, weights: LlamaWeights) -> None:
        """Take from a draft head's target what it has not: embedding and LM head, in which a tied embedding lies."""
        if weights.ids is None:
            self._vocabulary, self._small_heads = owner._vocabulary, owner._small_heads
        else:
            self._small_heads[weights.ids] = self._packed["head"], weights.ids.ids_on(torch.device("cpu"))
        self._packed["head"] = owner._packed["head"]
        if not len(weights.embedding_VD):
            self._packed["embedding"] = owner._packed["embedding"]

    def reserve(self, length: int) -> None:
        if self.cache.reserve(length):
            for layer, (keys, values) in zip(self._layers, self.cache.layers, strict=True):
                layer.keys, layer.values = keys.data_ptr(), values.data_ptr()
            self._model.capacity = self.cache.capacity

    def facts(self) -> dict[str, Any]:
        threads = {"threads": int(self._pass.threads), "pass_ms_by_threads": self._times_ms}
        return {**threads, "large_pages": self._arena.large_pages}

    def _call(
        self,
        request: Request,
        first: int,
        last: int,
        hidden_RD: Tensor | None,
        logits_RX: Tensor | None,
        best: Tensor | None = None,
    ) -> None:
        """Run rows `first` to `last`; states, logits and likeliest tokens of the last R of them are written to
        these."""
        call, hidden = self._pass, request.inputs.is_floating_point()
        assert not (hidden and request.states is not None), "the kernel embeds the ids of a draft head itself"
        inputs = _rows(request.inputs, first, last, torch.float32 if hidden else torch.long)
        mask = None if request.mask is None else request.mask.to(torch.bool).contiguous()
        assert mask is None or (len(mask) == request.new and mask.shape[1] <= request.end)
        beside = None if request.states is None else _rows(request.states, first, last, torch.float32)
        call.ids, call.hidden_in = (None, inputs.data_ptr()) if hidden else (inputs.data_ptr(), _address(beside))
        call.mask, call.seen = (None, 0) if mask is None else (mask.data_ptr(), mask.shape[1])
        call.rows, call.start = last - first, request.start + first
        call.from_layer, call.to_layer = request.from_layer, request.to_layer
        call.hidden_out, call.hidden_rows = (None, 0) if hidden_RD is None else (hidden_RD.data_ptr(), len(hidden_RD))
        call.logits, call.logit_rows = (None, 0) if logits_RX is None else (logits_RX.data_ptr(), len(logits_RX))
        call.best, call.final = _address(best), request.final
        if logits_RX is not None:
            panels_PDX, ids_N = self._head(request.vocabulary)
            call.head, call.outputs = panels_PDX.data_ptr(), logits_RX.shape[1]
            call.kept, call.kept_ids = (self._vocabulary, None) if ids_N is None else (len(ids_N), ids_N.data_ptr())
        self._reserve_scratch(last - first, request.start + last)
        error = self._kernel.run_pass(*self._refs)
        if error:
            ids = f"an id is out of range: 0 to {self._model.ids - 1}"
            raise IndexError(ids if error == 1 else "a row of the mask sees no position")

    def _head(self, vocabulary: DraftVocabulary | None) -> tuple[Tensor, Tensor | None]:
        """The packed head, or that of a small vocabulary and its ids, packed when first asked for."""
        full_PDX: Tensor = self._packed["head"]
        if vocabulary is None:
            return full_PDX, None
        if vocabulary not in self._small_heads:
            ids_N = vocabulary.ids_on(self.cache.device)
            panels_PDX = _panels(full_PDX[ids_N // PANEL, :, ids_N % PANEL])
            self._small_heads[vocabulary] = _Arena(panels_PDX.numel(), self._kernel).copy(panels_PDX), ids_N
        return self._small_heads[vocabulary]

    def _reserve_scratch(self, rows: int, length: int) -> None:
        """Allocate scratch for a pass of `rows` positions up to `length`; it is kept for later passes."""
        most_rows, longest = self._scratch_for
        if rows > most_rows or length > longest:
            self._scratch_for = most_rows, longest = max(rows, most_rows), max(length, longest, self.cache.capacity)
            threads = _Long(self._pass.threads)
            floats = self._kernel.scratch_floats(self._refs[0], _Long(most_rows), _Long(longest), threads)
            self._scratch = torch.empty(floats)
            self._pass.scratch = self._scratch.data_ptr()

    def _choose_threads(self) -> None:
        """Choose the number of threads that is fastest for one token; it does not change results."""
        token_T = torch.zeros(1, dtype=torch.long)
        reads_states = self._packed["fc"] is not None or self._packed["state_norm"] is not None
        states_1D = torch.zeros(1, self._width) if reads_states else None
        self.reserve(1)

        def run(threads: int) -> None:
            if threads != self._pass.threads:
                self._pass.threads, self._scratch_for = threads, (0, 0)
            last = len(self._layers)
            self.run(Request(token_T, 0, 0, last, head=True, vocabulary=self._own_ids, states=states_1D))

        self._pass.threads, self._times_ms = fastest_threads(run)
        self._scratch_for = (0, 0)  # scratch depends on the number of threads


class PanelCache(KVCache):
    """The cache in the kernel's layout: keys (K, S / 64, C, 64), values (K, S, C padded to 64), float32.

    Its limit is rounded up to full panels.
    """

    def __init__(self, layers: int, kv_heads: int, head_width: int, limit: int) -> None:
        super().__init__(layers, kv_heads, head_width, _up(limit), torch.device("cpu"), torch.float32)

    def _allocate(self, size: int) -> None:
        grown = [self._pair(size) for _ in self.lengths]
        for pair, wider in zip(self.layers, grown, strict=False):  # `layers` is empty at first
            for old_KS, new_KS in zip(pair, wider, strict=True):  # dimension 1 is S, or panels of S
                new_KS[:, : old_KS.shape[1]] = old_KS
        self.layers, self.capacity = grown, size

    def _pair(self, size: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one layer, for `size` positions."""
        heads, width = self._kv_heads, self._head_width
        return torch.zeros(heads, size // PANEL, width, PANEL), torch.zeros(heads, size, _up(width))

    def _move(self, positions: Sequence[int], to: int) -> None:
        moved_N, to_N = torch.tensor(positions), torch.arange(to, to + len(positions))
        for keys, values in self.layers:
            keys[:, to_N // PANEL, :, to_N % PANEL] = keys[:, moved_N // PANEL, :, moved_N % PANEL]
            values[:, to_N] = values[:, moved_N]


def _up(width: int, to: int = PANEL) -> int:
    return -(-width // to) * to


def _rows(tensor_TX: Tensor, first: int, last: int, dtype: torch.dtype) -> Tensor:
    """Some rows, contiguous and in the dtype that the kernel takes."""
    return tensor_TX[first:last].to(dtype).contiguous()


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _panels(matrix_OI: Tensor) -> Tensor:
    """(out, in) to (panels, in, 64), the last panel padded with zeros."""
    out, width = matrix_OI.shape
    padded_OI = torch.nn.functional.pad(matrix_OI, (0, 0, 0, -out % PANEL)) if out % PANEL else matrix_OI
    return padded_OI.reshape(-1, PANEL, width).transpose(1, 2).contiguous()


def _gate_up_panels(gate_up_FD: Tensor) -> Tensor:
    """Panels of 32 gates and their 32 ups, so that one thread computes a gate together with its up."""
    half = PANEL // 2
    gate_FD, up_FD = gate_up_FD.chunk(2)
    fill = -len(gate_FD) % half
    pairs = [torch.nn.functional.pad(part, (0, 0, 0, fill)).view(-1, half, part.shape[1]) for part in (gate_FD, up_FD)]
    return _panels(torch.cat(pairs, dim=1).reshape(-1, gate_FD.shape[1]))


class _Arena:
    """One block of memory for all matrices, on large pages where the system has them.

    Small pages cost up to a third of the time of a pass (docs/notes.md); a single matrix is smaller than a large page.
    """

    def __init__(self, floats: int, kernel: ctypes.CDLL) -> None:
        self._block, self.large_pages = large_page_block(floats, kernel)
        self._used = 0

    def copy(self, matrix_OI: Tensor) -> Tensor:
        """A copy of a packed matrix in the block."""
        copied_OI = self._block[self._used : self._used + matrix_OI.numel()].view(matrix_OI.shape)
        self._used += matrix_OI.numel()
        return copied_OI.copy_(matrix_OI)


def _packed_floats(weights: LlamaWeights) -> int:
    """The number of floats in all packed matrices."""
    layer = weights.layers[0]
    shapes = [matrix.shape for matrix in (layer.qkv_AD, layer.out_DA, layer.down_DF)]
    floats = sum(_up(out) * width for out, width in shapes)
    gates, width = layer.gate_up_FD.shape[0] // 2, layer.gate_up_FD.shape[1]
    floats += 2 * _up(gates, PANEL // 2) * width
    others = [matrix.shape for matrix in (weights.head_VD, weights.fc_DX) if matrix is not None]
    return len(weights.layers) * floats + sum(_up(out) * width for out, width in others)


def _packed(weights: LlamaWeights, arena: _Arena) -> dict[str, Any]:
    """All tensors that the kernel points to; removes the layers from `weights` one by one."""
    layers = []
    while weights.layers:  # only one layer at a time is held twice
        layers.append(_packed_layer(weights.layers.pop(0), arena))
    tied = weights.head_VD is weights.embedding_VD
    return {
        "embedding": None if tied else weights.embedding_VD.contiguous(),
        "cos": weights.cos_SC.contiguous(),
        "sin": weights.sin_SC.contiguous(),
        "norm": None if weights.norm_D is None else weights.norm_D.contiguous(),
        "head": arena.copy(_panels(weights.head_VD)),
        "fc": None if weights.fc_DX is None else arena.copy(_panels(weights.fc_DX)),
        "fc_bias": weights.fc_bias_D,
        "embedding_norm": weights.embedding_norm_D,
        "state_norm": weights.state_norm_D,
        "layers": layers,
    }


def _packed_layer(layer: LayerWeights, arena: _Arena) -> dict[str, Tensor | None]:
    return {
        "attention_norm": None if layer.attention_norm_D is None else layer.attention_norm_D.contiguous(),
        "qkv": arena.copy(_panels(layer.qkv_AD)),
        "qkv_bias": layer.qkv_bias_A,
        "q_norm": layer.q_norm_C,
        "k_norm": layer.k_norm_C,
        "out": arena.copy(_panels(layer.out_DA)),
        "mlp_norm": layer.mlp_norm_D.contiguous(),
        "gate_up": arena.copy(_gate_up_panels(layer.gate_up_FD)),
        "down": arena.copy(_panels(layer.down_DF)),
    }
