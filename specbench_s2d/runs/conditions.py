"""The conditions of a manifest: what was found to disturb a run's measurements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def is_transient(condition: Mapping[str, Any]) -> bool | None:
    """Whether a condition comes and goes, so that two runs on one machine may differ by it; None where it is not said.

    Manifests call it `transient`; those of version 0.1.0 called it `passing`, and the first ones did not say it.
    """
    said: bool | None = condition.get("transient", condition.get("passing"))
    return said


def is_unfit(condition: Mapping[str, Any]) -> bool:
    """Whether times measured under a condition are wrong even beside others of the same run."""
    return bool(condition.get("unfit", is_transient(condition)))
