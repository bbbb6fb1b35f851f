"""One grid by one process, by a pool, and by Ray: the same records but for timings, and how long each way takes.

    python benchmarks/workers.py [--rounds 3] [--out FILE]

Ways: one process; `--devices 2`; Ray with 1, 2, 4 and 8 workers on one node of eight cores by its own count, and with 3
on three nodes of two (`ray.cluster_utils`). More workers than cores show what is the same, and what more of them cost;
they gain nothing here. A round goes through all ways once, in an order of its own.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from figures import measured, show, write

from specbench_s2d.runs.folder import read_records

GRID = ["run", "--target", "demo-s,demo-m,demo-l", "--decoder", "ar,lookup", "--suite", "qa,math_reasoning", "--limit",
        "7", "--max-new-tokens", "64", "--device", "cpu"]  # fmt: skip
ONE_NODE, THREE_NODES = (8,), (2, 2, 2)
LONGEST_S = 600.0


@dataclass(frozen=True)
class Way:
    """How the grid is run. `nodes`: the cores of each node of the Ray cluster, where it runs on one."""

    name: str
    options: tuple[str, ...]
    nodes: tuple[int, ...] = ()


WAYS = [
    Way("one process", ()),
    Way("pool, 2 workers", ("--devices", "2")),
    *(Way(f"Ray, {n} workers, one node", ("--ray", "--devices", str(n)), ONE_NODE) for n in (1, 2, 4, 8)),
    Way("Ray, 3 workers, three nodes", ("--ray", "--devices", "3"), THREE_NODES),
]


@contextmanager
def cluster(nodes: tuple[int, ...]) -> Iterator[str | None]:
    """The address of a Ray cluster of such nodes on this machine; None for no nodes."""
    if not nodes:
        yield None
        return
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 100 << 20}
    made: Any = Cluster(True, head_node_args={"num_cpus": nodes[0], "include_dashboard": False, **memory})
    try:
        for cores in nodes[1:]:
            made.add_node(num_cpus=cores, **memory)
        made.wait_for_nodes()
        yield str(made.address)
    finally:
        made.shutdown()


def untimed(folder: Path) -> dict[str, dict[str, Any]]:
    """The records of a run by their cells, without what depends on the run, the clock, the meter and the worker."""
    left_out = {"run_id", "device_id", "reasons"}
    records = [
        {
            name: value
            for name, value in vars(record).items()
            if name not in left_out and not name.endswith(("_s", "_j"))
        }
        for record in read_records(folder)
    ]
    found = {str(record["key"]): record for record in records}
    assert len(found) == len(records), f"{folder}: a cell is there twice"
    return found


def run(way: Way, address: str | None, folder: Path) -> float:
    """Run the grid into `folder`; its seconds, from the command's start to its end."""
    begun = time.perf_counter()
    at = ["--ray-address", address] if address else []
    command = [sys.executable, "-m", "specbench_s2d", *GRID, *way.options, *at, "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{way.name}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return time.perf_counter() - begun


def timed(rounds: int, folder: Path) -> list[dict[str, Any]]:
    """A row per way: seconds of every round, workers that made records, and whether the records are the first way's."""
    seconds: dict[str, list[float]] = {way.name: [] for way in WAYS}
    expected, facts = None, dict[str, dict[str, Any]]()
    for number in range(rounds):
        for nodes in random.Random(number).sample([(), ONE_NODE, THREE_NODES], 3):
            with cluster(nodes) as address:
                ways = [way for way in WAYS if way.nodes == nodes]
                for way in random.Random(number).sample(ways, len(ways)):
                    place = folder / f"{number} {way.name}"
                    seconds[way.name].append(run(way, address, place))
                    found = untimed(place)
                    expected = found if expected is None else expected
                    made_by = {record.device_id for record in read_records(place)}
                    facts[way.name] = {"cells": len(found), "workers": len(made_by), "same": found == expected}
                    print(number, way.name, round(seconds[way.name][-1], 1), facts[way.name], flush=True)
    return [
        {"way": name, "median_s": statistics.median(of), "all_s": [round(s, 2) for s in of], **facts[name]}
        for name, of in seconds.items()
    ]


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Times that every way is run.")] = 3,
    out: Annotated[Path, typer.Option(help="Write the figures as JSON.")] = Path("results/benchmarks/workers.json"),
) -> None:
    """Run, print and write."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        rows = timed(rounds, Path(temporary))
    shown = [
        [row["way"], f"{row['median_s']:.1f}", *(row[name] for name in ("cells", "workers", "same"))] for row in rows
    ]
    show("one grid, many ways", ["way", "seconds", "cells", "workers", "same records"], shown)
    write(out, {**measured("one grid, many ways; see benchmarks/workers.py"), "rows": rows})
    raise SystemExit(not all(row["same"] for row in rows))


if __name__ == "__main__":
    typer.run(main)
