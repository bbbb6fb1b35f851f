"""Decoders: the base class, and pairs of a drafter and a verifier."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, ClassVar, Literal, Protocol

from pydantic import create_model

from specbench_s2d.decoding.acceptance_trace import AcceptanceTrace, TraceFollower
from specbench_s2d.decoding.faults import named
from specbench_s2d.decoding.hooks import ASSUMED_PASSES, ask
from specbench_s2d.decoding.loop import PROPOSED, DraftAndVerify, Limits, decode
from specbench_s2d.decoding.prompt_ids import PromptIds, as_ids
from specbench_s2d.decoding.sampling import Sampler, check_settings
from specbench_s2d.decoding.types import ForgettingDrafter, Generation, PreparedDrafter, StateReader
from specbench_s2d.decoding.types import Options as BaseOptions
from specbench_s2d.errors import ModelError, PromptTooLongError, UserError, as_parameters, check_flags, reworded
from specbench_s2d.models.base import LanguageModel, PassKind
from specbench_s2d.models.exits import HasExits
from specbench_s2d.models.heads.shape import HEADS, MEDUSA, ONE_CHECKPOINT, HeadShape
from specbench_s2d.models.vocabulary import check_pair

DraftKind = Literal["none", "plain", "nested", "eagle", "medusa"]


class IsHead(Protocol):
    """A draft, loaded or resolved."""

    @property
    def name(self) -> str: ...
    @property
    def head_shape(self) -> HeadShape | None: ...


def check_kind(wanted: str, draft: IsHead, label: str) -> None:
    """Raise `UserError` for a model where a draft head is wanted, and for a head where a model is."""
    kind = draft.head_shape.decoder if draft.head_shape else None
    if kind != (wanted if wanted in HEADS else None):
        found = f"a draft head ({kind})" if kind else "a model"
        needed = f"a draft head ({wanted})" if wanted in HEADS else "a draft model"
        hint = f" {ONE_CHECKPOINT}" if wanted == MEDUSA and not kind else ""
        raise UserError(f"decoder {label!r} takes {needed}, and {draft.name} is {found}; give another draft.{hint}")


class Decoder(ABC):
    """One way to generate from a target.

    Subclasses set `Options`, `lossy` (whether the output may differ from the target's own) and `draft_kind`. `label`:
    the name with the options that differ from the defaults; tables and records are keyed by it. `projected`: why the
    output means nothing and the times are a projection (an acceptance trace), None for an ordinary decoder.
    `in_python`: whether `build_decoder` made it, so that messages name parameters and not flags.
    """

    Options: ClassVar[type[BaseOptions]] = BaseOptions
    lossy: ClassVar[bool] = False
    draft_kind: ClassVar[DraftKind] = "none"
    projected: ClassVar[str | None] = None
    in_python: bool = False

    def __init__(
        self, target: LanguageModel, draft: LanguageModel | None, options: BaseOptions, label: str = ""
    ) -> None:
        self.target, self.draft, self.options, self.label = target, draft, options, label
        if self.draft_kind != "none":
            if draft is None:
                raise UserError(f"decoder {label!r} needs a draft model; give --draft NAME.")
            check_pair(target, draft)
            check_kind(self.draft_kind, draft, label)
            if draft is target:
                raise ModelError(
                    f"{target.name} cannot draft for itself: the two share one cache; load it a second time."
                )
            if _device_key(target) != _device_key(draft):
                raise ModelError(
                    f"{target.name} is on {target.device} and draft {draft.name} on {draft.device}: load both on one "
                    "device."
                )

    @classmethod
    def check_draft(cls, options: BaseOptions, draft: HasExits) -> None:
        """Raise `UserError` for a draft that these options cannot use; a `ModelInfo` is enough, before weights load."""
        return None

    @classmethod
    def data_hashes(cls, options: BaseOptions, draft: HasExits | None) -> dict[str, str]:
        """Hashes of what the output or the steps depend on beside options and weights, by what it is; keys of cells
        depend on them."""
        return {}

    @property
    def context(self) -> int:
        """The longest sequence that target and draft can both hold."""
        return self._shortest[0]

    @property
    def _shortest(self) -> tuple[int, str]:
        """The context of the model that has the shorter one, and which it is."""
        target, draft = self.target, self.draft
        if draft and draft.context < target.context:
            return draft.context, f"draft {draft.name}"
        return target.context, f"target {target.name}"

    def generate(
        self,
        prompt_ids: PromptIds,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        ignore_eos: bool = False,
    ) -> Generation:
        """Decode after `prompt_ids`, up to and including the first EOS, at most `max_new_tokens`.

        The prompt is a list of ids, a tensor (T,) or (1, T), or what `tokenizer(text)` and `apply_chat_template`
        return. Raises `PromptTooLongError` when prompt and new tokens do not fit the context, `UserError` for a prompt
        of another kind (a text, for one), and for settings that are no numbers or out of range.
        """
        with reworded(as_parameters) if self.in_python else nullcontext():
            ids = as_ids(prompt_ids, self.target.vocabulary)
            check_settings(temperature, top_k, top_p, seed)
            check_flags(ignore_eos=ignore_eos)
            context, whose = self._shortest
            limits = Limits(context, max_new_tokens, frozenset() if ignore_eos else self.target.eos_ids, whose)
            limits.check(len(ids))
            self.make_ready(len(ids) + max_new_tokens)
            return self._run(ids, limits, Sampler(temperature, top_k, top_p, seed, self.target.device))

    def make_ready(self, positions: int) -> None:
        """Reserve caches for sequences of `positions`, and prepare every pass that this decoder declares, so that
        nothing is prepared while it is timed."""
        if self.draft:
            self.draft.attach(self.target)
        for model in filter(None, (self.target, self.draft)):
            model.reserve(min(model.context, positions + PROPOSED))
        self.target.prepare(self.own_target_passes())
        if self.draft:
            self.draft.prepare(self.draft_passes(self.options, self.draft))

    @classmethod
    def target_passes(cls, options: BaseOptions) -> list[PassKind]:
        """The passes that the decoder may run on a target with these options; override to declare them."""
        return ASSUMED_PASSES

    @classmethod
    def draft_passes(cls, options: BaseOptions, draft: HasExits) -> list[PassKind]:
        """The passes that the decoder may run on a draft with these options; a `ModelInfo` of the draft is enough."""
        return ASSUMED_PASSES

    def own_target_passes(self) -> list[PassKind]:
        """Those of `target_passes` that this decoder runs, with its draft."""
        return self.target_passes(self.options)

    def facts(self) -> dict[str, Any]:
        """What the decoder has measured and learnt so far, for the manifest; empty for most."""
        return {}

    def forget(self) -> None:
        """Drop the text that warm-ups left behind, before the first timed generation; most keep none."""
        return None

    @classmethod
    def host_bytes(cls, options: BaseOptions, positions: int) -> int:
        """The most memory of the host that drafting takes beside the models, for a context of `positions`."""
        return 0

    @classmethod
    def learns_over_run(cls, options: BaseOptions) -> bool:
        """Whether it drafts from earlier questions of the run, so that a part of the grid is not the same run."""
        return False

    @abstractmethod
    def _run(self, prompt_ids: Sequence[int], limits: Limits, sampler: Sampler) -> Generation: ...


class PairDecoder(Decoder):
    """A drafter and a verifier in the common loop; its options are those of both, and `draft`."""

    drafter_class: ClassVar[Any]
    verifier_class: ClassVar[Any]

    def __init_subclass__(cls) -> None:
        given = dict.fromkeys((cls.drafter_class.Options, cls.verifier_class.Options))
        bases = tuple(one for one in given if not any(other is not one and issubclass(other, one) for other in given))
        fields: dict[str, Any] = {} if cls.drafter_class.draft_kind == "none" else {"draft": (str | None, None)}
        cls.Options = create_model(f"{cls.__name__}Options", __base__=bases, **fields)
        cls.lossy = cls.verifier_class.lossy
        cls.draft_kind = cls.drafter_class.draft_kind
        reasons = [getattr(half, "projected", None) for half in (cls.drafter_class, cls.verifier_class)]
        cls.projected = ", ".join(filter(None, reasons)) or None

    @classmethod
    def check_draft(cls, options: BaseOptions, draft: HasExits) -> None:
        cls._ask("check_draft", options, draft)

    @classmethod
    def host_bytes(cls, options: BaseOptions, positions: int) -> int:
        size: int = cls._ask("host_bytes", options, positions)
        return size

    @classmethod
    def data_hashes(cls, options: BaseOptions, draft: HasExits | None) -> dict[str, str]:
        hashes: dict[str, str] = cls._ask("data_hashes", options, draft)
        return hashes

    @classmethod
    def target_passes(cls, options: BaseOptions) -> list[PassKind]:
        passes: list[PassKind] = cls._ask("target_passes", options)
        return passes

    @classmethod
    def draft_passes(cls, options: BaseOptions, draft: HasExits) -> list[PassKind]:
        passes: list[PassKind] = cls._ask("draft_passes", options, draft)
        return passes

    @classmethod
    def learns_over_run(cls, options: BaseOptions) -> bool:
        learns: bool = cls._ask("learns_over_run", options)
        return learns

    @classmethod
    def _ask(cls, hook: str, options: BaseOptions, *given: Any) -> Any:
        """What the drafter class says, by its own options."""
        return ask(cls.drafter_class, hook, _select(options, cls.drafter_class.Options), *given)

    def __init__(
        self, target: LanguageModel, draft: LanguageModel | None, options: BaseOptions, label: str = ""
    ) -> None:
        super().__init__(target, draft, options, label)
        with self._named(self.drafter_class, "drafter", "when it was made"):
            self.drafter = self.drafter_class(draft, _select(options, self.drafter_class.Options))
        with self._named(self.verifier_class, "verifier", "when it was made"):
            self.verifier = self.verifier_class(_select(options, self.verifier_class.Options))
        self._method = DraftAndVerify(target, self.drafter, self.verifier, label)
        self._followers = [half for half in (self.drafter, self.verifier) if isinstance(half, TraceFollower)]
        self._trace: AcceptanceTrace | None = None

    def own_target_passes(self) -> list[PassKind]:
        passes = super().own_target_passes()
        if not isinstance(self.drafter, StateReader):
            return passes
        layers = self.drafter.state_layers(self.target)
        return [replace(kind, states=layers if kind.states else ()) for kind in passes]

    def follow(self, trace: AcceptanceTrace) -> None:
        """Follow this trace in every later generation; no effect where neither drafter nor verifier follows one."""
        self._trace = trace

    def _run(self, prompt_ids: Sequence[int], limits: Limits, sampler: Sampler) -> Generation:
        if isinstance(self.drafter, PreparedDrafter):
            with self._named(self.drafter_class, "drafter", "in prepare", PromptTooLongError):
                self.drafter.prepare(self.target, prompt_ids)
        for half in self._followers:
            if self._trace is None:
                raise UserError(
                    f"decoder {self.label!r} has no acceptance trace: call its follow(AcceptanceTrace(…)) first."
                )
            half.follow(self._trace)
        return decode(self.target, self.draft, self._method, prompt_ids, limits, sampler)

    def facts(self) -> dict[str, Any]:
        with self._named(self.drafter_class, "drafter", "in facts"):
            return self.drafter.facts() if isinstance(self.drafter, PreparedDrafter) else {}

    def forget(self) -> None:
        if isinstance(self.drafter, ForgettingDrafter):
            with self._named(self.drafter_class, "drafter", "in forget"):
                self.drafter.forget()

    def _named(
        self, part: type, kind: str, doing: str, passing: type[UserError] = UserError
    ) -> AbstractContextManager[None]:
        return named(self.label, f"{kind} {part.__name__}", doing, passing)


def _device_key(model: LanguageModel) -> tuple[str, int]:
    """A model's device; a GPU without an index is the first."""
    return model.device.type, model.device.index or 0


def _select(options: BaseOptions, kind: type[BaseOptions]) -> BaseOptions:
    """The options of one half of a pair, which were checked when the pair's were."""
    return kind.model_construct(**{name: getattr(options, name) for name in kind.model_fields})
