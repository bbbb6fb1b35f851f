"""A decoder's part that fails is named: which decoder, drafter or verifier, at which step, and what was wrong.

`DraftAndVerify` calls its drafter and its verifier through the two classes below, which turn what a part raises into a
`PartError` and hold proposals and verdicts to what the loop can use. Ids are checked on the host before the target's
pass where they are there already (on a CPU, and wherever `chain_of` was given them) or come from no model; those
that a draft model chose on a GPU are checked when they arrive with the verdict, so that no step waits once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.tree import check_parents
from specbench_s2d.decoding.types import (
    Drafted,
    Drafter,
    ObservingDrafter,
    Proposal,
    StateReader,
    Verdict,
    Verifier,
)
from specbench_s2d.errors import PromptTooLongError, UserError, in_one_line, is_stop
from specbench_s2d.models.base import LanguageModel, PassKind


class PartError(Exception):
    """A drafter, a verifier or a decoder that raised, or gave what cannot be used: which, at which step, and what."""


def in_decoder(label: str, fault: str) -> str:
    """A fault, after the label of the decoder that has it."""
    return f"decoder {label!r}: {fault}" if label else fault


@contextmanager
def named(label: str, part: str, doing: str, passing: type[UserError] = UserError) -> Iterator[None]:
    """Raise `PartError` for what the block raises, but for the errors `passing`, which say what a person has to do.

    `part`: "drafter NAME", say. For what is no part of a step: a context manager takes a microsecond.
    """
    try:
        yield
    except (passing, PartError):
        raise
    except BaseException as error:
        if is_stop(error):
            raise
        raise PartError(in_decoder(label, f"{part} raised {in_one_line(error, kind=True)} ({doing})")) from error


def declared_passes(passes: Any, label: str, what: str) -> list[PassKind]:
    """What a class declares as its passes; raises `PartError` where that is no list of `PassKind`, each with rows."""
    if not isinstance(passes, list | tuple) or not all(isinstance(kind, PassKind) for kind in passes):
        raise PartError(in_decoder(label, f"{what} gave {passes!r}, which is no list of PassKind"))
    counted = (kind for kind in passes for count in (kind.rows, kind.least) if type(count) is not int or count < 1)
    if (odd := next(counted, None)) is not None:
        raise PartError(in_decoder(label, f"{what} gave {odd!r}; rows and least are int, 1 or more"))
    return list(passes)


class Steps:
    """Where a generation is: its decoder's label, the steps so far and the new tokens before this one.

    `on_host`: tensors can be read without a wait, as on a CPU.
    """

    def __init__(self, label: str, vocabulary: int, on_host: bool) -> None:
        self.label, self.vocabulary, self.on_host = label, vocabulary, on_host
        self.prompt_tokens = self.number = self.new_tokens = 0

    def begin(self, prompt_tokens: int) -> None:
        """A new generation."""
        self.prompt_tokens, self.number, self.new_tokens = prompt_tokens, 0, 0

    def next(self, context_tokens: int) -> None:
        """A new step."""
        self.number += 1
        self.new_tokens = context_tokens - self.prompt_tokens

    def fault(self, what: str) -> PartError:
        """A fault of this step, or of the prefill."""
        place = f"step {self.number}, after {self.new_tokens} new tokens" if self.number else "before the first step"
        return PartError(in_decoder(self.label, f"{what} ({place})"))

    def call(self, part: Any, name: str, method: str, *given: Any) -> Any:
        """Call a method of a part, and name the part, the method and the step in what it raises."""
        try:
            return getattr(part, method)(*given)
        except BaseException as error:
            if is_stop(error):
                raise
            raise self._raised(name, method, error) from error

    def _raised(self, part: str, method: str, error: BaseException) -> BaseException:
        """What to raise for what a part raised: the loop's own two errors as they are, else a fault."""
        told = error.args[0] if error.args else None
        if isinstance(error, PromptTooLongError) or (isinstance(error, FloatingPointError) and isinstance(told, int)):
            return error  # the latter: so many tokens of the step lie before a logit that is no number
        return self.fault(f"{part}.{method} raised {in_one_line(error, kind=True)}")

    def outside(self, ids: Sequence[int]) -> int | None:
        """The first of `ids` that the target's vocabulary does not have."""
        if not ids or (min(ids) >= 0 and max(ids) < self.vocabulary):
            return None
        return next(token for token in ids if not 0 <= token < self.vocabulary)

    @property
    def allowed(self) -> str:
        """The ids of the vocabulary, in words."""
        return f"the target's ids are 0 to {self.vocabulary - 1:,}"


