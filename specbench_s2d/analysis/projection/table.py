"""Projections as a table: pass costs of a device times the acceptances of a recorded run, or of a paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from specbench_s2d.analysis.metrics.pairs import latest, pair, question_of
from specbench_s2d.analysis.metrics.speed import speedup
from specbench_s2d.analysis.projection.model import Costs, Projected, Turn, at_rate, cumulative, from_turns
from specbench_s2d.analysis.tables.summary import OVERALL
from specbench_s2d.decoding.geometric import PAPERS_GAMMA, rate_of
from specbench_s2d.errors import UserError
from specbench_s2d.paper_names import PaperMethod, paper_methods, same_model
from specbench_s2d.published import PublishedMat, published
from specbench_s2d.runs.columns import Floats
from specbench_s2d.runs.record import BASELINE, Record

RECORDED, CANDIDATE = "as recorded", "candidate"
PROJECTED = "projected: pass costs times acceptances"
COLUMNS = (
    "target", "draft", "label", "sort", "role", "gamma", "suite", "speedup", "low", "high", "n", "costs_low",
    "costs_high", "published", "of_run", "mat", "cost_ratio", "verify_ratio", "ar_ms", "ar_percent_of_bound",
    "extrapolated", "projected", "note",
)  # fmt: skip
_VALUES = ("speedup", "low", "high", "costs_low", "costs_high", "mat", "cost_ratio", "verify_ratio", "extrapolated")


@dataclass(frozen=True)
class Device:
    """What was measured of one target and the draft; seconds by round (N,).

    `verify_WN`: target passes of 1 to W positions; `chains`: by depth, a token of the draft read there, first after a
    target pass and later; `stages`: by depth of the exit, a stage with its check, likewise; empty for a plain draft.
    """

    target: str
    draft: str
    ar_N: Floats
    ar_percent_of_bound: float
    verify_WN: Floats
    chains: Mapping[int, tuple[Floats, Floats]]
    stages: Mapping[int, tuple[Floats, Floats]]

    def costs(self, depth: int | None) -> Costs:
        """Of the draft read at one depth, or, without one, by its exits."""
        if depth is None:
            cold, warm = (cumulative([pair[i].tolist() for pair in self.stages.values()]) for i in (0, 1))
        else:
            cold, warm = (part[None] for part in self.chains[depth])
        return Costs(self.ar_N, self.verify_WN, cold, warm)

    @property
    def exits(self) -> list[int]:
        return list(self.stages)


@dataclass(frozen=True)
class Line:
    """A decoder that can be projected: its label, what it is a candidate for, the depth that the draft is read at."""

    label: str
    sort: str
    depth: int | None


def of_run(records: Sequence[Record], device: Device, gamma_max: int) -> list[dict[str, Any]]:
    """A row per decoder and suite as recorded, and one per decoder and gamma over all suites.

    Raises `UserError` where the run has no decoder that drafts as this draft can.
    """
    kept = [r for r in latest(records) if r.status == "ok"]
    own = same_model(device.target, dict.fromkeys(r.target for r in kept))
    theirs = own or kept[0].target
    mine = [r for r in kept if r.target == theirs]
    lines, other_draft = _lines(mine, device)
    note = "; ".join(filter(None, (None if own else f"acceptances of another target ({theirs})", other_draft))) or None
    rows = []
    for line in lines:
        records_of = [r for r in mine if r.label == line.label]
        turns = {r.key: _turn(r, _depths(records_of), device, line) for r in records_of}
        for suite in [*dict.fromkeys(r.suite for r in records_of), OVERALL]:
            of_suite = [r for r in records_of if suite in (r.suite, OVERALL)]
            found = from_turns([turns[r.key] for r in of_suite], device.costs(line.depth))
            measured = speedup([pair(of_suite, [r for r in mine if r.label == BASELINE])]).value
            more = {"of_run": measured, "gamma": _own_gamma(records_of[0])}
            rows.append(_row(device, line, RECORDED, suite, found, note, **more))
        for gamma in range(1, gamma_max + 1):
            found = from_turns(list(turns.values()), device.costs(line.depth), gamma)
            rows.append(_row(device, line, CANDIDATE, OVERALL, found, note, gamma=gamma))
    return rows


def _own_gamma(record: Record) -> int | None:
    gamma = record.decoder_options.get("gamma")
    return gamma if isinstance(gamma, int) else None


def _lines(records: Sequence[Record], device: Device) -> tuple[list[Line], str | None]:
    """The decoders that drafted chains as this draft can, of a draft of its name where there is one."""
    firsts = [r for _, r in sorted({r.label: r for r in records if r.draft and not r.lossy}.items())]
    theirs = same_model(device.draft, dict.fromkeys(str(r.draft) for r in firsts))
    own = [r for r in firsts if r.draft == theirs]
    note = None if own else f"acceptances of other drafts ({', '.join(dict.fromkeys(str(r.draft) for r in firsts))})"
    lines = [line for r in own or firsts if (line := _line(r, device))]
    if not lines:
        raise UserError(
            f"the recorded run has no chain or exits of a draft like {device.draft}; its decoders on {device.target}: "
            f"{'; '.join(r.label for r in firsts) or 'none with a draft'}. Give another --draft or --acceptance."
        )
    return lines, note


def _line(record: Record, device: Device) -> Line | None:
    """None for a tree, a search, or a depth that the draft does not have."""
    options = record.decoder_options
    if "sampling" in options:
        depth = options.get("exit") or max(device.chains)
        return (
            Line(record.label, "exit" if options.get("exit") else "full depth", depth)
            if (depth in device.chains)
            else None
        )
    by_exits = "thresholds" in options and "gamma" in options and bool(device.exits)
    return Line(record.label, "thresholds", None) if by_exits else None


def _depths(records: Sequence[Record]) -> list[int]:
    return sorted({depth for r in records for depth in r.exit_depths or ()})


def _turn(record: Record, depths: Sequence[int], device: Device, line: Line) -> Turn:
    """A record's steps; recorded exits by depth where the draft has the same, else by rank."""
    drafted, accepted = record.drafted_per_step or [], record.accepted_per_step or []
    if line.depth is not None:
        stages = [0] * sum(drafted)
    elif len(depths) > len(device.exits):
        raise UserError(
            f"{record.label!r} was recorded with {len(depths)} exits; {device.draft} has {len(device.exits)}."
        )
    else:
        known = device.exits if set(depths) <= set(device.exits) else list(depths)
        stages = [known.index(depth) for depth in record.exit_depths or ()]
    return Turn(question_of(record), drafted, accepted, stages)


