"""Small runs of the tiny models on a CPU, as tests plan them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from specbench_s2d.bench.plan import Plan, make_plan
from specbench_s2d.config import RunSpec


def tiny_spec(models: Path, decoders: Sequence[str], **others: Any) -> dict[str, Any]:
    """A run file of two questions of suite qa, eight new tokens each; `others`: fields in place of these, or beside
    them. Targets and drafts are named as in the folder `models`."""
    fields = {
        "target": ["tiny-target"], "draft": ["tiny-draft"], "decoder": list(decoders), "suite": ["qa"],
        "questions": "embedded", "limit": 2, "max_new_tokens": 8, "device": "cpu", "energy": "off", **others,
    }  # fmt: skip
    return fields | {kind: [str(models / name) for name in fields[kind]] for kind in ("target", "draft")}


def plan_of(spec: Mapping[str, Any], **changes: Any) -> Plan:
    """The plan of a run file with these changes."""
    return make_plan(RunSpec(**{**spec, **changes}))


def tiny_plan(models: Path, decoders: Sequence[str], **others: Any) -> Plan:
    """The plan of such a run."""
    return plan_of(tiny_spec(models, decoders, **others))
