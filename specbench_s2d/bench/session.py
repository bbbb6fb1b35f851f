"""One target with its decoders, loaded and warm: it decodes cells."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from specbench_s2d.bench.phase_timer import PhaseTimer
from specbench_s2d.bench.plan import Cell, Lane, Plan
from specbench_s2d.bench.preflight import TargetSetup
from specbench_s2d.bench.prompts import Prompt
from specbench_s2d.bench.traces import source_for
from specbench_s2d.bench.warm_up import WarmUp, warm_up
from specbench_s2d.decoding.clock import clock_for
from specbench_s2d.decoding.decoder import Decoder, PairDecoder
from specbench_s2d.decoding.faults import PartError, in_decoder, said
from specbench_s2d.decoding.types import Generation
from specbench_s2d.errors import UserError
from specbench_s2d.measure.bandwidth import FIRST_ROUNDS, read_rate_of
from specbench_s2d.measure.energy.windows import WindowMeter
from specbench_s2d.measure.teacher_forcing import DraftView, NoiseRows, logit_noise
from specbench_s2d.models import LanguageModel, load_model
from specbench_s2d.models.finite import first_not_finite, not_finite_at
from specbench_s2d.models.graph_memory import with_graph_bytes
from specbench_s2d.models.transfer import to_device

_WARM_UP_TOKENS = 16
_UNPREPARED = ("captures", "unannounced")


class Session:
    """A target, its drafts and its decoders on the run's device. Loading and warming up happen here, untimed.

    `load`: makes a `LanguageModel` of a resolved model, as `load_model` does. `noise`: the bound of the divergence
    audit, measured over passes of `noise_rows`. `read_rate`: bounds the target's steps; measured here before and after
    the warm-ups, and later by whoever has time between timed windows. `drafts`: how each decoder reads its draft, by
    label. `fault`: what is wrong with the target, None where nothing is. `windows`: meters the timed windows. A decoder
    that cannot be built, prepared or warmed up has a fault of its own, which its cells fail with.
    """

    fault: str | None = None

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
        self._new_tokens = plan.spec.max_new_tokens or 1
        lanes = plan.lanes[setup.target]
        options: dict[str, Any] = {"dtype": plan.spec.dtype, "engine": plan.spec.engine}
        if plan.spec.verify_forward:
            options["verify_forward"] = True
        with timer.measure("loading"):
            limits = setup.weight_limits(plan.spec.device)
            self.target = load(plan.models[setup.target], device=plan.spec.device, limits=limits, **options)
            drafts = {
                name: load(plan.models[name], device=plan.device, **options) for name in plan.drafts(setup.target)
            }
            self._models = {model.name: model for model in (self.target, *drafts.values())}
            used = {lane.label: drafts[lane.draft] if lane.draft else None for lane in lanes}
            self._faults, self._decoders = dict(setup.faults), dict[str, Decoder]()
            self.drafts, self._projected = dict[str, DraftView](), dict[str, str | None]()
            for lane in lanes:
                if lane.label not in self._faults:
                    with self._sound(lane.label):
                        self._build(lane, used[lane.label])
            sources = {lane.label: source_for(lane.decoder, self.target.name, used[lane.label]) for lane in lanes}
            self._traces = {label: source for label, source in sources.items() if source}
        shortest, longest = setup.warm_up_prompts(plan.questions, _WARM_UP_TOKENS)
        with timer.measure("warm_up"):  # room first, and once: what is prepared is prepared for it
            positions = max(setup.positions, len(longest) + _WARM_UP_TOKENS)
            for label, decoder in self._decoders.items():
                with self._sound(label, " (preparing its passes)"):
                    decoder.make_ready(positions)
        with timer.measure("probing"):
            self._measure_noise(shortest, longest)
            self.read_rate = read_rate_of(self.target, _step_bytes(self.target, shortest))
            self.read_rate.measure(FIRST_ROUNDS)
        with timer.measure("warm_up"):
            self._warmed_up = dict[str, WarmUp]()
            for label in [] if self.fault else [label for label in self._decoders if label not in self._faults]:
                with self._sound(label, " (warming up)"):
                    self._warmed_up[label] = self._warm_up(label, shortest, longest)
            for label in self._warmed_up:
                with self._sound(label, " (after the warm-up)"):
                    self._decoders[label].forget()
        with timer.measure("probing"):
            self.read_rate.measure(FIRST_ROUNDS)
        self._before = self._counted()

    def _build(self, lane: Lane, draft: LanguageModel | None) -> None:
        decoder = lane.decoder.build(self.target, draft)
        if draft:
            self.drafts[lane.label] = DraftView.of(draft, decoder.draft_passes(decoder.options, draft))
        self._projected[lane.label] = _why_projected(decoder)
        self._decoders[lane.label] = decoder

    def _measure_noise(self, *prompts: list[int]) -> None:
        passes = [kind for decoder in self._decoders.values() for kind in decoder.target_passes(decoder.options)]
        self.noise_rows, self._probed = NoiseRows.of(passes, self._new_tokens), [len(prompt) for prompt in prompts]
        try:
            self.noise = max(logit_noise(self.target, prompt, self.noise_rows) for prompt in prompts)
        except FloatingPointError as error:
            self.noise, name = math.nan, f"target {self.target.name}"
            found = (first_not_finite(self.target, ids[:1], [*ids[1:], 0]) for ids in prompts)
            position = next((first for first in found if first is not None), None)
            self.fault = f"{name}: {error}" if position is None else not_finite_at(name, position, "a warm-up prompt")

    def decode(self, cell: Cell, prompt: Prompt) -> dict[str, Any]:
        """Decode one turn, timed: the fields of its record that decoding gives.

        Raises `FloatingPointError`, saying where, for a target or a draft whose logits are not finite numbers, and
        `PartError` for a decoder that cannot decode.
        """
        if self.fault:
            raise FloatingPointError(self.fault)
        if fault := self._faults.get(cell.label):
            raise PartError(fault)
        generation, energy = self.windows.measure(
            lambda: self._generate(cell.label, prompt.ids, self._new_tokens, cell), clock_for(self.target.device).wait
        )
        steps, tokenizer = generation.steps, self.target.tokenizer
        text = tokenizer.decode(generation.ids, skip_special_tokens=True)
        assert isinstance(text, str)
        draft_s, verify_s = sum(step.draft_s for step in steps), sum(step.verify_s for step in steps)
        return {
            "projected": self._projected[cell.label],
            "prompt_hash": prompt.hash,
            "prompt_tokens": len(prompt.ids),
            "prompt_truncated": prompt.truncated,
            "new_tokens": len(generation.ids),
            "retokenized_tokens": len(tokenizer.encode(text)) - 1,
            "stop": generation.stop,
            "output_ids": generation.ids,
            "output_text": text,
            "prefill_s": generation.prefill_s,
            "decode_s": generation.decode_s,
            "total_s": generation.total_s,
            "draft_s": draft_s,
            "verify_s": verify_s,
            "other_s": generation.decode_s - draft_s - verify_s,
            "bound_s": generation.decode_bytes / self.read_rate.bytes_per_s,
            "target_passes": sum(step.passes for step in steps),
            "drafted": sum(len(step.drafted) for step in steps),
            "accepted": sum(step.accepted for step in steps),
            "drafted_per_step": [len(step.drafted) for step in steps],
            "accepted_per_step": [step.accepted for step in steps],
            "emitted_per_step": [len(step.emitted) for step in steps],
            "levels_per_step": [step.levels for step in steps],
            "exit_depths": [depth for step in steps for depth in step.exit_depths],
            "draft_layers": sum(step.draft_layers for step in steps),
            **energy,
        }

    def decode_again(self, cell: Cell, prompt: Prompt) -> int:
        """Decode one turn for the energy pass; its new tokens."""
        return len(self._generate(cell.label, prompt.ids, self._new_tokens, cell).ids)

    def facts(self) -> dict[str, Any]:
        """What the manifest says of the target, before its first timed cell."""
        identity = self.target.identity
        return {
            "forward": identity.forward,
            "engines": self._engines(),
            "revision": identity.revision,
            "weights_sha256": identity.weights_sha256,
            "random_weights": identity.random_weights,
            **self._sources(),
            **self._checkpoints(),
            "template": self.prompts.template.name,
            "context": self.prompts.context,
            "parameter_bytes": self.target.parameter_bytes,
            "logit_noise": None if math.isnan(self.noise) else self.noise,
            "logit_noise_rows": {**asdict(self.noise_rows), "prefill": self._probed},
            "warm_up": {label: done.facts() for label, done in self._warmed_up.items()},
            "read_rate": self.read_rate.facts(),
            **({"scripts": {name: source.facts() for name, source in self._traces.items()}} if self._traces else {}),
        }

    def decoder_facts(self) -> dict[str, dict[str, Any]]:
        """What decoders measured and learnt so far, by label; only of those that do."""
        known = {label: _facts(decoder) for label, decoder in self._decoders.items()}
        return {label: facts for label, facts in known.items() if facts}

    @property
    def restless(self) -> dict[str, float]:
        """Decoders whose warm-up never became steady, with the spread of its last runs."""
        return {label: done.spread for label, done in self._warmed_up.items() if not done.stable}

    @property
    def unprepared(self) -> dict[str, int]:
        """What timed windows had to do unprepared: `captures` of graphs, and `unannounced` passes that ran eagerly."""
        now = self._counted()
        return {name: now[name] - self._before[name] for name in now}

    def _engines(self) -> dict[str, dict[str, Any]]:
        """Which engine runs each model's passes, and what it chose, by the model's name."""
        return {name: with_graph_bytes(model.engine_facts) for name, model in self._models.items()}

    def _sources(self) -> dict[str, Any]:
        """Where the weights of the target and its drafts came from, by name; only of those that say so."""
        found = {name: model.identity.source for name, model in self._models.items()}
        said = {name: source.facts() for name, source in found.items() if source}
        return {"sources": said} if said else {}

    def _checkpoints(self) -> dict[str, Any]:
        """What was found when models were loaded, by name: how their files were read, and the check of the forward."""
        said = {name: model.load_facts for name, model in self._models.items() if model.load_facts}
        return {"checkpoints": said} if said else {}

    def _counted(self) -> dict[str, int]:
        facts = self._engines().values()
        return {name: sum(engine.get(name, 0) for engine in facts) for name in _UNPREPARED}

    @contextmanager
    def _sound(self, label: str, doing: str = "") -> Iterator[None]:
        """Take what the block raises as the decoder's fault, by which its cells fail; `UserError` is raised on."""
        try:
            yield
        except UserError:
            raise
        except (FloatingPointError, PartError) as error:
            self._faults.setdefault(label, f"{error}{doing}")
        except Exception as error:  # out of memory, a kernel that fails, a plug-in
            self._faults.setdefault(label, f"{said(error)}{doing}")

    def _warm_up(self, label: str, shortest: list[int], longest: list[int]) -> WarmUp:
        """One long prompt, at which caches grow to their size; then a short one until its time is steady."""
        context = self._decoders[label].context  # of a draft, perhaps, whose own is shorter than the prompts'
        new_tokens = min(_WARM_UP_TOKENS, context // 2)
        longest, shortest = longest[: context - new_tokens], shortest[: context - new_tokens]
        self._generate(label, longest, new_tokens)

        def decoded_s() -> float:
            self._decoders[label].forget()  # else every run would draft from the one before, and none be like another
            return self._generate(label, shortest, new_tokens).total_s

        return warm_up(decoded_s)

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
        except (UserError, FloatingPointError, PartError):
            raise
        except Exception as error:
            if isinstance(decoder, PairDecoder):  # its parts name themselves: a pass of a model
                raise
            raise PartError(in_decoder(label, f"class {type(decoder).__name__} raised {said(error)}")) from error
        finally:
            if collected:
                gc.enable()


def _facts(decoder: Decoder) -> dict[str, Any]:
    """What a decoder learnt, or the fault of one that cannot say so: its cells are whole."""
    try:
        return decoder.facts()
    except Exception as error:
        return {"fault": str(error) if isinstance(error, PartError) else said(error)}


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
