"""`specbench-s2d env`: the machine as a run's manifest records it, and what about it disturbs benchmarks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specbench_s2d.analysis.tables.text import TextTable
from specbench_s2d.cli import screen
from specbench_s2d.display import cut

if TYPE_CHECKING:
    from specbench_s2d.measure.conditions import Finding

_HASH = 13  # characters of a commit that a screen shows
# The end of a fact's name is its unit.
_UNITS = {
    "_bytes": lambda value: f"{value / 2**30:,.1f} GiB",
    "_mhz": lambda value: f"{value:,.0f} MHz",
    "_w": lambda value: f"{value:,.0f} W",
    "_c": lambda value: f"{value} °C",
    "_percent": lambda value: f"{value} %",
    "_unix_s": lambda value: datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
    "_s": lambda value: f"{value:,.1f} s",
}


def env(
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1 …")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Show what a run's manifest records of this machine, what is wrong with it for benchmarking, and what to do."""
    from specbench_s2d.measure.attention import planless_attention
    from specbench_s2d.measure.conditions import findings
    from specbench_s2d.measure.environment import environment
    from specbench_s2d.models.devices import check_device, default_device

    place = str(check_device(device or default_device()))
    with planless_attention():  # as in a run
        facts = environment(place)
    show(place, facts, findings(place, facts), as_json)


def show(device: str, facts: dict[str, Any], wrong: list[Finding], as_json: bool) -> None:
    """Print the facts of `environment` and what is wrong with them for a run on `device`."""
    if as_json:
        typer.echo(json.dumps({**facts, "findings": [asdict(finding) for finding in wrong]}, indent=1))
        return
    screen.stdout().print(_facts_table(facts))
    if wrong:
        screen.stdout().print(_findings_table(wrong))
    else:
        screen.stdout().say(f"Nothing found that is wrong for benchmarking on {device}.")


def _facts_table(facts: dict[str, Any]) -> TextTable:
    lines = []
    for part, content in facts.items():
        rows = list(_rows(content)) if isinstance(content, dict) else [("", _row(part, content)[1])]
        lines += [["" if i else _row(part, None)[0], *row] for i, row in enumerate(rows)]
    return TextTable(["part", "what", "value"], lines, "Environment", left=3, names=0)


def _rows(section: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in section.items():
        if not name.endswith("_reason"):  # it stands with what it explains
            yield _row(name, value, section.get(f"{name}_reason"))


def _row(name: str, value: Any, reason: str | None = None) -> tuple[str, str]:
    """A fact's name in words and its value with its unit; for an unknown one the reason."""
    unit = next((unit for unit in _UNITS if name.endswith(unit)), "")
    words = name if name.isupper() else name.removesuffix(unit).replace("_", " ")
    return words, _text(name, value, unit, reason)


def _text(name: str, value: Any, unit: str, reason: str | None) -> str:
    if value is None:
        return f"– ({reason})" if reason else "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if name in ("commit", "git"):
        return cut(str(value), _HASH)
    return _UNITS[unit](value) if unit else str(value)


def _findings_table(wrong: list[Finding]) -> TextTable:
    rows = [[finding.about, finding.what, finding.advice] for finding in wrong]
    return TextTable(["about", "what is wrong", "what to do"], rows, "Wrong for benchmarking", left=3, names=0)
