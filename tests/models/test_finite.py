"""Which logits count as faults, and the position that is named."""

from __future__ import annotations

import pytest
import torch

from specbench_s2d.models.finite import first_not_finite, not_finite, not_finite_at, teacher_forced
from tests.fakes import FakeModel

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([1.0, 2.0], None), ([-INF, 2.0], None), ([-INF, -INF], 1), ([INF, 2.0], 1), ([NAN, 2.0], 1), ([NAN, INF], 1),
    ],
)  # fmt: skip
def test_a_row_is_faulty_with_not_a_number_plus_infinity_or_nothing_to_choose(
    row: list[float], expected: int | None
) -> None:
    assert not_finite(torch.tensor([[0.0, 1.0], row, row])) == expected


class Spoilt(FakeModel):
    """After token 4 nothing is a number, and a pass over several positions spoils all of its rows, as masked attention
    over such a value does: nothing times not-a-number is not-a-number."""

    def extend(self, inputs: torch.Tensor, *arguments: object, **options: object) -> torch.Tensor:
        logits_BTV = super().extend(inputs, *arguments, **options)  # type: ignore[arg-type]
        return logits_BTV * NAN if 4 in self._layers[0] else logits_BTV


@pytest.mark.parametrize(
    ("prompt", "output", "position"),
    [([1, 2], [3, 4, 1, 1], 2), ([1, 2], [4, 1, 1], 1), ([1, 4], [1, 1], 0), ([4], [1], 0), ([1], [3, 4], None)],
)
def test_the_first_position_is_named_though_one_pass_spoils_those_before_it(
    prompt: list[int], output: list[int], position: int | None
) -> None:
    """The last token of an output is read by nothing."""
    model = Spoilt()
    assert first_not_finite(model, prompt, output) == position
    spoilt = teacher_forced(model, prompt, output, not_finite)
    assert spoilt == (None if position is None else 0)


def test_a_fault_that_no_single_position_shows_again_keeps_the_place_of_the_wide_pass() -> None:
    class Wide(FakeModel):
        """A pass of three positions is spoilt from its second on."""

        def extend(self, inputs: torch.Tensor, *arguments: object, **options: object) -> torch.Tensor:
            logits_BTV = super().extend(inputs, *arguments, **options).clone()  # type: ignore[arg-type]
            if inputs.shape[1] == 3:
                logits_BTV[:, 1:, 2] = INF
            return logits_BTV

    assert first_not_finite(Wide(), [1, 2], [3, 3, 3]) == 1


def test_what_is_said() -> None:
    expected = "draft demo-x: logits are not finite numbers, first at position 17 of the output"
    assert not_finite_at("draft demo-x", 17) == expected
