"""Where a scripted decoder's acceptances and exits come from: a recorded run, or the figures that a paper published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from specbench_s2d.decoding.acceptance_trace import AcceptanceTrace, TraceFollower, TraceOptions
from specbench_s2d.decoding.geometric import drawn, rate_of
from specbench_s2d.decoding.spec import DecoderSpec, decoder_class
from specbench_s2d.errors import UnknownNameError, UserError
from specbench_s2d.models.exits import HasExits, resolve_exits
from specbench_s2d.paper_names import same_model
from specbench_s2d.published import PREFIX, PublishedMat, find_paper, published_mat
from specbench_s2d.runs.folder import read_finished_run
from specbench_s2d.runs.record import Record

_STEPS = 4096  # drawn for one answer; more than any takes
Turn = tuple[str, int | str, int]
"""Suite, question and turn."""


class TraceSource(Protocol):
    """Scripts for the cells of one lane."""

    def script(self, turn: Turn | None, seed: int) -> AcceptanceTrace:
        """The script of one turn; of none in particular, where it is None."""
        ...

    def facts(self) -> dict[str, Any]:
        """What was taken for what, for the manifest."""
        ...


def source_for(decoder: DecoderSpec, target: str, draft: HasExits | None) -> TraceSource | None:
    """The source that a scripted decoder's options name; None for a decoder without a script.

    Raises `UserError` for no source, a run or a label that is not there, and a paper without figures of this target.
    """
    options = decoder.options
    if not isinstance(options, TraceOptions):
        return None
    if not options.acceptance:
        raise UserError(
            f"decoder {decoder.label!r} needs a script; give {decoder.name}:acceptance=RUN or acceptance=published:s2d."
        )
    scripted_exits = issubclass(getattr(decoder.kind, "drafter_class", object), TraceFollower)
    exits = resolve_exits(draft, getattr(options, "exits", None)) if scripted_exits and draft else ()
    if options.acceptance.startswith(PREFIX):
        figures = published_mat(find_paper(options.acceptance), target)
        method = figures.method(options.label, decoder.kind.draft_kind == "nested", getattr(options, "exit", None))
        return PublishedTraces(figures, method, len(exits))
    return RecordedTraces(recorded(Path(options.acceptance), target, decoder), exits)


@dataclass(frozen=True)
class PublishedTraces:
    """Counts drawn at the one acceptance rate that gives a paper's mean accepted tokens; every exit the same share."""

    figures: PublishedMat
    method: str
    exits: int

    def script(self, turn: Turn | None, seed: int) -> AcceptanceTrace:
        mat, _ = self.figures.of(self.method, turn[0] if turn else "")
        stages = np.random.default_rng(seed + 1).integers(self.exits, size=_STEPS).tolist() if self.exits else ()
        return AcceptanceTrace(drawn(rate_of(mat), _STEPS, seed), stages)

    def facts(self) -> dict[str, Any]:
        shares = "every exit the same share: the paper prints none" if self.exits else None
        figures = self.figures.figures[self.method]
        return {"from": f"{PREFIX}{self.figures.paper}", "target": self.figures.target, "method": self.method,
                "mean_accepted_tokens": figures, "exits": shares}  # fmt: skip


class RecordedTraces:
    """A recorded turn's own steps; for a turn that was not recorded those of its suite, one recorded turn after the
    other from one that the seed names; for a suite that was not, those of all."""

    def __init__(self, records: Sequence[Record], exits: Sequence[int] = ()) -> None:
        self._records, self._exits = records, exits
        self._recorded = sorted({depth for r in records for depth in r.exit_depths or ()})
        if exits and not self._recorded:
            raise UserError(f"{records[0].label!r} of the recorded run has no exits to script; name another label.")
        if len(self._recorded) > len(exits) > 0:
            raise UserError(
                f"{records[0].label!r} of the recorded run leaves at {len(self._recorded)} depths; the draft has "
                f"{len(exits)} exits ({', '.join(map(str, exits))})."
            )

    def script(self, turn: Turn | None, seed: int) -> AcceptanceTrace:
        suite = turn[0] if turn else None
        chosen = [r for r in self._records if (r.suite, r.question_id, r.turn) == turn][:1]
        pool = chosen or [r for r in self._records if r.suite == suite] or self._records
        start = seed % len(pool)
        records = [*pool[start:], *pool[:start]]
        accepted = [count for r in records for count in r.accepted_per_step or ()]
        if not self._exits:
            return AcceptanceTrace(accepted)
        return AcceptanceTrace(accepted, [self._stage(depth) for r in records for depth in r.exit_depths or ()])

    def _stage(self, depth: int) -> int:
        """A recorded depth as an exit of this draft: the same depth, else the one of the same rank."""
        same = set(self._recorded) <= set(self._exits)
        return (self._exits if same else self._recorded).index(depth)

    def facts(self) -> dict[str, Any]:
        first = self._records[0]
        return {"from": first.run_id, "target": first.target, "label": first.label, "turns": len(self._records)}


def recorded(run: Path, target: str, decoder: DecoderSpec) -> list[Record]:
    """The turns of a recorded run that script a decoder on a target; raises `UserError` where there are none."""
    finished = [r for r in read_finished_run(run) if r.status == "ok" and any(r.drafted_per_step or ())]
    of_target = {r.target for r in finished}
    theirs = same_model(target, sorted(of_target)) or (next(iter(of_target)) if len(of_target) == 1 else None)
    if theirs is None:
        there = f"it has those of {', '.join(sorted(of_target))}" if of_target else "every turn of it is without drafts"
        raise UserError(
            f"{run}: no drafts recorded on target {target}; {there}: give a run of this target, or of one target alone."
        )
    mine = [r for r in finished if r.target == theirs]
    label = _label(run, mine, decoder)
    return [r for r in mine if r.label == label]


def _label(run: Path, records: Sequence[Record], decoder: DecoderSpec) -> str:
    """The label asked for, else the one whose drafter is the decoder's."""
    labels = list(dict.fromkeys(r.label for r in records))
    given = getattr(decoder.options, "label", "").replace(";", ",")
    if given:
        if given not in labels:
            raise UnknownNameError.of(f"label of {run}:", given, labels)
        return str(given)
    first = {r.label: r for r in records}
    alike = [label for label in labels if _drafter(first[label].decoder) == _drafter_of(decoder.kind)]
    for narrower in (
        [label for label in alike if not first[label].lossy],
        [label for label in alike if not first[label].lossy and _same_options(first[label], decoder)],
    ):
        alike = narrower if len(alike) > 1 and narrower else alike
    if len(alike) != 1:
        count = f"{len(alike)} labels" if alike else "no label"
        raise UserError(
            f"{run}: {count} with the drafter of {decoder.label!r}; name one with label= (a semicolon for each comma): "
            f"{'; '.join(alike or labels)}."
        )
    return alike[0]


def _drafter(decoder: str) -> Any:
    """The drafter behind a recorded decoder's name; None for one that is not known here."""
    try:
        return _drafter_of(decoder_class(decoder))
    except UnknownNameError:
        return None


def _drafter_of(kind: type[Any]) -> Any:
    """A pair's drafter class, or the family that it says it is of."""
    drafter = getattr(kind, "drafter_class", None)
    return getattr(drafter, "family", drafter)


def _same_options(record: Record, decoder: DecoderSpec) -> bool:
    mine = decoder.options.model_dump(mode="json", exclude={"draft", "acceptance", "label"})
    return all(record.decoder_options.get(name) == value for name, value in mine.items())
