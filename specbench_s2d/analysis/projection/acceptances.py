"""The acceptances that a projection multiplies with: a recorded run's, or a paper's for each target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from specbench_s2d.analysis.compare.paper_targets import as_flags
from specbench_s2d.errors import UnknownNameError, UserError, find_name
from specbench_s2d.paper_names import paper_target, same_model
from specbench_s2d.published import PREFIX, PublishedMat, find_paper, mat_targets, published_mat
from specbench_s2d.runs.folder import read_finished_run
from specbench_s2d.runs.record import Record


@dataclass(frozen=True)
class Acceptances:
    """`records` of a run, or what a paper `published`, by target as given; one of them is empty."""

    records: Sequence[Record] = ()
    published: dict[str, PublishedMat] = field(default_factory=dict)

    @classmethod
    def find(cls, given: str, targets: Sequence[str], stand_ins: Mapping[str, str] | None = None) -> Acceptances:
        """What `given`, a run's folder or `published:PAPER`, says of these targets; `stand_ins`: target to the paper's
        target whose acceptances it takes.

        Raises `UserError` where there is no such run or paper, and where it says nothing of a target.
        """
        for ours, theirs in (stand_ins or {}).items():
            if not given.startswith(PREFIX):
                raise UserError(
                    f"--as {ours}={theirs}: names a paper's target, and --acceptance {given} is a run's folder; leave "
                    f"it out, or give --acceptance {PREFIX}PAPER."
                )
            if ours not in targets:
                raise UnknownNameError.of("--target", ours, targets, f"Given as --as {ours}={theirs}.")
        if given.startswith(PREFIX):
            paper = find_paper(given)
            return cls(published={name: _of_paper(paper, name, (stand_ins or {}).get(name)) for name in targets})
        records = read_finished_run(Path(given))
        known = sorted({r.target for r in records if r.status == "ok"})
        there = f"it has {', '.join(known)}" if known else "no turn of it is finished"
        for name in targets:
            if same_model(name, known) is None and len(known) != 1:
                raise UserError(
                    f"--acceptance {given}: nothing recorded on target {name}; {there}: "
                    "give a run of this target, or of one target alone."
                )
        return cls(records)


def _of_paper(paper: str, target: str, stand_in: str | None) -> PublishedMat:
    """What a paper says of a target, or of its own that `stand_in` names; else raises `UserError` with the `--as`."""
    theirs = mat_targets(paper)
    if stand_in is not None:
        stand_in = find_name("target of the paper", stand_in, theirs, f"Given as --as {target}={stand_in}.")
        return published_mat(paper, target, {target: stand_in})
    if theirs and paper_target(paper, target, theirs) is None:
        raise UserError(
            f"--target {target}: published:{paper} has mean accepted tokens of {', '.join(theirs)} alone. To take "
            f"those of one of them: {as_flags(paper, [target], theirs)}."
        )
    return published_mat(paper, target)
