"""The memory of captures is measured batch by batch, and graphs that will not fit are refused before timing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from specbench_s2d.errors import ModelError
from specbench_s2d.models.base import Identity, PassKind
from specbench_s2d.models.engines.capture import Work
from specbench_s2d.models.engines.choose import choose_engine
from specbench_s2d.models.engines.graph_keys import GraphKind
from specbench_s2d.models.engines.trial import trial_keys
from specbench_s2d.models.llama import LlamaModel
from tests.models.captured import RecordingCapture, graph_engine
from tests.models.reference import family_model, random_ids
from tests.refusals import refused

GRAPH_BYTES = 10_000_000
FIRST_TIME_BYTES = 500_000_000


class Device:
    """A device of so many free bytes, of which a graph takes 10 MB, and the first one half a gigabyte besides."""

    def __init__(self, free_bytes: int) -> None:
        self.free_bytes = free_bytes
        self.read, self.recorded = 0, 0
        self._recording = RecordingCapture()

    def capture(self, work: Work) -> Work:
        self.free_bytes -= GRAPH_BYTES + (0 if self.recorded else FIRST_TIME_BYTES)
        self.recorded += 1
        return self._recording.capture(work)

    def free(self) -> int:
        self.read += 1
        return self.free_bytes


def model_on(device: Device, free_bytes: Callable[[], int] | None) -> LlamaModel:
    nobody: Any = None
    model = family_model("llama")
    engine = graph_engine(device, model="tiny", free_bytes=free_bytes)
    reader, identity = model.state_dict().__getitem__, Identity("tiny")
    where = torch.device("cpu"), torch.float32
    return LlamaModel(identity, model.config, reader, nobody, frozenset(), *where, engine)


def test_what_all_captures_took_is_summed() -> None:
    device = Device(10**10)
    model = model_on(device, device.free)
    model.reserve(400)
    tried = model.engine_facts
    assert tried["captures"] == device.recorded > 0
    assert tried["graph_bytes_measured"] == device.recorded * GRAPH_BYTES + FIRST_TIME_BYTES
    model.prepare([PassKind(3)])
    model.extend(random_ids(20))
    model.extend(random_ids(2))
    facts = model.engine_facts
    assert facts["captures"] == device.recorded > tried["captures"]
    assert (
        facts["graph_bytes_measured"] == device.recorded * GRAPH_BYTES + FIRST_TIME_BYTES == 10**10 - device.free_bytes
    )


def test_without_a_device_that_tells_the_reason_is_given() -> None:
    device = Device(10**10)
    model = model_on(device, None)
    model.reserve(100)
    facts = model.engine_facts
    assert device.recorded and device.read == 0
    assert facts["graph_bytes_measured"] is None and "run on a CPU" in facts["graph_bytes_measured_reason"]


def test_a_batch_that_cannot_be_told_leaves_the_sum_unknown() -> None:
    device = Device(10**10)
    model = model_on(device, device.free)
    model.reserve(100)
    taken, device.capture = device.capture, grows(device)  # type: ignore[method-assign]
    model.prepare([PassKind(1)])
    device.capture = taken  # type: ignore[method-assign]
    model.prepare([PassKind(2)])
    facts = model.engine_facts
    assert facts["graph_bytes_measured"] is None and "released memory" in facts["graph_bytes_measured_reason"]


def grows(device: Device) -> Callable[[Work], Work]:
    """Somebody else gives memory back while work is captured."""

    def capture(work: Work) -> Work:
        device.free_bytes += 10**6
        return RecordingCapture().capture(work)

    return capture


# Of 3 layers, up to 2 rows and their likeliest token, then up to 8 rows and their logits: 10 rows in all, of 3 lengths
# each (128, 256 and the capacity). The trial has left some of the second.
ASKED = (PassKind(2, best=1), PassKind(8))
FIRST, SECOND = (
    GraphKind(False, 0, 3, states=False, logits=False, best=1),
    GraphKind(False, 0, 3, states=False, logits=True),
)
LENGTHS = 3


def tried(device: Device) -> tuple[LlamaModel, int]:
    """A model whose engine was tried, and how many graphs of the second kind it has already."""
    model = model_on(device, device.free)
    model.reserve(400)
    lengths = tuple(model.engine_facts["buckets"])
    kinds = [key.kind for key in trial_keys(model.depth, lengths)]
    assert len(lengths) == LENGTHS and kinds.count(FIRST) == 0
    assert model.engine_facts["graphs"] == len(kinds)
    return model, kinds.count(SECOND)


def test_declared_graphs_that_will_not_fit_are_refused_after_the_first_batch() -> None:
    device = Device(10**10)
    model, held = tried(device)
    before, left = device.recorded, 8 * LENGTHS - held
    device.free_bytes = (2 * LENGTHS + left) * GRAPH_BYTES - 1
    figures = f"tiny: 6 CUDA graphs took 0.060 GB, the {left} that are left would take {left / 100:.3f} GB"
    with refused(ModelError, figures, "Lower --max-new-tokens", "--engine eager"):
        model.prepare(ASKED)
    assert device.recorded == before + 2 * LENGTHS


def test_declared_graphs_that_just_fit_are_captured() -> None:
    device = Device(10**10)
    model, held = tried(device)
    device.free_bytes = (2 * LENGTHS + 8 * LENGTHS - held) * GRAPH_BYTES
    model.prepare(ASKED)
    assert device.free_bytes == 0
    model.extend(random_ids(20))
    for rows in (1, 8):
        model.extend(random_ids(rows))
    assert model.engine_facts["unannounced"] == 0 and device.free_bytes == 0


def test_nothing_is_judged_by_what_a_trial_takes() -> None:
    """The first graph of all takes half a gigabyte more: fifty of its size would not fit, and fifty graphs do."""
    device = Device(FIRST_TIME_BYTES + 100 * GRAPH_BYTES)
    model = model_on(device, device.free)
    model.prepare(ASKED)
    model.reserve(400)
    assert model.engine == "cuda-graphs"
    model.prepare(ASKED)


def test_refusals_name_the_model() -> None:
    config: Any = None
    engine = choose_engine(None, "big", config, torch.device("cuda"), torch.bfloat16)
    assert engine.keywords == {"asked": None, "model": "big"}  # type: ignore[attr-defined]
