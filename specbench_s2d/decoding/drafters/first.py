"""`first(a|b|…)`: several drafters in order, each asked only where those before it propose nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from specbench_s2d.decoding.drafters.none import NoDrafter
from specbench_s2d.decoding.hooks import ask
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.types import (
    Drafter,
    ForgettingDrafter,
    ObservingDrafter,
    PreparedDrafter,
    Proposal,
    StateReader,
    Verdict,
)
from specbench_s2d.decoding.types import Options as BaseOptions
from specbench_s2d.errors import UserError
from specbench_s2d.models.base import LanguageModel, PassKind
from specbench_s2d.models.exits import HasExits
from specbench_s2d.models.nested import MANY


@dataclass(frozen=True)
class Part:
    """One of the drafters: as written, with the options that differ from its defaults; its class; its options."""

    label: str
    drafter_class: Any
    options: BaseOptions

    @property
    def needs_draft(self) -> bool:
        return bool(self.drafter_class.draft_kind != "none")

    def ask(self, hook: str, *given: Any) -> Any:
        """As `hooks.ask`, by the part's own options."""
        return ask(self.drafter_class, hook, self.options, *given)


class FirstDrafter:
    """Asks its drafters in order, and proposes what the first of them proposes that finds anything.

    A drafter that was asked and found nothing sees a step without a draft; one that was not asked sees nothing of the
    step, and catches up with the context when it is asked next. One that reads the target's states is told the verdict
    of every step.
    """

    parts: ClassVar[tuple[Part, ...]] = ()
    draft_kind: ClassVar[str] = "none"
    has_likelihoods: ClassVar[bool] = False

    class Options(BaseOptions):
        """The drafters' own options are written with their names."""

    def __init__(self, draft: LanguageModel | None, options: BaseOptions) -> None:
        del options
        self._drafters: list[Drafter] = [
            part.drafter_class(draft if part.needs_draft else None, part.options) for part in self.parts
        ]
        self._readers = [drafter for drafter in self._drafters if isinstance(drafter, StateReader)]

    @classmethod
    def check_draft(cls, options: BaseOptions, draft: HasExits) -> None:
        """As the drafter that needs one."""
        for part in cls.parts:
            if part.needs_draft:
                part.ask("check_draft", draft)

    @classmethod
    def target_passes(cls, options: BaseOptions) -> list[PassKind]:
        """Those of all drafters; where one of them reads states, it reads those of every pass."""
        kinds = [kind for part in cls.parts for kind in part.ask("target_passes")]
        read = tuple(dict.fromkeys(layer for kind in kinds for layer in kind.states))
        return list(dict.fromkeys(replace(kind, states=read) for kind in kinds))

    @classmethod
    def draft_passes(cls, options: BaseOptions, draft: HasExits) -> list[PassKind]:
        """Those of the drafter that needs one, whose first pass also runs what it has not seen of earlier steps."""
        kinds = [kind for part in cls.parts if part.needs_draft for kind in part.ask("draft_passes", draft)]
        return [kind if kind.from_layer or kind.seen else replace(kind, rows=max(kind.rows, MANY)) for kind in kinds]

    @classmethod
    def host_bytes(cls, options: BaseOptions, positions: int) -> int:
        """What the indexes of all drafters take."""
        return sum(part.ask("host_bytes", positions) for part in cls.parts)

    @classmethod
    def learns_over_run(cls, options: BaseOptions) -> bool:
        """Whether one of its drafters does."""
        return any(part.ask("learns_over_run") for part in cls.parts)

    @classmethod
    def data_hashes(cls, options: BaseOptions, draft: HasExits | None) -> dict[str, str]:
        """Those of all drafters, by their labels."""
        asked = [(part.label, part.ask("data_hashes", draft if part.needs_draft else None)) for part in cls.parts]
        return {f"{label}: {name}": sha256 for label, own in asked for name, sha256 in own.items()}

    def prepare(self, target: LanguageModel, prompt_ids: Sequence[int]) -> None:
        for drafter in self._drafters:
            if isinstance(drafter, PreparedDrafter):
                drafter.prepare(target, prompt_ids)

    def facts(self) -> dict[str, Any]:
        """What the drafters have measured and learnt, by their labels."""
        named = zip(self.parts, self._drafters, strict=True)
        facts = {part.label: one.facts() for part, one in named if isinstance(one, PreparedDrafter)}
        return {label: known for label, known in facts.items() if known}

    def forget(self) -> None:
        for drafter in self._drafters:
            if isinstance(drafter, ForgettingDrafter):
                drafter.forget()

    def start(self, prompt_ids: Sequence[int], sampler: Sampler) -> None:
        for drafter in self._drafters:
            drafter.start(prompt_ids, sampler)

    def propose(self, context: Sequence[int], room: int) -> Proposal:
        self._asked: list[Drafter] = []
        layers = 0
        for drafter in self._drafters:
            self._asked.append(drafter)
            proposal = drafter.propose(context, room)
            layers += proposal.draft_layers
            if len(proposal.ids_G):
                break
        return replace(proposal, draft_layers=layers) if layers else proposal

    def commit(self, committed: int, verdict: Verdict) -> None:
        *others, last = self._asked
        if empty := [drafter for drafter in others if drafter not in self._readers]:
            first_id = verdict.next_id
            if verdict.accepted and verdict.drafted:
                first_id = verdict.drafted.ids[verdict.accepted_path[0]]
            for drafter in empty:
                drafter.commit(committed - verdict.accepted, Verdict(0, first_id))
        for drafter in self._readers:
            drafter.commit(committed, verdict)
        if last not in self._readers:
            last.commit(committed, verdict)


