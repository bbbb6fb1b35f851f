"""Several processes that train one model: who they are, what each takes, and how their gradients become one.

A launcher (`accelerate launch`, `torchrun`) starts the processes and says in the environment who is who. Every process
holds the whole model and takes its share of each step's sequences; the gradients are summed over the processes, so the
weights stay those of one process that did it all. The first alone validates, writes and speaks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from specbench_s2d.errors import UserError

if TYPE_CHECKING:
    import torch

Rows = TypeVar("Rows", bound=Sequence[object])


@dataclass(frozen=True)
class Processes:
    """This process among those that train together: its number, how many there are, and its device."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def is_main(self) -> bool:
        """Whether this is the process that validates, writes and speaks."""
        return self.rank == 0

    def sum(self, number: float) -> float:
        """The sum of every process's number; each waits here for the others."""
        if self.size == 1:
            return number
        import torch

        total = torch.tensor(number, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return total.item()

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Give every process the sum of all processes' gradients."""
        if self.size == 1:
            return
        import torch

        for parameter in parameters:
            if parameter.requires_grad:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                torch.distributed.all_reduce(parameter.grad)


def launcher_ranks() -> tuple[int, int, int]:
    """(number of this process, number of processes, number on this machine), as a launcher says; (0, 1, 0) without."""
    names = (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    rank, size, local = (int(os.environ.get(name, default)) for name, default in names)
    return rank, size, local


def is_main() -> bool:
    """Whether this process may speak: it is alone, or the first of several."""
    return launcher_ranks()[0] == 0


def check_processes(device: str, batch: int) -> None:
    """Refuse a device or a batch that the processes cannot share; raises `UserError`."""
    _, size, _ = launcher_ranks()
    if batch % size:
        raise UserError(f"--batch {batch}: {size} processes share the sequences of a step; give a multiple of {size}.")
    if size == 1 or not device.startswith("cuda"):
        return
    import torch

    if device != "cuda":
        raise UserError(f"--device {device}: {size} processes take a GPU each; give --device cuda.")
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", size)), torch.cuda.device_count()
    if here > gpus:
        raise UserError(f"--device cuda: {here} processes on this machine and {gpus} GPUs; launch at most {gpus}.")


@contextmanager
def process_group(device: str) -> Iterator[Processes]:
    """The processes of the launcher's processes, connected while inside; without a launcher, this process alone."""
    rank, size, local = launcher_ranks()
    if size == 1:
        yield Processes(device=device)
        return
    import torch

    on_gpu = device == "cuda"
    if on_gpu:
        device = f"cuda:{local}"
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Processes(rank, size, device)
    finally:
        torch.distributed.destroy_process_group()
