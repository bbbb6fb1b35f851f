"""A finished generation is held to what a record can store, whoever wrote the decoder: ids, stop, steps, times."""

from __future__ import annotations

from typing import Any

from specbench_s2d.decoding.loop import Limits
from specbench_s2d.decoding.types import Generation, Step
from specbench_s2d.display import cut

_ROUNDING_S = 1e-3
"""Marks of the steps and the generation's own clock may differ by so much, and by a hundredth."""

_MOST = 1e30
"""Of any number of a record: sums of as many as there are stay finite."""


def generation_fault(generation: Any, limits: Limits, vocabulary: int) -> str | None:
    """What is wrong with a generation made within `limits`, in words that follow its maker's name; None where it is
    sound."""
    if not isinstance(generation, Generation):
        return f"gave {_shown(generation)}, which is no Generation"
    if fault := _fault_of_ids(generation, limits, vocabulary):
        return fault
    if not isinstance(generation.steps, list) or not all(isinstance(step, Step) for step in generation.steps):
        return f"gave steps {_shown(generation.steps)}; they are a list of Step"
    for number, step in enumerate(generation.steps, start=1):
        if fault := _fault_of_step(step, vocabulary):
            return f"gave {fault} (step {number})"
    emitted = [token for step in generation.steps for token in step.emitted]
    if emitted != generation.ids[1:]:
        return (
            f"gave {len(generation.ids)} ids, and steps that emitted {len(emitted)}: ids are the first token and what "
            "the steps emitted"
        )
    return _fault_of_times(generation)


def _fault_of_ids(generation: Generation, limits: Limits, vocabulary: int) -> str | None:
    ids, stop = generation.ids, generation.stop
    if not _are_ints(ids) or not ids:
        return f"gave ids {_shown(ids)}; they are a list of int, at least one"
    if outside := [token for token in ids if not 0 <= token < vocabulary]:
        return f"gave id {outside[0]}; the target's ids are 0 to {vocabulary - 1:,}"
    if stop not in ("eos", "length"):
        return f"gave stop {_shown(stop)}; it is 'eos' or 'length'"
    if len(ids) > limits.max_new_tokens:
        return f"gave {len(ids)} ids where {limits.max_new_tokens} were asked for"
    whole, ended = limits.cut(ids, 0)
    if len(whole) < len(ids):
        return f"gave {len(ids) - len(whole)} ids after the first end-of-sequence token"
    if ended != stop:
        found = {"eos": "end with an end-of-sequence token", "length": "are as many as were asked for"}
        what = found[ended] if ended else f"are fewer than the {limits.max_new_tokens} asked for, and end without one"
        return f"gave stop {stop!r}, but {len(ids)} ids that {what}"
    return None


def _fault_of_step(step: Step, vocabulary: int) -> str | None:
    for name in ("drafted", "emitted", "exit_depths"):
        if not _are_ints(getattr(step, name)):
            return f"{name} {_shown(getattr(step, name))}; it is a list of int"
    for name, least in (("accepted", 0), ("passes", 0), ("levels", 0), ("draft_layers", 0)):
        if not _is_int(value := getattr(step, name)) or value < least:
            return f"{name} {_shown(value)}; it is an int of at least {least}"
    count = len(step.drafted)
    if step.accepted > count:
        return f"{step.accepted} accepted tokens of {count} drafted ones"
    if step.levels > count:
        return f"{step.levels:g} levels of {count} drafted tokens"
    if outside := [token for token in step.drafted if not 0 <= token < vocabulary]:
        return f"drafted id {outside[0]}; the target's ids are 0 to {vocabulary - 1:,}"
    lists = {"exit_depths": step.exit_depths or None, "parents": step.parents, "draft_logprobs": step.draft_logprobs}
    for name, values in lists.items():
        if values is not None and (not isinstance(values, list) or len(values) != count):
            return f"{name} {_shown(values)} for {count} drafted tokens; it has one entry for each"
    return None


def _fault_of_times(generation: Generation) -> str | None:
    """Times are finite, not below 0 and not all 0, and the steps' parts lie within `decode_s`."""
    steps = generation.steps
    times = {name: getattr(generation, name) for name in ("prefill_s", "decode_s", "decode_bytes")}
    if fault := _fault_of_numbers(times):
        return f"gave {fault}"
    for number, step in enumerate(steps, start=1):
        if fault := _fault_of_numbers({name: getattr(step, name) for name in ("seconds", "draft_s", "verify_s")}):
            return f"gave {fault} (step {number})"
    if not generation.total_s:
        return "gave a prefill_s and a decode_s of 0; they are the seconds that it took"
    parts_s = sum(step.draft_s + step.verify_s for step in steps)
    if parts_s > 1.01 * generation.decode_s + _ROUNDING_S:
        return f"gave steps that drafted and verified for {parts_s:.3g} s of a decode_s of {generation.decode_s:.3g}"
    return None


def _fault_of_numbers(numbers: dict[str, Any]) -> str | None:
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST:
            return f"{name} {_shown(value)}; it is a number from 0 to {_MOST:g}"
    return None


def _are_ints(values: Any) -> bool:
    return isinstance(values, list) and set(map(type, values)) <= {int}


def _is_int(value: Any) -> bool:
    return type(value) is int


def _shown(value: Any) -> str:
    """A value on one line, cut where it is long."""
    return cut(" ".join(repr(value).split()), 60)
