"""The only benchmark loop: target by target, question by question, decoders interleaved; every cell exactly once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from specbench_s2d.bench.energy_pass import EnergyPass
from specbench_s2d.bench.faults import TargetFault, give_back, phase, told
from specbench_s2d.bench.grader import Grader
from specbench_s2d.bench.monitor import Monitor
from specbench_s2d.bench.phase_timer import PhaseTimer
from specbench_s2d.bench.plan import Cell, Plan, Round
from specbench_s2d.bench.preflight import TargetSetup, check
from specbench_s2d.bench.prompts import Prompt
from specbench_s2d.bench.session import Session
from specbench_s2d.errors import PromptTooLongError, UserError, is_stop
from specbench_s2d.measure.attention import planless_attention
from specbench_s2d.measure.bandwidth import LATER_ROUNDS
from specbench_s2d.measure.energy.block import MIN_BLOCK_S
from specbench_s2d.measure.energy.choose import MeterChoice, choose_meter
from specbench_s2d.measure.energy.meter import EnergyMeter
from specbench_s2d.measure.environment import device_id, environment
from specbench_s2d.measure.machine import LoadWatch
from specbench_s2d.models.devices import Free, free_bytes, release_memory
from specbench_s2d.models.remarks import head_remarks, remarks
from specbench_s2d.runs.columns import VERDICT, Records
from specbench_s2d.runs.folder import RunStore, new_run_id
from specbench_s2d.runs.identity import is_greedy_run
from specbench_s2d.runs.manifest import utc_now
from specbench_s2d.runs.reading import read_columns
from specbench_s2d.runs.record import ANOTHER_TURN_FAILED, BASELINE, ENERGY_FIELDS, Record


@dataclass(frozen=True)
class Event:
    """What a watcher is told: a phase that begins (`text`), or cells that are done."""

    text: str | None
    done: int
    cells: int
    records: list[Record] = field(default_factory=list)
    seconds_left: float | None = None


Watcher = Callable[[Event], None]


class Progress:
    """The cells of a run that are `done`, by key, of every launch; told to a watcher."""

    def __init__(self, watch: Watcher, cells: int, done: Iterable[str] = ()) -> None:
        self.done, self._watch, self._cells = set(done), watch, cells
        self._already, self._started = len(self.done), time.monotonic()

    def hold(self, keys: Iterable[str]) -> None:
        """Cells whose records are there already are done."""
        before = len(self.done)
        self.done.update(keys)
        self._already += len(self.done) - before

    def add(self, records: list[Record]) -> None:
        """Cells are done now; tell of them, and when the others will be."""
        self.done.update(record.key for record in records)
        elapsed_s, new = time.monotonic() - self._started, len(self.done) - self._already
        left_s = elapsed_s / new * (self._cells - len(self.done)) if new else None
        self._watch(Event(None, len(self.done), self._cells, records, left_s))

    def say(self, *lines: str) -> None:
        """Tell lines for a person."""
        for line in lines:
            self._watch(Event(line, len(self.done), self._cells))


Decoded = tuple[Record, Prompt | None]
"""A record just made, and the prompt it answers where there is an answer to grade."""


@dataclass(frozen=True)
class Outcome:
    """A finished run: its folder, and every record, read when it is first asked for unless it is `given`."""

    folder: Path
    given: Sequence[Record] | None = None

    @cached_property
    def records(self) -> Sequence[Record]:
        return read_columns(self.folder)[0] if self.given is None else self.given

    @property
    def failed(self) -> int:
        return int(Records.of(self.records).equal("status", "failed").sum())

    @property
    def mismatched(self) -> int:
        return int(Records.of(self.records).equal(VERDICT, "mismatch").sum())


def execute(
    plan: Plan,
    folder: Path,
    watch: Watcher = lambda event: None,
    retry_failed: bool = False,
    strict: bool = False,
    *,
    meter: EnergyMeter | None = None,
    open_session: Callable[..., Session] = Session,
    free: Free = free_bytes,
) -> Outcome:
    """Run every cell of the plan's launch that `folder` does not hold yet, then what is left of the energy pass.
    `launches.run_launches` does this for all launches, each in a process of its own.

    `strict`: raise `UnfitMachineError` as soon as the machine is found unfit to measure on. `meter`: one to use in
    place of what the spec's `energy` asks for. `open_session`: makes a target's `Session`. `free`: a device's free
    bytes.
    Raises `UserError` before anything is timed when a prompt or a model cannot fit, the folder holds another run, or
    the meter asked for cannot be read.
    """
    plan = plan.in_folder(folder)
    setups = check(plan, free, folder)
    choice = MeterChoice(meter) if meter else choose_meter(plan.spec.energy or "off", plan.target_device)
    with planless_attention():
        facts, timer = environment(plan.device), PhaseTimer()
        with (
            RunStore(folder, plan.manifest(new_run_id(folder), facts)) as store,
            EnergyPass(plan, store, choice) as energy,
        ):
            progress = Progress(watch, plan.cells, store.keys - store.failed if retry_failed else store.keys)
            monitor = Monitor(plan.device, facts, store, timer, plan.launch, strict)
            run = Run(plan, store, progress, monitor, energy, timer, open_session, device_id(facts))
            widen(store, plan)
            if store.repaired:
                progress.say(repaired_text(store))
            for target in plan.targets:
                run.target(setups[target], plan.rounds(target))
            ended = ended_at(store, len(progress.done), monitor.looked)
            if monitor.looked or (ended and not store.manifest.get("ended")):  # killed before it said so
                store.note(ended=ended)
                run.note_harness()
                progress.say(*monitor.look("end"))
    return Outcome(folder)


def ended_at(store: RunStore, done: int, is_new: bool) -> str | None:
    """When a run ended whose cells are all done: now where any of them `is_new`, else as its manifest says; of one that
    was killed before it could say so, when its last record was written. None where cells are left."""
    if done < store.manifest["cells"]:
        return None
    return utc_now() if is_new else store.manifest.get("ended") or store.last_written


def repaired_text(store: RunStore) -> str:
    """What is said of a folder whose last line was torn by a kill."""
    return f"repaired {store.folder}: a torn last line of {store.repaired} bytes was cut; its cell runs again."


def widen(store: RunStore, plan: Plan) -> None:
    """A folder that has fewer launches than are asked for now takes the others."""
    spec = store.manifest.get("spec") or {}
    if spec.get("launches", 1) < plan.spec.launches:
        store.note(spec={**spec, "launches": plan.spec.launches}, cells=plan.cells, ended=None)


class Run:
    """One launch of a run on one device: what is done already, and what is left."""

    def __init__(
        self,
        plan: Plan,
        store: RunStore,
        progress: Progress,
        monitor: Monitor,
        energy: EnergyPass,
        timer: PhaseTimer,
        open_session: Callable[..., Session],
        device_id: str,
    ) -> None:
        self._plan, self._store, self._progress, self._open_session = plan, store, progress, open_session
        self._done, self._say, self._device_id = progress.done, progress.say, device_id
        self._monitor, self._energy, self._timer = monitor, energy, timer
        self._before = store.manifest.get("harness")
        self._no_energy_yet = dict.fromkeys(ENERGY_FIELDS, energy.why_none_yet)
        self._loaded = False

    def note_harness(self) -> None:
        """Say in the manifest where the time went so far, that of earlier launches included."""
        self._store.note(harness=self._timer.facts(self._before))

    def target(self, setup: TargetSetup, rounds: Iterable[Round]) -> None:
        """Rounds of one target, then its energy pass; the model is loaded only if any of it is left.

        `rounds` are taken one by one, so that they may come from elsewhere while the target stays loaded.
        """
        left = filter(self._is_left, rounds)
        first = list(islice(left, 1))
        if first or self._energy.left(setup.target):
            try:
                session = self._load(setup)
            except TargetFault as fault:
                self._fail(setup.target, chain(first, left), fault)
            else:
                if first:
                    self._time(session, chain(first, left))
                self._meter(setup.target, session)
        if shares := self._energy.share():
            self._store.append(shares)

    def _is_left(self, asked: Round) -> bool:
        return any(cell.key not in self._done for cells in asked.conversations for cell in cells)

    def _load(self, setup: TargetSetup) -> Session:
        if self._loaded:  # the last target's models, which nothing refers to any more; those that failed to load too
            release_memory()
        self._loaded = True
        self._say(*self._monitor.begin())
        template = setup.prompts.template.name
        self._say(f"{setup.target}: loading and warming up; prompts by the template {template!r}")
        models, spec = self._plan.models, self._plan.spec
        self._say(*remarks(models[setup.target], ignore_eos=spec.ignore_eos))
        drafts = [models[draft] for draft in self._plan.drafts(setup.target)]
        self._say(*(line for draft in drafts for line in remarks(draft, is_draft=True)))
        self._say(*(line for draft in drafts for line in head_remarks(draft, models[setup.target])))
        watch, session = LoadWatch(), self._open_session(self._plan, setup, self._timer, self._energy.windows())
        # other work here makes the engine choose fewer threads, for the whole launch
        self._say(*self._monitor.loaded(session.target.name, watch.facts(), "warmed up"))
        self._say(*self._monitor.restless(session.target.name, session.restless))
        self._say(*(f"{setup.target}: {label} will not run: {fault}" for label, fault in session.faults.items()))
        return session

    def _fail(self, target: str, rounds: Iterable[Round], fault: TargetFault) -> None:
        """Fail what is left of a target, and go on; raises what a person did wrong where there is no other target."""
        if isinstance(fault.__cause__, UserError) and len(self._plan.targets) == 1:
            raise fault.__cause__
        give_back(fault)
        self._say(f"{target}: failed: {fault}")
        for asked in rounds:
            cells = [cell for cells in asked.conversations for cell in cells if cell.key not in self._done]
            self._keep([self._record(cell, "failed", str(fault)) for cell in cells])

    def _meter(self, target: str, session: Session) -> None:
        blocks = len(self._energy.left(target))
        if blocks:
            self._say(f"{target}: metering energy, {blocks} blocks of at least {MIN_BLOCK_S:g} s")
        with self._timer.measure("energy"):
            self._energy.run(target, session)

    def _time(self, session: Session, rounds: Iterable[Round]) -> None:
        """Decode and grade the rounds that are left, and say in the manifest with what."""
        name, facts = session.target.name, session.facts()
        sampled = not is_greedy_run(self._plan.settings)
        grader = Grader(session.target, session.noise, self._plan.scorer, sampled, session.drafts)
        metrics = {"quality_metrics": self._plan.scorer.signatures()}  # a folder of an older release has none yet
        self._note_target(name, facts, metrics)
        watch = LoadWatch()
        try:
            for asked in rounds:
                self._round(session, grader, asked)
                self._probe(name, session.read_rate.measure_if_due)
                watch.lap()
            self._probe(name, partial(session.read_rate.measure, LATER_ROUNDS))
        finally:  # of this launch: a run that goes on later learns anew
            learnt = {"decoders": session.decoder_facts(), "read_rate": session.read_rate.facts()}
            learnt |= {"load": (load := watch.facts()), **session.windows.facts()}
            self._note_target(name, {**facts, **learnt}, {})
            self.note_harness()
        spoiled = [*self._monitor.unprepared(name, session.unprepared), *self._monitor.loaded(name, load)]
        spoiled += self._monitor.throttled(name, session.windows.throttled)
        self._say(*spoiled, *self._monitor.look(name))

    def _probe(self, name: str, measure: Callable[[], None]) -> None:
        """Measure the read rate again; where that fails, the rounds before stand."""
        with self._timer.measure("probing"), phase("measuring the read rate again", self._say, f"target {name}"):
            measure()

    def _note_target(self, name: str, facts: dict[str, Any], others: dict[str, Any]) -> None:
        manifest = self._store.manifest
        self._store.write_manifest({**others, **manifest, "targets": {**manifest.get("targets", {}), name: facts}})

    def _round(self, session: Session, grader: Grader, asked: Round) -> None:
        """Decode one question with every decoder, in this order; then grade what is new, and store it in one write."""
        of_ar = next((cells for cells in asked.conversations if cells[0].label == BASELINE), [])
        new: dict[str, Record] = {}
        decoded = [made for cells in asked.conversations for made in self._converse(session, cells, of_ar, new)]
        self._timer.add("decoding", sum(record.total_s or 0.0 for record, _ in decoded))
        baseline = {cell.turn: self._record_at(cell, new) for cell in of_ar}
        with self._timer.measure("scoring"):
            graded = [grader.grade(r, p, asked.question, baseline.get(r.turn)) if p else r for r, p in decoded]
        self._keep(graded)

    def _converse(
        self, session: Session, cells: list[Cell], of_ar: list[Cell], new: dict[str, Record]
    ) -> list[Decoded]:
        """All turns of one conversation that are not done yet; each turn builds on the answers before it.

        Those are this decoder's own answers, or those of the cells `of_ar` where AR's turns are replayed.
        `new`: the records of this round so far, to which these are added.
        """
        decoded: list[Decoded] = []
        answers: list[str] = []
        for cell in cells:
            if cell.key not in self._done:
                decoded.append(self._decode(session, cell, answers))
                new[cell.key] = decoded[-1][0]
            spoken = of_ar[cell.turn] if self._plan.spec.replay_turns == "ar" else cell
            source = self._record_at(spoken, new)
            if source is None or source.output_text is None:
                left = [later for later in cells[cell.turn + 1 :] if later.key not in self._done]
                return decoded + [(self._record(later, "skipped", ANOTHER_TURN_FAILED), None) for later in left]
            answers.append(source.output_text)
        return decoded

    def _record_at(self, cell: Cell, new: dict[str, Record]) -> Record | None:
        """The record of a cell, of this round or of an earlier start; None where it is still to be run."""
        return new.get(cell.key) or (self._store.get(cell.key) if cell.key in self._done else None)

    def _decode(self, session: Session, cell: Cell, answers: list[str]) -> Decoded:
        try:
            prompt = session.prompts.lay_out(cell.question, answers)
            return self._record(cell, "ok", **session.decode(cell, prompt)), prompt
        except PromptTooLongError as error:
            status = "skipped" if self._plan.spec.long_prompts == "skip" else "failed"
            return self._record(cell, status, str(error)), None
        except BaseException as error:  # this cell fails, the run goes on
            if is_stop(error):
                raise
            why = told(error)
            give_back(error)
            return self._record(cell, "failed", why), None

    def _record(self, cell: Cell, status: str, error: str | None = None, **decoded: Any) -> Record:
        """A record of a cell, measured here; without energy it says why."""
        given = {"device_id": self._device_id, "reasons": dict(self._no_energy_yet), **decoded}
        return record_of(self._plan, self._store.manifest["run_id"], cell, status, error, **given)

    def _keep(self, records: list[Record]) -> None:
        self._store.append(records)
        self._progress.add(records)


def record_of(plan: Plan, run_id: str, cell: Cell, status: str, error: str | None, **decoded: Any) -> Record:
    """A record of a cell: what defines it, and what decoding gave."""
    decoder = cell.lane.decoder
    return Record.model_validate(
        {
            "run_id": run_id,
            "key": cell.key,
            "status": status,
            "error": error,
            "target": cell.target,
            "decoder": decoder.name,
            "label": cell.label,
            "draft": cell.draft,
            "decoder_options": decoder.options.model_dump(),
            "lossy": decoder.kind.lossy,
            "suite": cell.question.suite,
            "category": cell.question.category,
            "question_id": cell.question.id,
            "turn": cell.turn,
            "repeat": cell.repeat,
            "launch": cell.launch,
            "seed": cell.seed,
            "replay_turns": plan.spec.replay_turns,
            **decoded,
        }
    )
