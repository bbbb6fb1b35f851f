"""Limits of containers, from made-up cgroup trees of both versions."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from specbench_s2d.cgroup import available_bytes, available_within, memory_limit_bytes, quota_cores


class Tree:
    """A cgroup file system of one's own, and the file that says where in it this process is."""

    def __init__(self, folder: Path) -> None:
        self.root, self.membership = folder / "cgroup", folder / "self"

    def member(self, *lines: str) -> None:
        self.membership.write_text("\n".join(lines) + "\n")

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    @property
    def limits(self) -> tuple[float | None, int | None]:
        return quota_cores(self.root, self.membership), memory_limit_bytes(self.root, self.membership)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_version_2_takes_the_least_of_the_cgroup_and_those_above(tree: Tree) -> None:
    tree.member("0::/job/step")
    tree.write("job/step/cpu.max", "400000 100000")
    tree.write("job/step/memory.max", "max")
    tree.write("job/cpu.max", "150000 100000")
    tree.write("job/memory.max", "1073741824")
    assert tree.limits == (1.5, 2**30)


def test_version_1_has_a_tree_per_controller(tree: Tree) -> None:
    tree.member("5:memory:/docker/abc", "2:cpu,cpuacct:/docker/abc", "0::/")
    tree.write("cpu/docker/abc/cpu.cfs_quota_us", "200000")
    tree.write("cpu/docker/abc/cpu.cfs_period_us", "100000")
    tree.write("memory/docker/abc/memory.limit_in_bytes", "2048")
    assert tree.limits == (2.0, 2048)


def test_a_path_that_the_container_does_not_see_leaves_its_root(tree: Tree) -> None:
    tree.member("5:memory:/of/the/host", "2:cpu:/of/the/host")
    tree.write("cpu/cpu.cfs_quota_us", "50000")
    tree.write("cpu/cpu.cfs_period_us", "100000")
    tree.write("memory/memory.limit_in_bytes", "4096")
    assert tree.limits == (0.5, 4096)


def test_no_limit_is_none(tree: Tree) -> None:
    assert tree.limits == (None, None)  # no cgroups at all
    tree.member("2:cpu:/", "1:memory:/", "0::/")
    tree.write("cpu.max", "max 100000")
    tree.write("memory.max", "max")
    tree.write("cpu/cpu.cfs_quota_us", "-1")
    tree.write("cpu/cpu.cfs_period_us", "100000")
    tree.write("memory/memory.limit_in_bytes", "9223372036854771712")
    assert tree.limits == (None, None)


@pytest.mark.parametrize(("limit", "left"), [(None, 1000), (600, 500), (5000, 1000), (50, 0)])
def test_available_memory_is_what_a_container_leaves(limit: int | None, left: int) -> None:
    assert available_within(limit, available=1000, held=100) == left


def test_this_process_has_no_more_than_the_machine() -> None:
    assert 0 < available_bytes() <= psutil.virtual_memory().total
