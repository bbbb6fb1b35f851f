"""What spoils the measuring on a run's machine, before it and while it goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from specbench_s2d.bench.phase_timer import PhaseTimer
from specbench_s2d.errors import UnfitMachineError
from specbench_s2d.measure.conditions import Finding, findings, load_meanwhile, moved, observe, restless
from specbench_s2d.runs.folder import RunStore

_UNPREPARED = {
    "captures": "captured {} graphs while it was timed",
    "unannounced": "ran {} narrow passes eagerly, for no decoder had announced them",
}


class Monitor:
    """Looks at the device at the run's start, while each target is timed and after it, and at the run's end; the
    manifest keeps what it finds.

    `found`: dicts of at (`start`, `end`, or the target), launch, about, what, advice, transient and unfit; what was
    found once in a launch is not found again. `facts`: the environment, as it was before the run worked on the device.
    `strict`: raise `UnfitMachineError` at once where times would be wrong.
    """

    def __init__(
        self,
        device: str,
        facts: Mapping[str, Any],
        store: RunStore,
        account: PhaseTimer,
        launch: int = 0,
        strict: bool = False,
    ) -> None:
        self._device, self._facts, self._store, self._account = device, dict(facts), store, account
        self.found: list[dict[str, Any]] = list(store.manifest.get("conditions", ()))
        self._launch, self._strict, self.looked = launch, strict, False

    def begin(self) -> list[str]:
        """Before the first measurement of this launch: what is newly wrong, a line each. A run whose cells are all
        there measures nothing, and nothing is found of it."""
        if self.looked:
            return []
        self.looked = True
        return self.add("start", [*findings(self._device, self._facts), *self._moved_house()])

    def _moved_house(self) -> list[Finding]:
        """Whether the run began on another machine, or with other threads: its times are then of both."""
        then, now = (_identity(facts) for facts in (self._store.manifest.get("environment") or {}, self._facts))
        changed = [f"{name} {then[name]}, now {now[name]}" for name in now if then.get(name) not in (None, now[name])]
        what = f"the run began elsewhere: {', '.join(changed)}"
        advice = "times of both stand in it; run it anew with another --out"
        return [Finding("machine", what, advice, transient=True)] if changed else []

    def restless(self, target: str, spreads: Mapping[str, float]) -> list[str]:
        """Name warm-ups of a target that never became steady (`Session.restless`)."""
        return self.add(target, restless(spreads))

    def loaded(self, target: str, load: dict[str, Any], work: str = "was timed") -> list[str]:
        """Name what others did on the cores while a target did this work (`LoadWatch.facts`)."""
        return self.add(target, load_meanwhile(load, work))

    def look(self, at: str) -> list[str]:
        """Observe the machine now, and return what is newly wrong, a line each."""
        with self._account.measure("probing"):
            now = observe(self._device)
            return self.add(at, [*findings(self._device, now), *moved(self._facts, now)])

    def unprepared(self, target: str, counts: Mapping[str, int]) -> list[str]:
        """Name what timed windows had to do that should have been done before (`Session.unprepared`)."""
        advice = "this is a fault of a decoder: report it"
        found = [
            Finding("the engine", _UNPREPARED[name].format(count), advice, transient=True)
            for name, count in counts.items()
            if count
        ]
        return self.add(target, found)

    def throttled(self, target: str, causes: Sequence[str]) -> list[str]:
        """Name what held the clocks down in the timed windows (`WindowMeter.throttled`)."""
        what, advice = f"clocks held down while timed: {', '.join(causes)}", "let it cool, or raise the power limit"
        return self.add(target, [Finding("GPU", what, advice, transient=True)] if causes else [])

    def add(self, at: str, found: Iterable[Finding]) -> list[str]:
        """Keep what is newly found, and return it, a line each; raises `UnfitMachineError` where that is asked for."""
        found = list(found)
        known = {(entry["about"], entry["what"]) for entry in self.found if entry.get("launch", 0) == self._launch}
        new = [
            {"at": at, "launch": self._launch, **asdict(finding)}
            for finding in found
            if (finding.about, finding.what) not in known
        ]
        self.found += new
        if new:
            self._store.note(conditions=self.found)
        unfit = [f"{finding.about} {finding.what}" for finding in found if finding.unfit]
        if self._strict and unfit:
            raise UnfitMachineError(
                f"--strict: this machine is not fit to measure on ({'; '.join(unfit)}). Every record so far is whole, "
                f"in {self._store.folder}; measure anew once the machine is at rest."
            )
        return [_line(entry) for entry in new]


def _identity(facts: Mapping[str, Any]) -> dict[str, Any]:
    cpu, gpu = facts.get("cpu") or {}, facts.get("gpu") or {}
    return {"processor": cpu.get("model"), "threads": cpu.get("threads"), "GPU": gpu.get("name")}


def _line(entry: Mapping[str, str]) -> str:
    return f"{entry['about']} {entry['what']}: {entry['advice']}."
