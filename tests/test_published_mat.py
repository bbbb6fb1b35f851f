"""Published mean accepted tokens: of which target, of which method, and what stands in for a suite without a figure."""

from __future__ import annotations

import pytest

from specbench_s2d.errors import UserError
from specbench_s2d.published import column_as, published_mat


@pytest.mark.parametrize("name", ["shape:vicuna-7b", "lmsys/vicuna-7b-v1.5", "vicuna-7b"])
def test_a_target_is_known_by_its_name(name: str) -> None:
    assert published_mat("s2d", name).target == "vicuna-7b"
    assert published_mat("s2d", name).of("S2D SoFT 6,9,12", "mt_bench") == (2.86, None)


def test_a_suite_without_a_figure_takes_what_there_is_and_says_so() -> None:
    mat, note = published_mat("s2d", "shape:llama-2-70b").of("S2D SoFT 6,9,12", "qa")
    assert mat == 2.36
    assert note == "s2d gives no figure of qa: that of mt_bench"


def test_the_method_is_the_one_with_the_same_drafter_or_the_one_named() -> None:
    figures = published_mat("s2d", "vicuna-13b")
    assert figures.method("", True, None) == "S2D SoFT 6,9,12"
    assert figures.method("", False, 9) == "SD SFT early-exit L9"
    assert figures.method("S2D SoFT 6;9;12", False, None) == "S2D SoFT 6,9,12"
    with pytest.raises(UserError, match=r"there are SD SFT early-exit L6; .*: give label=METHOD"):
        figures.method("", False, None)


def test_a_target_without_figures_is_refused_with_those_that_have_some() -> None:
    with pytest.raises(UserError, match="for target demo-l: it has them for vicuna-7b, vicuna-13b, llama-2-70b-chat"):
        published_mat("s2d", "demo-l")
    with pytest.raises(UserError, match=r"for target lmsys/vicuna-7b-v1\.5: it has them for vicuna-7b-v1\.3"):
        published_mat("spec-bench", "lmsys/vicuna-7b-v1.5")


def test_a_stand_in_takes_the_place_of_a_target_s_own_name() -> None:
    assert published_mat("s2d", "demo-l", {"demo-l": "vicuna-13b"}).target == "vicuna-13b"
    with pytest.raises(UserError, match="for target demo-l=vicuna-8b: it has them for"):
        published_mat("s2d", "demo-l", {"demo-l": "vicuna-8b"})


def test_each_paper_counts_in_its_own_way() -> None:
    papers = ("spec-bench", "s2d", "sd2", "mjsd")
    assert [column_as(paper, "mean_accepted_tokens") for paper in papers] == [*["mat_specbench"] * 3, "mat"]
    assert [column_as(paper, "speedup") for paper in papers] == [*["speedup_specbench"] * 3, "speedup"]
