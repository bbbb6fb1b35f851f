"""The manifest: what a run is, what it ran on, and what was found on the way.

It is written and handed on as a plain dict, for later releases add to it. `Manifest` declares what is read of it, and
every manifest that is read is held to that (`folder.read_manifest`).
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from specbench_s2d.runs.record import SCHEMA_VERSION, Count, Name, Place


def _is_time(text: str) -> str:
    try:
        datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("it should be a time as ISO 8601 writes it, such as 2026-01-31T12:00:00+00:00") from None
    return text


Time = Annotated[str, AfterValidator(_is_time)]
Number = Annotated[float, Field(ge=-1e30, le=1e30)]
Positive = Annotated[float, Field(gt=0, le=1e30)]
NotNegative = Annotated[float, Field(ge=0, le=1e30)]
Facts = dict[str, Any]


class _Read(BaseModel):
    """What is read of an object; there may be more in it."""

    model_config = ConfigDict(extra="allow", strict=True)


class Condition(_Read):
    """What was found to disturb the measuring (`measure.conditions.Finding`), when, and in which launch."""

    about: str
    what: str
    advice: str
    at: str = ""
    launch: Place = 0
    transient: bool | None = None
    passing: bool | None = None
    unfit: bool | None = None


class _Engine(_Read):
    engine: str = ""
    threads: Count | None = None
    why_eager: str | None = None


class _Source(_Read):
    said: str


class _WarmUp(_Read):
    spread: Number
    stable: bool


class _ReadRate(_Read):
    bytes_per_s: Positive
    low_bytes_per_s: Positive
    high_bytes_per_s: Positive
    buffer_bytes: Count | NotNegative
    rounds: Count


class _NoiseRows(_Read):
    chains: list[Count]
    trees: list[Count]
    scored: Count = 0
    prefill: list[Count] = []


class Target(_Read):
    """What is said of one target: weights, engines, and what was measured of it."""

    engines: dict[str, _Engine] = {}
    sources: dict[str, _Source] | None = None
    heads: dict[str, str] | None = None
    decoders: dict[str, Facts] = {}
    revision: str | None = None
    weights_sha256: str | None = None
    forward: str | None = None
    template: str | None = None
    context: Count | None = None
    parameter_bytes: NotNegative | None = None
    logit_noise: NotNegative | None = None
    logit_noise_rows: _NoiseRows | None = None
    warm_up: dict[str, _WarmUp] | None = None
    read_rate: _ReadRate | None = None


class _Code(_Read):
    version: str | None = None
    commit: str | None = None


class _Cpu(_Read):
    model: str | None = None
    threads: Count | None = None


class _Gpu(_Read):
    name: str | None = None


class Environment(_Read):
    """The machine and what is installed on it (`measure.environment`)."""

    code: _Code = _Code()
    libraries: dict[str, str | None] = {}
    cpu: _Cpu = _Cpu()
    gpu: _Gpu = _Gpu()


class Settings(_Read):
    """The settings that change what a cell computes; None where nobody recorded them."""

    max_new_tokens: Count | None = None
    temperature: NotNegative | None = None
    top_k: Count | None = None
    top_p: NotNegative | None = None
    device: str | None = None
    dtype: str | None = None
    engine: str | None = None
    replay_turns: str | None = None


class Identity(_Read):
    """What two commands must share to be the same run."""

    settings: Settings = Settings()
    questions: dict[str, str | None] = {}
    weights: dict[str, str | None] = {}
    repeats: Place | None = None
    versions: dict[str, Facts] = {}
    decoders: list[str] = []


class _Spec(_Read):
    launches: Annotated[int, Field(ge=1, le=10**6)] = 1
    temperature: NotNegative = 0.0
    max_new_tokens: Count | None = None
    dtype: str | None = None


class _Imported(_Read):
    retokenized: bool = True


class Part(_Read):
    """What a run, or a device or shard of it, says of itself."""

    run_id: Name | None = None
    shard: str | None = None
    device_id: str | None = None
    environment: Environment | None = None
    targets: dict[str, Target] = {}
    conditions: list[Condition] = []
    harness: dict[str, Number] | None = None
    energy: Facts | None = None
    idle_power_w: NotNegative | None = None
    reasons: dict[str, str | None] = {}
    quality_metrics: dict[str, str] = {}
    started: Time | None = None
    ended: Time | None = None


class Manifest(Part):
    """What is read of a manifest."""

    run_id: Name
    identity: Identity
    spec: _Spec | None = None
    cells: Count
    parts: list[Part] | None = None
    imported: _Imported | None = None


def check_manifest(manifest: Mapping[str, Any]) -> None:
    """Raise pydantic's `ValidationError` for a field that no run writes so."""
    Manifest.model_validate(manifest)


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
    return utc_time(time.time())


def utc_time(unix_s: float) -> str:
    """The same of any time."""
    return datetime.datetime.fromtimestamp(unix_s, datetime.UTC).isoformat(timespec="seconds")
