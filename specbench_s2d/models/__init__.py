"""Checkpoints as `LanguageModel`s; the only part of the package that imports transformers (with `training`)."""

from specbench_s2d.models.base import Identity, LanguageModel
from specbench_s2d.models.load import check_pair, load_model

__all__ = ["Identity", "LanguageModel", "check_pair", "load_model"]