def _found(unreadable: str, check: Callable[..., str | None], *given: Any) -> str | None:
    """What a check finds; of a value with fields of other types, on which it raises, that it is `unreadable`."""
    try:
        return check(*given)
    except Exception as error:
        return f"{unreadable} ({in_one_line(error, kind=True)})"


class CheckedDrafter:
    """A drafter whose faults are named and whose proposals are checked: count, ids and tree."""

    def __init__(self, drafter: Drafter, steps: Steps) -> None:
        self._drafter, self._steps = drafter, steps
        self._name = f"drafter {type(drafter).__name__}"
        self._has_model = getattr(drafter, "draft_kind", "none") != "none"

    def start(self, prompt_ids: Sequence[int], sampler: Sampler) -> None:
        self._steps.begin(len(prompt_ids))
        self._steps.call(self._drafter, self._name, "start", prompt_ids, sampler)

    def propose(self, context: Sequence[int], room: int) -> Proposal:
        self._steps.next(len(context))
        proposal: Proposal = self._steps.call(self._drafter, self._name, "propose", context, room)
        if fault := _found("what is no Proposal", self._fault, proposal, room):
            raise self._steps.fault(f"{self._name} proposed {fault}")
        return proposal

    def commit(self, committed: int, verdict: Verdict) -> None:
        self._steps.call(self._drafter, self._name, "commit", committed, verdict)

    def check(self, drafted: Drafted) -> None:
        """Raise `PartError` for what only the host can see of a proposal that lay on a GPU."""
        if (token := self._steps.outside(drafted.ids)) is not None:
            raise self._steps.fault(f"{self._name} proposed token {token}; {self._steps.allowed}")
        if drafted.parents is not None and (fault := check_parents(drafted.parents)):
            raise self._steps.fault(f"{self._name} proposed a malformed tree: {fault}")

    def _fault(self, proposal: Any, room: int) -> str | None:
        """What is wrong with a proposal, as far as the host can see without waiting for a GPU."""
        if not isinstance(proposal, Proposal):
            return f"{type(proposal).__name__}, not a Proposal"
        ids_G = proposal.ids_G
        if not isinstance(ids_G, Tensor) or ids_G.dim() != 1 or ids_G.dtype != torch.long:
            found = f"{ids_G.dtype} {tuple(ids_G.shape)}" if isinstance(ids_G, Tensor) else type(ids_G).__name__
            return f"ids as {found}; they are one int64 tensor (G,)"
        count = ids_G.numel()
        if count > room:
            return f"{count} tokens where there is room for {room}"
        if count and (fault := self._fault_of_ids(proposal)):
            return fault
        if proposal.q_GV is not None and tuple(proposal.q_GV.shape) != (count, self._steps.vocabulary):
            shape, wanted = tuple(proposal.q_GV.shape), (count, self._steps.vocabulary)
            return f"likelihoods of shape {shape}; for {count} tokens it is {wanted}"
        if not self._has_model and (fault := _fault_of_likelihoods(proposal)):
            return fault
        return None if proposal.tree is None else self._fault_of_tree(proposal)

    def _fault_of_ids(self, proposal: Proposal) -> str | None:
        ids: Sequence[int] | None = proposal.host_ids
        if ids is None:
            if self._has_model and not self._steps.on_host:
                return None
            ids = proposal.ids_G.tolist()
        token = self._steps.outside(ids)
        return None if token is None else f"token {token}; {self._steps.allowed}"

    def _fault_of_tree(self, proposal: Proposal) -> str | None:
        tree, count = proposal.tree, len(proposal.ids_G)
        assert tree is not None
        if len(tree.parents_N) != count or tuple(tree.mask_MM.shape) != (count + 1, count + 1):
            return (
                f"a malformed tree: {len(tree.parents_N)} parents and a mask of {tuple(tree.mask_MM.shape)} for "
                f"{count} tokens"
            )
        fault = check_parents([int(parent) for parent in tree.parents_N.tolist()]) if self._steps.on_host else None
        return f"a malformed tree: {fault}" if fault else None


