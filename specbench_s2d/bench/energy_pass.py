"""Energy of a run: its timed windows are metered while they are timed, or, with `--energy-blocks`, in a pass of its own
after a target's timing, in which every (label, suite, repeat) is decoded once more as one metered block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TypeVar

from specbench_s2d.bench.faults import give_back, told
from specbench_s2d.bench.plan import Cell, Lane, Plan
from specbench_s2d.bench.prompts import Prompt
from specbench_s2d.bench.session import Session
from specbench_s2d.decoding.clock import clock_for
from specbench_s2d.errors import is_stop
from specbench_s2d.measure.energy.block import IDLE_S, MIN_BLOCK_S, SETTLE_S, Metered, idle_power, measure_block
from specbench_s2d.measure.energy.choose import MeterChoice
from specbench_s2d.measure.energy.meter import EnergyMeter
from specbench_s2d.measure.energy.reading import IDLE_UNKNOWN
from specbench_s2d.measure.energy.windows import WindowMeter
from specbench_s2d.runs.energy_block import BlockKey, EnergyBlock, block_of
from specbench_s2d.runs.folder import RunStore, read_blocks
from specbench_s2d.runs.record import BASELINE, ENERGY_FIELDS, Record

T = TypeVar("T")
NOT_YET = "the energy pass has not come to it; the same command goes on"
NOT_DECODED = "the cell was not decoded"


class EnergyPass:
    """Meters a run's windows or its blocks, keeps blocks in its folder, and gives each record its share. Use as a
    context manager.

    Without a meter records say why. Idle power is measured on entry, before any model is loaded, unless the folder's
    manifest has it. What a meter raises becomes a reason, and loses no record.
    """

    def __init__(self, plan: Plan, store: RunStore, choice: MeterChoice) -> None:
        self._plan, self._store = plan, store
        self._meter, self._choice = choice.meter, choice
        self._in_blocks = plan.spec.energy_blocks
        self._idle_w: float | None = None

    def __enter__(self) -> EnergyPass:
        self._blocks = {block.key: block for block in read_blocks(self._store.folder)}
        manifest = self._store.manifest
        self._idle_w, reason = manifest.get("idle_power_w"), self._choice.reason
        self._idle_facts = manifest.get("idle_power")
        if self._meter and self._idle_w is None:
            measured = idle_power(self._meter)
            self._idle_w, reason, self._idle_facts = measured.watts, measured.reason, measured.facts()
        if self._meter or "energy" not in manifest:  # a launch without a meter takes nothing from one that had it
            self._write_facts(reason)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        said = self._choice.close()
        if said:
            self._store.note(energy={**self._choice.facts(), "reason": said})

    def windows(self) -> WindowMeter:
        """What meters the timed windows of one target: nothing, where blocks are asked for."""
        return WindowMeter(None if self._in_blocks else self._meter, self._idle_w)

    def left(self, target: str) -> set[BlockKey]:
        """The blocks of `target` with anything to decode that have no energy yet; none unless blocks are asked for."""
        if not (self._meter and self._in_blocks):
            return set()
        name, launch = self._plan.models[target].name, self._plan.launch
        ours = (r for r in self._store.records() if r.status == "ok" and r.target == name and r.launch == launch)
        timed = {block_of(record) for record in ours}
        return {key for key in timed if key not in self._blocks or self._blocks[key].energy_j is None}

    @property
    def why_none_yet(self) -> str:
        """Why a fresh record has no energy."""
        return self._choice.reason or (NOT_YET if self._in_blocks else NOT_DECODED)

    def run(self, target: str, session: Session) -> None:
        """Measure the blocks that are `left`; each is on disk before the next one begins."""
        left = self.left(target)
        for lane, suite, repeat in blocks_in_order(self._plan, target):
            key = (self._plan.models[target].name, lane.label, suite, repeat)
            if self._meter and key in left:
                work = list(self._work(target, session, lane, suite, repeat))
                figures = _measure(self._meter, session, work, self._idle_w).model_dump()
                block = EnergyBlock(target=key[0], label=key[1], suite=suite, repeat=repeat, **figures)
                self._store.append_block(block)
                self._blocks[key] = block

    def share(self) -> list[Record]:
        """The folder's records whose block says something of their energy that they do not, brought up to date."""
        if not self._blocks:
            return []
        ok = (record for record in self._store.records() if record.status == "ok")
        given = ((record, self._blocks.get(block_of(record))) for record in ok)
        updated = ((record, _share(record, block)) for record, block in given if block)
        return [new for old, new in updated if new != old]

    def _work(
        self, target: str, session: Session, lane: Lane, suite: str, repeat: int
    ) -> Iterator[tuple[Cell, Prompt]]:
        """The timed turns of a block, each with the prompt that it was timed with."""
        speaker = lane
        if self._plan.spec.replay_turns == "ar":
            speaker = next(other for other in self._plan.lanes[target] if other.label == BASELINE)
        for question in self._plan.questions.by_suite[suite]:
            answers: list[str] = []
            own = self._plan.conversation(target, lane, question, repeat)
            for cell, said in zip(own, self._plan.conversation(target, speaker, question, repeat), strict=True):
                record = self._store.get(cell.key)
                if record and record.status == "ok":
                    yield cell, session.prompts.lay_out(question, answers)
                spoken = self._store.get(said.key)
                if not spoken or spoken.output_text is None:
                    break
                answers.append(spoken.output_text)

    def _write_facts(self, reason: str | None) -> None:
        manifest = self._store.manifest
        reasons = {name: text for name, text in manifest.get("reasons", {}).items() if name != "idle_power_w"}
        if self._idle_w is None and reason:
            reasons["idle_power_w"] = reason
        facts = {"idle_power": self._idle_facts} if self._idle_facts else {}
        self._store.note(energy=self._choice.facts(), idle_power_w=self._idle_w, reasons=reasons, **facts)


