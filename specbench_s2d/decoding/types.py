"""What flows through the decoding loop: proposals, verdicts, steps, and the finished generation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from specbench_s2d.decoding.clock import Clock, Mark
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.tree import Tree, tree_levels

if TYPE_CHECKING:
    from specbench_s2d.models.base import LanguageModel


class Options(BaseModel):
    """Base of every drafter's, verifier's and decoder's options: unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Proposal:
    """Tokens a drafter proposes after the context, on the model's device: the host reads them with the verdict.

    `ids_G` (G,). `q_GV`: the draft's distribution at each of them, None where the draft chose greedily (a one-hot q).
    `logprobs_G` (the draft's, at temperature 1), one per token, where the drafter knows them; else `draft_logits`
    (1, V) at each token, for who needs them (`likelihoods`). `exit_depths`: of a chain, one per token, empty for a
    plain draft. `tree`: None for a chain; else every level after the one above it, siblings in the draft's order.
    `draft_layers`: layers x positions that the draft ran for it.
    """

    ids_G: Tensor
    q_GV: Tensor | None = None
    logprobs_G: Tensor | None = None
    exit_depths: list[int] = field(default_factory=list)
    tree: Tree | None = None
    draft_layers: int = 0
    draft_logits: Sequence[Tensor] = ()

    def likelihoods(self) -> Tensor:
        """log q (G,) of each token at temperature 1 over the whole vocabulary, whatever the draft picked by."""
        if self.logprobs_G is not None or not self.draft_logits:
            return self.ids_G.new_empty(0, dtype=torch.float32) if self.logprobs_G is None else self.logprobs_G
        logprobs_GV = torch.cat(list(self.draft_logits)).log_softmax(-1)
        return logprobs_GV.gather(1, self.ids_G[:, None])[:, 0]


@dataclass(frozen=True)
class Drafted:
    """A proposal as the host read it; `parents`, `ran`: as in `Tree`, None for a chain."""

    ids: list[int]
    logprobs: list[float] | None = None
    parents: list[int] | None = None
    ran: list[int] | None = None

    @property
    def above(self) -> list[int]:
        """Each token's parent; a chain's is the token before it."""
        return list(range(-1, len(self.ids) - 1)) if self.parents is None else self.parents

    @property
    def levels(self) -> list[int]:
        """Each token's level, from 1."""
        return tree_levels(self.above)


def fetch(proposal: Proposal, *wanted: Tensor) -> tuple[Drafted, list[list[float]]]:
    """The proposal, and `wanted` (each of one dimension), on the host in one wait for the device.

    Whole numbers come beside others as float32, exact below 2^24: ids are.
    """
    tree = proposal.tree
    parts = {
        "ids": proposal.ids_G,
        "logprobs": proposal.logprobs_G,
        "parents": None if tree is None else tree.parents_N,
        "ran": None if tree is None else tree.ran_N,
    }
    sent = {name: part for name, part in parts.items() if part is not None}
    tensors = [part for part in (*sent.values(), *wanted) if len(part)]
    together: list[float] = (tensors[0] if len(tensors) == 1 else torch.cat(tensors)).tolist() if tensors else []
    read, at = list[list[float]](), 0
    for part in (*sent.values(), *wanted):
        read.append(together[at : at + len(part)])
        at += len(part)
    found = dict(zip(sent, read, strict=False))
    whole = {name: [int(number) for number in found[name]] for name in ("ids", "parents", "ran") if name in found}
    drafted = Drafted(whole["ids"], found.get("logprobs"), whole.get("parents"), whole.get("ran"))
    return drafted, read[len(sent) :]


@dataclass(frozen=True)
class Verdict:
    """How many proposed tokens are accepted, and the token that follows them.

    `path`: for a tree, the indices of the accepted tokens, root to leaf; a chain's are its first. `drafted`: the
    proposal, which came to the host with the verdict, in one wait for the device.
    """

    accepted: int
    next_id: int
    path: list[int] | None = None
    drafted: Drafted | None = field(default=None, compare=False)

    @property
    def accepted_path(self) -> Sequence[int]:
        """The indices of the accepted tokens, of a chain too."""
        return range(self.accepted) if self.path is None else self.path


@dataclass(frozen=True)
class Marks:
    """Where a step's parts ended, on the loop's clock: when it `began`, had `drafted`, had `verified`."""

    began: Mark
    drafted: Mark
    verified: Mark


@dataclass
class Step:
    """One commit after the first token; `seconds` is its wall time, of which `draft_s` and `verify_s`.

    `passes`: target passes. A method without a draft has nothing `drafted` and nothing `accepted`. `marks`: set by the
    method; the loop makes seconds of them when the generation is over.
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
    """New tokens and how they came about; `ids = [first] + the emitted of every step`.

    `decode_bytes`: what the steps' passes, of target and draft, had to read at least (`LanguageModel.read_bytes`).
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
    """Proposes tokens; keeps a cache of its own in step with the context."""

    def start(self, prompt_ids: Sequence[int], sampler: Sampler) -> None:
        """Begin a generation: run the prompt through the draft, and reset any schedule."""
        ...

    def propose(self, context: Sequence[int], room: int) -> Proposal:
        """Up to `room` tokens after `context` (prompt and all emitted ids)."""
        ...

    def commit(self, committed: int, verdict: Verdict) -> None:
        """Keep the `committed` positions of the context and of the accepted tokens; learn from the verdict."""
        ...


@runtime_checkable
class MeasuringDrafter(Protocol):
    """A drafter that decides by what it has measured."""

    def prepare(self, target: LanguageModel, prompt_ids: Sequence[int]) -> None:
        """Measure what it needs to know of `target`, before a generation; it measures once."""
        ...

    def facts(self) -> dict[str, Any]:
        """What it measured and learnt so far, for the manifest."""
        ...


class Method(Protocol):
    """How a decoder takes its steps; the loop does the rest."""

    def start(self, prompt_ids: Sequence[int], sampler: Sampler, clock: Clock) -> None:
        """Begin a generation, whose steps set their marks on `clock`: the target has just seen the prompt."""
        ...

    def step(self, context: Sequence[int], room: int, left: int) -> Step:
        """One step after `context` (prompt and all emitted ids), its `emitted` not cut yet, the target's cache kept
        in step. `room`: positions before the context's end; `left`: tokens before the limit."""
        ...


class Verifier(Protocol):
    """Judges a proposal by the target's logits."""

    def judge(self, proposal: Proposal, logits_TV: Tensor, sampler: Sampler) -> Verdict:
        """`logits_TV` (G + 1, V): after the last context token, then after each proposed token."""
        ...
