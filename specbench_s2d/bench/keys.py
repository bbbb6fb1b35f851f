"""What makes two cells the same, and two commands the same run: keys, and the identity that a manifest keeps.

Keys hash what differs from the defaults, so that a new option with a default changes no key. Where a decoder's output,
steps or defaults change, its class gets a new `version`, which keys hash too (`DecoderSpec.versions`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from specbench_s2d.config import RunSpec
from specbench_s2d.decoding.spec import DecoderSpec
from specbench_s2d.runs.identity import DEFAULTS, SCHEMA_1_SETTINGS, SETTINGS, engine_name
from specbench_s2d.suites import Question

_SCHEMA_1_OPTIONS = frozenset(
    {
        "acceptance", "beams", "candidates", "depth", "draft", "draft_temperature", "draft_top_k", "draft_top_p",
        "exit", "exits", "gamma", "k", "label", "sampling", "tau", "thresholds", "tokens", "topk",
    }
)  # fmt: skip


def settings_of(spec: RunSpec) -> dict[str, Any]:
    """The settings that change what a cell computes or how it is timed, by name."""
    return {name: getattr(spec, name) for name in SETTINGS}


def lane_identity(
    settings: Mapping[str, Any], weights: Mapping[str, str | None], decoder: DecoderSpec, schema: int
) -> dict[str, Any]:
    """What defines all cells of one decoder on one target.

    `weights`: hashes of target and draft. `schema`: that of the folder, for one of schema 1 keeps its keys.
    """
    said = _in_full(settings, decoder) if schema == 1 else _changed(settings, decoder)
    return {**said, "weights": dict(weights), "label": decoder.label}


def cell_key(lane: Mapping[str, Any], question: Question, turn: int, repeat: int, launch: int = 0) -> str:
    """The key of a cell, 32 hexadecimal digits: a hash of everything that defines it; `lane`: its `lane_identity`."""
    defining = {
        **lane,
        "suite": question.suite,
        "question": [question.id, list(question.turns), *([question.system_prompt] if question.system_prompt else [])],
        "turn": turn,
        "repeat": repeat,
        **({"launch": launch} if launch else {}),
    }
    return hashlib.sha256(json.dumps(defining, sort_keys=True, default=str).encode()).hexdigest()[:32]


def cell_seed(key: str) -> int:
    """The seed of a cell, 32 bits of its key: derived from the run's seed, which the key hashes, and from the cell."""
    return int(key[:8], 16)


def identity(settings: Mapping[str, Any], decoders: Sequence[DecoderSpec], schema: int) -> dict[str, Any]:
    """What a manifest keeps of a run's settings and of its decoders' versions, by label; schema 1 knew no versions.
    Of settings that came later, those that differ from the default."""
    if schema == 1:
        return {"settings": _settings_1(settings)}
    return {"settings": _said(settings), "versions": {d.label: d.versions for d in decoders if d.versions}}


def _changed(settings: Mapping[str, Any], decoder: DecoderSpec) -> dict[str, Any]:
    """Settings and options that differ from their defaults, and versions that differ from the first."""
    named = {**settings, "engine": engine_name(settings["engine"], settings["device"])}
    return {
        "settings": {name: value for name, value in named.items() if value != DEFAULTS[name]},
        "options": decoder.options.model_dump(exclude_defaults=True),
        "versions": decoder.versions,
    }


def _in_full(settings: Mapping[str, Any], decoder: DecoderSpec) -> dict[str, Any]:
    """As schema 1 had it: every setting and option of that time; the label names those of later ones that count."""
    return {"settings": _settings_1(settings), "options": decoder.options.model_dump(include=set(_SCHEMA_1_OPTIONS))}


def _said(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name in SCHEMA_1_SETTINGS or value != DEFAULTS[name]}


def _settings_1(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that schema 1 knew, by their names then, and of later ones those that differ from the default."""
    said = _said(settings)
    return {**said, "engine": "graphs"} if said["engine"] in ("native", "cuda-graphs") else said
