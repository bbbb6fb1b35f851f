"""What spoilt the measuring while a run went on: looked for at its start, after each target and at its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from specbench_s2d.measure.conditions import Finding, findings, moved, observe


class Conditions:
    """Findings of a run as they are made, each with when: `start`, `end`, or the target that had just been run.

    `found`: dicts of at, about, what and advice, for the manifest; a finding already made is not made twice.
    """

    def __init__(self, device: str, facts: Mapping[str, Any], already: Iterable[dict[str, str]] = ()) -> None:
        self._device, self._facts = device, dict(facts)
        self.found = list(already)
        self._add("start", findings(device, self._facts))

    def look(self, at: str) -> list[str]:
        """Observe the machine now, and return what is newly wrong, a line each."""
        now = observe(self._device)
        return self._add(at, [*findings(self._device, now), *moved(self._facts, now)])

    def lines(self) -> list[str]:
        """Everything found so far, a line each."""
        return [f"{entry['about']} {entry['what']}: {entry['advice']}." for entry in self.found]

    def _add(self, at: str, found: Iterable[Finding]) -> list[str]:
        known = {(entry["about"], entry["what"]) for entry in self.found}
        new = [{"at": at, **asdict(finding)} for finding in found if (finding.about, finding.what) not in known]
        self.found += new
        return [f"{entry['about']} {entry['what']}: {entry['advice']}." for entry in new]
