"""Names to classes, lazily: nothing is imported until it is asked for, and installed packages may add more.

A package adds a decoder with an entry point, for example in its pyproject:

    [project.entry-points."specbench_s2d.decoders"]
    my-decoder = "my_package.decoder:MyDecoder"
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from specbench_s2d.errors import UnknownNameError, UserError


class Registry:
    """One kind of name. `builtin` maps names to `"module:Class"` or to paths; the entry-point group adds to it."""

    def __init__(self, kind: str, builtin: Mapping[str, str | Path]) -> None:
        self.kind = kind
        self._builtin = builtin

    def paths(self) -> dict[str, str | Path]:
        """Every name with its `"module:Class"` or path; a built-in name cannot be taken by another package."""
        added = {entry.name: entry.value for entry in entry_points(group=f"specbench_s2d.{self.kind}s")}
        return {**added, **self._builtin}

    def names(self) -> list[str]:
        return sorted(self.paths())

    def load(self, name: str) -> Any:
        """The class or the path behind `name`; raises `UnknownNameError` with the nearest names."""
        path = self.paths().get(name)
        if path is None:
            raise UnknownNameError.of(self.kind, name, self.names())
        if isinstance(path, Path):
            return path
        module, _, attribute = path.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise UserError(
                f"{self.kind} {name!r} is registered as {path!r}, which cannot be imported ({error})."
            ) from error


# A decoder's drafter and verifier pair up freely: `sd` is `chain+token`, and any `DRAFTER+VERIFIER` works.
decoders = Registry(
    "decoder",
    {
        "ar": "specbench_s2d.decoding.autoregressive:Autoregressive",
        "sd": "specbench_s2d.decoding.speculative:SpeculativeDecoding",
        "s2d": "specbench_s2d.decoding.sorted:SortedSpeculativeDecoding",
        "s2d-tree": "specbench_s2d.decoding.sorted:SortedTree",
        "s2d-auto": "specbench_s2d.decoding.sorted:SortedAuto",
        "mjgd": "specbench_s2d.decoding.joint_greedy:JointGreedy",
        "mjsd": "specbench_s2d.decoding.joint:JointSpeculativeDecoding",
        "lookup": "specbench_s2d.decoding.training_free:PromptLookup",
        "suffix": "specbench_s2d.decoding.training_free:SuffixDecoding",
        "recycling": "specbench_s2d.decoding.training_free:TokenRecycling",
    },
)
drafters = Registry(
    "drafter",
    {
        "none": "specbench_s2d.decoding.drafters.none:NoDrafter",
        "chain": "specbench_s2d.decoding.drafters.chain:ChainDrafter",
        "beam": "specbench_s2d.decoding.drafters.beam:BeamDrafter",
        "sorted": "specbench_s2d.decoding.drafters.sorted:SortedDrafter",
        "sorted-auto": "specbench_s2d.decoding.drafters.auto:AutoDrafter",
        "sorted-scripted": "specbench_s2d.decoding.drafters.scripted:ScriptedSortedDrafter",
        "sorted-tree": "specbench_s2d.decoding.drafters.tree:TreeDrafter",
        "lookup": "specbench_s2d.decoding.drafters.lookup:LookupDrafter",
        "suffix": "specbench_s2d.decoding.drafters.suffix:SuffixDrafter",
        "recycling": "specbench_s2d.decoding.drafters.recycling:RecyclingDrafter",
    },
)
verifiers = Registry(
    "verifier",
    {
        "token": "specbench_s2d.decoding.verifiers.token:TokenVerifier",
        "joint": "specbench_s2d.decoding.verifiers.joint:JointVerifier",
        "scripted": "specbench_s2d.decoding.verifiers.scripted:ScriptedVerifier",
    },
)
