"""From the words of `compare` to a comparison, and a comparison as text: on a terminal, as Markdown, CSV or JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from specbench_s2d.analysis.compare.decoders import Block, Comparison, compare_decoders, compare_runs
from specbench_s2d.analysis.compare.papers import compare_published
from specbench_s2d.analysis.report.write import read_run
from specbench_s2d.analysis.tables.naming import mark_notes
from specbench_s2d.errors import UserError
from specbench_s2d.runs.folder import MANIFEST, read_manifest
from specbench_s2d.runs.identity import identity

PUBLISHED = "published:"
SUFFIXES = (".csv", ".md")


def compare(run: Path, other: str | None, against: str | None) -> Comparison:
    """A run beside another, beside `published:PAPER`, or its decoders beside the one labelled `against`.

    Raises `UserError` unless exactly one of `other` and `against` is given, and for what cannot be compared.
    """
    if (other is None) == (against is None):
        given = "give one of them, not both" if other else f"`compare {run}` alone says nothing to compare with"
        raise UserError(f"compare needs a second run, {PUBLISHED}PAPER or --against LABEL: {given}.")
    records = read_run(run)
    if against is not None:
        return compare_decoders(records, against)
    if other is not None and other.startswith(PUBLISHED):
        return compare_published(records, run.name, other.removeprefix(PUBLISHED), _temperature(run))
    second = Path(str(other))
    names = (run.name, second.name) if run.name != second.name else (str(run), str(second))
    comparison = compare_runs(records, read_run(second), names)
    return replace(comparison, notes=[*comparison.notes, *_differences(run, second)])


def _temperature(run: Path) -> float:
    temperature = read_manifest(run)["identity"]["settings"]["temperature"]
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


def render(comparison: Comparison) -> RenderableType:
    """The terminal's tables, a block each, and the notes."""
    parts: list[RenderableType] = []
    for block in comparison.blocks:
        parts += [Text(block.title, style="bold"), _table(block)]
    return Group(*parts, *(Text(line, style="dim") for line in _notes(comparison)))


def _table(block: Block) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for place, heading in enumerate(block.headings):
        table.add_column(heading, justify="left" if place == 0 else "right", overflow="fold")
    for row in block.rows:
        table.add_row(*map(Text, row))
    return table


def markdown(comparison: Comparison) -> str:
    """The same tables as Markdown, one figure above another as `one / other`."""
    parts = [f"# {comparison.title}"]
    for block in comparison.blocks:
        rule = ["---", *["---:"] * (len(block.headings) - 1)]
        parts += [f"## {block.title}", "\n".join(_line(cells) for cells in (block.headings, rule, *block.rows))]
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in _notes(comparison))]) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " / ") for cell in cells) + " |"


def _notes(comparison: Comparison) -> list[str]:
    return [*comparison.notes, *mark_notes(comparison.table["lossy"], comparison.table["projected"])]


def as_json(comparison: Comparison) -> str:
    """Title, notes and every row of the table as one JSON object; missing figures are null."""
    rows = json.loads(comparison.table.to_json(orient="records"))
    return json.dumps({"title": comparison.title, "notes": _notes(comparison), "rows": rows}, indent=1)


def check_out(path: Path) -> None:
    """Raise `UserError` for a file that `write` could not write, before anything is computed."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"--out {path}: give a file that ends in {' or '.join(SUFFIXES)}.")
    if not path.parent.is_dir():
        raise UserError(f"--out {path}: there is no folder {path.parent}; make it, or give another.")


def write(comparison: Comparison, path: Path) -> None:
    """Write the table as CSV (every digit) or the text as Markdown, by the file's suffix."""
    check_out(path)
    table = comparison.table.to_csv(index=False, lineterminator="\n")
    path.write_text(table if path.suffix == ".csv" else markdown(comparison), encoding="utf-8")
