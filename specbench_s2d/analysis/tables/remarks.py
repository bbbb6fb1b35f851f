"""What a reader must know of a summary table before reading it: failures, projections, slow baselines, gaps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pandas as pd

from specbench_s2d.analysis.metrics.acceptance import DERIVED
from specbench_s2d.analysis.metrics.audit import coverage_of_rows
from specbench_s2d.analysis.metrics.energy import IN_DOUBT, is_in_doubt
from specbench_s2d.analysis.tables.naming import is_projected, row_title
from specbench_s2d.analysis.tables.summary import MEAN_TARGET, OVERALL, rows_by_target, speed_column
from specbench_s2d.analysis.tables.text import absent
from specbench_s2d.runs.columns import Records
from specbench_s2d.runs.record import BASELINE, Record

SLOW_BASELINE_PERCENT = 40.0
"""Below this share of the bound, AR is called slow."""
FORMULA_TOLERANCE = 0.1
"""How far from 1 AR may be beside itself by Spec-Bench's formula."""


def within_launches(launches: Iterable[int]) -> str:
    """What intervals stand on besides the questions, to follow the words "from n questions"."""
    counts = {int(count) for count in launches} - {0}
    if counts <= {1}:
        return " within this launch: another run of the same command may differ by more (--launches)"
    counted = str(counts.pop()) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    return f" and {counted} launches"


def projections(table: pd.DataFrame) -> list[str]:
    """One line per reason that makes rows a projection, with the decoders that it holds for; none where all were
    measured."""
    rows = table[table["projected"].map(is_projected)]
    return [
        f"Projected, not measured ({reason}): {', '.join(dict.fromkeys(part['label']))}."
        for reason, part in rows.groupby("projected", sort=False)
    ]


def cautions(table: pd.DataFrame) -> list[str]:
    """One line per target on which AR is faster than its bound; one where AR is slow on some target, for every speed-up
    over a slow baseline is flattered; one per target whose outputs the audit can hardly tell apart, or whose energy is
    in doubt; and one where decoders learn from question to question."""
    lines = [*_beyond_the_bound(table), *_slow_baselines(table), *_coarse_audits(table), *_doubtful_energy(table)]
    return [*_devices(table), *lines, *_scopes(table), *_other_counts(table), *_derived(table)]


def _devices(table: pd.DataFrame) -> list[str]:
    """One line per target that was measured on several devices, with how far AR's rates on them lie apart."""
    if "devices" not in table:
        return []
    rows = table[(table["suite"] == OVERALL) & (table["target"] != MEAN_TARGET)]
    lines = []
    for target, of_target in rows.groupby("target", sort=False):
        devices = max(of_target["devices"].dropna(), default=0)
        if devices > 1:
            spreads = of_target[of_target["label"] == BASELINE]["device_spread"].dropna()
            apart = f", {BASELINE}'s tokens/s {100 * spreads.iloc[0]:.1f} % apart" if len(spreads) else ""
            lines.append(f"{target}: measured on {devices} devices{apart}; speed-ups pair cells of one device.")
    return lines


def _other_counts(table: pd.DataFrame) -> list[str]:
    """Of a run without decode times, targets on which AR beside itself is not about 1 by Spec-Bench's formula."""
    if speed_column(table) == "speedup":
        return []
    rows = table[(table["label"] == BASELINE) & (table["suite"] == OVERALL) & (table["target"] != MEAN_TARGET)]
    odd = rows[(rows["speedup_specbench"] - 1).abs() > FORMULA_TOLERANCE]
    if odd.empty:
        return []
    values = ", ".join(f"{row['speedup_specbench']:.2f} on {row['target']}" for row in odd.to_dict("records"))
    return [
        f"Spec-Bench's formula counts {BASELINE}'s tokens by encoding its text again, which makes {BASELINE} beside "
        f"itself {values}: take no speed-up by it as true."
    ]


def _derived(table: pd.DataFrame) -> list[str]:
    rows = table[table["notes"].fillna("").str.contains(f"mat: {DERIVED}", regex=False)]
    labels = ", ".join(dict.fromkeys(rows["label"]))
    return [f"Mean accepted tokens of {labels} are {DERIVED}."] if labels else []


def _scopes(table: pd.DataFrame) -> list[str]:
    """What token recycling was kept for, which decides what is compared."""
    recycling = [label for label in dict.fromkeys(table["label"]) if "recycling" in label]
    kept = [label for label in recycling if "scope=run" in label]
    anew = [label for label in recycling if label not in kept]
    lines = [f"{', '.join(anew)}: each question starts with an empty matrix."] if anew else []
    if kept:
        lines.append(f"{', '.join(kept)}: the matrix is kept over the run, so later questions draft from earlier ones.")
    return lines


