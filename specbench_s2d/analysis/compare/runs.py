"""Two runs compared, target by target, label by label, suite by suite."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from specbench_s2d.analysis.compare.comparison import Comparison, require_baseline
from specbench_s2d.analysis.metrics.pairs import Group, Pairs, latest, pair
from specbench_s2d.analysis.metrics.speed import SPEEDUP, speedup_ratio
from specbench_s2d.analysis.tables.naming import is_projected, row_title, suite_title
from specbench_s2d.analysis.tables.remarks import within_launches
from specbench_s2d.analysis.tables.summary import OVERALL, Key, Row, reasons, row_groups, rows_by_target, summary_table
from specbench_s2d.analysis.tables.text import TextTable, absent, number, with_interval
from specbench_s2d.errors import UserError
from specbench_s2d.runs.columns import Ints, Records, joint, together
from specbench_s2d.runs.record import BASELINE, Record

COLUMNS = (
    "target", "label", "lossy", "projected", "suite", "speedup_a", "speedup_b", "ratio", "ratio_low", "ratio_high",
    "questions", "mat_a", "mat_b", "reason",
)  # fmt: skip
_NAMED = 3  # how many of what has no partner are named, the rest being counted
_SHOWN = {"speedup_a": "A", "speedup_b": "B", "ratio": "A / B [95 %]", "mat_a": "MAT A", "mat_b": "MAT B"}


def compare_runs(ours: Iterable[Record], theirs: Iterable[Record], names: tuple[str, str]) -> Comparison:
    """Speed-ups, mean accepted tokens, and the ratio of the speed-ups over the turns that both runs asked.

    Columns: target, label, lossy, projected, suite, speedup_a, speedup_b, ratio with its 95 % interval, questions,
    mat_a, mat_b, reason (why values are missing, by column).
    Raises `UserError` for a run without AR, and for runs that share no target and label.
    """
    runs = together(latest(ours), latest(theirs))
    for name, records in zip(names, runs, strict=True):
        require_baseline(name, records)
    mine, others = (_turns(records.finished) for records in runs)
    both = np.intersect1d(mine, others)
    first, second = (_Side(records) for records in runs)
    shared = [key for key in first.groups if key in second.groups and key[1] != BASELINE]
    if not shared:
        raise UserError(
            f"nothing in common: {names[0]} has {_contents(runs[0])}; {names[1]} has {_contents(runs[1])}; compare "
            "runs that share a target and a decoder."
        )
    table = pd.DataFrame([_row(key, first, second, both) for key in shared], columns=list(COLUMNS))
    shown = [_shown(target, rows) for target, rows in rows_by_target(table)]
    launches = [len(np.unique(records.launches)) for records in runs]
    notes = [
        f"A: {names[0]}; B: {names[1]}. A / B: the ratio of the two speed-ups over {BASELINE} on the turns that both "
        f"asked, with its 95 % interval from n questions{within_launches(launches)}.",
        *_missing(table),
        *_unpaired(names, runs),
    ]
    return Comparison(f"{names[0]} compared with {names[1]}", table, shown, notes)


class _Side:
    """One run: by row, its group of records and its values."""

    def __init__(self, records: Records) -> None:
        groups = row_groups(records)
        rows = summary_table(records).to_dict("records")
        self.groups: dict[Key, Group] = {(g.target, g.label, g.suite): g for g in groups}
        self.rows: dict[Key, Any] = dict(zip(self.groups, rows, strict=True))

    def pairs(self, key: Key, turns: Ints) -> list[Pairs]:
        """The row's cells of these turns paired with AR's, target by target."""
        group = self.groups[key]
        return [pair(part.take(np.isin(_turns(part), turns)), group.baseline) for part in group.by_target]


def _row(key: Key, first: _Side, second: _Side, both: Ints) -> Row:
    ours, theirs = first.pairs(key, both), second.pairs(key, both)
    a, b = first.rows[key], second.rows[key]
    interval = SPEEDUP.ratio_interval(ours, theirs)
    ratio = speedup_ratio(ours, theirs)
    values = {"speedup_a": a["speedup"], "speedup_b": b["speedup"], "ratio": ratio.value,
              "mat_a": a["mat"], "mat_b": b["mat"]}  # fmt: skip
    why = {f"{column}_{run}": said for run, side in zip("ab", (a, b), strict=True)
           for column, said in reasons(side).items()}  # fmt: skip
    why["ratio"] = (ratio.note or "").replace("; ", ", ") if any(map(len, ours)) else "no turn that both runs asked"
    missing = [f"{column}: {why.get(column) or 'not known'}" for column, value in values.items() if absent(value)]
    projected = dict.fromkeys(side["projected"] for side in (a, b) if is_projected(side["projected"]))
    return {
        "target": key[0], "label": key[1], "lossy": a["lossy"], "projected": ", ".join(projected) or None,
        "suite": key[2], **values, "ratio_low": interval.low, "ratio_high": interval.high,
        "questions": len(np.unique(np.concatenate([pairs.questions for pairs in ours]))),
        "reason": "; ".join(missing) or None,
    }  # fmt: skip


def _shown(target: str, rows: Sequence[Row]) -> TextTable:
    lines, last = [], None
    for row in rows:
        title = row_title(row)
        ratio = with_interval(row["ratio"], row["ratio_low"], row["ratio_high"], row["questions"])
        speedups, lengths = ([number(row[f"{name}_{run}"]) for run in "ab"] for name in ("speedup", "mat"))
        lines.append([title if title != last else "", suite_title(row["suite"]), *speedups, ratio, *lengths])
        last = title
    return TextTable(["Decoder", "Suite", *_SHOWN.values()], lines, target, left=2)


def _missing(table: pd.DataFrame) -> list[str]:
    """Why there are dashes: by reason, under which headings and of which decoders. What is missing of all suites
    together is said of these, and of none alone."""
    found: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    told: set[tuple[str, str, str]] = set()
    rows = table[table["reason"].notna()].to_dict("records")
    for row in sorted(rows, key=lambda row: row["suite"] != OVERALL):
        for said in str(row["reason"]).split("; "):
            column, _, why = said.partition(": ")
            if row["suite"] != OVERALL and (row["target"], row["label"], column) in told:
                continue
            told.add((row["target"], row["label"], column))
            headings, labels = found.setdefault(why, ({}, {}))
            headings[_SHOWN[column]] = labels[str(row["label"])] = None
    return [f"– under {', '.join(h)}: {why} ({_some(labels)})." for why, (h, labels) in found.items()]


def _unpaired(names: tuple[str, str], runs: Sequence[Records]) -> list[str]:
    """What only one of the runs has: targets, decoders on a shared target, turns; the first few by name."""
    notes = []
    for name, mine, other in ((names[0], runs[0], runs[1]), (names[1], runs[1], runs[0])):
        decoders, theirs = ([(g.value("target"), g.value("label")) for g in r.groups("target", "label")]
                            for r in (mine, other))  # fmt: skip
        targets = {target for target, _ in theirs}
        turns = mine.take(~np.isin(_turns(mine), _turns(other.finished))).groups("suite", "question_id", "turn")
        lone = {
            "targets": [target for target, _ in decoders if target not in targets],
            "decoders": sorted({d for t, d in decoders if t in targets and (t, d) not in theirs}),
            "turns": [f"{g.value('suite')} {g.value('question_id')}/{g.value('turn'):.0f}" for g in turns],
        }
        notes += [f"Only {name} has the {what} {_some(which)}." for what, which in lone.items() if which]
    return notes


def _some(names: Iterable[str]) -> str:
    known = list(dict.fromkeys(names))
    more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
    return ", ".join(known[:_NAMED]) + more


def _turns(records: Records) -> Ints:
    """A number for what each record answers: suite, question and turn, whoever answered."""
    columns = records.columns
    turns: Ints = columns.once("turns", lambda: joint([columns.questions, columns.numbers("turn")]))
    return turns[records.rows]


def _contents(records: Records) -> str:
    targets, labels = sorted(records.distinct("target")), sorted(records.distinct("label"))
    return f"{', '.join(targets)} with {', '.join(labels)}"
