"""The models of one target's session: the target and the drafts that could be loaded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from specbench_s2d.models import LanguageModel
from specbench_s2d.models.graph_memory import with_graph_bytes

_UNPREPARED = ("captures", "unannounced")


class LoadedModels:
    """A target and its drafts, and what they say of themselves for the manifest, by the models' names."""

    def __init__(self, target: LanguageModel, drafts: Iterable[LanguageModel]) -> None:
        self._models = {model.name: model for model in (target, *drafts)}

    def engines(self) -> dict[str, dict[str, Any]]:
        """Which engine runs each model's passes, and what it chose."""
        return {name: with_graph_bytes(model.engine_facts) for name, model in self._models.items()}

    def sources(self) -> dict[str, Any]:
        """Where the weights came from; only of models that say so."""
        found = {name: model.identity.source for name, model in self._models.items()}
        known = {name: source.facts() for name, source in found.items() if source}
        return {"sources": known} if known else {}

    def heads(self) -> dict[str, Any]:
        """Which of the drafts are draft heads, and of what kind."""
        known = {name: model.head_shape.kind for name, model in self._models.items() if model.head_shape}
        return {"heads": known} if known else {}

    def checkpoints(self) -> dict[str, Any]:
        """What was found when models were loaded: how their files were read, and the check of the forward."""
        known = {name: model.load_facts for name, model in self._models.items() if model.load_facts}
        return {"checkpoints": known} if known else {}

    def unprepared(self) -> dict[str, int]:
        """What engines had to do unprepared so far: `captures` of graphs, and `unannounced` passes that ran eagerly."""
        facts = self.engines().values()
        return {name: sum(engine.get(name, 0) for engine in facts) for name in _UNPREPARED}
