"""What a folder of a draft head holds, read off the names and shapes of its tensors before it is loaded.

Published folders name no kind: their config.json is a Llama's, whose number of layers may be the target's. So the kind
is told by the tensors.

| kind | tensors | source |
| --- | --- | --- |
| EAGLE-1 and EAGLE-2 | `fc` (D, 2 D), `layers.N`, the first without its input norm | arXiv 2401.15077, 2406.16858 |
| EAGLE-3 | `eagle3_shape.py` | arXiv 2503.01840 |
| Medusa | `N.M.linear` (D, D) of head N, then `N.M.weight` (V, D), or none: the target's LM head | arXiv 2401.10774 |
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor

from specbench_s2d.errors import ModelError
from specbench_s2d.models.heads.eight_bits import without_scales
from specbench_s2d.models.pickled import PickledWeights
from specbench_s2d.models.safe_weights import SafeWeights
from specbench_s2d.models.weight_files import WeightFiles

EAGLE, EAGLE3, MEDUSA = "eagle", "eagle3", "medusa"
HEADS = (EAGLE, MEDUSA)
"""The kinds of draft heads that decoders take (`HeadShape.decoder`)."""
ONE_CHECKPOINT = (
    "Of a checkpoint that holds a model and Medusa's heads in one, the model alone is read: save its tensors "
    "medusa_head.* as medusa_lm_head.safetensors in a folder of their own, with a config.json."
)
UNBOUNDED = 10**8
"""Context and ids of a head that has no bound of its own: its target's hold."""
_LAYER = re.compile(r"layers\.(\d+)\.")
_MEDUSA = re.compile(r"(medusa_head\.)?(\d+)\.(\d+)\.(linear\.weight|linear\.bias|weight)")
_OTHER_MEDUSA = ("blocks.", "lm_heads.")
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class HeadShape:
    """A draft head: its `kind`, its decoder layers, and the `width` of the target's states that it reads. `shapes`: its
    tensors' by name.

    Of Medusa: `heads`, with `layers` blocks each; `vocabulary`: the rows of their LM heads, None where these are the
    target's; `prefix`: what stands before the published names.
    """

    kind: str
    layers: int
    width: int
    shapes: Shapes
    heads: int = 1
    vocabulary: int | None = None
    prefix: str = ""

    @property
    def own_parameters(self) -> int:
        """Parameters but for the embedding, which is the target's."""
        return sum(prod(shape) for name, shape in self.shapes.items() if not name.startswith("embed_tokens."))

    @property
    def lm_parameters(self) -> int:
        """Those of them that are LM heads."""
        return self.heads * (self.vocabulary or 0) * self.width

    @property
    def decoder(self) -> str:
        """The decoder that drafts with it."""
        return self.kind

    def state_layers(self, depth: int) -> tuple[int, ...]:
        """The layers whose states it reads, as in `LanguageModel.extend_with_states`, of a target of `depth` layers."""
        return (depth,)

    def check_target(self, name: str, target: str, depth: int) -> None:
        """Raise `ModelError` for a target without these layers; `name`: of the head."""

    def check(self, config: Any, name: str) -> None:
        """Raise `ModelError` for tensors that are not those that the config describes."""

    @classmethod
    def find(cls, weights: WeightFiles, name: str, fields: Mapping[str, Any]) -> HeadShape | None:
        """The head that a folder's weights are, all in one file; None for a model's. `fields`: of config.json. Raises
        `ModelError` for a head of an unknown kind."""
        from specbench_s2d.models.heads.eagle3_shape import Eagle3Shape, is_eagle3  # which builds on this module

        if len(weights.files) != 1:
            return None
        shapes = without_scales(tensor_shapes_of(weights, name), name)
        if is_eagle3(shapes):
            return Eagle3Shape.read(weights, shapes, fields, name)
        if not shapes or any(tensor.startswith(("model.", "transformer.")) for tensor in shapes):
            return None
        if medusa := [found for tensor in shapes if (found := _MEDUSA.fullmatch(tensor))]:
            return _medusa(shapes, medusa, name)
        fc, layers = shapes.get("fc.weight"), {int(m.group(1)) for t in shapes if (m := _LAYER.match(t))}
        if fc is None and not any(tensor.startswith(_OTHER_MEDUSA) for tensor in shapes):
            return None
        if fc and len(fc) == 2 and fc[1] == 2 * fc[0] and layers == set(range(len(layers))) and layers:
            return cls(EAGLE, len(layers), fc[0], dict(shapes))
        raise _unknown(name, shapes, f"fc.weight is {fc}, and there" if fc else "there")

    def config(self, fields: Mapping[str, Any]) -> Any:
        """A config of transformers for a kind whose own config.json is none: sizes by the tensors; the ids by `fields`,
        those of config.json, where no tensor says them."""
        from transformers import LlamaConfig

        return LlamaConfig(
            vocab_size=self.vocabulary or fields.get("vocab_size") or UNBOUNDED,
            hidden_size=self.width,
            num_hidden_layers=max(1, self.layers),
            num_attention_heads=1,
            max_position_embeddings=UNBOUNDED,
        )


def _medusa(shapes: Shapes, found: Sequence[re.Match[str]], name: str) -> HeadShape:
    """Medusa's heads, which must all be alike; raises `ModelError`."""
    heads, layers = 1 + max(int(one[2]) for one in found), len({one[3] for one in found if one[4] == "linear.weight"})
    prefix, width = found[0][1] or "", shapes[found[0][0]][-1]
    block = {"linear.weight": (width, width), "linear.bias": (width,)}
    own = shapes.get(f"{prefix}0.{layers}.weight")
    wanted: dict[str, tuple[int, ...]] = {}
    for head in range(heads):
        wanted |= {f"{prefix}{head}.{m}.{part}": size for m in range(layers) for part, size in block.items()}
        if own:
            wanted[f"{prefix}{head}.{layers}.weight"] = (own[0], width)
    if dict(shapes) != wanted or not (layers or own):
        raise _unknown(name, shapes, "there")
    return HeadShape(MEDUSA, layers, width, dict(shapes), heads, own[0] if own else None, prefix)


def _unknown(name: str, shapes: Shapes, found: str) -> ModelError:
    kinds: dict[str, tuple[int, ...]] = {}
    for tensor, shape in sorted(shapes.items()):
        kinds.setdefault(re.sub(r"\d+", "N", tensor), shape)
    shown = ", ".join(f"{tensor} {shape}" for tensor, shape in list(kinds.items())[:6])
    return ModelError(
        f"{name}: it looks like a draft head of a kind that is not known here ({found} are {shown} …); EAGLE's has "
        "fc.weight (D, 2 D) and layers.0, EAGLE-3's (D, 3 D) and midlayer, Medusa's N.M.linear.weight (D, D) and bias "
        "for every head N, and N.M.weight (V, D) for all of them or none."
    )


def tensor_shapes_of(weights: WeightFiles, name: str) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of weight files, by name; no tensor of safetensors is read. Raises `ModelError`."""
    if weights.pickled:
        pickled = PickledWeights(weights, name)
        return {tensor: tuple(pickled(tensor).shape) for tensor in pickled.names}
    stored = SafeWeights(weights.files, name)
    return {tensor: stored.shape(tensor) for tensor in stored.names}


def read_tensor(weights: WeightFiles, name: str, tensor: str) -> Tensor:
    """One tensor of the single file of a head, as it is stored."""
    stored = PickledWeights(weights, name) if weights.pickled else SafeWeights(weights.files, name)
    return stored(tensor)