def _fault_of_likelihoods(proposal: Proposal) -> str | None:
    """Of a drafter without a model; a model's are checked where its logits are."""
    if proposal.q_GV is not None and not bool((proposal.q_GV >= 0).all()):
        return "likelihoods that are negative or no numbers"
    if proposal.logprobs_G is not None and not bool((proposal.logprobs_G <= 0).all()):
        return "log-probabilities that are above 0 or no numbers"
    return None


class CheckedObserver:
    """A drafter that learns from the target's logits, whose faults in that are named."""

    def __init__(self, drafter: ObservingDrafter, steps: Steps) -> None:
        self._drafter, self._steps = drafter, steps
        self._name = f"drafter {type(drafter).__name__}"

    def observe(self, ids_T: Tensor, logits_TV: Tensor) -> Tensor:
        observed: Tensor = self._steps.call(self._drafter, self._name, "observe", ids_T, logits_TV)
        if not isinstance(observed, Tensor) or observed.dim() != 1:
            found = f"a tensor {tuple(observed.shape)}" if isinstance(observed, Tensor) else type(observed).__name__
            raise self._steps.fault(f"{self._name}.observe gave {found}; it is a tensor of one dimension")
        return observed

    def learn(self, observed: Sequence[float]) -> None:
        self._steps.call(self._drafter, self._name, "learn", observed)


class CheckedReader:
    """A drafter that reads the target's states, whose faults in that are named."""

    def __init__(self, drafter: StateReader, steps: Steps) -> None:
        self._drafter, self._steps = drafter, steps
        self._name = f"drafter {type(drafter).__name__}"

    def state_layers(self, target: LanguageModel) -> tuple[int, ...]:
        layers: tuple[int, ...] = self._steps.call(self._drafter, self._name, "state_layers", target)
        return layers

    def see(self, states: Sequence[Tensor]) -> None:
        self._steps.call(self._drafter, self._name, "see", states)


class CheckedVerifier:
    """A verifier whose faults are named and whose verdicts are checked."""

    def __init__(self, verifier: Verifier, drafter: CheckedDrafter, steps: Steps) -> None:
        self._verifier, self._drafter, self._steps = verifier, drafter, steps
        self._name = f"verifier {type(verifier).__name__}"

    def judge(self, proposal: Proposal, logits_TV: Tensor, sampler: Sampler) -> Verdict:
        verdict: Verdict = self._steps.call(self._verifier, self._name, "judge", proposal, logits_TV, sampler)
        if fault := _found("gave what is no Verdict", self._fault, verdict, proposal):
            raise self._steps.fault(f"{self._name} {fault}")
        if verdict.drafted is not None and not self._steps.on_host:
            self._drafter.check(verdict.drafted)
        return verdict

    def _fault(self, verdict: Any, proposal: Proposal) -> str | None:
        if not isinstance(verdict, Verdict):
            return f"gave {type(verdict).__name__}, not a Verdict"
        count, path, drafted = proposal.ids_G.numel(), verdict.path, verdict.drafted
        if type(verdict.accepted) is not int or not 0 <= verdict.accepted <= count:
            return f"accepted {verdict.accepted!r} of {count} tokens"
        if type(verdict.next_id) is not int or not 0 <= verdict.next_id < self._steps.vocabulary:
            return f"gave {verdict.next_id!r} as the next token; {self._steps.allowed}"
        if drafted is not None and len(drafted.ids) != count:
            return f"read {len(drafted.ids)} tokens of the {count} proposed ones"
        if drafted is not None and drafted.parents is not None and proposal.tree is None:
            return f"read parents {drafted.parents} of a chain"
        if path is not None and not all(type(node) is int for node in path):
            return f"gave the path {path}; it is a list of int"
        if path is None:
            return None if proposal.tree is None or not verdict.accepted else "accepted nodes of a tree without a path"
        ascending = all(first < second for first, second in pairwise((-1, *path)))
        if len(path) != verdict.accepted or not ascending or (path and path[-1] >= count):
            return f"accepted {verdict.accepted} nodes of {count} by the path {list(path)}"
        return None
