"""`run --print-slurm N`: a grid as one file that submits a Slurm array of its shards, and the job that merges them."""

from __future__ import annotations

import math
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from specbench_s2d.bench import preflight
from specbench_s2d.bench.forecast import forecast
from specbench_s2d.bench.plan import Plan, make_plan
from specbench_s2d.config import RunSpec
from specbench_s2d.errors import UserError, reworded
from specbench_s2d.models.devices import HOST, SPREAD, check_device_name, find_dtype
from specbench_s2d.models.engines.choose import check_engine
from specbench_s2d.shards import Shard

_GPU_BYTES_PER_S = 1e12
"""What a GPU is taken to read where there is none to measure: less than an A100 does."""
_SLOWER, _LEAST_TOKEN_S, _LOAD_S, _ROUND_S = 3, 0.01, 600, 300
"""Of the suggested time: the forecast's own factor, the least for a token, what loading a target may take, and the
step that it is rounded up to."""
_UNLIMITED = sys.maxsize
_SCRIPT = """\
#!/bin/bash
# specbench-s2d: a grid of @cells@ cells in @shards@ shards. Fill in what is marked FILL IN, then submit:
#
#     bash THIS_FILE
#
# (not sbatch THIS_FILE: the file hands itself to sbatch, once for the array and once for the merge that waits for it).
# Every task has a folder of its own, where a task that is requeued goes on. If tasks fail, the merge is cancelled:
# submit again with the same line. What is done is not run twice, and the merge then runs.
#
# FILL IN: what your site asks for. A line counts once it begins with a single #.
##SBATCH --partition=NAME
##SBATCH --account=NAME
##SBATCH --cpus-per-task=8
##SBATCH --mem=16G
# One model of GPU or CPU for all tasks, where the partition has several: the merge refuses a mixture.
##SBATCH --constraint=MODEL
# The models of a task take @memory_gb@ GB of its device. The longest shard takes at least @least@
# (@rate@); suggested: @slower@ times that, with time to load.
#SBATCH --time=@suggested@
#SBATCH --job-name=specbench-s2d
#SBATCH --ntasks=1
#SBATCH --requeue
#SBATCH --open-mode=append
set -eo pipefail

before() { # FILL IN: what a node needs before the program starts, such as the lines below
    # module load cuda
    # source ENVIRONMENT/bin/activate
    :
}
# FILL IN: the program as the nodes start it; in an environment that is activated above: (specbench-s2d)
program=(@program@)
@gpus@# FILL IN: folders as the nodes see them.
folder=@folder@
out=@out@
parts=@parts@

script=$(realpath "$0")
cd -- "$folder"
case ${1:-submit} in
submit)
    if [ "${script##*/}" = slurm_script ]; then
        echo "this file submits itself: give it to bash, not to sbatch." >&2
        exit 2
    fi
    if [ -e "$out" ]; then
        echo "$out is there already: there is nothing left to submit." >&2
        exit 2
    fi
    mkdir -p -- "$parts"
    array=$(sbatch --parsable --array=1-@shards@@gres@ --output="$parts/%a.log" "$script" shard)
    array=${array%%;*}
    echo "submitted the array of @shards@ shards: job $array, logs $parts/*.log"
    merge=$(sbatch --parsable --dependency="afterok:$array" --kill-on-invalid-dep=yes \\
        --output="$parts/merge.log" "$script" merge)
    echo "submitted the merge into $out: job ${merge%%;*}, log $parts/merge.log"
    ;;
shard)
    before
    part="$parts/$SLURM_ARRAY_TASK_ID-of-@shards@"
    "${program[@]}" @command@ --shard "$SLURM_ARRAY_TASK_ID/@shards@" --out "$part" || {
        code=$? # 1 with tables: the shard is complete, and its records say which cells failed
        [ "$code" -eq 1 ] && [ -e "$part/summary.csv" ] || exit "$code"
    }
    ;;
merge)
    before
    "${program[@]}" merge "$parts"/{1..@shards@}-of-@shards@ --out "$out"
    ;;
esac
"""


