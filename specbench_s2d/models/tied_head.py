"""A head that is stored beside an embedding that config.json ties it to: where the two differ, it is the head.

transformers decides so when it loads a checkpoint (`PreTrainedModel.tie_weights`); granite models are stored like this.
"""

from __future__ import annotations

import torch
from torch import Tensor

from specbench_s2d.errors import ModelError
from specbench_s2d.models.pickled import PickledWeights
from specbench_s2d.models.weight_files import WeightFiles

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def differs(weights: WeightFiles, name: str) -> bool:
    """Whether head and embedding are both stored, with different values.

    False for files that cannot be read: loading says what is wrong with them.
    """
    try:
        pair = _pickled(weights, name) if weights.pickled else _safetensors(weights)
    except ModelError:
        return False
    if pair is None:
        return False
    head_VD, embedding_VD = pair
    if head_VD.shape != embedding_VD.shape:
        return True
    if head_VD.dtype == embedding_VD.dtype:
        return not torch.equal(head_VD, embedding_VD)
    return not torch.equal(head_VD.float(), embedding_VD.float())  # rounded to fewer bits, they might seem equal


def _pickled(weights: WeightFiles, name: str) -> tuple[Tensor, Tensor] | None:
    stored = PickledWeights(weights, name)
    try:
        return stored(HEAD), stored(EMBEDDING)
    except KeyError:
        return None


def _safetensors(weights: WeightFiles) -> tuple[Tensor, Tensor] | None:
    from safetensors import SafetensorError, safe_open

    places = [weights.shard_of[tensor] for tensor in (HEAD, EMBEDDING) if tensor in weights.shard_of]
    try:
        opened = [safe_open(str(file), framework="pt") for file in dict.fromkeys(places or weights.files)]
        where = {tensor: file for file in opened for tensor in (HEAD, EMBEDDING) if tensor in file.keys()}  # noqa: SIM118
        return (where[HEAD].get_tensor(HEAD), where[EMBEDDING].get_tensor(EMBEDDING)) if len(where) == 2 else None
    except (SafetensorError, OSError):
        return None
