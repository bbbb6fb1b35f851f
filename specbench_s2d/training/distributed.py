"""Data-parallel training in several processes.

A launcher (`accelerate launch`, `torchrun`) starts the processes and gives each its rank in the environment. Every
process holds the full model and takes its share of each step's sequences; gradients are summed over the processes, so
the weights equal those of training in one process. Only the main process validates, writes and prints.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from specbench_s2d.errors import UserError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Processes:
    """This process among those that train together: `rank`, `size` (how many there are), and its device."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def is_main(self) -> bool:
        """Whether this is the process that validates, writes and prints."""
        return self.rank == 0

    def sum(self, number: float) -> float:
        """The sum of a number over all processes; waits for all of them."""
        if self.size == 1:
            return number
        import torch

        total = torch.tensor(number, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return total.item()

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace the gradients of every process by their sum over all processes."""
        if self.size == 1:
            return
        import torch

        for parameter in parameters:
            if parameter.requires_grad:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                torch.distributed.all_reduce(parameter.grad)


def launcher_ranks() -> tuple[int, int, int]:
    """(rank, number of processes, rank on this machine) from a launcher's environment; (0, 1, 0) without a launcher."""
    names = (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    rank, size, local = (int(os.environ.get(name, default)) for name, default in names)
    return rank, size, local


def is_main() -> bool:
    """Whether this is the main process: the only one, or the first of several."""
    return launcher_ranks()[0] == 0


def check_processes(device: str, batch: int, gpus: Callable[[], int] | None = None) -> None:
    """Raise `UserError` for a device or a batch that the processes cannot share; `gpus` counts this machine's GPUs."""
    _, size, _ = launcher_ranks()
    if batch % size:
        raise UserError(f"--batch {batch}: {size} processes share the sequences of a step; give a multiple of {size}.")
    if size == 1 or not device.startswith("cuda"):
        return
    import torch

    if device != "cuda":
        raise UserError(f"--device {device}: {size} processes take a GPU each; give --device cuda.")
    here, count = int(os.environ.get("LOCAL_WORLD_SIZE", size)), (gpus or torch.cuda.device_count)()
    if here > count:
        raise UserError(f"--device cuda: {here} processes on this machine and {count} GPUs; launch at most {count}.")


@contextmanager
def process_group(device: str) -> Iterator[Processes]:
    """Connects the launcher's processes while inside; without a launcher, this process alone."""
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
