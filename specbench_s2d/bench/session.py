"""One target with its decoders, loaded and warm: decodes cells and scores what came out."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from specbench_s2d.bench.memory import weight_limits
from specbench_s2d.bench.phase_timer import PhaseTimer
from specbench_s2d.bench.plan import Cell, Lane, Plan
from specbench_s2d.bench.prompts import Prompt, Prompts
from specbench_s2d.bench.traces import TraceSource, Turn, source_for
from specbench_s2d.bench.warm_up import WarmUp, warm_up
from specbench_s2d.config import RunSpec
from specbench_s2d.decoding.decoder import Decoder, PairDecoder
from specbench_s2d.decoding.types import Generation
from specbench_s2d.errors import first_line
from specbench_s2d.measure.divergence import Divergence, classify, classify_alone
from specbench_s2d.measure.teacher_forcing import largest, logit_noise, noise_rows, score
from specbench_s2d.measure.token_scores import TokenScores
from specbench_s2d.models import LanguageModel, load_model
from specbench_s2d.models.chat import ChatTemplate, default_template
from specbench_s2d.models.graph_memory import with_graph_bytes
from specbench_s2d.models.load import check_pair, read_model_info
from specbench_s2d.runs.record import BASELINE, Record
from specbench_s2d.suites import Question

_WARM_UP_TOKENS = 16
_SCORES = ("nll_sum", "perplexity", "quality", "divergence", "tie_positions")


def prompts_for(plan: Plan, target: str) -> Prompts:
    """How the run lays out prompts for `target`: its template, and the context that all its lanes share.

    Raises `ModelError` for a draft that numbers its tokens differently or has not the exits asked for, `UserError` for
    a template or a script that is not there.
    """
    spec = plan.spec
    outline = read_model_info(target)
    drafts = {name: read_model_info(name) for name in plan.drafts(target)}
    for lane in plan.lanes[target]:
        if lane.draft:
            check_pair(outline, drafts[lane.draft])
            lane.decoder.kind.check_draft(lane.decoder.options, drafts[lane.draft])
        source_for(lane.decoder, outline.name, drafts[lane.draft] if lane.draft else None)
    shared = min([outline.context, *(draft.context for draft in drafts.values())])
    template = ChatTemplate.choose(outline.tokenizer, spec.template, default_template(outline.name))
    return Prompts(template, shared, spec.max_new_tokens or 1, spec.long_prompts)


class Session:
    """A target, its drafts and its decoders on the run's device. Loading and warming up happen here, untimed."""

    def __init__(
        self, plan: Plan, target: str, run_id: str, prompts: Prompts, read_rate_bytes_per_s: float, account: PhaseTimer
    ) -> None:
        self._spec, self._run_id, self.prompts = plan.spec, run_id, prompts
        self._read_rate_bytes_per_s = read_rate_bytes_per_s
        with account.measure("loading"):
            self.target = self._load(target, plan.spec.device, weight_limits(plan, target, prompts))
            drafts = {name: self._load(name, plan.device) for name in plan.drafts(target)}
            self._models = {model.name: model for model in (self.target, *drafts.values())}
            self._decoders: dict[str, Decoder] = {
                lane.label: lane.decoder.build(self.target, drafts[lane.draft] if lane.draft else None)
                for lane in plan.lanes[target]
            }
            self._scripts = {
                lane.label: source for lane in plan.lanes[target] if (source := self._source(lane, drafts)) is not None
            }
        self._grader = plan.grader
        self._scored: dict[tuple[str, tuple[int, ...]], TokenScores] = {}
        shortest, longest = self._outer_prompts(plan)
        with account.measure("warm_up"):  # room first, and once: what is prepared is prepared for it
            positions = max(prompts.longest(plan.questions), len(longest) + _WARM_UP_TOKENS)
            for decoder in self._decoders.values():
                decoder.make_ready(positions)
        with account.measure("probing"):
            widths = _verified_widths(self._decoders.values())
            self.noise_rows = noise_rows(self.target, *widths)
            self.noise = largest([logit_noise(self.target, prompt, *widths) for prompt in (shortest, longest)])
        with account.measure("warm_up"):
            self.warm_up = {
                label: self._warm_up(decoder, shortest, longest) for label, decoder in self._decoders.items()
            }
        self._prepared = self._counted()

    def decode(self, cell: Cell, answers: list[str]) -> tuple[Record, Prompt]:
        """Decode one turn, timed; raises `PromptTooLongError` when its prompt does not fit.

        The record still lacks its scores: `score` fills them in, outside the timed window.
        """
        prompt = self.prompts.lay_out(cell.question, answers)
        with _without_collector():
            generation = self._generate_cell(cell, prompt)
        record = blank_record(cell, self._run_id, self._spec, status="ok")
        marked = {"projected": self._projected(cell.lane.label)}
        return record.model_copy(update={**self._measured(prompt, generation), **marked}), prompt

    def decode_again(self, cell: Cell, prompt: Prompt) -> int:
        """The new tokens of a cell whose prompt is laid out already; leaves no record."""
        return len(self._generate_cell(cell, prompt).ids)

    def score(self, record: Record, prompt: Prompt, question: Question, baseline: Record | None) -> Record:
        """The record with nll, perplexity, quality, and divergence from `baseline` (AR's record of the same turn and
        repeat). What cannot be scored, for want of memory say, is null with the reason: the answer stands."""
        if record.projected:
            reasons = {**record.reasons, **dict.fromkeys(_SCORES, f"projected: {record.projected}")}
            return record.model_copy(update={"reasons": reasons})
        assert record.output_ids and record.output_text is not None
        grade = self._grader.grade(question, record.turn, record.output_text)
        filled: dict[str, Any] = {"quality": grade.values, "quality_counts": grade.counts}
        reasons = {**record.reasons, **grade.reasons}
        try:
            scored = self._score(prompt, record.output_ids)
        except RuntimeError as error:  # out of memory, a kernel that fails
            why = f"its teacher-forced pass failed ({type(error).__name__}: {first_line(error)})"
            reasons |= dict.fromkeys(("nll_sum", "perplexity", "divergence", "tie_positions"), why)
            return record.model_copy(update={**filled, "reasons": reasons})
        filled["tie_positions"] = scored.ties(self.noise)
        if math.isfinite(scored.nll_sum):
            filled["nll_sum"] = scored.nll_sum
            filled["perplexity"] = math.exp(scored.nll_sum / len(record.output_ids))
        else:
            reasons |= dict.fromkeys(("nll_sum", "perplexity"), "the target's logits are not finite numbers")
        filled["divergence"], why_not = self._audit(record, baseline, scored)
        if why_not:
            reasons["divergence"] = why_not
        return record.model_copy(update={**filled, "reasons": reasons})

    def _audit(
        self, record: Record, baseline: Record | None, scored: TokenScores
    ) -> tuple[Divergence | None, str | None]:
        """The verdict on an output, or why there is none. Without AR's output its own tokens are still checked."""
        ids = record.output_ids or []
        if record.lossy:
            return None, "a lossy method is not meant to equal AR"
        if self._spec.temperature > 0:
            return None, "sampled outputs are not compared token by token"
        if baseline is None or baseline.output_ids is None:
            why = f"no {BASELINE} record of this turn"
        elif baseline.prompt_hash != record.prompt_hash:
            why = "the prompt differs from AR's: an earlier turn parted from it"
        else:
            return classify(ids, baseline.output_ids, scored, self.noise), None
        alone = classify_alone(ids, scored, self.noise)
        return alone, None if alone else why

    def facts(self) -> dict[str, dict[str, Any]]:
        """What decoders measured and learnt so far, by label; only of those that do."""
        known = {label: decoder.facts() for label, decoder in self._decoders.items()}
        return {label: facts for label, facts in known.items() if facts}

    def scripts(self) -> dict[str, dict[str, Any]]:
        """Whose acceptances and exits scripted decoders follow, by label."""
        return {label: source.facts() for label, source in self._scripts.items()}

    def engines(self) -> dict[str, dict[str, Any]]:
        """Which engine runs each model's passes, and what it chose, by the model's name."""
        return {name: with_graph_bytes(model.engine_facts) for name, model in self._models.items()}

    @property
    def unprepared(self) -> dict[str, int]:
        """What timed windows had to do unprepared: `captures` of graphs, and `unannounced` passes that ran eagerly."""
        now = self._counted()
        return {name: now[name] - self._prepared[name] for name in now}

    def _counted(self) -> dict[str, int]:
        facts = self.engines().values()
        return {name: sum(engine.get(name, 0) for engine in facts) for name in ("captures", "unannounced")}

    def forget_scores(self) -> None:
        """Drop the scores of the last round."""
        self._scored.clear()

    def _load(self, name: str, device: str | None, limits: Mapping[int, int] | None = None) -> LanguageModel:
        return load_model(name, device=device, dtype=self._spec.dtype, engine=self._spec.engine, limits=limits)

    def _source(self, lane: Lane, drafts: dict[str, LanguageModel]) -> TraceSource | None:
        return source_for(lane.decoder, self.target.name, drafts[lane.draft] if lane.draft else None)

    def _projected(self, label: str) -> str | None:
        """Why a decoder's cells are a projection: random weights of the target or of its draft, or a script."""
        decoder = self._decoders[label]
        models = [model for model in (decoder.target, decoder.draft) if model is not None]
        random = "random weights" if any(model.identity.random_weights for model in models) else None
        return ", ".join(filter(None, (random, decoder.projected))) or None

    def _generate_cell(self, cell: Cell, prompt: Prompt) -> Generation:
        decoder = self._decoders[cell.lane.label]
        self._follow(decoder, (cell.question.suite, cell.question.id, cell.turn), cell.seed)
        return self._generate(decoder, prompt.ids, cell.seed, self._spec.max_new_tokens or 1)

    def _follow(self, decoder: Decoder, turn: Turn | None, seed: int) -> None:
        """Hand a scripted decoder the script of a turn."""
        if decoder.label in self._scripts and isinstance(decoder, PairDecoder):
            decoder.follow(self._scripts[decoder.label].script(turn, seed))

    def _outer_prompts(self, plan: Plan) -> tuple[list[int], list[int]]:
        """The shortest first turn of the run and the longest, cut to what leaves room for a warm-up."""
        turns = sorted((question.turns[0] for question in plan.questions), key=len)
        room = max(1, self.prompts.context - _WARM_UP_TOKENS)
        encode = self.prompts.template.encode
        shortest, longest = (encode([{"role": "user", "content": turn}])[:room] for turn in (turns[0], turns[-1]))
        return shortest, longest

    def _warm_up(self, decoder: Decoder, shortest: list[int], longest: list[int]) -> WarmUp:
        """One long prompt, at which caches grow to their size; then a short one until its time is steady."""
        self._follow(decoder, None, 0)
        self._generate(decoder, longest, 0, _WARM_UP_TOKENS)
        return warm_up(lambda: self._generate(decoder, shortest, 0, _WARM_UP_TOKENS).total_s)

    def _generate(self, decoder: Decoder, prompt_ids: list[int], seed: int, max_new_tokens: int) -> Generation:
        s = self._spec
        return decoder.generate(prompt_ids, max_new_tokens, s.temperature, s.top_k, s.top_p, seed, s.ignore_eos)

    def _score(self, prompt: Prompt, output_ids: list[int]) -> TokenScores:
        """Identical outputs of several decoders are scored once."""
        key = (prompt.hash, tuple(output_ids))
        if key not in self._scored:
            self._scored[key] = score(self.target, prompt.ids, output_ids)
        return self._scored[key]

    def _measured(self, prompt: Prompt, generation: Generation) -> dict[str, Any]:
        tokenizer, steps = self.target.tokenizer, generation.steps
        text = tokenizer.decode(generation.ids, skip_special_tokens=True)
        assert isinstance(text, str)
        draft_s, verify_s = sum(step.draft_s for step in steps), sum(step.verify_s for step in steps)
        return {
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
            "bound_s": generation.decode_bytes / self._read_rate_bytes_per_s,
            "target_passes": sum(step.passes for step in steps),
            "drafted": sum(len(step.drafted) for step in steps),
            "accepted": sum(step.accepted for step in steps),
            "drafted_per_step": [len(step.drafted) for step in steps],
            "accepted_per_step": [step.accepted for step in steps],
            "emitted_per_step": [len(step.emitted) for step in steps],
            "levels_per_step": [step.levels for step in steps],
            "exit_depths": [depth for step in steps for depth in step.exit_depths],
            "draft_layers": sum(step.draft_layers for step in steps),
        }


