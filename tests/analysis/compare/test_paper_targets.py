"""Which of a paper's targets each of ours is compared with, and what `--as` says instead."""

from __future__ import annotations

import pytest

from specbench_s2d.analysis.compare.paper_targets import (
    Given,
    match_targets,
    mean_notes,
    pairing_notes,
    read_given,
    unfit,
)
from specbench_s2d.errors import UnknownNameError, UserError
from tests.refusals import refused

S2D = ["llama-2-70b-chat", "vicuna-7b", "vicuna-13b"]
BOARD = ["vicuna-7b-v1.3", "vicuna-13b-v1.3", "vicuna-33b-v1.3"]
MEAN = "mean over targets"


@pytest.mark.parametrize(
    ("paper", "theirs", "name", "expected"),
    [
        ("s2d", S2D, "shape:vicuna-13b", "vicuna-13b"),
        ("s2d", S2D, "shape:llama-2-70b", "llama-2-70b-chat"),
        ("s2d", S2D, "lmsys/vicuna-7b-v1.5", "vicuna-7b"),
        ("s2d", S2D, "lmsys/Vicuna-7B-v1.5@main", "vicuna-7b"),
        ("s2d", S2D, "lmsys/vicuna-7b-v1.3", None),
        ("s2d", S2D, "meta-llama/Llama-2-70b-hf", None),
        ("s2d", S2D, "meta-llama/Llama-2-13b-chat-hf", None),
        ("s2d", S2D, "vicuna-13b", "vicuna-13b"),
        ("s2d", S2D, "someone/vicuna-13b-v1.5-GPTQ", None),
        ("s2d", S2D, "demo-s", None),
        ("sd2", ["vicuna-7b", "vicuna-13b"], "lmsys/vicuna-13b-v1.3", None),
        ("spec-bench", BOARD, "lmsys/vicuna-13b-v1.5", None),
        ("spec-bench", BOARD, "lmsys/vicuna-33b-v1.3", "vicuna-33b-v1.3"),
        ("spec-bench", BOARD, "vicuna-7b", None),
        ("mjsd", [MEAN], "facebook/opt-13b", MEAN),
        ("mjsd", [MEAN], "meta-llama/Llama-2-13b-chat-hf", None),
        ("mtad", [MEAN], "meta-llama/Llama-2-70b-hf", MEAN),
        ("mtad", [MEAN], "meta-llama/Llama-3.1-8B", None),
    ],
)
def test_a_target_goes_with_the_paper_s_of_its_family_size_and_version(
    paper: str, theirs: list[str], name: str, expected: str | None
) -> None:
    assert match_targets(paper, [name], theirs) == ({} if expected is None else {name: expected})


def test_what_was_given_wins() -> None:
    given = {"demo-s": "vicuna-7b", "lmsys/vicuna-7b-v1.5": "vicuna-13b"}
    assert match_targets("s2d", ["lmsys/vicuna-7b-v1.5", "demo-s", "demo-l"], S2D, given) == {
        "lmsys/vicuna-7b-v1.5": "vicuna-13b",
        "demo-s": "vicuna-7b",
    }


def test_what_fits_nothing_is_named_with_the_flags_that_would_set_it_there() -> None:
    assert unfit("spec-bench", ["lmsys/vicuna-13b-v1.5"], BOARD) == (
        "lmsys/vicuna-13b-v1.5 is no model of published:spec-bench, which has vicuna-7b-v1.3, vicuna-13b-v1.3, "
        "vicuna-33b-v1.3 (lmsys/vicuna-13b-v1.5 is version 1.5, vicuna-13b-v1.3 is 1.3). To set them side by side all "
        "the same: --as lmsys/vicuna-13b-v1.5=vicuna-13b-v1.3."
    )
    assert unfit("s2d", ["x", "meta-llama/Llama-2-13b-chat-hf"], S2D).endswith(
        "--as x=llama-2-70b-chat --as meta-llama/Llama-2-13b-chat-hf=vicuna-13b."
    )
    said = unfit("mjsd", ["a", "b"], [MEAN])
    assert "a, b are no models of published:mjsd, which has mean over targets (opt 13B, llama-2 13B base)" in said
    assert said.endswith("--as 'a=mean over targets' --as 'b=mean over targets'.")


def test_the_notes_say_how_each_pair_came_about() -> None:
    matched = {"shape:vicuna-7b": "vicuna-7b", "lmsys/vicuna-13b-v1.5": "vicuna-13b", "demo-s": "vicuna-7b"}
    assert pairing_notes("s2d", matched, {"demo-s": "vicuna-7b"}) == [
        "The same models as the paper's: lmsys/vicuna-13b-v1.5 – vicuna-13b.",
        "Of the paper's family and size, the version not stated on both sides: shape:vicuna-7b – vicuna-7b.",
        "Set side by side by --as; the tables do not say that they are the same models: demo-s – vicuna-7b.",
    ]
    assert mean_notes("mjsd", MEAN, ["facebook/opt-13b"]) == [
        "The paper's mean is over opt 13B, llama-2 13B base; the run lacks llama-2 13B base."
    ]
    both = ["facebook/opt-13b", "meta-llama/Llama-2-13b-hf"]
    assert mean_notes("mjsd", MEAN, both) == ["The paper's mean is over opt 13B, llama-2 13B base."]


def read(*pairs: str) -> Given:
    return read_given(pairs, ["t", "owner/u=x"], ["vicuna-7b", MEAN], ["sd:exit=2", "s2d"], ["SD SoFT L6", "S2D 6,9"])


def test_targets_and_decoders_are_told_apart_by_their_names() -> None:
    given = read("t=vicuna-7b", "owner/u=x=mean over targets", "sd:exit=2=SD SoFT L6", "s2d=S2D 6,9", "s2d=SD SoFT L6")
    assert given.targets == {"t": "vicuna-7b", "owner/u=x": MEAN}
    assert given.methods == {"sd:exit=2": ["SD SoFT L6"], "s2d": ["S2D 6,9", "SD SoFT L6"]}


def test_a_name_that_neither_side_has_is_one_line() -> None:
    with refused(UserError, "--as t: give TARGET=PAPER_TARGET, or LABEL=METHOD"):
        read("t")
    with refused(UnknownNameError, "unknown target of the paper 'vicuna-8b'", "'vicuna-7b'", "--as t=vicuna-8b"):
        read("t=vicuna-8b")
    with refused(UnknownNameError, "unknown method of the paper 'SD L6'", "Known: SD SoFT L6; S2D 6,9."):
        read("s2d=SD L6")
    with refused(UnknownNameError, "unknown target or decoder of the run 'v'", "Known: owner/u=x, s2d, sd:exit=2, t"):
        read("v=vicuna-7b")
    with refused(UserError, "t was given as vicuna-7b already"):
        read("t=vicuna-7b", f"t={MEAN}")