def _beyond_the_bound(table: pd.DataFrame) -> list[str]:
    """By all suites where that is beyond it already, else by the suite that is most."""
    rows = [row for row in table.to_dict("records") if row["label"] == BASELINE and row["target"] != MEAN_TARGET]
    beyond = [row for row in rows if not absent(row["percent_of_bound"]) and row["percent_of_bound"] > 100]
    lines = []
    for target in dict.fromkeys(row["target"] for row in beyond):
        of_target = [row for row in beyond if row["target"] == target]
        worst = max(of_target, key=lambda row: (row["suite"] == OVERALL, row["percent_of_bound"]))
        where = "" if worst["suite"] == OVERALL else f" in {worst['suite']}"
        lines.append(
            f"{BASELINE} on {target} runs at {worst['percent_of_bound']:.1f} % of the bound{where}: the read rate was "
            "measured too low; take no share of the bound of this target as true."
        )
    return lines


def _slow_baselines(table: pd.DataFrame) -> list[str]:
    rows = table[(table["label"] == BASELINE) & (table["suite"] == OVERALL)].to_dict("records")
    slow = [r for r in rows if not absent(r["percent_of_bound"]) and r["percent_of_bound"] < SLOW_BASELINE_PERCENT]
    if not slow:
        return []
    shares = ", ".join(f"{row['target']} {row['percent_of_bound']:.0f} %" for row in slow)
    return [
        f"{BASELINE} is slow beside what memory allows ({shares} of the bound): a slow baseline flatters every method."
    ]


def _coarse_audits(table: pd.DataFrame) -> list[str]:
    lines = []
    for title, rows in rows_by_target(table):
        found = coverage_of_rows(r for r in rows if r["suite"] == OVERALL and r["target"] != MEAN_TARGET)
        if found.is_coarse:
            lines.append(
                f"{title}: the audit can tell apart only {found.auditable:,} of {found.tokens:,} tokens: this "
                "dtype is coarse, and elsewhere a wrong token would pass as a near-tie."
            )
    return lines


def _doubtful_energy(table: pd.DataFrame) -> list[str]:
    """One line per target on which the energy counter and the sampled power differ, with rows and by how much."""
    lines = []
    for title, rows in rows_by_target(table):
        of_target = [row for row in rows if row["target"] != MEAN_TARGET and not absent(row["energy_disagreement"])]
        odd = [row for row in of_target if is_in_doubt(row["energy_disagreement"])]
        where = ", ".join(f"{row['label']} on {row['suite']} {100 * row['energy_disagreement']:+.0f} %" for row in odd)
        if odd:
            lines.append(f"{title}: {IN_DOUBT} ({where}): J/token of these rows is in doubt.")
    return lines


def alarms(table: pd.DataFrame) -> list[str]:
    """One line per target and decoder that failed or left AR's output without an excuse."""
    lines = []
    for title, rows in rows_by_target(table):
        for row in rows:
            if row["suite"] != OVERALL or row["target"] == MEAN_TARGET:
                continue
            if row["failed"]:
                lines.append(f"{title}, {row['label']}: {row['failed']} of {row['records']} turns failed.")
            if not absent(row["mismatches"]) and row["mismatches"]:
                lines.append(f"{title}, {row['label']}: {row['mismatches']} outputs differ from {BASELINE}'s.")
    return lines


def failures(records: Iterable[Record]) -> list[str]:
    """Why turns failed: for each target and decoder the first reason, and how many others there are; decoders that
    failed for the same ones share a line."""
    found: dict[tuple[str, str], list[str]] = {}
    for mine in Records.of(records).of_value("status", "failed").groups("target", "label", "error"):
        said = mine.value("error") or "no reason was recorded"
        found.setdefault((mine.value("target"), mine.value("label")), []).append(said)
    alike: dict[tuple[str, str], list[str]] = {}
    for (target, label), errors in found.items():
        others = len(set(errors)) - 1
        more = f" (and for {others} other reasons: see report.html)" if others else ""
        why = f"{errors[0].removeprefix(f'decoder {label!r}: ')}{more}"
        alike.setdefault((target, why), []).append(label)
    return [f"{target}, {', '.join(labels)}: failed: {why}" for (target, why), labels in alike.items()]


def whys(table: pd.DataFrame) -> dict[str, list[str]]:
    """By target: for each decoder, over all suites, one sentence that says what makes it slower or faster than AR."""
    found = {}
    for title, rows in rows_by_target(table):
        overall = [row for row in rows if row["suite"] == OVERALL and isinstance(row.get("why"), str)]
        if overall:
            of_run = f" of {overall[0]['run']}" if "run" in table.columns else ""
            found[title] = [f"{row_title(row)} on {row['target']}{of_run}: {row['why']}." for row in overall]
    return found


def decoder_facts(table: pd.DataFrame) -> dict[str, str]:
    """What each label stands for: the decoder's drafts and every option."""
    found = {}
    for label, rows in table.groupby("label", sort=False):
        drafts = ", ".join(dict.fromkeys(rows["draft"].dropna()))
        parts = [f"draft {drafts}"] if drafts else []
        parts += [options] if (options := str(rows["options"].iloc[0])) else []
        found[str(label)] = "; ".join(parts) or "no options"
    return found


def missing_values(table: pd.DataFrame) -> list[str]:
    """Why values are missing, each reason once, with the number of rows it holds for."""
    reasons = Counter(reason for notes in table["notes"].dropna() for reason in str(notes).split("; "))
    rows = len(table)
    return [f"{reason} ({'every row' if n == rows else f'{n} of {rows} rows'})" for reason, n in reasons.items()]