def _verified_widths(decoders: Iterable[Decoder]) -> tuple[set[int], set[int]]:
    """Rows of the passes that decoders take over their target's logits: of chains, and of trees."""
    passes = [kind for decoder in decoders for kind in decoder.target_passes(decoder.options) if not kind.best]
    return {kind.rows for kind in passes if not kind.seen}, {kind.rows for kind in passes if kind.seen}


def blank_record(cell: Cell, run_id: str, spec: RunSpec, status: str, error: str | None = None) -> Record:
    """A record of a cell that holds what defines it, and nothing measured yet."""
    return Record.model_validate(
        {
            "run_id": run_id,
            "key": cell.key,
            "status": status,
            "error": error,
            "target": cell.target,
            "decoder": cell.lane.decoder.name,
            "label": cell.lane.label,
            "draft": cell.draft,
            "decoder_options": cell.lane.decoder.options.model_dump(),
            "lossy": cell.lane.decoder.kind.lossy,
            "suite": cell.question.suite,
            "category": cell.question.category,
            "question_id": cell.question.id,
            "turn": cell.turn,
            "repeat": cell.repeat,
            "seed": cell.seed,
            "replay_turns": spec.replay_turns,
        }
    )


@contextmanager
def _without_collector() -> Iterator[None]:
    """No garbage collection inside the timed window."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