class FirstReading(FirstDrafter):
    """Where a drafter reads the target's states: it sees those of every pass, asked or not."""

    def state_layers(self, target: LanguageModel) -> tuple[int, ...]:
        """Those of the drafter that reads."""
        (reader,) = self._readers
        return reader.state_layers(target)

    def see(self, states: Sequence[Tensor]) -> None:
        (reader,) = self._readers
        reader.see(states)


class FirstObserving(FirstDrafter):
    """Where a drafter learns from the target's logits: it is shown those of every pass, asked or not."""

    def __init__(self, draft: LanguageModel | None, options: BaseOptions) -> None:
        super().__init__(draft, options)
        self._observing = [drafter for drafter in self._drafters if isinstance(drafter, ObservingDrafter)]

    def observe(self, ids_T: Tensor, logits_TV: Tensor) -> Tensor:
        observed = [drafter.observe(ids_T, logits_TV) for drafter in self._observing]
        self._lengths = list(map(len, observed))
        return torch.cat(observed)

    def learn(self, observed: Sequence[float]) -> None:
        start = 0
        for drafter, length in zip(self._observing, self._lengths, strict=True):
            drafter.learn(observed[start : start + length])
            start += length


def first_of(name: str, parts: Sequence[Part]) -> type[FirstDrafter]:
    """The drafter class of `first(a|b|…)`.

    Raises `UserError` for fewer than two drafters, for one given twice, and for two that would need a draft model,
    whose one cache they would share.
    """
    advice = "write first(A|B), such as first(lookup|sd)"
    if len(parts) < 2:
        raise UserError(f"{name}: {len(parts) or 'no'} drafter{'s' * (not parts)}; give two or more: {advice}.")
    if none := next((part.label for part in parts if part.drafter_class is NoDrafter), None):
        raise UserError(f"{name}: {none} proposes nothing; leave it out.")
    labels = [part.label for part in parts]
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise UserError(f"{name}: {twice} is given twice, and would never be asked again; give each drafter once.")
    needing = [part for part in parts if part.needs_draft]
    if len(needing) > 1:
        named = " and ".join(part.label for part in needing)
        raise UserError(f"{name}: {named} each need a draft model, and would share its one cache; give one of them.")
    reading = [part.label for part in parts if issubclass(part.drafter_class, StateReader)]
    observing = [part.label for part in parts if issubclass(part.drafter_class, ObservingDrafter)]
    if reading and len(both := [*reading, *observing]) > 1:
        raise UserError(f"{name}: {both[0]} reads the target's states, {both[1]} its passes too; give one of them.")
    if inner := next((part.label for part in parts if issubclass(part.drafter_class, FirstReading)), None):
        raise UserError(f"{name}: write the drafters of {inner} out, in one bracket.")
    base = FirstReading if reading else FirstObserving if observing else FirstDrafter
    known = {
        "parts": tuple(parts),
        "draft_kind": needing[0].drafter_class.draft_kind if needing else "none",
        "has_likelihoods": all(getattr(part.drafter_class, "has_likelihoods", False) for part in parts),
        "version": sum(getattr(part.drafter_class, "version", 1) - 1 for part in parts) + 1,
        "__doc__": f"The first that proposes anything: {', '.join(labels)}.",
    }
    return type(name, (base,), known)
