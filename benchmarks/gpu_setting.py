"""What the GPU rows are measured on. Loads nothing but the standard library until a model is asked for."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from specbench_s2d.decoding.types import Generation
    from specbench_s2d.models.base import LanguageModel

Figures = dict[str, Any]
MODELS = ("target", "draft", "nested")


@dataclass(frozen=True)
class Setting:
    """Models by name, and how much of each work; models are loaded when they are first needed, and kept.

    `table`: the file that the figures go to, beside which a row may write more.
    """

    device: str
    dtype: str
    target_name: str
    draft_name: str
    nested_name: str
    prompt_tokens: int
    new_tokens: int
    rounds: int
    others: int
    table: Path

    @property
    def figures(self) -> Figures:
        """What the table says of it."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "table"}

    @cached_property
    def target(self) -> LanguageModel:
        return self._loaded(self.target_name)

    @cached_property
    def draft(self) -> LanguageModel:
        return self._loaded(self.draft_name)

    @cached_property
    def nested(self) -> LanguageModel:
        return self._loaded(self.nested_name)

    @property
    def engines(self) -> Figures:
        """Which engine runs the passes of each model that is loaded, and what it says of itself."""
        return {name: vars(self)[name].engine_facts for name in MODELS if name in vars(self)}

    def forget_models(self) -> None:
        """Load anew what is asked for next."""
        for name in MODELS:
            vars(self).pop(name, None)

    @cached_property
    def read_rate_bytes_per_s(self) -> float:
        from specbench_s2d.measure.bandwidth import read_rate

        return read_rate(self.device)

    def prompt(self, seed: int = 0, length: int | None = None) -> list[int]:
        return random.Random(seed).choices(range(10, 2000), k=length or self.prompt_tokens)

    def generate(self, decoder: Any, seed: int = 0, new_tokens: int | None = None) -> Generation:
        generation: Generation = decoder.generate(self.prompt(seed), new_tokens or self.new_tokens, ignore_eos=True)
        return generation

    def _loaded(self, name: str) -> LanguageModel:
        from specbench_s2d import load_model

        model = load_model(name, self.device, self.dtype)
        model.reserve(min(model.context, self.prompt_tokens + self.new_tokens + 64))
        return model
