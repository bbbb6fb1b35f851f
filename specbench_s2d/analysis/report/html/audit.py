"""What became of every turn: the divergence audit, and what failed, was skipped or was cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from specbench_s2d.analysis.metrics.audit import Coverage, coverage
from specbench_s2d.analysis.metrics.columns import definitions
from specbench_s2d.analysis.report.html.table import (
    Heading,
    HtmlCell,
    HtmlTable,
    missing_cell,
    number_cell,
    text_cell,
    text_headings,
)
from specbench_s2d.analysis.tables.naming import decoder_title, suite_title
from specbench_s2d.runs.record import Record

VERDICTS = {"identical": "identical", "near_tie": "near-tie", "mismatch": "mismatch"}
_UNKNOWN = "not recorded by the release that wrote the run"


def audit_counts(records: Sequence[Record]) -> HtmlTable:
    """How many outputs of each target and decoder got which verdict; why the others got none."""
    body = []
    by_decoder: dict[tuple[str, str], list[Record]] = {}
    for r in records:
        by_decoder.setdefault((r.target, decoder_title(r.label, r.lossy, r.projected)), []).append(r)
    for (target, title), mine in by_decoder.items():
        counts: Counter[str] = Counter(r.divergence.verdict for r in mine if r.divergence)
        unaudited = [r for r in mine if r.divergence is None]
        why = Counter(r.error or r.reasons.get("divergence") or "no reason was recorded" for r in unaudited)
        body.append(
            [
                text_cell(target), text_cell(title, "name"),
                *(_count(counts[verdict], verdict) for verdict in VERDICTS), _count(len(unaudited)),
                HtmlCell("; ".join(f"{reason} ({n})" for reason, n in why.items()), tone="prose"),
            ]
        )  # fmt: skip
    counted = [*map(Heading, VERDICTS.values()), Heading("not audited")]
    headings = [*text_headings(["target", "decoder"]), *counted, *text_headings(["why not"])]
    return HtmlTable("Verdicts", headings, body)


def audit_reach(records: Sequence[Record], targets: Mapping[str, Mapping[str, Any]]) -> HtmlTable:
    """How many tokens of each target, and of all, a wrong one would have shown at; by which noise bound, measured over
    which passes (`targets`: the manifest's)."""
    names = list(dict.fromkeys(r.target for r in records))
    body = [
        [text_cell(name), *_bound(targets.get(name, {})), *_reach(coverage(r for r in records if r.target == name))]
        for name in names
    ]
    if len(names) > 1:
        each = "one to each target"
        body.append(
            [text_cell("all targets", "name"), missing_cell(each), missing_cell(each), *_reach(coverage(records))]
        )
    meaning = definitions()
    headings = [
        Heading("target", numeric=False),
        Heading("noise bound", "what rounding may move a difference of two logits by"),
        Heading("measured over passes of", "numbers of rows of the target passes that the run takes", numeric=False),
        Heading("audited tokens", meaning["audited_tokens"]),
        Heading("auditable", "those whose two best logits lie at least the noise bound apart"),
        Heading("share", meaning["auditable_share"]),
    ]
    return HtmlTable("What the audit could have caught", headings, body)


def _bound(facts: Mapping[str, Any]) -> list[HtmlCell]:
    rows = facts.get("logit_noise_rows")
    if rows is None:
        return [number_cell(facts.get("logit_noise"), ".2e", _UNKNOWN), missing_cell(_UNKNOWN)]
    parts = [f"{', '.join(map(str, rows['chains']))} rows"] if rows["chains"] else []
    parts += [f"trees of {', '.join(map(str, rows['trees']))} rows"] if rows["trees"] else []
    parts += [f"a teacher-forced pass of {rows['scored']}"] if "scored" in rows else []  # older runs do not say
    parts += [f"prefills of {' and '.join(map(str, dict.fromkeys(rows['prefill'])))}"] if "prefill" in rows else []
    return [number_cell(facts.get("logit_noise"), ".2e", _UNKNOWN), text_cell("; ".join(parts))]


def _reach(found: Coverage) -> list[HtmlCell]:
    if found.share is None:
        return [missing_cell(found.note or "")] * 3
    share = number_cell(found.share, ".3f", small=found.note or "", tone="bad" if found.is_coarse else "")
    return [number_cell(found.tokens, ",d"), number_cell(found.auditable, ",d"), share]


def audit_events(records: Iterable[Record]) -> HtmlTable:
    """Every output that is not AR's: where the two part, and how close the two best logits stood there."""
    where = text_headings(["target", "decoder", "suite", "question", "verdict"])
    measures = ("turn", "repeat", "position", "best logit", "second logit", "margin", "noise bound")
    body = []
    for r in records:
        if r.divergence is None or r.divergence.verdict == "identical":
            continue
        facts: dict[str, Any] = r.divergence.model_dump()
        measured = [
            number_cell(facts.get(name), form, _UNKNOWN)
            for name, form in (
                ("position", "d"), ("best_logit", ".5f"), ("second_logit", ".5f"), ("margin", ".2e"), ("noise", ".2e")
            )
        ]  # fmt: skip
        places = [
            text_cell(r.target),
            text_cell(decoder_title(r.label, r.lossy, r.projected), "name"),
            text_cell(suite_title(r.suite)),
        ]
        verdict = text_cell(VERDICTS[r.divergence.verdict], "bad" if r.divergence.verdict == "mismatch" else "")
        turn = [number_cell(r.turn + 1, "d"), number_cell(r.repeat + 1, "d")]
        body.append([*places, text_cell(r.question_id), verdict, *turn, *measured])
    return HtmlTable("Outputs that leave AR’s", [*where, *map(Heading, measures)], body, filtered=True)


def lost_turns(records: Iterable[Record]) -> HtmlTable:
    """Turns that failed, were skipped, or whose prompt was cut, with the reason; alike ones on one line."""
    found: Counter[tuple[str, str, str, str, str]] = Counter()
    for r in records:
        where = (r.target, decoder_title(r.label, r.lossy, r.projected), suite_title(r.suite))
        if r.status != "ok":
            found[(*where, r.status, r.error or "no reason was recorded")] += 1
        elif r.prompt_truncated:
            found[(*where, "truncated", "the prompt was cut to fit the context")] += 1
    body = [
        [
            *(text_cell(text) for text in where), text_cell(status, "bad" if status == "failed" else ""),
            number_cell(n, "d"), HtmlCell(error, error, tone="prose"),
        ]
        for (*where, status, error), n in found.items()
    ]  # fmt: skip
    headings = [*text_headings(["target", "decoder", "suite", "what"]), Heading("turns"), *text_headings(["reason"])]
    return HtmlTable("Turns that were lost", headings, body, filtered=len(body) > 8)


def _count(n: int, verdict: str = "") -> HtmlCell:
    return number_cell(n, "d", tone="bad" if n and verdict == "mismatch" else "zero" if not n else "")
