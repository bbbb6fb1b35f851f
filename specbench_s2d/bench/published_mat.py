"""Mean accepted tokens as papers print them: of a target, a method and a suite, or what stands in for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from specbench_s2d.errors import UserError
from specbench_s2d.published import published

PREFIX = "published:"
_METRIC = "mean_accepted_tokens"
_OVERALL = "overall"


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
            return known[_OVERALL], f"{self.paper} gives no figure of {suite}: that over all suites"
        mean = sum(known.values()) / len(known)
        return mean, f"{self.paper} gives no figure of {suite}: that of {', '.join(known)}"

    def method(self, given: str, sorted_draft: bool, exit_depth: int | None) -> str:
        """The method named `given` (a semicolon may stand for each comma), by default the one with the same drafter.

        Raises `UserError`, with what there is, for none.
        """
        if given:
            found = [m for m in self.figures if m.replace(",", ";") == given.replace(",", ";")]
        else:
            found = [m for m in self.figures if _same_drafter(m, sorted_draft, exit_depth)]
        if len(found) != 1:
            wanted = f"no method {given!r}" if given else "no one method with this drafter"
            raise UserError(
                f"published:{self.paper}, {self.target}: {wanted} has mean accepted tokens there; "
                f"there are {'; '.join(self.figures)}: give label=METHOD, a semicolon for each comma."
            )
        return found[0]


def published_mat(paper: str, target: str) -> PublishedMat:
    """The figures of a paper's target of the same name; raises `UserError` where it has none, listing what there is."""
    table = published(paper)
    table = table[(table["metric"] == _METRIC) & (table["temperature"] == 0)]
    there = list(dict.fromkeys(table["target"]))
    theirs = match_name(target, there)
    if theirs is None:
        known = f"it has them for {', '.join(there)}" if there else "it has none at temperature 0"
        raise UserError(f"published:{paper} has no mean accepted tokens for target {target}: {known}.")
    return PublishedMat(paper, theirs, _by_method(table[table["target"] == theirs]))


def _by_method(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    figures: dict[str, dict[str, float]] = {}
    for row in table.to_dict("records"):
        figures.setdefault(str(row["method"]), {})[str(row["suite"])] = float(row["value"])
    return figures


def match_name(name: str, known: Iterable[str]) -> str | None:
    """Which of the known models is meant: the same name, else one that begins like it or that it begins like.

    Owner, a leading `shape:` and upper case are left aside.
    """
    plain = {other: _plain(other) for other in known}
    mine = _plain(name)
    same = [other for other, its in plain.items() if its == mine]
    near = [other for other, its in plain.items() if its.startswith(mine) or mine.startswith(its)]
    return next(iter([*same, *sorted(near, key=len, reverse=True)]), None)


def _plain(name: str) -> str:
    return name.rpartition("/")[2].removeprefix("shape:").lower()


def _same_drafter(method: str, sorted_draft: bool, exit_depth: int | None) -> bool:
    if sorted_draft:
        return method.startswith("S2D ")
    return method.endswith(f" L{exit_depth}") if exit_depth else method == "SpS"
