"""The acceptances that a projection multiplies with: a recorded run's, or a paper's for each target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from specbench_s2d.errors import UserError
from specbench_s2d.paper_names import same_model
from specbench_s2d.published import PREFIX, PublishedMat, published_mat
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
        stray = [name for name in stand_ins or {} if name not in targets or not given.startswith(PREFIX)]
        if stray:
            raise UserError(f"--as {stray[0]}: give a --target of this command, with --acceptance {PREFIX}PAPER.")
        if given.startswith(PREFIX):
            paper = given.removeprefix(PREFIX)
            return cls(published={name: published_mat(paper, name, stand_ins) for name in targets})
        records = read_finished_run(Path(given))
        known = sorted({r.target for r in records if r.status == "ok"})
        for name in targets:
            if same_model(name, known) is None and len(known) != 1:
                raise UserError(
                    f"--acceptance {given}: nothing recorded on target {name}; it has {', '.join(known) or 'none'}: "
                    "give a run of this target, or of one target alone."
                )
        return cls(records)