def of_paper(paper: PublishedMat, device: Device, gamma_max: int) -> list[dict[str, Any]]:
    """The same of a paper's methods, at the one acceptance rate that gives their mean accepted tokens.

    Raises `UserError` where the draft can stand for none of them.
    """
    stated = {m.method: m for m in paper_methods(paper.paper)}
    lines = [line for name in paper.figures if name in stated and (line := _method_line(stated[name], device))]
    if not lines:
        raise UserError(
            f"published:{paper.paper} has {'; '.join(paper.figures)} for {paper.target}; {device.draft}, with "
            f"{f'exits {device.exits}' if device.exits else 'no exits'}, stands for none of them: give another --draft."
        )
    return [row for line in lines for row in _paper_rows(paper, device, line, gamma_max)]


def _paper_rows(paper: PublishedMat, device: Device, line: Line, gamma_max: int) -> Iterator[dict[str, Any]]:
    costs, exits = device.costs(line.depth), len(device.exits) if line.depth is None else 1
    shares = [1 / exits] * exits
    said = "every exit the same share, for the paper prints none" if exits > 1 else None
    speedups = _speedups(paper, line.label)
    for suite in dict.fromkeys([*speedups, *paper.figures[line.label], OVERALL]):
        mat, stand_in = paper.of(line.label, suite)
        found = at_rate(rate_of(mat), PAPERS_GAMMA, shares, costs)
        note = "; ".join(filter(None, (stand_in, said))) or None
        yield _row(device, line, RECORDED, suite, found, note, gamma=PAPERS_GAMMA, published=speedups.get(suite))
    mat, _ = paper.of(line.label, OVERALL)
    for gamma in range(1, gamma_max + 1):
        found = replace(at_rate(rate_of(mat), gamma, shares, costs), extrapolated=gamma > PAPERS_GAMMA)
        yield _row(device, line, CANDIDATE, OVERALL, found, said, gamma=gamma)


def _method_line(method: PaperMethod, device: Device) -> Line | None:
    """Which of the draft's passes a paper's method takes; None for one that it has not."""
    if method.decoder == "s2d":
        return Line(method.method, "thresholds", None) if device.exits else None
    if method.decoder != "sd":
        return None
    if method.exit is not None:
        return Line(method.method, "exit", method.exit) if method.exit in device.chains else None
    return Line(method.method, "full depth", max(device.chains))


def _speedups(paper: PublishedMat, method: str) -> dict[str, float]:
    table = published(paper.paper)
    here = (table["target"] == paper.target) & (table["method"] == method) & (table["metric"] == "speedup")
    rows = table[here & (table["temperature"] == 0)].drop_duplicates("suite")
    return dict(zip(rows["suite"], rows["value"], strict=True))


def _row(
    device: Device, line: Line, role: str, suite: str, found: Projected, note: str | None, **more: Any
) -> dict[str, Any]:
    values = asdict(found)
    return {
        **dict.fromkeys(COLUMNS), "target": device.target, "draft": device.draft, "label": line.label,
        "sort": line.sort, "role": role, "suite": suite, **{name: values[name] for name in _VALUES},
        "n": found.questions, "ar_ms": 1e3 * float(np.median(device.ar_N)),
        "ar_percent_of_bound": device.ar_percent_of_bound, "projected": PROJECTED,
        "note": "; ".join(filter(None, (note, found.note))) or None, **more,
    }  # fmt: skip


def table_of(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The rows in the columns of `COLUMNS`."""
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype({"gamma": "Int64", "n": "Int64", "published": "float64", "of_run": "float64"})


def best_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Per target: the candidate of the highest speed-up of each decoder (its gamma), of all fixed exits, of all
    thresholds, and of everything; rows with a `what` in front."""
    found = []
    for _, part in table[table["role"] == CANDIDATE].groupby("target", sort=False):
        for label, of_label in part.groupby("label", sort=False):
            found.append({"what": f"gamma of {label}", **_top(of_label)})
        for sort, of_sort in part.groupby("sort", sort=False):
            if of_sort["label"].nunique() > 1:
                found.append({"what": f"of all: {sort}", **_top(of_sort)})
        found.append({"what": "all together", **_top(part)})
    return found


def _top(rows: pd.DataFrame) -> dict[str, Any]:
    top = rows.sort_values("speedup", ascending=False).iloc[0]
    return {str(name): value for name, value in top.items()}
