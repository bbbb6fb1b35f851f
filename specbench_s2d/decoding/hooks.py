"""What a drafter class may say of itself, and need not: its passes, its memory, its data, the drafts that it takes."""

from __future__ import annotations

from typing import Any

from specbench_s2d.models.base import PassKind
from specbench_s2d.models.engines.graph_keys import UNDECLARED_ROWS

ASSUMED_PASSES = [PassKind(UNDECLARED_ROWS)]
"""The passes that are prepared for a plug-in which declares none."""
_OTHERWISE: dict[str, Any] = {
    "target_passes": ASSUMED_PASSES,
    "draft_passes": ASSUMED_PASSES,
    "check_draft": None,
    "host_bytes": 0,
    "data_hashes": {},
    "learns_over_run": False,
}


def ask(drafter_class: Any, hook: str, *given: Any) -> Any:
    """What the class method `hook` of a drafter class returns; where it has none, what is assumed."""
    method = getattr(drafter_class, hook, None)
    return method(*given) if method else _OTHERWISE[hook]
