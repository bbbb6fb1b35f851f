"""What became of every turn: the divergence audit, and what failed, was skipped or was cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from specbench_s2d.analysis.metrics.audit import Coverage, coverage
from specbench_s2d.analysis.metrics.columns import DEFINITIONS
from specbench_s2d.analysis.report.html.grid import Cell, Column, Grid, figure, missing, word, words
from specbench_s2d.analysis.tables.naming import decoder_title, suite_title
from specbench_s2d.runs.record import Record

VERDICTS = {"identical": "identical", "near_tie": "near-tie", "mismatch": "mismatch"}
_UNKNOWN = "not recorded by the release that wrote the run"


def audit_counts(records: Sequence[Record]) -> Grid:
    """How many outputs of each target and decoder got which verdict; why the others got none."""
    body = []
    for (target, title), mine in _by_decoder(records).items():
        counts: Counter[str] = Counter(r.divergence.verdict for r in mine if r.divergence)
        unaudited = [r for r in mine if r.divergence is None]
        why = Counter(r.error or r.reasons.get("divergence") or "no reason was recorded" for r in unaudited)
        body.append(
            [
                word(target), word(title, "name"),
                *(_count(counts[verdict], verdict) for verdict in VERDICTS), _count(len(unaudited)),
                Cell("; ".join(f"{reason} ({n})" for reason, n in why.items()), tone="prose"),
            ]
        )  # fmt: skip
    columns = [*words(["target", "decoder"]), *map(Column, VERDICTS.values()), Column("not audited")]
    return Grid("Verdicts", [*columns, Column("why not", numeric=False)], body)


def audit_reach(records: Sequence[Record], targets: Mapping[str, Mapping[str, Any]]) -> Grid:
    """How many tokens of each target, and of all, a wrong one would have shown at; by which noise bound, measured over
    which passes (`targets`: the manifest's)."""
    names = list(dict.fromkeys(r.target for r in records))
    body = [
        [word(name), *_bound(targets.get(name, {})), *_reach(coverage(r for r in records if r.target == name))]
        for name in names
    ]
    if len(names) > 1:
        each = "one to each target"
        body.append([word("all targets", "name"), missing(each), missing(each), *_reach(coverage(records))])
    columns = [
        Column("target", numeric=False),
        Column("noise bound", "what rounding may move a difference of two logits by"),
        Column("measured over passes of", "numbers of rows that the run's decoders verify", numeric=False),
        Column("audited tokens", DEFINITIONS["audited_tokens"]),
        Column("auditable", "those whose two best logits lie at least the noise bound apart"),
        Column("share", DEFINITIONS["auditable_share"]),
    ]
    return Grid("What the audit could have caught", columns, body)


def _bound(facts: Mapping[str, Any]) -> list[Cell]:
    rows = facts.get("logit_noise_rows")
    if rows is None:
        return [figure(facts.get("logit_noise"), ".2e", _UNKNOWN), missing(_UNKNOWN)]
    parts = [f"{', '.join(map(str, rows['chains']))} rows"] if rows["chains"] else []
    parts += [f"trees of {', '.join(map(str, rows['trees']))} rows"] if rows["trees"] else []
    return [figure(facts.get("logit_noise"), ".2e", _UNKNOWN), word("; ".join(parts))]


def _reach(found: Coverage) -> list[Cell]:
    if found.share is None:
        return [missing(found.note or "")] * 3
    share = figure(found.share, ".3f", small=found.note or "", tone="bad" if found.is_coarse else "")
    return [figure(found.tokens, ",d"), figure(found.auditable, ",d"), share]


def audit_events(records: Iterable[Record]) -> Grid:
    """Every output that is not AR's: where the two part, and how close the two best logits stood there."""
    columns = words(["target", "decoder", "suite", "question", "verdict"])
    headings = ("turn", "repeat", "position", "best logit", "second logit", "margin", "noise bound")
    body = []
    for r in records:
        if r.divergence is None or r.divergence.verdict == "identical":
            continue
        facts: dict[str, Any] = r.divergence.model_dump()
        measured = [
            figure(facts.get(name), form, _UNKNOWN)
            for name, form in (
                ("position", "d"), ("best_logit", ".5f"), ("second_logit", ".5f"), ("margin", ".2e"), ("noise", ".2e")
            )
        ]  # fmt: skip
        places = [
            word(r.target),
            word(decoder_title(r.label, r.lossy, r.projected), "name"),
            word(suite_title(r.suite)),
        ]
        verdict = word(VERDICTS[r.divergence.verdict], "bad" if r.divergence.verdict == "mismatch" else "")
        turn = [figure(r.turn + 1, "d"), figure(r.repeat + 1, "d")]
        body.append([*places, word(r.question_id), verdict, *turn, *measured])
    return Grid("Outputs that leave AR’s", [*columns, *map(Column, headings)], body, filtered=True)


def lost_turns(records: Iterable[Record]) -> Grid:
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
            *(word(text) for text in where), word(status, "bad" if status == "failed" else ""), figure(n, "d"),
            Cell(error, error, tone="prose"),
        ]
        for (*where, status, error), n in found.items()
    ]  # fmt: skip
    columns = [*words(["target", "decoder", "suite", "what"]), Column("turns"), Column("reason", numeric=False)]
    return Grid("Turns that were lost", columns, body, filtered=len(body) > 8)


def _count(n: int, verdict: str = "") -> Cell:
    return figure(n, "d", tone="bad" if n and verdict == "mismatch" else "zero" if not n else "")


def _by_decoder(records: Iterable[Record]) -> dict[tuple[str, str], list[Record]]:
    found: dict[tuple[str, str], list[Record]] = {}
    for r in records:
        found.setdefault((r.target, decoder_title(r.label, r.lossy, r.projected)), []).append(r)
    return found
