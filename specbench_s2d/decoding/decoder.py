"""What a decoder is, and how a drafter and a verifier make one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import create_model

from specbench_s2d.decoding.acceptance_trace import AcceptanceTrace, ScriptedPart
from specbench_s2d.decoding.loop import PROPOSED, DraftAndVerify, Limits, decode
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.types import Generation, MeasuringDrafter
from specbench_s2d.decoding.types import Options as BaseOptions
from specbench_s2d.errors import ModelError, UserError
from specbench_s2d.models.base import LanguageModel, PassKind
from specbench_s2d.models.engines.pass_shapes import AHEAD_ROWS
from specbench_s2d.models.exits import HasExits
from specbench_s2d.models.vocabulary import check_pair

DraftKind = Literal["none", "plain", "nested"]


UNTOLD = [PassKind(AHEAD_ROWS)]
"""What a part from elsewhere that tells nothing of its passes is likely to ask for."""


class Decoder(ABC):
    """One way to generate from a target. Subclasses say their `Options`, whether they are `lossy`, and their draft.

    `label` names the decoder with the options that differ from the defaults: what tables and records are keyed by.
    `projected`: why its output means nothing and its times are a projection, None for a decoder that decodes.
    """

    Options: ClassVar[type[BaseOptions]] = BaseOptions
    lossy: ClassVar[bool] = False
    draft_kind: ClassVar[DraftKind] = "none"
    projected: ClassVar[str | None] = None

    def __init__(
        self, target: LanguageModel, draft: LanguageModel | None, options: BaseOptions, label: str = ""
    ) -> None:
        self.target, self.draft, self.options, self.label = target, draft, options, label
        if self.draft_kind != "none":
            if draft is None:
                name = label.partition(":")[0]
                raise UserError(f"decoder {label!r} needs a draft model; give --draft NAME or {name}:draft=NAME.")
            check_pair(target, draft)
            if draft is target:
                raise ModelError(
                    f"{target.name} cannot draft for itself: the two share one cache; load it a second time."
                )
            if _place(target) != _place(draft):
                raise ModelError(
                    f"{target.name} is on {target.device} and draft {draft.name} on {draft.device}: load both on one "
                    "device."
                )

    @classmethod
    def check_draft(cls, options: BaseOptions, draft: HasExits) -> None:
        """Raise `UserError` for a draft that these options cannot use; its outline is enough, before weights load."""
        return None

    @property
    def context(self) -> int:
        """The longest sequence that target and draft can both hold."""
        return min(self.target.context, self.draft.context if self.draft else self.target.context)

    def generate(
        self,
        prompt_ids: Sequence[int],
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        ignore_eos: bool = False,
    ) -> Generation:
        """Decode after `prompt_ids`, up to and including the first EOS, at most `max_new_tokens`.

        Raises `PromptTooLongError` when prompt and new tokens do not fit the context, `UserError` for a temperature
        below 0 or a top-k or top-p out of range.
        """
        if not (0 <= temperature < math.inf and top_k >= 0 and 0 < top_p <= 1):
            raise UserError(
                f"temperature {temperature}, top_k {top_k}, top_p {top_p}: temperature and top_k are at least "
                "0 (and finite), top_p in (0, 1]."
            )
        limits = Limits(self.context, max_new_tokens, frozenset() if ignore_eos else self.target.eos_ids)
        limits.check(len(prompt_ids))
        self.make_ready(len(prompt_ids) + max_new_tokens)
        return self._run(prompt_ids, limits, Sampler(temperature, top_k, top_p, seed, self.target.device))

    def make_ready(self, positions: int) -> None:
        """Give both models room for sequences of `positions`, and have them prepare every pass that this decoder can
        ever ask for, so that nothing is prepared while it is timed."""
        for model in filter(None, (self.target, self.draft)):
            model.reserve(min(model.context, positions + PROPOSED))
        self.target.prepare(self.target_passes(self.options))
        if self.draft:
            self.draft.prepare(self.draft_passes(self.options, self.draft))

    @classmethod
    def target_passes(cls, options: BaseOptions) -> list[PassKind]:
        """The kinds of passes that these options can ask of a target; `UNTOLD` where nobody can tell."""
        return UNTOLD

    @classmethod
    def draft_passes(cls, options: BaseOptions, draft: HasExits) -> list[PassKind]:
        """The kinds of passes that these options can ask of a draft; its outline is enough."""
        return UNTOLD

    def facts(self) -> dict[str, Any]:
        """What the decoder measured and learnt so far, for the manifest; most know nothing."""
        return {}

    @abstractmethod
    def _run(self, prompt_ids: Sequence[int], limits: Limits, sampler: Sampler) -> Generation: ...


class PairDecoder(Decoder):
    """A drafter and a verifier over the one loop. Its options are those of both, and `draft`."""

    drafter_class: ClassVar[Any]
    verifier_class: ClassVar[Any]

    def __init_subclass__(cls) -> None:
        bases = (cls.drafter_class.Options, cls.verifier_class.Options)
        fields: dict[str, Any] = {} if cls.drafter_class.draft_kind == "none" else {"draft": (str | None, None)}
        cls.Options = create_model(f"{cls.__name__}Options", __base__=bases, **fields)
        cls.lossy = cls.verifier_class.lossy
        cls.draft_kind = cls.drafter_class.draft_kind
        reasons = [getattr(part, "projected", None) for part in (cls.drafter_class, cls.verifier_class)]
        cls.projected = ", ".join(filter(None, reasons)) or None

    @classmethod
    def check_draft(cls, options: BaseOptions, draft: HasExits) -> None:
        cls.drafter_class.check_draft(_part(options, cls.drafter_class.Options), draft)

    @classmethod
    def target_passes(cls, options: BaseOptions) -> list[PassKind]:
        return _announced(cls.drafter_class, "target_passes", _part(options, cls.drafter_class.Options))

    @classmethod
    def draft_passes(cls, options: BaseOptions, draft: HasExits) -> list[PassKind]:
        return _announced(cls.drafter_class, "draft_passes", _part(options, cls.drafter_class.Options), draft)

    def __init__(
        self, target: LanguageModel, draft: LanguageModel | None, options: BaseOptions, label: str = ""
    ) -> None:
        super().__init__(target, draft, options, label)
        self.drafter = self.drafter_class(draft, _part(options, self.drafter_class.Options))
        self.verifier = self.verifier_class(_part(options, self.verifier_class.Options))
        self._method = DraftAndVerify(target, self.drafter, self.verifier)
        self._scripted = [part for part in (self.drafter, self.verifier) if isinstance(part, ScriptedPart)]
        self._script: AcceptanceTrace | None = None

    def follow(self, script: AcceptanceTrace) -> None:
        """Take this script in every generation from now on; without effect where no part is scripted."""
        self._script = script

    def _run(self, prompt_ids: Sequence[int], limits: Limits, sampler: Sampler) -> Generation:
        if isinstance(self.drafter, MeasuringDrafter):
            self.drafter.prepare(self.target, prompt_ids)
        for part in self._scripted:
            if self._script is None:
                raise UserError(
                    f"decoder {self.label!r} has no script: give it one with its follow(AcceptanceTrace(…))."
                )
            part.follow(self._script)
        return decode(self.target, self.draft, self._method, prompt_ids, limits, sampler)

    def facts(self) -> dict[str, Any]:
        return self.drafter.facts() if isinstance(self.drafter, MeasuringDrafter) else {}


def _place(model: LanguageModel) -> tuple[str, int]:
    """A model's device; a GPU without a number is the first."""
    return model.device.type, model.device.index or 0


def _announced(drafter: Any, what: str, *given: Any) -> list[PassKind]:
    """What a drafter's class tells of its passes; one from elsewhere need not tell."""
    tell = getattr(drafter, what, None)
    return tell(*given) if tell else UNTOLD


def _part(options: BaseOptions, kind: type[BaseOptions]) -> BaseOptions:
    return kind(**{name: getattr(options, name) for name in kind.model_fields})
