"""The part that a draft plays in the papers: told by its own checkpoint, or by the table of published drafts.

- *sorted*, the papers' SoFT draft: trained so that each of its exits can draft;
- *plain*, their SFT draft: the target's first layers, fine-tuned for the last layer alone;
- *other*: an unrelated small model, or one of which neither says anything.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

from specbench_s2d.paper_tables import TEXT, one_of, read_package_table
from specbench_s2d.resources import demo_folder

DraftRole = Literal["none", "sorted", "plain", "other"]
_TABLE = "drafts.csv"
_EXITS = "specbench_exits"  # in the config.json of a draft that was trained with exits


def draft_role(draft: str | None) -> DraftRole:
    """The role of a run's draft, by its name."""
    if draft is None:
        return "none"
    return _of_checkpoint(draft) or _published_roles().get(draft.partition("@")[0], "other")


def _of_checkpoint(draft: str) -> DraftRole | None:
    """What the checkpoint's own files say: its exits, and what it was trained on; None where it is not at hand, or was
    not trained here."""
    for folder in (demo_folder() / draft, Path(draft)):
        training = _json(folder / "training.json")
        if training:
            sorted_draft = bool(_json(folder / "config.json").get(_EXITS))
            answers = training.get("spec", {}).get("loss_on") == "answers"
            return "sorted" if sorted_draft else "plain" if answers else "other"
    return None


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@cache
def _published_roles() -> dict[str, DraftRole]:
    """The drafts that others published, by hub id."""
    columns = {"draft": TEXT, "role": one_of("sorted", "plain", "other"), "source": TEXT}
    return {row["draft"]: cast(DraftRole, row["role"]) for row in read_package_table(_TABLE, columns, ["draft"])}
