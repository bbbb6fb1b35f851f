"""A judgement for those who read it: a terminal, a job's page (Markdown), a CI server (JUnit XML), a program (JSON)."""

from __future__ import annotations

import json
from dataclasses import asdict
from xml.etree import ElementTree as xml

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from specbench_s2d.analysis.gate.verdict import HOLDS, Check, Judgement

_STYLES = {"regressed": "bold red", "incomparable": "bold yellow", "incomplete": "bold yellow", "improved": "green"}
_HEADINGS = ("rule", "target, decoder", "verdict", "here", "baseline", "why")


def render(judgement: Judgement) -> RenderableType:
    """The terminal's table: what did not simply hold, a line per rule for the rest, and the verdict."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading in _HEADINGS:
        table.add_column(heading, overflow="fold")
    for check in _remarkable(judgement):
        cells = [Text(cell) for cell in _cells(check)]
        cells[2].stylize(_STYLES.get(check.verdict, "dim"))
        table.add_row(*cells)
    parts: list[RenderableType] = [table] if table.row_count else []
    parts += [Text(line, style="dim") for line in (_held(judgement), *judgement.notes) if line]
    return Group(*parts, Text(judgement.sentence, style="green" if judgement.exit_code == HOLDS else "bold red"))


def markdown(judgement: Judgement) -> str:
    """The verdict, what did not simply hold, and the rest folded away."""
    mark = "✅" if judgement.exit_code == HOLDS else "❌"
    parts = [f"## {mark} {_escape(judgement.sentence)}"]
    if remarkable := _remarkable(judgement):
        parts.append(_markdown_table(remarkable))
    parts += [f"- {_escape(note)}" for note in judgement.notes]
    held = judgement.of("holds")
    if held:
        parts.append(f"<details><summary>{len(held)} checks hold</summary>\n\n{_markdown_table(held)}\n\n</details>")
    return "\n\n".join(parts) + "\n"


def junit(judgement: Judgement) -> str:
    """One test case per check: a failure where the run regressed, an error where it cannot be judged, else passed or
    skipped."""
    suite = xml.Element(
        "testsuite",
        name=f"{judgement.run} against {judgement.baseline}",
        tests=str(len(judgement.checks)),
        failures=str(len(judgement.of("regressed"))),
        errors=str(len(judgement.of("incomparable", "incomplete"))),
        skipped=str(len(judgement.of("not judged"))),
    )
    kinds = {"regressed": "failure", "incomparable": "error", "incomplete": "error", "not judged": "skipped"}
    for check in judgement.checks:
        case = xml.SubElement(suite, "testcase", classname=check.where or "run", name=check.rule)
        if check.verdict in kinds:
            xml.SubElement(case, kinds[check.verdict], message=_sentence(check))
    xml.indent(suite)
    return xml.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def as_json(judgement: Judgement) -> str:
    """Everything, as one object."""
    facts = {"run": judgement.run, "baseline": judgement.baseline, "exit_code": judgement.exit_code}
    checks = [asdict(check) for check in judgement.checks]
    return json.dumps({**facts, "notes": judgement.notes, "checks": checks}, indent=1, ensure_ascii=False)


def _remarkable(judgement: Judgement) -> list[Check]:
    """What did not simply hold, the worst first; what was not judged for one reason stands once."""
    loud = [*judgement.of("regressed"), *judgement.of("incomparable", "incomplete"), *judgement.of("improved")]
    quiet: dict[tuple[str, str], list[Check]] = {}
    for check in judgement.of("not judged"):
        quiet.setdefault((check.rule, check.why), []).append(check)
    merged = [
        checks[0] if len(checks) == 1 else Check(rule, "not judged", f"{len(checks)} rows", why=why)
        for (rule, why), checks in quiet.items()
    ]
    return [*loud, *merged]


def _held(judgement: Judgement) -> str:
    rules = [check.rule for check in judgement.of("holds")]
    counts = ", ".join(f"{rule} {rules.count(rule)}" for rule in dict.fromkeys(rules))
    return f"Hold: {counts}." if rules else ""


def _markdown_table(checks: list[Check]) -> str:
    lines = ["| " + " | ".join(_HEADINGS) + " |", "| " + " | ".join("---" for _ in _HEADINGS) + " |"]
    lines += ["| " + " | ".join(_escape(cell) for cell in _cells(check)) + " |" for check in checks]
    return "\n".join(lines)


def _cells(check: Check) -> tuple[str, ...]:
    return check.rule, check.where, check.verdict, check.ours, check.baseline, check.why


def _sentence(check: Check) -> str:
    figures = f"{check.ours} (baseline {check.baseline})" if check.baseline else check.ours
    return "; ".join(part for part in (figures, check.why) if part)


def _escape(text: str) -> str:
    for character in "\\|<>*_`":
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", " ")
