"""A head that is stored beside an embedding that config.json ties it to: where the two differ, it is the head.

transformers decides so when it loads a checkpoint (`PreTrainedModel.tie_weights`); granite models are stored like this.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from specbench_s2d.errors import ModelError
from specbench_s2d.models.pickled import PickledWeights
from specbench_s2d.models.safe_weights import SafeWeights
from specbench_s2d.models.weight_files import WeightFiles

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def differs(weights: WeightFiles, name: str) -> bool:
    """Whether head and embedding are both stored, with different values.

    False for files that cannot be read: loading says what is wrong with them.
    """
    try:
        stored = PickledWeights(weights, name) if weights.pickled else SafeWeights(_files(weights), name)
        head_VD, embedding_VD = stored(HEAD), stored(EMBEDDING)
    except (KeyError, ModelError):
        return False
    if head_VD.shape != embedding_VD.shape:
        return True
    if head_VD.dtype == embedding_VD.dtype:
        return not torch.equal(head_VD, embedding_VD)
    return not torch.equal(head_VD.float(), embedding_VD.float())  # rounded to fewer bits, they might seem equal


def _files(weights: WeightFiles) -> Iterable[Path]:
    """Those of the two tensors, where an index says so."""
    return dict.fromkeys(weights.shard_of[one] for one in (HEAD, EMBEDDING) if one in weights.shard_of) or weights.files
