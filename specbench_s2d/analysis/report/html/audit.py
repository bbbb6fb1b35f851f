"""What became of every turn: the divergence audit, and what failed, was skipped or was cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
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
from specbench_s2d.runs.columns import VERDICT, Records
from specbench_s2d.runs.record import Record

VERDICTS = {"identical": "identical", "near_tie": "near-tie", "mismatch": "mismatch"}
_DECODER = ("label", "lossy", "projected")
_UNKNOWN = "not recorded by the release that wrote the run"


def audit_counts(records: Iterable[Record]) -> HtmlTable:
    """How many outputs of each target and decoder got which verdict; why the others got none."""
    body = []
    by_decoder: dict[tuple[str, str], list[Records]] = {}
    for mine in Records.of(records).groups("target", *_DECODER):
        by_decoder.setdefault((mine.value("target"), _title(mine)), []).append(mine)
    for (target, title), parts in by_decoder.items():
        of_decoder = Records.joined(parts)
        unaudited = of_decoder.take(~of_decoder.known(VERDICT))
        why = _counted((_why_unaudited(alike), len(alike)) for alike in unaudited.groups("error", "reasons"))
        body.append(
            [
                text_cell(target), text_cell(title, "name"),
                *(_count(int(of_decoder.equal(VERDICT, verdict).sum()), verdict) for verdict in VERDICTS),
                _count(len(unaudited)),
                HtmlCell("; ".join(f"{reason} ({n})" for reason, n in why.items()), tone="prose"),
            ]
        )  # fmt: skip
    counted = [*map(Heading, VERDICTS.values()), Heading("not audited")]
    headings = [*text_headings(["target", "decoder"]), *counted, *text_headings(["why not"])]
    return HtmlTable("Verdicts", headings, body)


def _title(records: Records) -> str:
    """The name of the decoder of the first record."""
    label, lossy, projected = (records.value(field) for field in _DECODER)
    return decoder_title(label, bool(lossy), projected)


def _why_unaudited(records: Records) -> str:
    return records.value("error") or records.value("reasons").get("divergence") or "no reason was recorded"


def _counted(found: Iterable[tuple[Any, int]]) -> Counter[Any]:
    """How many there are of each, which may come in several parts."""
    counts: Counter[Any] = Counter()
    for what, n in found:
        counts[what] += n
    return counts


def audit_reach(records: Iterable[Record], targets: Mapping[str, Mapping[str, Any]]) -> HtmlTable:
    """How many tokens of each target, and of all, a wrong one would have shown at; by which noise bound, measured over
    which passes (`targets`: the manifest's)."""
    by_target = Records.of(records).by_value("target")
    body = [
        [text_cell(name), *_bound(targets.get(name, {})), *_reach(coverage(mine))] for name, mine in by_target.items()
    ]
    if len(by_target) > 1:
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
    of = Records.of(records)
    for r in of.take(of.known(VERDICT) & ~of.equal(VERDICT, "identical")):
        assert r.divergence is not None
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
    of = Records.of(records)
    lost = of.take(~of.equal("status", "ok") | (of.numbers("prompt_truncated") > 0))
    parts = lost.groups("target", *_DECODER, "suite", "status", "error")
    found = _counted((_loss(alike), len(alike)) for alike in parts)
    body = [
        [
            *(text_cell(text) for text in where), text_cell(status, "bad" if status == "failed" else ""),
            number_cell(n, "d"), HtmlCell(error, error, tone="prose"),
        ]
        for (*where, status, error), n in found.items()
    ]  # fmt: skip
    headings = [*text_headings(["target", "decoder", "suite", "what"]), Heading("turns"), *text_headings(["reason"])]
    return HtmlTable("Turns that were lost", headings, body, filtered=len(body) > 8)


def _loss(records: Records) -> tuple[str, str, str, str, str]:
    """Whose first record was lost, in which suite, what became of it and why."""
    where = (records.value("target"), _title(records), suite_title(records.value("suite")))
    if records.value("status") == "ok":
        return *where, "truncated", "the prompt was cut to fit the context"
    return *where, records.value("status"), records.value("error") or "no reason was recorded"


def _count(n: int, verdict: str = "") -> HtmlCell:
    return number_cell(n, "d", tone="bad" if n and verdict == "mismatch" else "zero" if not n else "")
