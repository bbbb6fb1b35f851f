"""A judgement for those who read it: a terminal, a job's page (Markdown), a CI server (JUnit XML), a program (JSON)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from xml.etree import ElementTree as xml

from rich.console import Group, RenderableType

from specbench_s2d.analysis.gate.verdict import HOLDS, Check, Judgement
from specbench_s2d.analysis.tables.text import Entry, Prose, TextTable, terminal_tables
from specbench_s2d.display import markdown_text, visible

_STYLES = {"regressed": "bold red", "incomparable": "bold yellow", "incomplete": "bold yellow", "improved": "green"}
_HEADINGS = ("rule", "target, decoder", "verdict", "here", "baseline", "why")


def render(judgement: Judgement) -> RenderableType:
    """For a terminal: the verdict, a table of what did not simply hold, and a line per rule for the rest."""
    remarkable = _remarkable(judgement)
    notes = [line for line in (_held(judgement), *judgement.detectable, *judgement.notes) if line]
    verdict = Prose(judgement.sentence, "green" if judgement.exit_code == HOLDS else "bold red")
    return Group(verdict, terminal_tables([_table(remarkable)] if remarkable else [], notes))


def markdown(judgement: Judgement) -> str:
    """The verdict, what did not simply hold, and the rest folded away."""
    mark = "✅" if judgement.exit_code == HOLDS else "❌"
    parts = [f"## {mark} {markdown_text(judgement.sentence)}"]
    if remarkable := _remarkable(judgement):
        parts.append(_table(remarkable).markdown())
    parts += [f"- {markdown_text(note)}" for note in (*judgement.detectable, *judgement.notes)]
    held = judgement.of("holds")
    if held:
        parts.append(f"<details><summary>{len(held)} checks hold</summary>\n\n{_table(held).markdown()}\n\n</details>")
    return "\n\n".join(parts) + "\n"


def junit(judgement: Judgement) -> str:
    """One test case per check: a failure where the run regressed, an error where it cannot be judged, else passed or
    skipped. Characters that XML forbids are escapes such as `\\x1b`."""
    suite = xml.Element(
        "testsuite",
        name=visible(f"{judgement.run} against {judgement.baseline}"),
        tests=str(len(judgement.checks)),
        failures=str(len(judgement.of("regressed"))),
        errors=str(len(judgement.of("incomparable", "incomplete"))),
        skipped=str(len(judgement.of("not judged"))),
    )
    kinds = {"regressed": "failure", "incomparable": "error", "incomplete": "error", "not judged": "skipped"}
    for check in judgement.checks:
        case = xml.SubElement(suite, "testcase", classname=visible(check.where or "run"), name=check.rule)
        if check.verdict in kinds:
            xml.SubElement(case, kinds[check.verdict], message=_sentence(check))
        elif check.detectable is not None:
            xml.SubElement(case, "system-out").text = _sentence(check)
    xml.indent(suite)
    return xml.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def as_json(judgement: Judgement) -> str:
    """Everything, as one object."""
    facts = {
        "run": judgement.run,
        "baseline": judgement.baseline,
        "exit_code": judgement.exit_code,
        "speed_not_judged": judgement.untimed,
    }
    checks = [asdict(check) for check in judgement.checks]
    return json.dumps({**facts, "notes": judgement.notes, "checks": checks}, indent=1)


def _remarkable(judgement: Judgement) -> list[Check]:
    """What did not simply hold, the worst first; what was not judged for one reason stands once, and not here where
    the sentence says it."""
    loud = [*judgement.of("regressed"), *judgement.of("incomparable", "incomplete"), *judgement.of("improved")]
    quiet: dict[tuple[str, str], list[Check]] = {}
    for check in judgement.of("not judged"):
        if check.rule == "speed-up" and check.why == judgement.untimed:
            continue
        quiet.setdefault((check.rule, check.why), []).append(check)
    merged = [
        checks[0] if len(checks) == 1 else Check(rule, "not judged", f"{len(checks)} rows", why=why)
        for (rule, why), checks in quiet.items()
    ]
    return [*loud, *merged]


def _held(judgement: Judgement) -> str:
    rules = [check.rule for check in judgement.of("holds")]
    counted = (f"{rule} ({n})" if (n := rules.count(rule)) > 1 else rule for rule in dict.fromkeys(rules))
    return f"Hold: {', '.join(counted)}." if rules else ""


def _table(checks: Sequence[Check]) -> TextTable:
    rows: list[list[str | Entry]] = [
        [c.rule, c.where, Entry(c.verdict, style=_STYLES.get(c.verdict, "dim")), c.ours, c.baseline, c.why]
        for c in checks
    ]
    return TextTable(_HEADINGS, rows, left=len(_HEADINGS), names=2)


def _sentence(check: Check) -> str:
    values = f"{check.ours} (baseline {check.baseline})" if check.baseline else check.ours
    power = "" if check.detectable is None else f"80 of 100 such checks would find {100 * check.detectable:.0f} %"
    return visible("; ".join(part for part in (values, check.why, power) if part))
