"""The figures that the papers and the Spec-Bench leaderboard publish: one tidy table, each with its source; their mean
accepted tokens of a target, a method and a suite, or what stands in for them; and how each paper counts them.

Which model a paper's target is, and which decoder its method, is stated in `paper_names`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

from specbench_s2d.errors import UnknownNameError, UserError, find_name
from specbench_s2d.paper_names import paper_methods, paper_target
from specbench_s2d.paper_tables import POSITIVE, TEXT, TEXT_OR_NONE, Column, one_of, read_package_table, read_table
from specbench_s2d.resources import data_folder

FILES = ("leaderboard.csv", "papers.csv")
CONVENTIONS = "conventions.csv"
COLUMNS = (
    "paper", "target", "temperature", "device", "draft_sampling", "method", "suite", "metric", "value", "source",
)  # fmt: skip
METRICS = ("speedup", "mean_accepted_tokens", "accuracy_percent", "energy_ratio", "perplexity_reduction_percent")
PREFIX = "published:"
_MAT = "mean_accepted_tokens"
_OVERALL = "overall"
LACKING = " gives no figure of "
"""Between a paper and a suite, in the note on what stands in for it."""
_OUR_COLUMNS = {"speedup": "speedup", _MAT: "mat"}
_CELLS = {
    **dict.fromkeys(COLUMNS, TEXT), "temperature": Column("a number from 0", r"(\d{1,3}(\.\d{1,20})?)?", lacking=True),
    "draft_sampling": Column("greedy or sampling", "(greedy|sampling)?", lacking=True),
    "device": TEXT_OR_NONE._replace(lacking=True), "metric": one_of(*METRICS), "value": POSITIVE,
}  # fmt: skip
_COUNTED = {
    "paper": TEXT, "speedup": one_of("speedup", "speedup_e2e", "speedup_specbench"),
    _MAT: one_of("mat", "mat_specbench"), "source": TEXT,
}  # fmt: skip


def published(paper: str | None = None) -> pd.DataFrame:
    """Published figures in the columns of `COLUMNS`, of one paper (`s2d`, `mjsd`, `spec-bench` …) or of all.

    Missing temperature, device or draft sampling: the source does not say. Raises `UnknownNameError` for a paper
    that is not there.
    """
    folder = data_folder("results/published")
    table = pd.concat([read_published(folder / name) for name in FILES], ignore_index=True)
    if paper is None:
        return table
    if paper not in set(table["paper"]):
        raise UnknownNameError.of("paper", paper, set(table["paper"]))
    return table[table["paper"] == paper].reset_index(drop=True)


def find_paper(given: str) -> str:
    """The paper that `published:PAPER` means; raises `UnknownNameError` with the nearest names."""
    return find_name("paper", given.removeprefix(PREFIX), set(published()["paper"]))


def read_published(path: Path) -> pd.DataFrame:
    """One file of published figures, checked; raises `UserError` naming the file, the line and what was expected."""
    key = [column for column in COLUMNS if column not in ("value", "source")]
    table = pd.DataFrame(read_table(path, _CELLS, key), columns=list(COLUMNS), dtype="object").replace({"": None})
    return table.astype({"value": "float64", "temperature": "float64"})


@dataclass(frozen=True)
class PublishedMat:
    """What a paper says of one of its targets at temperature 0: `figures`, method to suite to mean accepted tokens."""

    paper: str
    target: str
    figures: dict[str, dict[str, float]]

    def of(self, method: str, suite: str) -> tuple[float, str | None]:
        """The figure, and what was taken in its place where the paper has none for that suite."""
        known = self.figures[method]
        if suite in known:
            return known[suite], None
        if _OVERALL in known:
            return known[_OVERALL], f"{self.paper}{LACKING}{suite}: that over all suites"
        mean = sum(known.values()) / len(known)
        return mean, f"{self.paper}{LACKING}{suite}: that of {', '.join(known)}"

    def method(self, given: str, sorted_draft: bool, exit_depth: int | None) -> str:
        """The method named `given` (a semicolon may stand for each comma), by default the one with the same drafter.

        Raises `UserError`, with what there is, for none.
        """
        if given:
            found = [m for m in self.figures if m.replace(",", ";") == given.replace(",", ";")]
        else:
            decoder = "s2d" if sorted_draft else "sd"
            wanted_rows = [r for r in paper_methods(self.paper) if (r.decoder, r.exit) == (decoder, exit_depth)]
            found = [r.method for r in wanted_rows if r.method in self.figures]
        if len(found) != 1:
            wanted = f"no method {given!r}" if given else "no one method with this drafter"
            raise UserError(
                f"published:{self.paper}, {self.target}: {wanted} has mean accepted tokens there; "
                f"there are {'; '.join(self.figures)}: give label=METHOD, a semicolon for each comma."
            )
        return found[0]


def _greedy_mat(paper: str) -> pd.DataFrame:
    table = published(paper)
    return table[(table["metric"] == _MAT) & (table["temperature"] == 0)]


def mat_targets(paper: str) -> list[str]:
    """The targets that a paper gives mean accepted tokens of, at temperature 0."""
    return list(dict.fromkeys(_greedy_mat(paper)["target"]))


def published_mat(paper: str, target: str, given: Mapping[str, str] | None = None) -> PublishedMat:
    """The figures of the paper's target that is this model, or that `given` names for it.

    Raises `UserError` where the paper has none, listing what there is.
    """
    table = _greedy_mat(paper)
    there = mat_targets(paper)
    named = (given or {}).get(target)
    theirs = paper_target(paper, target, there) if named is None else named
    if theirs not in there:
        wanted = target if named is None else f"{target}={named}"
        known = f"it has them for {', '.join(there)}" if there else "it has none at temperature 0"
        raise UserError(f"published:{paper} has no mean accepted tokens for target {wanted}: {known}.")
    return PublishedMat(paper, str(theirs), _by_method(table[table["target"] == theirs]))


@cache
def column_as(paper: str, metric: str) -> str:
    """The column of summary.csv that counts `speedup` or `mean_accepted_tokens` as a paper does; our own where
    `conventions.csv` does not say."""
    rows = read_package_table(CONVENTIONS, _COUNTED, ["paper"])
    return next((row[metric] for row in rows if row["paper"] == paper), _OUR_COLUMNS[metric])


def _by_method(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    figures: dict[str, dict[str, float]] = {}
    for row in table.to_dict("records"):
        figures.setdefault(str(row["method"]), {})[str(row["suite"])] = float(row["value"])
    return figures
