"""What flows through the decoding loop: proposals, verdicts, steps, and the finished generation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import torch
from pydantic import BaseModel, ConfigDict, field_validator
from torch import Tensor

from specbench_s2d.decoding.clock import Clock, Mark
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.tree import Tree, tree_levels
from specbench_s2d.models.transfer import to_device
from specbench_s2d.spelling import small_enough

if TYPE_CHECKING:
    from specbench_s2d.models.base import LanguageModel


class Options(BaseModel):
    """Base of every drafter's, verifier's and decoder's options: unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    _kept = field_validator("*")(small_enough)


@dataclass(frozen=True)
class Proposal:
    """G drafted tokens after the context, on the model's device; the host reads them together with the verdict.

    `ids_G`: (G,). `q_GV`: the draft's distribution at each token, None for a greedy draft (q is one-hot). `logprobs_G`:
    the draft's log-probability of each token at temperature 1, where the drafter computed it; otherwise `draft_logits`
    holds the logits (1, V) that `token_logprobs` computes it from. `exit_depths`: the depth that each token of a chain
    was read at, empty for a plain draft. `tree`: None for a chain; otherwise its nodes level by level, siblings in the
    draft's order. `draft_layers`: layers times positions that the draft ran for this proposal. `observed`: what an
    `ObservingDrafter` reads of the target's pass, (any length,) of float32; the loop sets it. `host_ids`: the same ids
    on the host, where the drafter has them there: they are checked before the target's pass.
    """

    ids_G: Tensor
    q_GV: Tensor | None = None
    logprobs_G: Tensor | None = None
    exit_depths: list[int] = field(default_factory=list)
    tree: Tree | None = None
    draft_layers: int = 0
    draft_logits: Sequence[Tensor] = ()
    observed: Tensor | None = None
    host_ids: Sequence[int] | None = None

    def token_logprobs(self) -> Tensor:
        """log q (G,) of each token at temperature 1 over the full vocabulary, also where the draft was sampled."""
        if self.logprobs_G is not None or not self.draft_logits:
            return self.ids_G.new_empty(0, dtype=torch.float32) if self.logprobs_G is None else self.logprobs_G
        logprobs_GV = torch.cat(list(self.draft_logits)).log_softmax(-1)
        return logprobs_GV.gather(1, self.ids_G[:, None])[:, 0]


def chain_of(ids: Sequence[int], device: torch.device) -> Proposal:
    """A chain of tokens that the host chose, without likelihoods: q is one-hot."""
    return Proposal(to_device(ids, device), host_ids=ids) if ids else _nothing(device)


@cache
def _nothing(device: torch.device) -> Proposal:
    return Proposal(torch.empty(0, dtype=torch.long, device=device))


@dataclass(frozen=True)
class Drafted:
    """A proposal copied to the host; `parents` and `cached_rows` as in `Tree`, None for a chain; `observed` as in
    `Proposal`."""

    ids: list[int]
    logprobs: list[float] | None = None
    parents: list[int] | None = None
    cached_rows: list[int] | None = None
    observed: list[float] | None = None

    @property
    def all_parents(self) -> list[int]:
        """The parent of each token; in a chain, the token before it."""
        return list(range(-1, len(self.ids) - 1)) if self.parents is None else self.parents

    @property
    def levels(self) -> list[int]:
        """The level of each token, from 1."""
        return tree_levels(self.all_parents)


def fetch(proposal: Proposal, *wanted: Tensor) -> tuple[Drafted, list[list[float]]]:
    """Copy the proposal and the one-dimensional tensors `wanted` to the host, in one wait for the device.

    Ids travel as float32 beside the other values, which is exact below 2^24. Raises `FloatingPointError` for a draft's
    log-probability that is no number.
    """
    tree = proposal.tree
    parts = {
        "ids": proposal.ids_G,
        "logprobs": proposal.logprobs_G,
        "parents": None if tree is None else tree.parents_N,
        "cached_rows": None if tree is None else tree.cached_rows_N,
        "observed": proposal.observed,
    }
    given = {name: part for name, part in parts.items() if part is not None}
    tensors = [part for part in (*given.values(), *wanted) if len(part)]
    values: list[float] = (tensors[0] if len(tensors) == 1 else torch.cat(tensors)).tolist() if tensors else []
    lists, start = list[list[float]](), 0
    for part in (*given.values(), *wanted):
        lists.append(values[start : start + len(part)])
        start += len(part)
    by_name = dict(zip(given, lists, strict=False))
    _require_numbers(by_name.get("logprobs", ()), is_chain=tree is None)
    whole = {name: list(map(int, by_name[name])) for name in ("ids", "parents", "cached_rows") if name in by_name}
    drafted = Drafted(**whole, logprobs=by_name.get("logprobs"), observed=by_name.get("observed"))
    return drafted, lists[len(given) :]


def _require_numbers(logprobs: Sequence[float], is_chain: bool) -> None:
    """Raise `FloatingPointError` for a log-probability that is no number, with how many tokens of the step lie before
    it; with 0 in a tree, whose order such a number upsets."""
    if any(map(math.isnan, logprobs)):
        raise FloatingPointError(next(i for i, p in enumerate(logprobs) if math.isnan(p)) if is_chain else 0)


