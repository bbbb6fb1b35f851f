"""Names to classes, lazily: nothing is imported until it is asked for, and installed packages may add more.

A package adds a decoder with an entry point, for example in its pyproject:

    [project.entry-points."specbench_s2d.decoders"]
    my-decoder = "my_package.decoder:MyDecoder"

A name belongs to one owner: where two packages register it, or one registers a name that is built in, whoever asks for
it is told so, and the other names of these packages work.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from specbench_s2d.errors import UserError, find_name, in_one_line, is_stop

BUILT_IN = "built-in"
_NAME = re.compile(r"[\w.-]+")


@dataclass
class Registered:
    """A name: its `"module:Class"` or path, where it comes from (`BUILT_IN`, or a distribution's name and version), and
    who else registers it."""

    path: str | Path
    origin: str
    others: list[str] = field(default_factory=list)


class Registry:
    """One kind of name. `builtin` maps names to `"module:Class"` or to paths; the entry-point group adds to it.

    `fault`: says what a package's object lacks to be of this kind, None where nothing is missing. `others`: other names
    that people use, each with the registered one.
    """

    def __init__(
        self,
        kind: str,
        builtin: Mapping[str, str | Path],
        fault: Callable[[Any], str | None] = lambda part: None,
        others: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self._builtin, self._fault, self.others = builtin, fault, others or {}

    def entries(self) -> dict[str, Registered]:
        """Every name, the built-in ones first."""
        found = {name: Registered(path, BUILT_IN) for name, path in self._builtin.items()}
        added = [(entry, _origin(entry)) for entry in entry_points(group=f"specbench_s2d.{self.kind}s")]
        for entry, origin in sorted(added, key=lambda one: (one[0].name, one[1])):
            owner = found.setdefault(entry.name, Registered(entry.value, origin))
            if (owner.path, owner.origin) != (entry.value, origin):
                owner.others.append(origin)
        return found

    def paths(self) -> dict[str, str | Path]:
        """Every name with its `"module:Class"` or path."""
        return {name: entry.path for name, entry in self.entries().items()}

    def names(self) -> list[str]:
        return sorted(self.entries())

    def find(self, name: str) -> str:
        """The registered name that `name` means; raises `UnknownNameError` with the nearest names."""
        return find_name(self.kind, name, self.entries(), others=self.others)

    def load(self, name: str) -> Any:
        """The class or the path behind `name`, however that is spelled.

        Raises `UnknownNameError` with the nearest names, and `UserError` for a name with two owners, a path that cannot
        be imported, and an object that is none of this kind.
        """
        entries = self.entries()
        name = find_name(self.kind, name, entries, others=self.others)
        entry = entries[name]
        if entry.others:
            raise UserError(f"{self.kind} {name!r}: {_clash(entry)}")
        if isinstance(entry.path, Path):
            return entry.path
        by = "" if entry.origin == BUILT_IN else f" by {entry.origin}"
        try:
            part = _imported(entry.path)
        except BaseException as error:  # by a package's module when it is imported
            if is_stop(error):
                raise
            raise UserError(
                f"{self.kind} {name!r} is registered{by} as {entry.path!r}, which cannot be imported "
                f"({in_one_line(error)})."
            ) from error
        lacking = self._fault(part) if by else None
        if lacking or (by and not _NAME.fullmatch(name)):
            lacking = lacking or "its name may hold letters, digits, '-', '_' and '.' alone"
            raise UserError(f"{self.kind} {name!r} is registered{by} as {entry.path!r}, which is none: {lacking}.")
        return part


def _origin(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "a package without a name"


def _clash(entry: Registered) -> str:
    others = " and ".join(dict.fromkeys(entry.others))
    if entry.origin == BUILT_IN:
        return f"it is built in, and {others} registers that name too; rename it there, or uninstall that package."
    if others == entry.origin:
        return f"{others} registers it twice, as different objects; rename one."
    return f"{entry.origin} and {others} both register that name; uninstall one of them."


def _imported(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return reduce(getattr, attribute.split("."), import_module(module))


def _lacks(names: Sequence[str], what: str, part: Any) -> str | None:
    """What a class lacks of the names that its kind has."""
    missing = [name for name in names if not hasattr(part, name)]
    if missing:
        return f"it has no {', '.join(missing)}; {what} has {', '.join(names)} (docs/plugins.md)"
    if not hasattr(part.Options, "model_fields"):
        return "its Options is no subclass of specbench_s2d.decoding.types.Options"
    if getattr(part, "draft_kind", "none") not in ("none", "plain", "nested", "eagle", "medusa"):
        return f"its draft_kind is {part.draft_kind!r}; it is none, plain, nested, eagle or medusa"
    if not isinstance(getattr(part, "lossy", False), bool):
        return f"its lossy is {part.lossy!r}; it is True or False"
    return None


def _no_function(part: Any) -> str | None:
    return None if callable(part) else "it cannot be called; a meter is registered as a function of the device"


_OTHER_NAMES = {
    "autoregressive": "ar", "vanilla": "ar", "baseline": "ar", "speculative": "sd", "sps": "sd", "pld": "lookup",
    "prompt-lookup": "lookup", "suffix-decoding": "suffix", "token-recycling": "recycling",
}  # fmt: skip
"""Of decoders: what papers and Spec-Bench call them."""

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
        "eagle": "specbench_s2d.decoding.eagle:Eagle",
        "medusa": "specbench_s2d.decoding.medusa:Medusa",
        "lookup": "specbench_s2d.decoding.training_free:PromptLookup",
        "suffix": "specbench_s2d.decoding.training_free:SuffixDecoding",
        "recycling": "specbench_s2d.decoding.training_free:TokenRecycling",
    },
    partial(_lacks, ("Options", "lossy", "draft_kind", "generate", "make_ready", "target_passes"), "a decoder"),
    _OTHER_NAMES,
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
        "eagle": "specbench_s2d.decoding.drafters.eagle:EagleDrafter",
        "medusa": "specbench_s2d.decoding.drafters.medusa:MedusaDrafter",
        "lookup": "specbench_s2d.decoding.drafters.lookup:LookupDrafter",
        "suffix": "specbench_s2d.decoding.drafters.suffix:SuffixDrafter",
        "recycling": "specbench_s2d.decoding.drafters.recycling:RecyclingDrafter",
    },
    partial(_lacks, ("Options", "draft_kind", "start", "propose", "commit"), "a drafter"),
)
verifiers = Registry(
    "verifier",
    {
        "token": "specbench_s2d.decoding.verifiers.token:TokenVerifier",
        "joint": "specbench_s2d.decoding.verifiers.joint:JointVerifier",
        "typical": "specbench_s2d.decoding.verifiers.typical:TypicalVerifier",
        "scripted": "specbench_s2d.decoding.verifiers.scripted:ScriptedVerifier",
    },
    partial(_lacks, ("Options", "lossy", "judge"), "a verifier"),
)
# An energy meter is registered as the function that opens it on a device.
meters = Registry(
    "meter",
    {
        "nvml": "specbench_s2d.measure.energy.choose:gpu_meter",
        "rapl": "specbench_s2d.measure.energy.choose:cpu_meter",
    },
    _no_function,
)