def blocks_in_order(plan: Plan, target: str) -> Iterator[tuple[Lane, str, int]]:
    """(lane, suite, repeat) in the order of measuring: labels and suites move on by one place with each repeat."""
    for repeat in range(plan.spec.repeats):
        for suite in _rotated(list(plan.questions.by_suite), repeat):
            for lane in _rotated(plan.lanes[target], repeat):
                yield lane, suite, repeat


def energy_forecast(plan: Plan, choice: MeterChoice, timing_s: float) -> dict[str, str | float | None]:
    """The meter of a run or why it has none; the blocks of its pass, 0 where the timed windows are metered; and the
    seconds that metering takes at least: idle power, then blocks, each of which decodes its questions once (`timing_s`
    in all launches; blocks are of one), or until it is long enough."""
    if not choice.meter:
        return {**choice.facts(), "blocks": 0, "least_s": 0.0}
    blocks = sum(1 for target in plan.targets for _ in blocks_in_order(plan, target))
    pass_s = max(blocks * MIN_BLOCK_S, timing_s / plan.spec.launches) if plan.spec.energy_blocks else 0.0
    return {
        **choice.facts(),
        "blocks": blocks if plan.spec.energy_blocks else 0,
        "least_s": IDLE_S + SETTLE_S + pass_s,
    }


def _measure(
    meter: EnergyMeter, session: Session, work: Sequence[tuple[Cell, Prompt]], idle_w: float | None
) -> Metered:
    def one_round() -> int:
        return sum(session.decode_again(cell, prompt) for cell, prompt in work)

    try:
        return measure_block(meter, one_round, clock_for(session.target.device).wait, idle_w)
    except BaseException as error:  # this block has no energy, the run goes on
        if is_stop(error):
            raise
        why = told(error)
        give_back(error)
        return Metered.failed(meter, why)


def _share(record: Record, block: EnergyBlock) -> Record:
    """The record with its part of the block, by its new tokens; or with the block's reason for having none. Where the
    block has none, what was metered while the record was timed stays."""
    if block.energy_j_per_token is None and record.energy_j is not None:
        return record
    reasons = {name: text for name, text in record.reasons.items() if name not in ENERGY_FIELDS}
    trace = None if block.trace_j is None or not block.new_tokens else block.trace_j / block.new_tokens
    shares = {
        "energy_j": (block.energy_j_per_token, block.reason or "its block has no energy"),
        "energy_net_j": (block.energy_net_j_per_token, block.net_reason or block.reason or IDLE_UNKNOWN),
        "energy_trace_j": (trace, block.trace_reason or "its block has no trace"),
    }
    for name, (per_token, reason) in shares.items():
        if per_token is None:
            reasons[name] = reason
    tokens = record.new_tokens or 0
    joules = {name: None if per_token is None else per_token * tokens for name, (per_token, _) in shares.items()}
    return record.updated(**joules, energy_s=None, reasons=reasons)


def _rotated(items: Sequence[T], places: int) -> list[T]:
    places %= len(items)
    return [*items[places:], *items[:places]]