@dataclass(frozen=True)
class Verdict:
    """How many proposed tokens are accepted, and the token that follows them.

    `path`: for a tree, the indices of the accepted nodes from root to leaf; None for a chain, whose first tokens are
    accepted. `drafted`: the proposal, copied to the host together with the verdict.
    """

    accepted: int
    next_id: int
    path: list[int] | None = None
    drafted: Drafted | None = field(default=None, compare=False)

    @property
    def accepted_path(self) -> Sequence[int]:
        """The indices of the accepted tokens, for chains and trees alike."""
        return range(self.accepted) if self.path is None else self.path


@dataclass(frozen=True)
class Marks:
    """When a step began, when its drafting ended, and when its verification ended, on the loop's clock."""

    began: Mark
    drafted: Mark
    verified: Mark


@dataclass
class Step:
    """One commit after the first token.

    `drafted`: proposed ids, for a tree in level order with their `parents`; empty for a method without a draft.
    `accepted`: the verdict's count, before any cut. `emitted`: the ids kept, cut at EOS or at the limit. `passes`:
    target passes. `levels`: of a tree, or the length of a chain. `draft_layers`: as in `Proposal`. `seconds`: wall time
    of the step, `draft_s` and `verify_s` of its parts; the loop computes them from `marks` after the generation.
    """

    drafted: list[int]
    accepted: int
    emitted: list[int]
    passes: int = 1
    parents: list[int] | None = None
    levels: int = 0
    exit_depths: list[int] = field(default_factory=list)
    draft_logprobs: list[float] | None = None
    draft_layers: int = 0
    marks: Marks | None = None
    seconds: float = 0.0
    draft_s: float = 0.0
    verify_s: float = 0.0


@dataclass
class Generation:
    """New tokens, and the steps that produced them: `ids = [first] + the emitted of every step`.

    `stop`: whether an EOS token or the token limit ended it. `decode_bytes`: the least that the steps' passes, of
    target and draft, had to read from memory (`LanguageModel.read_bytes`).
    """

    ids: list[int]
    steps: list[Step]
    stop: Literal["eos", "length"]
    prefill_s: float = 0.0
    decode_s: float = 0.0
    decode_bytes: int = 0

    @property
    def total_s(self) -> float:
        return self.prefill_s + self.decode_s


class Drafter(Protocol):
    """Proposes tokens, and keeps its own cache in step with the context."""

    def start(self, prompt_ids: Sequence[int], sampler: Sampler) -> None:
        """Begin a generation: prefill the draft, and reset the draft-length schedule."""
        ...

    def propose(self, context: Sequence[int], room: int) -> Proposal:
        """Up to `room` tokens after `context` (prompt and all emitted ids)."""
        ...

    def commit(self, committed: int, verdict: Verdict) -> None:
        """Cut the draft's cache to the first `committed` positions (context and accepted tokens); learn from the
        verdict."""
        ...


@runtime_checkable
class PreparedDrafter(Protocol):
    """A drafter that needs the target before the first generation: to measure pass costs, or to encode a text."""

    def prepare(self, target: LanguageModel, prompt_ids: Sequence[int]) -> None:
        """Called before every generation, untimed; what it takes long to prepare it prepares once."""
        ...

    def facts(self) -> dict[str, Any]:
        """What it has measured and learnt so far, for the manifest."""
        ...


@runtime_checkable
class ObservingDrafter(Protocol):
    """A drafter that learns from the logits of the target's passes, over the prompt and over every proposal."""

    def observe(self, ids_T: Tensor, logits_TV: Tensor) -> Tensor:
        """What the host is to read of a pass over T tokens, float32, of one dimension; it travels with the verdict."""
        ...

    def learn(self, observed: Sequence[float]) -> None:
        """Those values of the last pass, on the host; after a step's pass called before `commit`."""
        ...


@runtime_checkable
class StateReader(Protocol):
    """A drafter that reads the target's hidden states, of the prompt and of every verified position.

    Within `first(a|b)` its `commit` follows every pass, whoever drafted; the verdict's path is that pass's.
    """

    def state_layers(self, target: LanguageModel) -> tuple[int, ...]:
        """The layers whose states it reads, as in `LanguageModel.extend_with_states`."""
        ...

    def see(self, states: Sequence[Tensor]) -> None:
        """Those states, (T, D) each, of the prompt's T positions or of a step's pass, before its `commit`."""
        ...


@runtime_checkable
class ForgettingDrafter(Protocol):
    """A drafter that carries what it read in one generation over to the next."""

    def forget(self) -> None:
        """Drop what was read in warm-ups, before the first timed generation."""
        ...


class Method(Protocol):
    """How a decoder takes one step of the loop."""

    @property
    def observer(self) -> ObservingDrafter | None:
        """What learns from the target's logits of the prompt."""
        ...

    @property
    def reader(self) -> StateReader | None:
        """What reads the target's states of the prompt."""
        ...

    def start(self, prompt_ids: Sequence[int], sampler: Sampler, clock: Clock) -> None:
        """Begin a generation, before the target's prefill; the steps set their marks on `clock`."""
        ...

    def step(self, context: Sequence[int], room: int, left: int) -> Step:
        """One step after `context` (prompt and all emitted ids), with the target's cache kept in step.

        `room`: positions before the end of the context window; `left`: tokens before the limit. The loop cuts the
        step's `emitted`.
        """
        ...


class Verifier(Protocol):
    """Judges a proposal by the target's logits."""

    def judge(self, proposal: Proposal, logits_TV: Tensor, sampler: Sampler) -> Verdict:
        """`logits_TV` (G + 1, V): after the last context token, then after each proposed token."""
        ...
