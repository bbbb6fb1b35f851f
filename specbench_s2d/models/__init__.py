"""Checkpoints as `LanguageModel`s; the only part of the package that imports transformers (with `training`)."""

from specbench_s2d.models.base import Identity, LanguageModel
from specbench_s2d.models.load import load_model
from specbench_s2d.models.vocabulary import check_pair

__all__ = ["Identity", "LanguageModel", "check_pair", "load_model"]
