"""How wide a decoder's passes can be, by its options."""

from __future__ import annotations

import pytest

from specbench_s2d.decoding.loop import PROPOSED
from specbench_s2d.decoding.spec import parse_decoders
from specbench_s2d.decoding.widths import Widths


@pytest.mark.parametrize(
    ("decoder", "widths"),
    [
        ("ar", Widths()),
        ("sd:gamma=3", Widths(4)),
        ("sd:gamma=heuristic", Widths(1 + PROPOSED)),
        ("s2d", Widths(6)),
        ("s2d-auto", Widths(9)),
        ("s2d-tree", Widths(1, 61, 10)),
        ("s2d-tree:tokens=20,topk=4", Widths(1, 21, 4)),
        ("mjgd", Widths(1, 0, 8)),
        ("mjsd", Widths(5, 0, 8)),
        ("mjsd:candidates=4", Widths(5, 17, 8)),
    ],
)
def test_the_widest_pass_of_each_kind(decoder: str, widths: Widths) -> None:
    (spec,) = parse_decoders([decoder])
    assert Widths.of(spec.options) == widths
