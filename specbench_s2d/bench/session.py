"""One target with its decoders, loaded and warm: it decodes cells."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from specbench_s2d.bench.decoded import decoded_fields
from specbench_s2d.bench.faults import TargetFault, phase, target_phase
from specbench_s2d.bench.loaded import LoadedModels
from specbench_s2d.bench.phase_timer import PhaseTimer
from specbench_s2d.bench.plan import Cell, Plan
from specbench_s2d.bench.preflight import TargetSetup
from specbench_s2d.bench.prompts import Prompt
from specbench_s2d.bench.traces import TraceSource, source_for
from specbench_s2d.bench.warm_up import WarmUp, warm_up
from specbench_s2d.decoding.clock import clock_for
from specbench_s2d.decoding.decoder import Decoder, PairDecoder
from specbench_s2d.decoding.faults import PartError, in_decoder
from specbench_s2d.decoding.generation_check import generation_fault
from specbench_s2d.decoding.loop import Limits
from specbench_s2d.decoding.types import Generation
from specbench_s2d.errors import UserError, in_one_line, is_stop
from specbench_s2d.measure.bandwidth import FIRST_ROUNDS, read_rate_of
from specbench_s2d.measure.energy.windows import WindowMeter
from specbench_s2d.measure.teacher_forcing import DraftView, NoiseRows, logit_noise
from specbench_s2d.models import LanguageModel, load_model
from specbench_s2d.models.base import PassKind
from specbench_s2d.models.finite import NOT_FINITE, first_not_finite, not_finite_at
from specbench_s2d.models.transfer import to_device

_WARM_UP_TOKENS = 16


class Session:
    """A target, its drafts and its decoders on the run's device. Loading and warming up happen here, untimed.

    `load`: makes a `LanguageModel` of a resolved model, as `load_model` does. `noise`: the bound of the divergence
    audit, measured over passes of `noise_rows`. `read_rate`: bounds the target's steps; measured here before and after
    the warm-ups, and later by whoever has time between timed windows. `drafts`: how each decoder reads its draft, by
    label. `windows`: meters the timed windows.

    What a phase raises is a fault. A target's raises `TargetFault`. A decoder's own, or its draft's, stands in `faults`
    by label: its cells fail with that.
    """

    def __init__(
        self,
        plan: Plan,
        setup: TargetSetup,
        timer: PhaseTimer,
        windows: WindowMeter | None = None,
        load: Callable[..., LanguageModel] = load_model,
    ) -> None:
        self._spec, self.prompts = plan.spec, setup.prompts
        self.windows = windows or WindowMeter(None)
        self._new_tokens = plan.new_tokens
        self._lanes = {lane.label: lane for lane in plan.lanes[setup.target]}
        self.faults, self._decoders = dict(setup.faults), dict[str, Decoder]()
        self.drafts, self._projected = dict[str, DraftView](), dict[str, str | None]()
        self._passes, self._traces = list[PassKind](), dict[str, TraceSource]()
        self._warmed_up = dict[str, WarmUp]()
        name = plan.models[setup.target].name
        shortest, longest = setup.warm_up_prompts(plan.asked(setup.target), _WARM_UP_TOKENS)
        positions = max(setup.positions, len(longest) + _WARM_UP_TOKENS)
        with timer.measure("loading"):
            drafts = self._load(plan, setup, load)
            self._each("being built", partial(self._build, drafts))
        with timer.measure("warm_up"):  # room first, and once: what is prepared is prepared for it
            self._each("preparing its passes", lambda label: self._decoders[label].make_ready(positions))
        with timer.measure("probing"):
            with target_phase("probing its noise", name):
                self._measure_noise(shortest, longest)
            with target_phase("measuring the read rate", name):
                self.read_rate = read_rate_of(self.target, _step_bytes(self.target, shortest))
                self.read_rate.measure(FIRST_ROUNDS)
        with timer.measure("warm_up"):
            self._each("warming up", partial(self._warm_up, shortest, longest))
            self._each("after the warm-up", lambda label: self._decoders[label].forget())
        with timer.measure("probing"), target_phase("measuring the read rate", name):
            self.read_rate.measure(FIRST_ROUNDS)
            self._before = self._models.unprepared()

    def _load(self, plan: Plan, setup: TargetSetup, load: Callable[..., LanguageModel]) -> dict[str, LanguageModel]:
        """Load the target, then the drafts that a decoder without a fault uses: by what the person called them."""
        options: dict[str, Any] = {"dtype": plan.spec.dtype, "engine": plan.spec.engine}
        if plan.spec.verify_forward:
            options["verify_forward"] = True
        model, drafts = plan.models[setup.target], dict[str, LanguageModel]()
        with target_phase("loading", model.name):
            limits = setup.weight_limits(plan.target_device)
            self.target = load(model, device=plan.target_device, limits=limits, **options)
        for name in plan.drafts(setup.target):
            using = [label for label, lane in self._lanes.items() if lane.draft == name and label not in self.faults]
            with phase("loading", partial(self._fail, using), f"draft {plan.models[name].name}"):
                if using:
                    drafts[name] = load(plan.models[name], device=plan.device, **options)
        self._models = LoadedModels(self.target, drafts.values())
        return drafts

    def _each(self, doing: str, work: Callable[[str], object]) -> None:
        """Do a phase's work for every decoder without a fault, by label; what it raises is that decoder's fault."""
        for label in self._lanes:
            if label not in self.faults:
                with phase(doing, partial(self._fail, [label])):
                    work(label)

    def _fail(self, labels: list[str], fault: str) -> None:
        self.faults.update(dict.fromkeys(labels, fault))

    def _build(self, drafts: dict[str, LanguageModel], label: str) -> None:
        lane = self._lanes[label]
        draft = drafts[lane.draft] if lane.draft else None
        decoder = lane.decoder.build(self.target, draft)
        if draft and not draft.head_shape:
            self.drafts[label] = DraftView.of(draft, decoder.draft_passes(decoder.options, draft))
        if source := source_for(lane.decoder, self.target.name, draft):
            self._traces[label] = source
        self._passes += decoder.target_passes(decoder.options)
        self._projected[label] = _why_projected(decoder)
        self._decoders[label] = decoder

    def _measure_noise(self, *prompts: list[int]) -> None:
        self.noise_rows, self._probed = NoiseRows.of(self._passes, self._new_tokens), [len(ids) for ids in prompts]
        try:
            self.noise = max(logit_noise(self.target, prompt, self.noise_rows) for prompt in prompts)
        except FloatingPointError as error:
            found = (first_not_finite(self.target, ids[:1], [*ids[1:], 0]) for ids in prompts)
            position = next((first for first in found if first is not None), None)
            if position is None:
                raise
            name = f"target {self.target.name}"
            raise TargetFault(not_finite_at(name, position, "a warm-up prompt")) from error

    def decode(self, cell: Cell, prompt: Prompt) -> dict[str, Any]:
        """Decode one turn, timed: the fields of its record that decoding gives.

        Raises `PartError` for a decoder that has a fault or gives what no record can hold, and whatever decoding
        raises.
        """
        if fault := self.faults.get(cell.label):
            raise PartError(fault)
        generation, energy = self.windows.measure(
            lambda: self._generate(cell.label, prompt.ids, self._new_tokens, cell), clock_for(self.target.device).wait
        )
        self._check(cell.label, generation, self._new_tokens)
        fields = decoded_fields(generation, prompt, self.target.tokenizer, self.read_rate.bytes_per_s)
        return {"projected": self._projected[cell.label], **fields, **energy}

    def decode_again(self, cell: Cell, prompt: Prompt) -> int:
        """Decode one turn for the energy pass; its new tokens."""
        return len(self._generate(cell.label, prompt.ids, self._new_tokens, cell).ids)

    def facts(self) -> dict[str, Any]:
        """What the manifest says of the target, before its first timed cell."""
        identity = self.target.identity
        return {
            "forward": identity.forward,
            "engines": self._models.engines(),
            "revision": identity.revision,
            "weights_sha256": identity.weights_sha256,
            "random_weights": identity.random_weights,
            **self._models.heads(),
            **self._models.sources(),
            **self._models.checkpoints(),
            "template": self.prompts.template.name,
            "context": self.prompts.context,
            "parameter_bytes": self.target.parameter_bytes,
            "logit_noise": self.noise,
            "logit_noise_rows": {**asdict(self.noise_rows), "prefill": self._probed},
            "warm_up": {label: done.facts() for label, done in self._warmed_up.items()},
            "read_rate": self.read_rate.facts(),
            **({"scripts": {name: source.facts() for name, source in self._traces.items()}} if self._traces else {}),
        }

    def decoder_facts(self) -> dict[str, dict[str, Any]]:
        """What decoders without a fault measured and learnt so far, by label; only of those that do."""
        known = {label: _facts(one) for label, one in self._decoders.items() if label not in self.faults}
        return {label: facts for label, facts in known.items() if facts}

    @property
    def restless(self) -> dict[str, float]:
        """Decoders whose warm-up never became steady, with the spread of its last runs."""
        return {label: done.spread for label, done in self._warmed_up.items() if not done.stable}

    @property
    def unprepared(self) -> dict[str, int]:
        """What timed windows had to do unprepared: `captures` of graphs, and `unannounced` passes that ran eagerly."""
        now = self._models.unprepared()
        return {name: now[name] - self._before[name] for name in now}

    def _warm_up(self, shortest: list[int], longest: list[int], label: str) -> None:
        """One long prompt, at which caches grow to their size; then a short one until its time is steady."""
        context = self._decoders[label].context  # of a draft, perhaps, whose own is shorter than the prompts'
        new_tokens = min(_WARM_UP_TOKENS, context // 2)
        longest, shortest = longest[: context - new_tokens], shortest[: context - new_tokens]

        def decoded_s(prompt_ids: list[int]) -> float:
            generation = self._generate(label, prompt_ids, new_tokens)
            self._check(label, generation, new_tokens)
            self._decoders[label].forget()  # else every run would draft from the one before, and none be like another
            return generation.total_s

        decoded_s(longest)
        self._warmed_up[label] = warm_up(partial(decoded_s, shortest))

    def _generate(self, label: str, prompt_ids: list[int], new_tokens: int, cell: Cell | None = None) -> Generation:
        """Decode after a prompt, of a cell or to warm up; no garbage is collected meanwhile."""
        s, decoder, seed = self._spec, self._decoders[label], cell.seed if cell else 0
        if label in self._traces and isinstance(decoder, PairDecoder):
            turn = (cell.question.suite, cell.question.id, cell.turn) if cell else None
            decoder.follow(self._traces[label].script(turn, seed))
        collected = gc.isenabled()
        gc.disable()
        try:
            return decoder.generate(prompt_ids, new_tokens, s.temperature, s.top_k, s.top_p, seed, s.ignore_eos)
        except (UserError, PartError):
            raise
        except BaseException as error:
            if is_stop(error):
                raise
            if isinstance(decoder, PairDecoder) or NOT_FINITE in in_one_line(
                error, kind=True
            ):  # a part or a model is named already
                raise
            raise PartError(
                in_decoder(label, f"class {type(decoder).__name__} raised {in_one_line(error, kind=True)}")
            ) from error
        finally:
            if collected:
                gc.enable()

    def _check(self, label: str, generation: Generation, new_tokens: int) -> None:
        """Raise `PartError` for a generation that no record can hold."""
        eos_ids = frozenset[int]() if self._spec.ignore_eos else self.target.eos_ids
        limits = Limits(self.prompts.context, new_tokens, eos_ids)
        if fault := generation_fault(generation, limits, self.target.vocabulary):
            raise PartError(in_decoder(label, f"class {type(self._decoders[label]).__name__} {fault}"))


def _facts(decoder: Decoder) -> dict[str, Any]:
    """What a decoder learnt, or the fault of one that cannot say so, or not as JSON: its cells are whole."""
    try:
        facts = decoder.facts()
        if not isinstance(facts, dict):
            raise TypeError(f"{type(facts).__name__} is no dict")
        json.dumps(facts, allow_nan=False)
    except PartError as error:
        return {"fault": str(error)}
    except BaseException as error:
        if is_stop(error):
            raise
        what = f"class {type(decoder).__name__} gave facts that are no JSON object ({in_one_line(error, kind=True)})"
        return {"fault": in_decoder(decoder.label, what)}
    return facts


def _why_projected(decoder: Decoder) -> str | None:
    """Why a decoder's cells are a projection: random weights of the target or of its draft, or a given trace."""
    models = [model for model in (decoder.target, decoder.draft) if model is not None]
    random = "random weights" if any(model.identity.random_weights for model in models) else None
    return ", ".join(filter(None, (random, decoder.projected))) or None


def _step_bytes(model: LanguageModel, prompt_ids: list[int]) -> int:
    """What an AR step after a prompt must read: the weights and the cache."""
    model.reset()
    with model.eagerly():
        model.extend(to_device([prompt_ids], model.device), last_only=True)
        before = model.read_bytes
        model.extend(to_device([prompt_ids[-1:]], model.device), last_only=True)
    model.reset()
    return model.read_bytes - before
