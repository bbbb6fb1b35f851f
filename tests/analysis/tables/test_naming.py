"""Names of decoders: the method they belong to, and their label less one option."""

from __future__ import annotations

import pytest

from specbench_s2d.analysis.tables.naming import FIRST, PAIRS, decoder_title, method_family, suite_title, without_option


@pytest.mark.parametrize(
    ("decoder", "family"),
    [
        ("sd", "sd"),
        ("s2d-tree", "s2d"),
        ("s2d-auto", "s2d"),
        ("mjsd", "mjsd"),
        ("s2d+joint", PAIRS),
        ("first(lookup|s2d-tree)", FIRST),
    ],
)
def test_the_method_of_a_decoder(decoder: str, family: str) -> None:
    assert method_family(decoder) == family


@pytest.mark.parametrize(
    ("label", "rest"),
    [
        ("mjsd", "mjsd"),
        ("mjsd:tau=0.1", "mjsd"),
        ("mjsd:candidates=4,tau=0.1", "mjsd:candidates=4"),
        ("mjsd:tau=0.1,draft=demo-tiny", "mjsd:draft=demo-tiny"),
        ("mjsd:taurus=1", "mjsd:taurus=1"),
        ("first(a:tau=1|b):tau=2,k=1", "first(a:tau=1|b):k=1"),
    ],
)
def test_a_label_less_one_option(label: str, rest: str) -> None:
    assert without_option(label, "tau") == rest


def test_a_title_shows_what_would_act() -> None:
    assert decoder_title("a\nb\x1b", lossy=True) == r"a\nb\x1b †"
    assert suite_title("custom/a\rb", short=True) == r"a\rb"
