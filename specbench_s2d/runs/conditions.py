"""The conditions of a manifest: what was found to disturb a run's measurements."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

Condition = Mapping[str, Any]


def is_transient(condition: Condition) -> bool | None:
    """Whether a condition comes and goes, so that two runs on one machine may differ by it; None where it is not said.

    Manifests call it `transient`; those of version 0.1.0 called it `passing`, and the first ones did not say it.
    """
    said: bool | None = condition.get("transient", condition.get("passing"))
    return said


def is_unfit(condition: Condition) -> bool:
    """Whether times measured under a condition are wrong even beside others of the same run."""
    return bool(condition.get("unfit", is_transient(condition)))


def kinds(found: Iterable[Condition]) -> list[list[Condition]]:
    """Conditions by what they are about and what is to be done, those that make a machine unfit first.

    The first of each kind stands for it: of what was found last the earliest, so that the load while a target was timed
    comes before that at the start.
    """
    by_kind: dict[tuple[str, str], list[Condition]] = {}
    for condition in sorted(found, key=is_unfit, reverse=True):
        by_kind.setdefault((condition["about"], condition.get("advice", "")), []).append(condition)
    return [_most_telling_first(alike) for alike in by_kind.values()]


def _most_telling_first(alike: list[Condition]) -> list[Condition]:
    firsts = {_without_numbers(condition["what"]): place for place, condition in reversed(list(enumerate(alike)))}
    place = max(firsts.values())
    return [alike[place], *alike[:place], *alike[place + 1 :]]


def _without_numbers(what: str) -> str:
    return re.sub(r"\d[\d.,]*", "", what.partition(":")[0])
