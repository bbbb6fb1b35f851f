"""The manifest: what a run is, what it ran on, and what was found on the way."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from specbench_s2d.runs.record import SCHEMA_VERSION


def new_manifest(
    run_id: str,
    identity: Mapping[str, Any],
    spec: Mapping[str, Any],
    questions: str,
    cells: int,
    quality_metrics: Mapping[str, str],
    environment: Mapping[str, Any],
    shard: str | None = None,
    dtype: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The manifest of a run that begins now.

    `identity`: what must be equal for two commands to be the same run. `questions`: where they are from.
    `quality_metrics`: library, version and settings of each. `environment`: of `measure.environment`. `shard`: the part
    of the grid that it runs, I/N, and None for all of it. `dtype`: the number format, and the default here with its
    reason.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "identity": identity,
        "spec": spec,
        "questions": questions,
        "cells": cells,
        **({"shard": shard} if shard else {}),
        "quality_metrics": quality_metrics,
        "environment": environment,
        **({"dtype": dtype} if dtype else {}),
        "conditions": [],
        "reasons": {},
        "started": utc_now(),
        "ended": None,
        "targets": {},
    }


def utc_now() -> str:
    """Now, to the second, as ISO 8601 with its offset."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
