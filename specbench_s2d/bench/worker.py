"""What a worker does: the benchmark loop on one device, over the blocks that the driver hands it.

How it is reached (`bench/local_workers.py`, `bench/ray_workers.py`) makes no difference here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any

import torch

from specbench_s2d.bench.blocks import Block
from specbench_s2d.bench.energy_pass import EnergyPass
from specbench_s2d.bench.faults import told
from specbench_s2d.bench.messages import (
    Ask,
    Begin,
    DriverGone,
    Facts,
    Gone,
    Hello,
    Kept,
    Link,
    Order,
    Refused,
    Said,
    Work,
)
from specbench_s2d.bench.monitor import Monitor
from specbench_s2d.bench.phase_timer import PhaseTimer
from specbench_s2d.bench.plan import Plan, make_plan
from specbench_s2d.bench.preflight import check
from specbench_s2d.bench.runner import Event, Progress, Run
from specbench_s2d.bench.session import Session
from specbench_s2d.display import show_logs_and_warnings
from specbench_s2d.errors import RunFolderError, UserError, is_stop
from specbench_s2d.measure.attention import planless_attention
from specbench_s2d.measure.energy.choose import MeterChoice, choose_meter
from specbench_s2d.measure.environment import device_id, environment
from specbench_s2d.models.devices import HOST, default_device, first_device, free_bytes
from specbench_s2d.models.file_hash import learn_hashes
from specbench_s2d.runs.folder import RunStore, new_run_id
from specbench_s2d.runs.parts import OF_A_PART
from specbench_s2d.runs.record import Record


class SentStore(RunStore):
    """A run's store whose writer is the driver: records and facts go there. Records of the block at hand stay here too.

    `part`: the facts of this device so far. `probe`: raises where the device is lost; it is asked before cells that
    failed are sent, for others may then run them.
    """

    def __init__(self, order: Order, part: dict[str, Any], link: Link, probe: Callable[[], object]) -> None:
        super().__init__(order.folder, {})
        start = {"run_id": new_run_id(order.folder), "schema_version": order.schema, "cells": order.cells}
        self.manifest = {**start, "conditions": [], "reasons": {}, "targets": {}, **part}
        self._link, self._probe = link, probe
        self._held: dict[str, Record] = {}

    def begin(self, held: Iterable[Record]) -> None:
        """A block begins, with the records that there are of it; those of the block before are forgotten."""
        self._held = {record.key: record for record in held}

    def get(self, key: str) -> Record | None:
        return self._held.get(key)

    def records(self) -> Iterator[Record]:
        """Those of the block at hand."""
        return iter(self._held.values())

    def append(self, records: Iterable[Record]) -> None:
        """Send records to the driver; raises what `probe` raises."""
        records = self.versioned(records)
        if any(record.status == "failed" for record in records):
            self._probe()
        self._link.send(Kept(records))
        self._held.update({record.key: record for record in records})

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Tell the driver."""
        self.manifest = manifest
        self._link.send(Facts({name: manifest[name] for name in OF_A_PART if name in manifest}))


def work(order: Order, link: Link, open_session: Callable[..., Session] = Session) -> None:
    """Do blocks until there are no more, or until the driver is gone."""
    show_logs_and_warnings()
    try:
        try:
            _work(order, link, open_session)
        except UserError as error:
            link.send(Refused(error))
        except BaseException as error:
            if is_stop(error):
                raise
            link.send(Gone(told(error)))
    except DriverGone:
        pass


def _work(order: Order, link: Link, open_session: Callable[..., Session]) -> None:
    with planless_attention():
        facts, timer = environment(first_device(order.spec.device or default_device())), PhaseTimer()
        own = device_id(facts) + order.device_part
        link.send(Hello(own, facts))
        begin = link.receive()
        assert isinstance(begin, Begin)
        learn_hashes(order.hashes)
        plan = replace(make_plan(order.spec), key_schema=order.schema, launch=order.launch)
        _check_same(plan, order)
        setups = check(plan, lambda device: _free_bytes(device, order.memory_bytes))
        kind = plan.spec.energy or "off"
        unmetered = order.no_energy if kind != "off" else None
        choice = MeterChoice(None, unmetered) if unmetered else choose_meter(kind, plan.device)
        probe = partial(_use, plan.device)
        store = SentStore(order, {"environment": facts, **begin.part}, link, probe)
        with EnergyPass(plan, store, choice) as energy:
            monitor = Monitor(plan.device, facts, store, timer, order.launch, order.strict)

            def watch(event: Event) -> None:
                if event.text:
                    link.send(Said(event.text))

            progress = Progress(watch, plan.cells)
            run = Run(plan, store, progress, monitor, energy, timer, open_session, own)
            for target, blocks in groupby(_blocks(link, progress, store, timer), key=attrgetter("target")):
                run.target(setups[target], (r for block in blocks for r in plan.rounds(target, block.places)))
            if monitor.looked:
                run.note_harness()
                progress.say(*monitor.look("end"))


def _blocks(link: Link, progress: Progress, store: SentStore, timer: PhaseTimer) -> Iterator[Block]:
    """Blocks as the driver hands them out. The last one is done when the next is asked for."""
    while True:
        asked = time.perf_counter()
        link.send(Ask())
        given = link.receive()
        timer.leave_out(time.perf_counter() - asked)
        if not isinstance(given, Work):
            return
        store.begin(given.held)
        progress.hold(record.key for record in given.held)
        yield given.block


def _use(device: str) -> None:
    """Raise `RuntimeError` where the device does nothing any more: a GPU that fell off its bus, or that a fault before
    has made unusable to this process."""
    torch.ones(1, device=device).sum().item()


def _free_bytes(device: str, share: int | None) -> int:
    """A device's free bytes; of the host's, no more than this worker's share."""
    free = free_bytes(device)
    return min(free, share) if device == HOST and share is not None else free


def _check_same(plan: Plan, order: Order) -> None:
    """Raise `RunFolderError` where this worker would run something else than the driver means: files that differ."""
    own = plan.identity()
    if changed := [name for name, value in order.identity.items() if own.get(name) != value]:
        raise RunFolderError(
            f"worker {order.seat + 1}: its files give another run than the driver's, in {', '.join(changed)}; put the "
            "same models and questions there."
        )
