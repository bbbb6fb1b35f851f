"""What stands at the head of terminal, summary and report: one list of lines, which all three show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from specbench_s2d.analysis.tables.remarks import alarms, cautions, projections
from specbench_s2d.runs.conditions import is_unfit, kinds
from specbench_s2d.runs.record import BASELINE

UNFIT = "The machine was not fit to measure on: times and speed-ups of this run may be far off."
_WHEN = {"start": "at the start", "end": "at the end"}


def head(table: pd.DataFrame, doubts: Sequence[str] = ()) -> list[str]:
    """The lines, in order; `doubts`: those of the run's manifest (`manifest_doubts`)."""
    return [*projections(table), *alarms(table), *doubts, *cautions(table)]


def manifest_doubts(manifest: Mapping[str, Any] | None) -> list[str]:
    """What a run's manifest holds against its figures: that it was stopped, what disturbed the measuring, one line for
    each kind of condition, and models that no prepared engine could run; where named models came from; and what an
    imported run lacks."""
    manifest = manifest or {}
    found = list(manifest.get("conditions") or ())
    head_of_found = [UNFIT] if any(map(is_unfit, found)) else []
    doubts = [*_unfinished(manifest), *head_of_found, *_conditions(found), *_eager(manifest), *_sources(manifest)]
    return [*doubts, *_imported(manifest)]


def _imported(manifest: Mapping[str, Any]) -> list[str]:
    """What dashes mean in tables of an imported run, and the flags of `import` that put values there."""
    imported = manifest.get("imported")
    if not imported:
        return []
    flags = []
    if BASELINE not in manifest["identity"].get("decoders", ()):
        flags.append(f"no file is named as {BASELINE}'s, which speed-ups need: --baseline MODEL_ID")
    if not imported.get("retokenized", True):
        flags.append("Spec-Bench's own speed-up needs the target's tokenizer: --tokenizer NAME")
    again = f" Import again for more ({'; '.join(flags)})." if flags else ""
    return [f"Imported: dashes stand for what answer files do not hold, decode times and perplexity above all.{again}"]


def _unfinished(manifest: Mapping[str, Any]) -> list[str]:
    if not manifest.get("started") or manifest.get("ended"):
        return []
    return ["The run has not finished: it was stopped or still goes on, and the tables show what is there."]


def _conditions(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each kind of condition, and how many are like it."""
    several = len({condition.get("launch", 0) for condition in found}) > 1
    for first, *others in kinds(found):
        at = str(first.get("at", ""))
        when = [_WHEN.get(at, at), f"launch {first.get('launch', 0) + 1}"] if several else [_WHEN.get(at, at)]
        more = f"; {len(others)} more like it in manifest.json" if others else ""
        yield f"{first['about']} {first['what']} ({', '.join(when)}{more}): {first['advice'].rstrip('.')}."


def _eager(manifest: Mapping[str, Any]) -> list[str]:
    """Models whose passes fell back to plain calls, which are slow; once for each reason."""
    models: dict[str, dict[str, None]] = {}
    for target in (manifest.get("targets") or {}).values():
        for model, engine in (target.get("engines") or {}).items():
            if why := engine.get("why_eager"):
                models.setdefault(str(why).rstrip("."), {})[model] = None
    return [f"Run by the eager engine, which is slow: {', '.join(names)} ({why})." for why, names in models.items()]


def _sources(manifest: Mapping[str, Any]) -> list[str]:
    """Where the weights of named models and of GGUF files came from, and whether they are dequantised; each once."""
    of_targets = [target.get("sources") or {} for target in (manifest.get("targets") or {}).values()]
    lines = [f"{name}: {source['said']}." for sources in of_targets for name, source in sources.items()]
    return list(dict.fromkeys(lines))
