"""What a folder of EAGLE-3's draft head holds (Li et al. 2025, arXiv 2503.01840), checked before it is loaded.

The tensors, as EAGLE and SpecForge write them; `layers.0.` in place of `midlayer.` is read too. `D` is the head's
width, `E` that of the target's states, `N` the ids that it proposes.

| tensor | shape |
| --- | --- |
| `fc.weight` | (D, 3 E) |
| `midlayer.` `input_layernorm`, `hidden_norm`, `post_attention_layernorm` | (D,) |
| `midlayer.self_attn.` `q_proj`, `k_proj`, `v_proj` | 2 D columns; `o_proj` has D rows |
| `midlayer.mlp.` `gate_proj`, `up_proj`, `down_proj` | as a Llama's |
| `norm.weight`, `lm_head.weight` | (D,), (N, D) |
| `d2t`, `t2d` | draft id i is target id i + d2t[i]; whether a target id is proposed. Without: all ids are |
| `embed_tokens.weight` | where it is missing, the target's embedding is used |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from specbench_s2d.errors import ModelError
from specbench_s2d.models.heads.shape import EAGLE, EAGLE3, HeadShape, Shapes, read_tensor
from specbench_s2d.models.tensors import head_width, kv_heads
from specbench_s2d.models.weight_files import WeightFiles

LAYERS_FIELD = "eagle_aux_hidden_state_layer_ids"
LEAST_LAYERS = 7
"""Of a target whose published choice of layers, 2, L // 2 and L - 3, is three different ones in this order."""
_PREFIXES = ("midlayer.", "layers.0.")
EMBEDDING = "embed_tokens.weight"
_NOT_KNOWN = {"norm_before_residual": True, "norm_before_fc": True, "fc_norm": True}
"""Fields of config.json that other trainers write, and with which a head computes something else."""


