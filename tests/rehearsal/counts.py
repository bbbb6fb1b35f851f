"""What the host asked of the device."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Counts:
    """`waits`: times the host stood still for the device. `launches`: kernels and copies, a replayed graph counted as
    one. `copied_bytes`: between host and device. `pools`: handles of graphs' memory pools. `by_name`: launches by
    operation, for finding them; `wait_names`."""

    waits: int = 0
    launches: int = 0
    operations: int = 0
    copied_bytes: int = 0
    captures: int = 0
    pools: int = 0
    by_name: Counter[str] = field(default_factory=Counter)
    wait_names: Counter[str] = field(default_factory=Counter)

    def wait(self, name: str) -> None:
        self.waits += 1
        self.wait_names[name] += 1

    def launch(self, name: str) -> None:
        self.launches += 1
        self.by_name[name] += 1

    def clear(self) -> None:
        """Start anew."""
        self.__init__()  # type: ignore[misc]
