"""The rehearsed device computes what the CPU does, refuses what CUDA refuses, and counts waits and launches."""

from __future__ import annotations

import pytest
import torch

from tests.rehearsal.counts import Counts
from tests.rehearsal.rules import RefusedError

CUDA = torch.device("cuda")
pytestmark = pytest.mark.usefixtures("counts")


def on_device(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, device=CUDA)


def test_values_views_and_in_place_work_are_real() -> None:
    table = torch.arange(6, device=CUDA).view(2, 3)
    table[1, 1:] = 9
    table.t()[0].add_(10)
    assert table.device == torch.device("cuda", 0)
    assert table.tolist() == [[10, 1, 2], [13, 9, 9]]


@pytest.mark.parametrize(
    "operation",
    [
        lambda there, here: torch.cat((there, here)),
        lambda there, here: there + here,
        lambda there, here: torch.where(here > 0, there, there),
        lambda there, here: there.masked_fill(here > 0, 0.0),
        lambda there, here: there[None] @ here[:, None],
        lambda there, here: there.gather(0, here.long()),
        lambda there, here: there.index_select(0, here.long()),
    ],
)
def test_operands_on_two_devices_are_refused(operation: object) -> None:
    with pytest.raises(RefusedError, match="same device"):
        operation(on_device(1.0, 0.0), torch.tensor([1.0, 0.0]))  # type: ignore[operator]


def test_a_number_of_the_host_is_fine_where_work_goes_element_by_element(counts: Counts) -> None:
    assert (on_device(1.0, 2.0) + torch.tensor(3.0)).tolist() == [4.0, 5.0]
    with pytest.raises(RefusedError):
        torch.cat((on_device(1.0), torch.tensor(3.0)[None]))


@pytest.mark.parametrize(
    ("read", "waits"),
    [
        (lambda t: t.tolist(), 1),
        (lambda t: t[0].item(), 1),
        (lambda t: int(t[0]), 1),
        (lambda t: bool(t[0] > 0), 1),
        (lambda t: t.cpu(), 1),
        (lambda t: t.nonzero(), 1),
        (lambda t: t[t > 1], 1),
        (lambda t: t[torch.tensor([0])], 1),  # an index of the host
        (lambda t: torch.equal(t, t), 1),
        (lambda t: torch.tensor([1, 2], device=CUDA), 1),
        (lambda t: torch.ones(2).to(CUDA), 1),
        (lambda t: torch.ones(2).to(CUDA, non_blocking=True), 1),  # not pinned
        (lambda t: torch.ones(2).pin_memory().to(CUDA, non_blocking=True), 0),
        (lambda t: t[t.argmax()], 1),  # an index of no dimensions is read by the host
        (lambda t: t[t.argmax(0, keepdim=True)], 0),
        (lambda t: t.softmax(0), 0),
        (lambda t: torch.cuda.synchronize(), 1),
    ],
)
def test_waits_are_counted(counts: Counts, read: object, waits: int) -> None:
    tensor = on_device(1.0, 2.0)
    counts.clear()
    read(tensor)  # type: ignore[operator]
    assert counts.waits == waits


def test_launches_are_kernels_and_copies_but_no_views(counts: Counts) -> None:
    tensor = torch.zeros(4, 4, device=CUDA)
    counts.clear()
    tensor[1:, :2].t().unsqueeze(0)
    torch.empty(3, device=CUDA)
    assert counts.launches == 0
    (tensor.softmax(-1) + 1).tolist()
    assert counts.launches == 3 and counts.copied_bytes == 64


def test_numpy_is_refused() -> None:
    with pytest.raises(TypeError, match="can't convert cuda:0"):
        on_device(1.0).numpy()


def test_what_the_host_reads_before_the_device_has_written_it_is_not_there_yet() -> None:
    late = on_device(1.0, 2.0).to("cpu", non_blocking=True)
    assert torch.isnan(late).all()
    torch.cuda.synchronize()
    assert late.tolist() == [1.0, 2.0]


def test_pinned_memory_that_is_written_to_before_it_was_read_is_refused() -> None:
    source = torch.ones(2).pin_memory()
    source.to(CUDA, non_blocking=True)
    source.fill_(2.0)
    with pytest.raises(RefusedError, match="pinned"):
        torch.cuda.synchronize()


def captured(work: object) -> torch.cuda.CUDAGraph:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()  # type: ignore[operator]
    return graph


def test_a_graph_is_replayed_over_the_same_storage(counts: Counts) -> None:
    given, result = on_device(1.0, 2.0), torch.zeros(2, device=CUDA)
    graph = captured(lambda: result.copy_((given * 2).flip(0)))
    given.copy_(on_device(5.0, 7.0))
    counts.clear()
    graph.replay()
    assert (counts.launches, counts.waits) == (1, 0)
    assert result.tolist() == [14.0, 10.0]


def test_a_replay_knows_what_the_host_knew_at_capture() -> None:
    result, number = torch.zeros(1, device=CUDA), torch.tensor(3.0)
    graph = captured(lambda: result.copy_(torch.ones(1, device=CUDA) * number))
    number.fill_(4.0)
    graph.replay()
    assert result.tolist() == [3.0]


@pytest.mark.parametrize(
    "work",
    [
        lambda t: t.tolist(),
        lambda t: int(t[0]),
        lambda t: t.nonzero(),
        lambda t: t.copy_(torch.ones(2)),
        lambda t: torch.tensor([1.0, 2.0], device=CUDA),
        lambda t: torch.ones(2).pin_memory(),
        lambda t: torch.cuda.synchronize(),
        lambda t: torch.rand(2, device=CUDA, generator=torch.Generator(device=CUDA)),
    ],
    ids=["tolist", "int", "nonzero", "from the host", "a factory of numbers", "pinned memory", "a wait", "random"],
)
def test_inside_a_capture_the_host_neither_reads_nor_sends(work: object) -> None:
    tensor = on_device(1.0, 2.0)
    with pytest.raises(RefusedError, match="capturing"):
        captured(lambda: work(tensor))  # type: ignore[operator]


def test_memory_of_a_graphs_pool_is_not_read_outside() -> None:
    inside: list[torch.Tensor] = []
    graph = captured(lambda: inside.append(torch.ones(2, device=CUDA) * 2))
    graph.replay()
    with pytest.raises(RefusedError, match="pool"):
        inside[0].tolist()


def test_events_are_read_once_they_were_waited_for() -> None:
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    last.record()
    with pytest.raises(RefusedError, match="completed"):
        first.elapsed_time(last)
    last.synchronize()
    assert first.elapsed_time(last) >= 0


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(RefusedError, match="ordinal 1"):
        torch.cuda.get_device_properties(1)
