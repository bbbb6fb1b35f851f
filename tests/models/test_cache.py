"""The stacked cache against a list of positions per layer, as layers lag, are cut, and keep paths."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from specbench_s2d.models.cache import KVCache
from specbench_s2d.models.engines.native import PanelCache
from specbench_s2d.models.engines.native_memory import PANEL

LAYERS, HEADS, WIDTH, LIMIT = 4, 2, 3, 1500
CPU = torch.device("cpu")


class Plain:
    """A cache of `LAYERS` layers whose positions hold numbers that tell where they came from."""

    def __init__(self, panels: bool) -> None:
        self.panels = panels
        self.cache = PanelCache(LAYERS, HEADS, WIDTH, LIMIT) if panels else self._stacked()
        self.expected: list[list[int]] = [[] for _ in range(LAYERS)]
        self._next = 0

    @staticmethod
    def _stacked() -> KVCache:
        return KVCache(LAYERS, HEADS, WIDTH, LIMIT, CPU, torch.float32)

    def write(self, first: int, last: int, count: int) -> None:
        """New positions in layers `first` to `last`; those start where layer `first` ends."""
        start = len(self.expected[first])
        self.cache.reserve(start + count)
        for layer in range(first, last):
            numbers = list(range(self._next, self._next + count))
            self._next += count
            self._put(layer, start, numbers)
            self.expected[layer] = self.expected[layer][:start] + numbers
            self.cache.lengths[layer] = start + count

    def _put(self, layer: int, start: int, numbers: list[int]) -> None:
        keys_TKC = torch.tensor(numbers, dtype=torch.float32)[:, None, None].expand(-1, HEADS, WIDTH)
        if not self.panels:
            self.cache.write(layer, start, keys_TKC, -keys_TKC)
            return
        keys, values = self.cache.layers[layer]
        at_T = torch.arange(start, start + len(numbers))
        keys[:, at_T // PANEL, :, at_T % PANEL] = keys_TKC  # indexed dimensions come first
        values[:, at_T, :WIDTH] = -keys_TKC.transpose(0, 1)

    def keep_path(self, positions: list[int], start: int) -> None:
        self.cache.keep_path(positions, start)
        for layer, held in enumerate(self.expected):
            kept = [held[start + p] for p in positions if start + p < len(held)]
            self.expected[layer] = [*held[:start], *kept]

    def rollback(self, length: int) -> None:
        self.cache.rollback(length)
        self.expected = [held[:length] for held in self.expected]

    def check(self) -> None:
        assert self.cache.lengths == [len(held) for held in self.expected]
        for held, (keys, values) in zip(self.expected, self.cache.layers, strict=True):
            at_T = torch.arange(len(held))
            keys_KTC = keys[:, at_T // PANEL, :, at_T % PANEL].transpose(0, 1) if self.panels else keys[:, at_T]
            values_KTC = values[:, at_T, :WIDTH]
            wanted_KTC = torch.tensor(held, dtype=torch.float32)[None, :, None].expand(HEADS, -1, WIDTH)
            assert torch.equal(keys_KTC, wanted_KTC)
            assert torch.equal(values_KTC, -wanted_KTC)


@pytest.mark.parametrize("panels", [False, True], ids=["stacked", "panels"])
@pytest.mark.parametrize("seed", range(25))
def test_random_work_equals_a_list_per_layer(seed: int, panels: bool) -> None:
    """Passes through some of the layers, so that upper ones lag; cuts; paths kept; growth in between."""
    coin, plain = random.Random(seed), Plain(panels)
    moved = 0
    for _ in range(40):
        done = [len(held) for held in plain.expected]
        choice = coin.random()
        if choice < 0.55:
            first = coin.choice([0, *(layer for layer in range(1, LAYERS) if done[layer] < done[layer - 1])])
            last = coin.randint(first + 1, LAYERS)
            count = done[first - 1] - done[first] if first else coin.choice((1, 3, 8, 70, 200))
            if done[first] + count <= LIMIT and all(done[layer] == done[first] for layer in range(first, last)):
                plain.write(first, last, count)
        elif choice < 0.7:
            plain.rollback(coin.randint(max(0, done[0] - 9), done[0]))
        else:
            start = coin.randint(max(0, done[0] - 40), done[0])
            size = coin.randint(0, min(9, done[0] - start))
            positions = sorted(coin.sample(range(done[0] - start), size))
            moved += positions != list(range(size))
            plain.keep_path(positions, start)
        plain.check()
    assert moved > 3


def test_a_lagging_layer_keeps_what_it_holds_of_a_path() -> None:
    """By hand: from position 2 on the lower layers hold 5, the upper ones 2 of them; 0, 1, 3 and 4 are kept."""
    plain = Plain(panels=False)
    plain.write(0, LAYERS, 4)
    plain.write(0, 2, 3)
    before = [list(held) for held in plain.expected]
    plain.keep_path([0, 1, 3, 4], 2)
    assert plain.cache.lengths == [6, 6, 4, 4]
    assert plain.expected[0] == [*before[0][:4], before[0][5], before[0][6]]
    plain.check()


class Operations(TorchDispatchMode):
    """How often each operation ran, and the indices that were gathered."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.gathered: list[list[int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.counts[name] += 1
        if name == "index_select":
            self.gathered.append(args[2].tolist())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("positions", "moved"),
    [([0, 2, 5], [4, 7]), ([1], [3]), ([0, 1, 2], None), ([], None)],
    ids=["a path", "one", "in place already", "nothing"],
)
def test_a_path_is_moved_by_one_gather_for_all_layers(positions: list[int], moved: list[int] | None) -> None:
    """And one copy; none where nothing moves. The first that is in place stays."""
    plain = Plain(panels=False)
    plain.write(0, LAYERS, 8)
    with Operations() as operations:
        plain.cache.keep_path(positions, 2)
    assert operations.gathered == ([] if moved is None else [moved])
    assert operations.counts["copy_"] == (0 if moved is None else 1)
    assert plain.cache.lengths == [2 + len(positions)] * LAYERS


def test_growth_keeps_what_is_cached_and_happens_in_steps() -> None:
    plain = Plain(panels=False)
    plain.write(0, LAYERS, 500)
    assert plain.cache.capacity == 512
    assert not plain.cache.reserve(512)
    plain.write(0, 2, 100)
    assert plain.cache.capacity == 1024
    plain.check()
    assert plain.cache.reserve(9_999) and plain.cache.capacity == LIMIT
    plain.check()