def script(spec: RunSpec, shards: int, command: Sequence[str], out: Path) -> str:
    """The file that submits a run's grid as `shards` tasks and merges them into the folder `out`.

    `command`: the words of the same run, from `run` on, without `--out`. Raises `UserError` for whatever `run` refuses
    on any machine; the device, its memory and its energy meter are those of the nodes, and their tasks check them.
    """
    if spec.shard:
        raise UserError(f"--shard {spec.shard}: --print-slurm gives every task a shard of its own; leave --shard out.")
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise UserError(f"--out {out}: holds something already, and the shards are merged there; give a new folder.")
    with reworded(lambda text: text.replace(f"--shard 1/{shards}", f"--print-slurm {shards}")):
        plan, setups = _plan_here(spec, shards)
    on_gpu, expected = spec.device != HOST, forecast(plan, setups=setups)
    rate, whose = expected["read_rate_bytes_per_s"], "this machine's device"
    if on_gpu and plan.device == HOST:
        rate, whose = _GPU_BYTES_PER_S, "taken for a GPU, for here is none"
    least_s, suggested_s = _longest(plan, expected["targets"], shards, expected["read_rate_bytes_per_s"] / rate)
    values = {
        "cells": f"{plan.cells:,}",
        "shards": str(shards),
        "memory_gb": f"{max(row['memory_bytes'] for row in expected['targets']) / 1e9:.1f}",
        "least": _slurm_time(least_s),
        "rate": f"reading the weights for each token at {rate / 1e9:,.0f} GB/s, {whose}",
        "slower": str(_SLOWER),
        "suggested": _slurm_time(suggested_s),
        "program": shlex.join([sys.executable, "-m", "specbench_s2d"]),
        "gpus": f"gpus=1 # of a task{'; FILL IN: as many as a target takes' * (spec.device == SPREAD)}\n" * on_gpu,
        "gres": ' --gres="gpu:$gpus"' * on_gpu,
        "folder": shlex.quote(str(Path.cwd())),
        "out": shlex.quote(str(out)),
        "parts": shlex.quote(str(out.with_name(f"{out.name}-shards"))),
        "command": shlex.join(command),
    }
    return re.sub(r"@(\w+)@", lambda found: values[found[1]], _SCRIPT)


def _plan_here(spec: RunSpec, shards: int) -> tuple[Plan, Mapping[str, preflight.TargetSetup]]:
    """The whole grid's plan and the setups of its targets, checked on a machine that need not have the nodes' devices.

    Where the nodes have GPUs and this machine has none it is planned on the CPU, in a dtype as wide as the GPU's.
    """
    device = spec.device or "cuda"
    check_device_name(device)
    if re.fullmatch(r"cuda:\d+", device):
        raise UserError(f"--device {device}: a task sees its own GPU alone; give cuda, or leave --device out.")
    spec.resolved()
    here: dict[str, Any] = {"shard": f"1/{shards}"}
    if not spec.energy_blocks:  # which shards refuse
        here["energy"] = "off"
    if device != HOST and not torch.cuda.is_available():
        check_engine(spec.engine, torch.device("cuda"), find_dtype(spec.dtype, "cuda"))
        here |= {"device": HOST, "engine": None, "dtype": "float32" if spec.dtype == "float32" else "bfloat16"}
    plan = replace(make_plan(spec.model_copy(update=here)), shard=None)
    return plan, preflight.check(plan, lambda device: _UNLIMITED)


def _longest(plan: Plan, rows: Sequence[Mapping[str, Any]], shards: int, scale: float) -> tuple[float, float]:
    """Seconds of the longest shard: by the forecast times `scale`, and as many as to ask Slurm for."""
    tokens = plan.new_tokens
    token_s = {row["target"]: scale * row["expected_s"] / (row["cells"] * tokens) for row in rows}
    times: list[tuple[float, float]] = []
    for index in range(1, shards + 1):
        part = replace(plan, shard=Shard(index, shards))
        asked = {target: tokens * part.cells_of(target) for target in part.targets}
        least_s = sum(count * token_s[target] for target, count in asked.items())
        ample_s = sum(count * max(_SLOWER * token_s[target], _LEAST_TOKEN_S) for target, count in asked.items())
        times.append((least_s, ample_s + _LOAD_S * len(asked) * plan.spec.launches))
    least_s, suggested_s = max(times)
    return least_s, math.ceil(suggested_s / _ROUND_S) * _ROUND_S


def _slurm_time(seconds: float) -> str:
    """HH:MM:SS, days before it where it takes any: as Slurm reads and writes a time."""
    minutes, second = divmod(math.ceil(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{days}-" * bool(days) + f"{hour:02}:{minute:02}:{second:02}"
