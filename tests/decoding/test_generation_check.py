"""A generation that no record can hold is told in one line; every sound one passes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from specbench_s2d.decoding.generation_check import generation_fault
from specbench_s2d.decoding.loop import Limits
from specbench_s2d.decoding.spec import build_decoder
from specbench_s2d.decoding.types import Generation, Step
from tests.fakes import FakeModel

VOCABULARY, EOS, MOST = 9, 8, 5
LIMITS = Limits(context=64, max_new_tokens=MOST, eos_ids=frozenset({EOS}))
NAN = float("nan")


def sound() -> Generation:
    """Five ids: the first, then steps that keep two and two; the limit ends it."""
    steps = [Step([3, 4], 1, [3, 5], exit_depths=[1, 2], levels=2), Step([6], 1, [6, 7], levels=1)]
    return Generation([2, 3, 5, 6, 7], steps, "length", prefill_s=0.5, decode_s=1.0, decode_bytes=9)


def with_ids(ids: Any, stop: Any = "length") -> Generation:
    """One step that emitted all ids but the first."""
    return Generation(ids, [Step([], 0, list(ids[1:]))] if isinstance(ids, list) else [], stop, 0.1, 0.1)


def changed(change: Callable[[Generation], Any]) -> Generation:
    made = copy.deepcopy(sound())
    change(made)
    return made


def of_generation(**values: Any) -> Generation:
    return changed(lambda made: [setattr(made, name, value) for name, value in values.items()])


def of_step(**values: Any) -> Generation:
    return changed(lambda made: [setattr(made.steps[0], name, value) for name, value in values.items()])


def test_a_sound_generation_has_no_fault() -> None:
    assert generation_fault(sound(), LIMITS, VOCABULARY) is None
    assert generation_fault(with_ids([1, EOS], "eos"), LIMITS, VOCABULARY) is None
    ended_at_the_limit = with_ids([1, 2, 3, 4, EOS], "eos")
    assert generation_fault(ended_at_the_limit, LIMITS, VOCABULARY) is None
    ignoring = Limits(64, 3, frozenset())
    assert generation_fault(with_ids([1, EOS, EOS]), ignoring, VOCABULARY) is None


@pytest.mark.parametrize("name", ["ar", "sd:gamma=3", "s2d", "s2d-tree:depth=2", "mjgd:beams=2,k=2", "lookup"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_our_own_decoders_give_sound_ones(name: str, temperature: float) -> None:
    target = FakeModel(vocabulary=VOCABULARY, eos=EOS)
    draft = None if name.startswith(("ar", "mjgd", "lookup")) else FakeModel(VOCABULARY, seed=1, exits=(1, 2, 3))
    decoder = build_decoder(name, target=target, draft=draft)
    for seed in range(3):
        made = decoder.generate([1, 2, 1 + seed], MOST, temperature, seed=seed)
        assert generation_fault(made, LIMITS, VOCABULARY) is None


FAULTS: dict[str, tuple[Any, str]] = {
    "nothing": (None, "gave None, which is no Generation"),
    "no ids": (with_ids([]), "gave ids []; they are a list of int, at least one"),
    "ids of another type": (with_ids(["a"]), "gave ids ['a']; they are a list of int, at least one"),
    "floats": (with_ids([1.0]), "gave ids [1.0]; they are a list of int, at least one"),
    "truths": (with_ids([True]), "gave ids [True]; they are a list of int, at least one"),
    "a tuple": (with_ids((1, 2)), "gave ids (1, 2); they are a list of int, at least one"),
    "an id beyond the vocabulary": (with_ids([1, 9]), "gave id 9; the target's ids are 0 to 8"),
    "a negative id": (with_ids([-1]), "gave id -1; the target's ids are 0 to 8"),
    "too many": (with_ids([1] * 6), "gave 6 ids where 5 were asked for"),
    "ids after EOS": (with_ids([1, EOS, 2, 3, 4]), "gave 3 ids after the first end-of-sequence token"),
    "a stop of its own": (with_ids([1], "nope"), "gave stop 'nope'; it is 'eos' or 'length'"),
    "no stop": (with_ids([1], None), "gave stop None; it is 'eos' or 'length'"),
    "an EOS that is none": (
        with_ids([1, 2], "eos"),
        "gave stop 'eos', but 2 ids that are fewer than the 5 asked for, and end without one",
    ),
    "a length that is none": (
        with_ids([1, EOS], "length"), "gave stop 'length', but 2 ids that end with an end-of-sequence token",
    ),
    "a length too short": (
        with_ids([1, 2], "length"),
        "gave stop 'length', but 2 ids that are fewer than the 5 asked for, and end without one",
    ),
    "steps of another type": (of_generation(steps=[None]), "gave steps [None]; they are a list of Step"),
    "steps as a tuple": (of_generation(steps=()), "gave steps (); they are a list of Step"),
    "no steps": (
        of_generation(steps=[]),
        "gave 5 ids, and steps that emitted 0: ids are the first token and what the steps emitted",
    ),
    "other emitted ids": (
        of_step(emitted=[3, 6]),
        "gave 5 ids, and steps that emitted 4: ids are the first token and what the steps emitted",
    ),
    "emitted of another type": (of_step(emitted="35"), "gave emitted '35'; it is a list of int (step 1)"),
    "drafted beyond": (of_step(drafted=[3, 99]), "gave drafted id 99; the target's ids are 0 to 8 (step 1)"),
    "accepted beyond drafted": (of_step(accepted=3), "gave 3 accepted tokens of 2 drafted ones (step 1)"),
    "levels beyond drafted": (of_step(levels=10**30), "gave 1e+30 levels of 2 drafted tokens (step 1)"),
    "accepted below 0": (of_step(accepted=-1), "gave accepted -1; it is an int of at least 0 (step 1)"),
    "accepted as a float": (of_step(accepted=1.0), "gave accepted 1.0; it is an int of at least 0 (step 1)"),
    "passes below 0": (of_step(passes=-2), "gave passes -2; it is an int of at least 0 (step 1)"),
    "layers as text": (of_step(draft_layers="3"), "gave draft_layers '3'; it is an int of at least 0 (step 1)"),
    "one exit of two": (
        of_step(exit_depths=[1]), "gave exit_depths [1] for 2 drafted tokens; it has one entry for each (step 1)",
    ),
    "one parent of two": (
        of_step(parents=[-1]), "gave parents [-1] for 2 drafted tokens; it has one entry for each (step 1)",
    ),
    "one log-probability of two": (
        of_step(draft_logprobs=[-0.5]),
        "gave draft_logprobs [-0.5] for 2 drafted tokens; it has one entry for each (step 1)",
    ),
    "a negative time": (of_generation(prefill_s=-1.0), "gave prefill_s -1.0; it is a number from 0 to 1e+30"),
    "no number of a time": (of_generation(decode_s=NAN), "gave decode_s nan; it is a number from 0 to 1e+30"),
    "an endless time": (
        of_generation(decode_s=float("inf")), "gave decode_s inf; it is a number from 0 to 1e+30",
    ),
    "a missing time": (of_generation(decode_s=None), "gave decode_s None; it is a number from 0 to 1e+30"),
    "a time beyond what sums hold": (
        of_generation(prefill_s=1e308), "gave prefill_s 1e+308; it is a number from 0 to 1e+30",
    ),
    "no time at all": (
        of_generation(prefill_s=0.0, decode_s=0),
        "gave a prefill_s and a decode_s of 0; they are the seconds that it took",
    ),
    "negative bytes": (of_generation(decode_bytes=-1), "gave decode_bytes -1; it is a number from 0 to 1e+30"),
    "a step's time": (of_step(verify_s=NAN), "gave verify_s nan; it is a number from 0 to 1e+30 (step 1)"),
    "parts longer than the whole": (
        of_step(draft_s=1.5, verify_s=0.5),
        "gave steps that drafted and verified for 2 s of a decode_s of 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_what_no_record_can_hold_is_told(case: str) -> None:
    made, told = FAULTS[case]
    assert generation_fault(made, LIMITS, VOCABULARY) == told


def test_a_long_value_is_cut() -> None:
    told = generation_fault(with_ids(["long"] * 99), LIMITS, VOCABULARY) or ""
    assert len(told) < 120 and "…" in told
