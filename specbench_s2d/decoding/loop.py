"""The decoding loop. Every pair of drafter and verifier, and plain decoding too, is `decode` with `DraftAndVerify`:

prefill the prompt, emit the first token
repeat: proposal = drafter.propose(context)
        logits   = target.extend(last token + proposal)      # one target pass
        verdict  = verifier.judge(proposal, logits)
        commit accepted + next; roll target and drafter back to it; record a Step

A proposal is a chain or a tree; a tree is verified under an attention mask, and the cache keeps its accepted path.
MJGD (multi-token joint greedy decoding), whose steps are different, has its own `Method`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Literal

import torch

from specbench_s2d.decoding.clock import Clock, Mark, clock_for
from specbench_s2d.decoding.faults import CheckedDrafter, CheckedObserver, CheckedReader, CheckedVerifier, Steps
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.types import (
    Drafted,
    Drafter,
    Generation,
    Marks,
    Method,
    ObservingDrafter,
    Proposal,
    StateReader,
    Step,
    Verifier,
    fetch,
)
from specbench_s2d.errors import PromptTooLongError, UserError
from specbench_s2d.models.base import LanguageModel
from specbench_s2d.models.engines.threads import common_threads, torch_threads
from specbench_s2d.models.finite import not_finite_at
from specbench_s2d.models.transfer import to_device

PROPOSED = 96
"""Positions past the last new token that a proposal, a tree or the beams of a search may take up."""
_OBSERVED_AT_ONCE = 512
"""Positions of the prompt whose logits are held at a time, where a drafter observes them."""


@dataclass(frozen=True)
class Limits:
    """When a generation ends: the context window of both models, the token limit, and the ids that end an answer.

    `whose`: the model whose context window it is.
    """

    context: int
    max_new_tokens: int
    eos_ids: frozenset[int]
    whose: str = ""

    def check(self, prompt_tokens: int) -> None:
        """Raise `PromptTooLongError` when the prompt and the new tokens do not fit the context."""
        if not hasattr(self.max_new_tokens, "__index__") or self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens {self.max_new_tokens!r}: a whole number, at least 1.")
        if prompt_tokens < 1:
            raise UserError("the prompt is empty: give at least one token.")
        if prompt_tokens + self.max_new_tokens > self.context:
            of = f" of {self.whose}" if self.whose else ""
            raise PromptTooLongError(
                f"a prompt of {prompt_tokens:,} tokens and {self.max_new_tokens:,} new ones need "
                f"{prompt_tokens + self.max_new_tokens:,} positions; the context{of} holds {self.context:,}. "
                "Lower --max-new-tokens, or shorten the prompt."
            )

    def cut(self, ids: list[int], already: int) -> tuple[list[int], Literal["eos", "length"] | None]:
        """`ids` up to the first EOS or the token limit, and which of the two ended it."""
        room = self.max_new_tokens - already
        for i, token in enumerate(ids[:room]):
            if token in self.eos_ids:
                return ids[: i + 1], "eos"
        return ids[:room], "length" if len(ids) >= room else None


def decode(
    target: LanguageModel,
    draft: LanguageModel | None,
    method: Method,
    prompt_ids: Sequence[int],
    limits: Limits,
    sampler: Sampler,
) -> Generation:
    """Generate after `prompt_ids`, with caches reserved.

    Raises `PromptTooLongError` when it cannot fit, and `FloatingPointError` where a drafter or a beam search reads
    log-probabilities that are not numbers, with the model and the first position.
    """
    limits.check(len(prompt_ids))
    clock = clock_for(target.device)
    models = [model for model in (target, draft) if model is not None]
    clock.wait()
    started = perf_counter()
    method.start(prompt_ids, sampler, clock)
    first = sampler.pick(_prefill(target, prompt_ids, method))
    clock.wait()
    prefilled, read_bytes = perf_counter(), _read_bytes(target, draft)
    ids, stop = limits.cut([first], 0)
    context, steps, ends = [*prompt_ids, *ids], list[Step](), list[Mark]()
    with torch_threads(common_threads(model.torch_threads for model in models)):
        while stop is None:
            try:
                step = method.step(context, limits.context - len(context), limits.max_new_tokens - len(ids))
            except FloatingPointError as error:  # what proposes met what is no number, so many tokens on
                proposing = f"draft {draft.name}" if draft else f"target {target.name}"
                raise FloatingPointError(not_finite_at(proposing, len(ids) + error.args[0])) from error
            step.emitted, stop = limits.cut(step.emitted, len(ids))
            context += step.emitted
            ids += step.emitted
            steps.append(step)
            ends.append(clock.mark())
        clock.wait()
    decode_s = perf_counter() - prefilled
    for step, ended in zip(steps, ends, strict=True):
        _set_seconds(step, ended, clock)
    return Generation(ids, steps, stop, prefilled - started, decode_s, _read_bytes(target, draft) - read_bytes)


def _prefill(target: LanguageModel, prompt_ids: Sequence[int], method: Method) -> torch.Tensor:
    """Run the target over the prompt: logits (V,) after it. An observer is shown those of every position, a reader the
    states."""
    target.reset()
    ids_BT, observer, reader = to_device([list(prompt_ids)], target.device), method.observer, method.reader
    if reader is not None:
        logits_BTV, states = target.extend_with_states(ids_BT, reader.state_layers(target), last_only=True)
        reader.see(states)
        return logits_BTV[0, -1]
    if observer is None:
        return target.extend(ids_BT, last_only=True)[0, -1]
    with target.eagerly():
        # Layers run over the whole prompt, as without an observer; only the head's output is large.
        hidden_BTD = target.extend(ids_BT, to_layer=target.depth) if target.has_layer_ranges else None
        for first in range(0, len(prompt_ids), _OBSERVED_AT_ONCE):
            part = slice(first, first + _OBSERVED_AT_ONCE)
            logits_BTV = target.extend(ids_BT[:, part]) if hidden_BTD is None else target.head(hidden_BTD[:, part])
            observer.learn(observer.observe(ids_BT[0, part], logits_BTV[0]).tolist())
    return logits_BTV[0, -1]


def _set_seconds(step: Step, ended: Mark, clock: Clock) -> None:
    """Compute the seconds of a step and its parts from its marks."""
    assert step.marks is not None, "a method marks its steps"
    step.seconds = clock.seconds(step.marks.began, ended)
    step.draft_s = clock.seconds(step.marks.began, step.marks.drafted)
    step.verify_s = clock.seconds(step.marks.drafted, step.marks.verified)


def _read_bytes(target: LanguageModel, draft: LanguageModel | None) -> int:
    return target.read_bytes + (draft.read_bytes if draft else 0)


class DraftAndVerify:
    """The step of every pair: propose, run one target pass, judge, commit.

    What drafter or verifier does wrong raises `PartError`, which names the decoder by `label`.
    """

    def __init__(self, target: LanguageModel, drafter: Drafter, verifier: Verifier, label: str = "") -> None:
        steps = Steps(label, target.vocabulary, on_host=target.device.type == "cpu")
        self._target, self._drafter = target, CheckedDrafter(drafter, steps)
        self._verifier = CheckedVerifier(verifier, self._drafter, steps)
        self.observer = CheckedObserver(drafter, steps) if isinstance(drafter, ObservingDrafter) else None
        self.reader = CheckedReader(drafter, steps) if isinstance(drafter, StateReader) else None

    def start(self, prompt_ids: Sequence[int], sampler: Sampler, clock: Clock) -> None:
        self._sampler, self._clock = sampler, clock
        self._drafter.start(prompt_ids, sampler)

    def step(self, context: Sequence[int], room: int, left: int) -> Step:
        target, began = self._target, self._clock.mark()
        proposal = self._drafter.propose(context, room)
        drafted_at = self._clock.mark()
        ids_T = _verified_ids(target, context, proposal)
        logits_TV = self._verify(ids_T, proposal.tree.mask_MM if proposal.tree else None)
        if self.observer is not None:
            proposal = replace(proposal, observed=self.observer.observe(ids_T, logits_TV))
        verdict = self._verifier.judge(proposal, logits_TV, self._sampler)
        verified_at = self._clock.mark()
        drafted, path = verdict.drafted or fetch(proposal)[0], verdict.accepted_path
        if proposal.tree is None:
            target.rollback(len(context) + verdict.accepted)
        else:
            target.keep_path(path, len(context))
        if self.observer is not None:
            self.observer.learn(drafted.observed or ())
        self._drafter.commit(len(context) + verdict.accepted, verdict)
        return Step(
            drafted.ids,
            verdict.accepted,
            emitted=[*(drafted.ids[i] for i in path), verdict.next_id],
            parents=drafted.parents,
            levels=max(drafted.levels, default=0),
            exit_depths=_exit_depths(proposal, drafted),
            draft_logprobs=drafted.logprobs,
            draft_layers=proposal.draft_layers,
            marks=Marks(began, drafted_at, verified_at),
        )

    def _verify(self, ids_T: torch.Tensor, mask_MM: torch.Tensor | None) -> torch.Tensor:
        """The target's pass over the last token and the proposal: logits (T, V); a reader sees its states."""
        if self.reader is None:
            return self._target.extend(ids_T[None], mask=mask_MM)[0]
        layers = self.reader.state_layers(self._target)
        logits_BTV, states = self._target.extend_with_states(ids_T[None], layers, mask_MM)
        self.reader.see(states)
        return logits_BTV[0]


def _exit_depths(proposal: Proposal, drafted: Drafted) -> list[int]:
    """The exit depth of each drafted token; in a tree, that of its level."""
    if proposal.tree is None or not proposal.tree.level_exits:
        return proposal.exit_depths
    return [proposal.tree.level_exits[level - 1] for level in drafted.levels]


def _verified_ids(target: LanguageModel, context: Sequence[int], proposal: Proposal) -> torch.Tensor:
    """What the target reads in a step, (G + 1,): the last context token and the proposal."""
    last_1 = to_device([context[-1]], target.device)
    return torch.cat((last_1, proposal.ids_G)) if len(proposal.ids_G) else last_1
