"""Which of a paper's targets each of ours is compared with."""

from __future__ import annotations

import pytest

from specbench_s2d.analysis.compare.paper_targets import how_matched, match_targets
from specbench_s2d.runs.record import Record
from tests.analysis.factory import ar

PAPER = ["llama-2-70b-chat", "vicuna-7b", "vicuna-13b"]


def alone(*targets: str) -> list[Record]:
    """AR on each target, each slower than the one before."""
    return [ar(1, 9, decode_s=i, target=target) for i, target in enumerate(targets, start=1)]


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        (["a", "b", "c"], {"a": "vicuna-7b", "b": "vicuna-13b", "c": "llama-2-70b-chat"}),
        (["a", "b"], {"a": "vicuna-7b", "b": "llama-2-70b-chat"}),
        (["a"], {"a": "vicuna-7b"}),
        (["a", "b", "c", "d"], {"a": "vicuna-7b", "b": "vicuna-13b", "c": "llama-2-70b-chat"}),
        (
            ["meta-llama/Llama-2-70b-chat-hf", "lmsys/vicuna-13b-v1.5"],
            {"meta-llama/Llama-2-70b-chat-hf": "llama-2-70b-chat", "lmsys/vicuna-13b-v1.5": "vicuna-13b"},
        ),
        (["demo-s", "lmsys/vicuna-7b-v1.5"], {"lmsys/vicuna-7b-v1.5": "vicuna-7b"}),
    ],
    ids=["three by size", "two: the ends", "one", "one too many", "by name", "by name alone where one matches"],
)
def test_targets_go_by_name_else_by_size(ours: list[str], expected: dict[str, str]) -> None:
    assert match_targets(alone(*ours), PAPER) == expected


def test_targets_without_decode_times_go_by_size_too() -> None:
    untimed = [r.model_copy(update={"decode_s": None}) for r in reversed(alone("a", "b"))]
    assert match_targets(untimed, PAPER) == {"a": "vicuna-7b", "b": "llama-2-70b-chat"}


def test_it_is_said_by_what_they_went() -> None:
    assert how_matched(match_targets(alone("lmsys/vicuna-7b-v1.5"), PAPER)) == "by name"
    assert how_matched(match_targets(alone("a"), PAPER)) == "by size, smallest first"
