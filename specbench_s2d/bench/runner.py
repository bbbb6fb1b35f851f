"""The only benchmark loop: target by target, question by question, decoders interleaved; every cell exactly once."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from specbench_s2d.bench.energy_pass import EnergyPass
from specbench_s2d.bench.memory import check_memory
from specbench_s2d.bench.monitor import Monitor
from specbench_s2d.bench.phase_timer import PhaseTimer
from specbench_s2d.bench.plan import Cell, Lane, Plan
from specbench_s2d.bench.prompts import Prompt, Prompts
from specbench_s2d.bench.session import Session, blank_record, prompts_for
from specbench_s2d.errors import PromptTooLongError, UserError
from specbench_s2d.measure.attention import planless_attention
from specbench_s2d.measure.conditions import Finding
from specbench_s2d.measure.energy.block import MIN_BLOCK_S
from specbench_s2d.measure.energy.choose import MeterChoice, choose_meter
from specbench_s2d.measure.energy.meter import EnergyMeter
from specbench_s2d.measure.environment import environment
from specbench_s2d.runs.folder import RunStore, schema_of
from specbench_s2d.runs.record import BASELINE, SCHEMA_VERSION, Record
from specbench_s2d.suites import Question

ANOTHER_TURN_FAILED = "an earlier turn of this conversation has no answer"


@dataclass(frozen=True)
class Event:
    """What a watcher is told: a phase that begins (`text`), or cells that are done."""

    text: str | None
    done: int
    cells: int
    records: list[Record] = field(default_factory=list)
    seconds_left: float | None = None


Watcher = Callable[[Event], None]
Fresh = tuple[Record, Prompt | None]
"""A record just made, and the prompt it answers where there is something to score."""


@dataclass(frozen=True)
class Outcome:
    """A finished run: its folder and every record."""

    folder: Path
    records: list[Record]

    @property
    def failed(self) -> int:
        return sum(record.status == "failed" for record in self.records)

    @property
    def mismatched(self) -> int:
        return sum(record.divergence is not None and record.divergence.verdict == "mismatch" for record in self.records)


def execute(
    plan: Plan,
    folder: Path,
    watch: Watcher = lambda event: None,
    retry_failed: bool = False,
    meter: EnergyMeter | None = None,
) -> Outcome:
    """Run every cell that `folder` does not hold yet, then what is left of the energy pass, and return all records.

    `meter`: one to use in place of what the spec's `energy` asks for. Raises `UserError` before anything is timed when
    a prompt or a model cannot fit, the folder holds another run, or the meter asked for cannot be read.
    """
    prompts = {target: checked_prompts(plan, target) for target in plan.spec.target}
    for target, laid_out in prompts.items():
        check_memory(plan, target, laid_out)
    choice = MeterChoice(meter) if meter else choose_meter(plan.spec.energy or "off", plan.spec.device or plan.device)
    with planless_attention():
        return _executed(plan, folder, prompts, watch, retry_failed, choice)


def _executed(
    plan: Plan, folder: Path, prompts: dict[str, Prompts], watch: Watcher, retry_failed: bool, choice: MeterChoice
) -> Outcome:
    plan = replace(plan, key_schema=schema_of(folder))
    facts = environment(plan.device)
    with RunStore(folder, new_manifest(plan, folder.name, facts)) as store, EnergyPass(plan, store, choice) as energy:
        account = PhaseTimer()
        machine = Monitor(plan.device, facts, store, account)
        run = _Run(plan, prompts, store, watch, retry_failed, machine, energy, account)
        if store.repaired:
            run.say(f"repaired {folder}: a torn last line of {store.repaired} bytes was cut off; its cell runs again.")
        for target in plan.spec.target:
            run.run_target(target)
        if machine.looked:
            run.look("end")
            store.note(ended=_now(), harness=account.facts(store.manifest.get("harness")))
        return Outcome(folder, store.records())


def checked_prompts(plan: Plan, target: str) -> Prompts:
    """Template, drafts and, with `--long-prompts fail`, the length of every prompt: before anything is loaded."""
    prompts = prompts_for(plan, target)
    if plan.spec.long_prompts == "fail":
        for question in plan.questions:
            prompts.check(question)
    return prompts


def new_manifest(plan: Plan, run_id: str, facts: dict[str, Any]) -> dict[str, Any]:
    """What a run is and what it runs on (`facts`: its `environment`); `identity` decides whether a folder holds the
    same run."""
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "identity": plan.identity(),
        "spec": plan.spec.model_dump(),
        "questions": plan.questions.source,
        "cells": plan.cells,
        "quality_metrics": plan.grader.signatures(),
        "environment": facts,
        "conditions": [],
        "read_rate_bytes_per_s": None,
        "copy_rate_bytes_per_s": None,
        "reasons": {},
        "started": _now(),
        "ended": None,
        "targets": {},
    }


class _Run:
    def __init__(
        self,
        plan: Plan,
        prompts: dict[str, Prompts],
        store: RunStore,
        watch: Watcher,
        retry_failed: bool,
        machine: Monitor,
        energy: EnergyPass,
        account: PhaseTimer,
    ) -> None:
        self._plan, self._prompts, self._store, self._watch = plan, prompts, store, watch
        self._machine, self._energy, self._account = machine, energy, account
        self._run_id = str(store.manifest["run_id"])
        kept = store.records()
        self._held = {r.key: r for r in kept if not (retry_failed and _failed(r))}
        self._already, self._started = len(self._held), time.monotonic()
        self.targets: dict[str, Any] = dict(store.manifest.get("targets", {}))

    def say(self, text: str) -> None:
        self._watch(Event(text, len(self._held), self._plan.cells))

    def look(self, at: str) -> None:
        """Look for what spoils the measuring, and say what is new."""
        for line in self._machine.look(at):
            self.say(line)

    def _say_unprepared(self, session: Session) -> None:
        """Work that should have been done before timing, and was not."""
        said = {
            "captures": "captured {} graphs while it was timed",
            "unannounced": "ran {} narrow passes eagerly, for no decoder had announced them",
        }
        found = [
            Finding("the engine", said[name].format(count), "this is a fault of a decoder: report it", transient=True)
            for name, count in session.unprepared.items()
            if count
        ]
        for line in self._machine.add(session.target.name, found):
            self.say(line)

    def run_target(self, target: str) -> None:
        """All rounds of one target, then its energy pass; the model is loaded only if any of it is left."""
        rounds = [r for r in self._plan.rounds(target) if self._left(target, *r)]
        if rounds or self._energy.left(target, self._held):
            session = self._loaded(target)
            if rounds:
                self._time(target, session, rounds)
            self._meter(target, session)
        shares = self._energy.share(self._held.values())
        if shares:
            self._store.append(shares)
        self._held.update({record.key: record for record in shares})

    def _loaded(self, target: str) -> Session:
        for line in self._machine.begin():
            self.say(line)
        self.say(f"{target}: loading and warming up; prompts by the template {self._prompts[target].template.name!r}")
        rate = self._machine.read_rate_bytes_per_s()
        return Session(self._plan, target, self._run_id, self._prompts[target], rate, self._account)

    def _meter(self, target: str, session: Session) -> None:
        blocks = len(self._energy.left(target, self._held))
        if blocks:
            self.say(f"{target}: metering energy, {blocks} blocks of at least {MIN_BLOCK_S:g} s")
        with self._account.measure("energy"):
            self._energy.run(target, session, self._held)

    def _time(self, target: str, session: Session, rounds: list[tuple[int, Question, list[Lane]]]) -> None:
        """Decode and score the rounds that are left, and say in the manifest with what."""
        self.targets[session.target.name] = {
            "forward": session.target.identity.forward,
            "engines": session.engines(),
            "revision": session.target.identity.revision,
            "weights_sha256": session.target.identity.weights_sha256,
            "random_weights": session.target.identity.random_weights,
            "template": session.prompts.template.name,
            "context": session.prompts.context,
            "parameter_bytes": session.target.parameter_bytes,
            "logit_noise": None if math.isnan(session.noise) else session.noise,
            "logit_noise_rows": asdict(session.noise_rows),
            "warm_up": {label: done.facts() for label, done in session.warm_up.items()},
            **({"scripts": scripts} if (scripts := session.scripts()) else {}),
        }
        metrics = {"quality_metrics": self._plan.grader.signatures()}  # a folder of an older release has none yet
        self._store.write_manifest({**metrics, **self._store.manifest, "targets": self.targets})
        try:
            for repeat, question, order in rounds:
                self._round(session, target, repeat, question, order)
        finally:  # of this sitting: a run that goes on later learns anew
            self.targets[session.target.name]["decoders"] = session.facts()
            self._store.note(targets=self.targets)
        self._say_unprepared(session)
        self.look(session.target.name)

    def _left(self, target: str, repeat: int, question: Question, order: list[Lane]) -> bool:
        turns = range(len(question.turns))
        return any(
            self._plan.cell(target, lane, question, t, repeat).key not in self._held for lane in order for t in turns
        )

    def _round(self, session: Session, target: str, repeat: int, question: Question, order: list[Lane]) -> None:
        """Decode one question with every decoder, then score and store what is new in one write."""
        cells = {
            lane.label: [self._plan.cell(target, lane, question, turn, repeat) for turn in range(len(question.turns))]
            for lane in order
        }
        of_ar = cells.get(BASELINE, [])
        fresh = [made for lane in order for made in self._converse(session, cells[lane.label], of_ar)]
        baseline = {cell.turn: self._held[cell.key] for cell in of_ar if cell.key in self._held}
        with self._account.measure("scoring"):
            scored = [session.score(r, p, question, baseline.get(r.turn)) if p else r for r, p in fresh]
        self._account.add("decoding", sum(record.total_s or 0.0 for record in scored))
        scored = [self._energy.explained(record) for record in scored]
        session.forget_scores()
        self._store.append(scored)
        self._held.update({record.key: record for record in scored})
        self._watch(Event(None, len(self._held), self._plan.cells, scored, self._seconds_left()))

    def _converse(self, session: Session, cells: list[Cell], baseline: list[Cell]) -> list[Fresh]:
        """All turns of one conversation that are not held yet; each turn builds on the answers before it.

        Those are this decoder's own answers, or those of the `baseline` cells where AR's turns are replayed.
        """
        fresh: list[Fresh] = []
        answers: list[str] = []
        for cell in cells:
            record, prompt = self._held.get(cell.key), None
            if record is None:
                record, prompt = self._decode(session, cell, answers)
                fresh.append((record, prompt))
                self._held[cell.key] = record
            source = self._held.get(baseline[cell.turn].key) if self._plan.spec.replay_turns == "ar" else record
            if source is None or source.output_text is None:
                fresh += self._skip(cells[cell.turn + 1 :])
                break
            answers.append(source.output_text)
        return fresh

    def _skip(self, later: list[Cell]) -> list[Fresh]:
        left = [cell for cell in later if cell.key not in self._held]
        return [(self._blank(cell, "skipped", ANOTHER_TURN_FAILED), None) for cell in left]

    def _decode(self, session: Session, cell: Cell, answers: list[str]) -> Fresh:
        try:
            return session.decode(cell, answers)
        except PromptTooLongError as error:
            status = "skipped" if self._plan.spec.long_prompts == "skip" else "failed"
            return self._blank(cell, status, str(error)), None
        except UserError:
            raise
        except Exception as error:  # out of memory, a kernel that fails: this cell fails, the run goes on
            return self._blank(cell, "failed", f"{type(error).__name__}: {error}"), None

    def _blank(self, cell: Cell, status: str, error: str) -> Record:
        return blank_record(cell, self._run_id, self._plan.spec, status, error)

    def _seconds_left(self) -> float | None:
        done = len(self._held) - self._already
        elapsed = time.monotonic() - self._started
        return elapsed / done * (self._plan.cells - len(self._held)) if done else None


def _failed(record: Record) -> bool:
    """Whether a retry should run the record's cell again: it failed, or it had no answer to build on."""
    return record.status == "failed" or record.error == ANOTHER_TURN_FAILED


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