@dataclass(frozen=True, kw_only=True)
class Eagle3Shape(HeadShape):
    """EAGLE-3's head. `layer`: the prefix of its layer's tensors. `own_width`: D. `ids`: of each row of its LM head the
    target's id. `stated_layers`: those that its config names, None for the published choice."""

    layer: str
    own_width: int
    ids: tuple[int, ...]
    stated_layers: tuple[int, ...] | None = None

    @property
    def decoder(self) -> str:
        return EAGLE

    @property
    def own_parameters(self) -> int:
        """All of them; the embedding only where it is its own."""
        return sum(prod(shape) for name, shape in self.shapes.items() if name not in ("d2t", "t2d"))

    @property
    def lm_parameters(self) -> int:
        return len(self.ids) * self.own_width

    @property
    def has_embedding(self) -> bool:
        return EMBEDDING in self.shapes

    def state_layers(self, depth: int) -> tuple[int, ...]:
        """Low, middle and high: the states that enter layers 2, L // 2 and L - 3, counted from 0, before any norm."""
        return self.stated_layers or published_layers(depth)

    def check_target(self, name: str, target: str, depth: int) -> None:
        if self.stated_layers is None:
            check_depth(target, depth)
        elif self.stated_layers[-1] > depth:
            raise ModelError(
                f"{name} reads the states of layers {', '.join(map(str, self.stated_layers))} by its config, and "
                f"{target} has {depth} layers; give a head that was trained for this target."
            )

    def check(self, config: Any, name: str) -> None:
        """Raise `ModelError` for a tensor that lacks, that is not known, or whose shape is not the config's."""
        expected = _expected(config, self)
        ignored = {"d2t", "t2d", EMBEDDING, f"{self.layer}self_attn.rotary_emb.inv_freq"}
        if lacking := [tensor for tensor in expected if tensor not in self.shapes]:
            raise ModelError(f"{name}: an EAGLE-3 head without {lacking[0]!r}; take it as it was published.")
        if more := sorted(self.shapes.keys() - expected.keys() - ignored):
            raise ModelError(
                f"{name}: an EAGLE-3 head with {more[0]!r}, which the published form does not have (one layer, "
                f"{' or '.join(f'{prefix}*' for prefix in _PREFIXES)}, no biases)."
            )
        for tensor, shape in expected.items():
            if self.shapes[tensor] != shape:
                raise ModelError(
                    f"{name}: {tensor!r} is {self.shapes[tensor]}, and by its config it is {shape}; this is not the "
                    "head its config describes."
                )
        if self.own_width != self.width and not self.has_embedding:
            raise ModelError(
                f"{name}: its width is {self.own_width} and the target's {self.width} (fc.weight "
                f"{self.shapes['fc.weight']}), so it needs its own {EMBEDDING}, and has none."
            )

    @classmethod
    def read(cls, weights: WeightFiles, shapes: Shapes, fields: Mapping[str, Any], name: str) -> Eagle3Shape:
        """The head of a folder whose tensors are EAGLE-3's; `fields`: of config.json. Raises `ModelError`."""
        _check_form(shapes, fields, name)
        prefix = next(p for p in _PREFIXES if any(tensor.startswith(p) for tensor in shapes))
        fc, head = shapes["fc.weight"], shapes.get("lm_head.weight", ())
        if len(fc) != 2 or fc[1] % 3 or len(head) != 2:
            raise ModelError(
                f"{name}: its tensors are named as EAGLE-3's, whose fc.weight is (D, 3 x the target's width) and "
                f"lm_head.weight (N, D); here they are {fc} and {head or 'missing'}."
            )
        ids = _target_ids(weights, shapes, fields, name)
        stated = _stated_layers(fields, name)
        return cls(EAGLE3, 1, fc[1] // 3, shapes, layer=prefix, own_width=fc[0], ids=ids, stated_layers=stated)


def published_layers(depth: int) -> tuple[int, ...]:
    """The layers that EAGLE's own code reads the input of, of a target of `depth` layers (at least `LEAST_LAYERS`)."""
    return 2, depth // 2, depth - 3


def check_depth(target: str, depth: int) -> None:
    """Raise `ModelError` for a target that is too shallow for the published choice of layers."""
    if depth < LEAST_LAYERS:
        raise ModelError(
            f"{target} has {depth} layers, and EAGLE-3's head reads the states of three of them (2, L // 2 and L - 3 "
            f"of L), so it needs at least {LEAST_LAYERS}; EAGLE-1's heads read the last alone."
        )


def _check_form(shapes: Shapes, fields: Mapping[str, Any], name: str) -> None:
    """Raise `ModelError` for what other trainers write, by name."""
    prefixed = sorted(tensor for tensor in shapes if tensor.startswith(("model.", "module.", "draft_model.")))
    if prefixed or "transformer_layer_config" in fields:
        found = f"{prefixed[0]!r}" if prefixed else "'transformer_layer_config' in config.json"
        raise ModelError(
            f"{name}: an EAGLE-3 head in a form that is not read here ({found}); its tensors are named midlayer.* or "
            "layers.0.*, without a prefix, and config.json is a Llama's. Convert it, or take it as EAGLE or SpecForge "
            "publish it."
        )
    also = _inner(fields)
    for field, unknown in {**_NOT_KNOWN, "use_aux_hidden_state": False}.items():
        for given in (fields, also):
            if given.get(field) is unknown:
                raise ModelError(
                    f"{name}: config.json: {field} is {str(unknown).lower()}, with which an EAGLE-3 head computes "
                    "something else; that is not known here."
                )
    if "fc.weight" not in shapes:
        raise ModelError(f"{name}: its tensors are named as EAGLE-3's, without fc.weight; fetch it again.")


def _expected(config: Any, shape: Eagle3Shape) -> dict[str, tuple[int, ...]]:
    """The tensors that are loaded, and their shapes by a config."""
    width, heads, width_c = config.hidden_size, config.num_attention_heads, head_width(config)
    inner, keys, layer = config.intermediate_size, kv_heads(config) * width_c, shape.layer
    own = {
        **{f"{layer}{norm}.weight": (width,) for norm in NORMS},
        f"{layer}self_attn.q_proj.weight": (heads * width_c, 2 * width),
        f"{layer}self_attn.k_proj.weight": (keys, 2 * width),
        f"{layer}self_attn.v_proj.weight": (keys, 2 * width),
        f"{layer}self_attn.o_proj.weight": (width, heads * width_c),
        f"{layer}mlp.gate_proj.weight": (inner, width),
        f"{layer}mlp.up_proj.weight": (inner, width),
        f"{layer}mlp.down_proj.weight": (width, inner),
    }
    whole = {"fc.weight": (width, 3 * shape.width), "norm.weight": (width,), "lm_head.weight": (len(shape.ids), width)}
    embedding = {EMBEDDING: (config.vocab_size, width)} if shape.has_embedding else {}
    return {**whole, **own, **embedding}


NORMS = ("input_layernorm", "hidden_norm", "post_attention_layernorm")


def _inner(fields: Mapping[str, Any]) -> dict[str, Any]:
    given = fields.get("eagle_config")
    return given if isinstance(given, dict) else {}


def _stated_layers(fields: Mapping[str, Any], name: str) -> tuple[int, ...] | None:
    """The layers whose input is read, where config.json names them: as vLLM counts them at its top level, and one less
    in `eagle_config`, where SGLang reads the layers whose output it is."""
    inner = _inner(fields).get(LAYERS_FIELD)
    given = fields.get(LAYERS_FIELD) or ([i + 1 for i in inner] if isinstance(inner, list) else None)
    if given is None:
        return None
    whole = isinstance(given, list) and len(given) == 3 and all(isinstance(i, int) for i in given)
    if not whole or not 0 <= given[0] < given[1] < given[2]:
        raise ModelError(f"{name}: config.json: {LAYERS_FIELD} is {given}, and must be three layers, low to high.")
    return tuple(given)


def _target_ids(weights: WeightFiles, shapes: Shapes, fields: Mapping[str, Any], name: str) -> tuple[int, ...]:
    """The target's id of every row of the LM head; raises `ModelError` for maps that contradict it or each other."""
    rows, known = shapes["lm_head.weight"][0], fields.get("vocab_size")
    stated = fields.get("draft_vocab_size")
    if stated not in (None, rows):
        raise ModelError(f"{name}: config.json: draft_vocab_size is {stated}, and lm_head.weight has {rows} rows.")
    if "d2t" not in shapes:
        if rows != known:
            raise ModelError(
                f"{name}: lm_head.weight has {rows} rows and the target {known} ids (vocab_size), so an EAGLE-3 head "
                "needs the map d2t, and there is none."
            )
        return tuple(range(rows))
    if shapes["d2t"] != (rows,):
        raise ModelError(f"{name}: d2t is {shapes['d2t']}, and lm_head.weight has {rows} rows; one entry for each.")
    ids = [i + int(offset) for i, offset in enumerate(read_tensor(weights, name, "d2t").tolist())]
    if isinstance(known, int) and (wrong := [i for i, token in enumerate(ids) if not 0 <= token < known]):
        raise ModelError(
            f"{name}: d2t leads draft id {wrong[0]} to target id {ids[wrong[0]]}, and there are {known} ids (0 to "
            f"{known - 1})."
        )
    if len(set(ids)) != len(ids):
        raise ModelError(f"{name}: d2t leads {len(ids)} draft ids to {len(set(ids))} target ids; each needs its own.")
    if "t2d" in shapes:
        marked = {i for i, proposed in enumerate(read_tensor(weights, name, "t2d").tolist()) if proposed}
        if marked != set(ids):
            raise ModelError(
                f"{name}: t2d marks {len(marked)} target ids and d2t leads to {len(ids)}, {len(marked & set(ids))} of "
                "them the same; they must be the same ids."
            )
    return tuple(ids)


def is_eagle3(shapes: Shapes) -> bool:
    """Whether tensors are named as EAGLE-3's, in the published form or another."""
    return any(re.search(r"(^|\.)midlayer\.|(^|\.)layers\.0\.hidden_norm\.", tensor) for tensor in shapes)
