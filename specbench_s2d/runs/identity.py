"""What a run is, as its manifest says: the part that two runs must share to be the same run, or to be compared.

A run may be older than a setting. What its manifest lacks then counts as the default, so that after a new setting with
a default old baselines still compare and old folders still resume.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from specbench_s2d.config import RunSpec
from specbench_s2d.decoding.greedy import is_greedy

SCHEMA_1_SETTINGS = (
    "max_new_tokens", "ignore_eos", "temperature", "top_k", "top_p", "seed",
    "device", "dtype", "engine", "template", "long_prompts", "replay_turns",
)  # fmt: skip
SETTINGS = (*SCHEMA_1_SETTINGS, "template_args")
"""The fields of `RunSpec` that change what a cell computes or how it is timed; later ones are added here."""
DEFAULTS: Mapping[str, Any] = {name: RunSpec.model_fields[name].default for name in SETTINGS}


def identity(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest's `identity`, its settings complete and by their present names.

    What it does not say is empty; of an imported run that goes for settings too, for nobody recorded them.
    """
    found: dict[str, Any] = {"settings": {}, "questions": {}, "weights": {}, "repeats": None, "versions": {}}
    found |= manifest.get("identity", {})
    settings: Mapping[str, Any] = found["settings"] or {}
    if settings and "imported" not in manifest:
        engine = engine_name(settings.get("engine"), settings.get("device"))
        found["settings"] = {**DEFAULTS, **settings, "engine": engine}
    return found


def is_greedy_run(settings: Mapping[str, Any]) -> bool:
    """Whether a run of these settings takes the likeliest token for certain; not where its temperature is not known."""
    temperature = settings.get("temperature")
    return temperature is not None and is_greedy(temperature, settings.get("top_k") or 0, settings.get("top_p") or 1.0)


def engine_name(engine: str | None, device: str | None) -> str | None:
    """The engine that a name means on a device: `graphs` is `native` on a CPU, and `cuda-graphs` on a GPU."""
    if engine != "graphs" or device is None:
        return engine
    return "native" if device == "cpu" else "cuda-graphs"


def changed_identity(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """In what a manifest is of another run than the one wanted; in brackets which settings, questions of which suites,
    and weights of which models and data files of decoders."""
    now, then = identity(wanted), identity(found)
    changed = sorted(name for name in wanted["identity"] if then.get(name) != now[name])
    return [f"{name}{_which(now[name], then.get(name))}" for name in changed]


def _which(now: Any, then: Any) -> str:
    """The names under which two mappings differ, in brackets; nothing of other values."""
    if not isinstance(now, Mapping) or not isinstance(then, Mapping):
        return ""
    names = [name for name in {**now, **then} if now.get(name) != then.get(name)]
    return f" ({', '.join(names)})" if names else ""
