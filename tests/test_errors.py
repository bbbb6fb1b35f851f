"""How errors are told: by flags on the command line, by parameters in Python; and which exceptions end the program."""

from __future__ import annotations

import pytest

from specbench_s2d.bench.messages import DriverGone
from specbench_s2d.decoding.faults import PartError
from specbench_s2d.errors import UserError, as_parameters, find_name, in_one_line, is_stop, reworded
from tests.refusals import refused


@pytest.mark.parametrize(
    ("flags", "parameters"),
    [
        ("--dtype int3: give one of float32, bfloat16.", "dtype='int3': give one of float32, bfloat16."),
        ("use --engine eager.", "use engine='eager'."),
        ("--engine cuda-graphs: it runs on cuda.", "engine='cuda-graphs': it runs on cuda."),
        ("give --device cuda or cuda:N in place of auto.", "give device='cuda' or cuda:N in place of auto."),
        ("Lower --max-new-tokens, give --dtype bfloat16,", "Lower max_new_tokens, give dtype='bfloat16',"),
        ("answers end at --max-new-tokens alone.", "answers end at max_new_tokens alone."),
        ("needs a draft model; give --draft NAME.", "needs a draft model; give draft=load_model('NAME')."),
        ("a dash -- and a name-with--dashes", "a dash -- and a name-with--dashes"),
    ],
)
def test_flags_are_told_as_parameters(flags: str, parameters: str) -> None:
    assert as_parameters(flags) == parameters


def test_a_message_is_rewritten_and_its_error_stays_the_same() -> None:
    given = UserError("use --engine eager.")
    with pytest.raises(UserError) as caught, reworded(as_parameters):
        raise given
    assert caught.value is given and str(given) == "use engine='eager'."


def test_a_name_is_found_or_refused_with_the_nearest() -> None:
    assert find_name("format", "CSV", ["csv", "latex"]) == "csv"
    with refused(UserError, "unknown format 'cvs'. Did you mean 'csv'? Known: csv, latex. Give one."):
        find_name("format", "cvs", ["csv", "latex"], "Give one.")


class OfAPackage(BaseException):
    """What a package may raise that is no `Exception`."""


def test_ctrl_c_and_our_own_signals_end_the_program_and_nothing_else() -> None:
    assert all(is_stop(error) for error in (KeyboardInterrupt(), GeneratorExit(), DriverGone()))
    assert not any(is_stop(error) for error in (ValueError(), SystemExit(1), OfAPackage(), UserError("no")))


NODE_DIED = (
    "Task failed because the node it was running on is dead or unavailable. Node IP: 172.17.0.2, node ID: "
    "7c6f0a4bd7ef0f7d6a3e1f25d3a94a0f5a8c8b7b6d5e4f3a2b1c0d9e. This can happen if the instance where the node was "
    "running failed, the node was preempted, or raylet crashed unexpectedly (e.g., due to OOM) etc."
)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError(NODE_DIED), f"RuntimeError: {NODE_DIED.partition(' This can')[0].rstrip('.')}"),
        (OSError("no such\n   file."), "no such file"),
        (RuntimeError(""), "RuntimeError"),
        (ValueError("word " * 100), ("word " * 39).strip() + "…"),
        (ValueError("Short. " + "word " * 100), "Short. " + ("word " * 38).strip() + "…"),
        (ValueError("x" * 300), "x" * 199 + "…"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_all_that_an_error_says_is_one_line_of_whole_sentences_or_words(error: Exception, told: str) -> None:
    assert in_one_line(error, whole=True) == told and len(told) <= 200


def test_an_error_is_told_by_its_first_line_and_by_its_type_where_the_text_says_little() -> None:
    assert in_one_line(ValueError("a value\nand more")) == "a value"
    assert in_one_line(KeyError("weights")) == "KeyError: 'weights'"
    assert in_one_line(PartError("drafter X raised")) == "drafter X raised"
    assert in_one_line(ValueError("a value"), kind=True) == "ValueError: a value"
    assert in_one_line(KeyError("weights"), kind=False) == "'weights'"
    assert in_one_line(AssertionError()) == "AssertionError"


def test_what_was_given_breaks_no_line_of_a_message() -> None:
    assert str(UserError("--device cpu\n\x1b[1m: not a device")) == r"--device cpu\n\x1b[1m: not a device"
