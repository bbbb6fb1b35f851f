"""Run folders to a comparison: with another run, with a paper, or of a run's decoders among themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from specbench_s2d.analysis.compare.comparison import Comparison
from specbench_s2d.analysis.compare.decoders import compare_decoders
from specbench_s2d.analysis.compare.papers import compare_published
from specbench_s2d.analysis.compare.runs import compare_runs
from specbench_s2d.analysis.report.write import read_run
from specbench_s2d.errors import UserError
from specbench_s2d.published import PREFIX, find_paper
from specbench_s2d.runs.folder import MANIFEST, read_manifest
from specbench_s2d.runs.identity import identity, is_greedy_run


def compare(run: Path, other: str | None, against: str | None, stand_ins: Sequence[str] = ()) -> Comparison:
    """A run compared with another, with `published:PAPER` (`stand_ins`: what of the run is set beside what of the
    paper, where its tables do not say), or its decoders with the one labelled `against`.

    Raises `UserError` unless exactly one of `other` and `against` is given, and for what cannot be compared.
    """
    if (other is None) == (against is None):
        given = "give one of them, not both" if other else f"`compare {run}` alone says nothing to compare with"
        raise UserError(f"compare needs a second run, {PREFIX}PAPER or --against LABEL: {given}.")
    with_paper = other is not None and other.startswith(PREFIX)
    if stand_ins and not with_paper:
        raise UserError(f"--as {stand_ins[0]}: belongs to a comparison with {PREFIX}PAPER, as {PREFIX}s2d.")
    records = read_run(run)
    if against is not None:
        return compare_decoders(records, against)
    if with_paper:
        paper = find_paper(str(other))
        return compare_published(records, run.name, paper, _temperature(run), stand_ins, _heads(run))
    second = Path(str(other))
    names = (run.name, second.name) if run.name != second.name else (str(run), str(second))
    comparison = compare_runs(records, read_run(second), names)
    return replace(comparison, notes=[*comparison.notes, *_differences(run, second)])


def _heads(run: Path) -> dict[str, str]:
    """The kinds of a run's draft heads, by their names."""
    targets = read_manifest(run).get("targets") or {}
    return {name: kind for facts in targets.values() for name, kind in (facts.get("heads") or {}).items()}


def _temperature(run: Path) -> float:
    """The run's; 0 of one that is greedy at any temperature, for that is what its values are comparable with."""
    settings = identity(read_manifest(run))["settings"]
    temperature = 0.0 if is_greedy_run(settings) else settings.get("temperature")
    if temperature is None:
        raise UserError(
            f"{run}: was imported without saying at what temperature; import it again with --temperature T."
        )
    return float(temperature)


def _differences(first: Path, second: Path) -> list[str]:
    """What the manifests say of the settings that the runs do not share; nothing where one has no manifest."""
    if not all((folder / MANIFEST).exists() for folder in (first, second)):
        return []
    a, b = (identity(read_manifest(folder))["settings"] for folder in (first, second))
    changed = [f"{name} ({a.get(name)}, {b.get(name)})" for name in sorted({*a, *b}) if a.get(name) != b.get(name)]
    return [f"The runs differ in {', '.join(changed)}."] if changed else []
