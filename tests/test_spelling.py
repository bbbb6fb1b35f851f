"""Names and numbers as people write them."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from specbench_s2d.spelling import DTYPES, choice, count, duration, meant, near_names, whole_number

SUITES = ["mt_bench", "translation", "math_reasoning", "qa"]
OTHERS = {"gsm8k": "math_reasoning", "wmt": "translation"}


@pytest.mark.parametrize(
    ("given", "known"),
    [
        ("qa", "qa"),
        ("QA", "qa"),
        ("MT-bench", "mt_bench"),
        ("mt bench", "mt_bench"),
        ("trans", "translation"),
        ("math", "math_reasoning"),
        ("GSM8K", "math_reasoning"),
        ("mt", None),  # a beginning has three letters
        ("mathematics", None),
        ("", None),
    ],
)
def test_a_name_is_meant_by_its_spelling_its_other_names_and_its_beginning(given: str, known: str | None) -> None:
    assert meant(given, SUITES, OTHERS) == known


def test_what_several_names_begin_with_means_none() -> None:
    assert meant("demo", ["demo-s", "demo-m"]) is None
    assert meant("demo-s", ["demo-s", "demo-s2"]) == "demo-s"


def test_near_names_are_those_that_begin_so_then_those_that_are_alike() -> None:
    assert near_names("demo", ["demo-s", "demo-m", "other"]) == " Did you mean 'demo-m' or 'demo-s'?"
    assert near_names("demo", ["demo-s", "demo-m", "demo-l"]) == " Did you mean 'demo-l', 'demo-m' or 'demo-s'?"
    assert near_names("wtm", SUITES, OTHERS) == " Did you mean 'translation'?"
    assert near_names("translatoin", SUITES) == " Did you mean 'translation'?"
    assert near_names("zzz", SUITES) == ""


@pytest.mark.parametrize(
    ("given", "number"),
    [
        ("10000", 10_000),
        ("1e4", 10_000),
        ("1.5e3", 1_500),
        ("10k", 10_000),
        ("1M", 1_000_000),
        ("1.5m", 1_500_000),
        ("2B", 2 * 10**9),
        ("10_000", 10_000),
        ("10,000", 10_000),
        ("1.5", "1.5"),
        ("10,00", "10,00"),
        ("-5", "-5"),
        ("many", "many"),
        (7, 7),
        (None, None),
    ],
)
def test_a_whole_number_may_be_written_short(given: Any, number: Any) -> None:
    assert whole_number(given) == number


def test_a_choice_is_spelled_as_its_field_spells_it() -> None:
    kind = Literal["float32", "bfloat16", "float16"] | None
    assert [choice(kind, given, DTYPES) for given in ("bf16", "BFloat16", "half", "float", "fp32", "int3", None)] == [
        "bfloat16", "bfloat16", "float16", "float32", "float32", "int3", None,
    ]  # fmt: skip
    assert choice(str, "Any Text") == "Any Text"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2.0 h")]
)
def test_a_time_is_told_in_the_unit_that_reads_best(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "0"),
        (9_999, "9,999"),
        (631_424, "631 k"),
        (1_967_808, "1.97 M"),
        (44_445_000, "44.4 M"),
        (68_976_648_192, "69.0 B"),
    ],
)
def test_a_count_has_three_digits_and_its_thousands(number: int, said: str) -> None:
    assert count(number) == said
