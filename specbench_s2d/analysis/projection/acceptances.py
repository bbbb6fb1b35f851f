"""The acceptances that a projection multiplies with: a recorded run's, or a paper's for each target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from specbench_s2d.errors import UserError
from specbench_s2d.published import PREFIX, PublishedMat, match_name, published_mat
from specbench_s2d.runs.folder import read_finished_run
from specbench_s2d.runs.record import Record


@dataclass(frozen=True)
class Acceptances:
    """`records` of a run, or what a paper `published`, by target as given; one of them is empty."""

    records: Sequence[Record] = ()
    published: dict[str, PublishedMat] = field(default_factory=dict)

    @classmethod
    def find(cls, given: str, targets: Sequence[str]) -> Acceptances:
        """What `given`, a run's folder or `published:PAPER`, says of these targets.

        Raises `UserError` where there is no such run or paper, and where it says nothing of a target.
        """
        if given.startswith(PREFIX):
            return cls(published={name: published_mat(given.removeprefix(PREFIX), name) for name in targets})
        records = read_finished_run(Path(given))
        known = sorted({r.target for r in records if r.status == "ok"})
        for name in targets:
            if match_name(name, known) is None and len(known) != 1:
                raise UserError(
                    f"--acceptance {given}: nothing recorded on target {name}; it has {', '.join(known) or 'none'}: "
                    "give a run of this target, or of one target alone."
                )
        return cls(records)
