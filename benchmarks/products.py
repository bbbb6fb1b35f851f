"""The matrix products of a step by themselves, computed in every way at hand.

Used by benchmarks/engine.py. All on a CPU in float32; each contender multiplies T rows with every matrix of a model,
layer by layer, then with its head.
"""

from __future__ import annotations

import ctypes
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from specbench_s2d.models.engines.native import LANES, NativeEngine
from specbench_s2d.models.engines.native_build import compile_kernel, find_compiler
from specbench_s2d.models.load import tensor_reader
from specbench_s2d.models.resolve import resolve_model
from specbench_s2d.models.weights import LlamaWeights, load_weights

Run = Callable[[], Any]


def weights_of(name: str) -> LlamaWeights:
    """A model's weights in float32, as its checkpoint has them."""
    found, place = resolve_model(name), torch.device("cpu")
    reader = tensor_reader(found, place, torch.float32)
    return load_weights(reader, found.name, found.config, place, torch.float32)


def matrices(weights: LlamaWeights) -> list[Tensor]:
    """Every matrix (out, in) that a step multiplies with, in order."""
    layers = [(layer.qkv_AD, layer.out_DA, layer.gate_up_FD, layer.down_DF) for layer in weights.layers]
    return [*(matrix for layer in layers for matrix in layer), weights.head_VD]


def linear(all_OI: Sequence[Tensor], rows: int) -> Run:
    """Plain `F.linear`, one call per matrix."""
    inputs = {width: torch.randn(rows, width) for width in {matrix.shape[1] for matrix in all_OI}}

    @torch.inference_mode()
    def run() -> None:
        for matrix_OI in all_OI:
            F.linear(inputs[matrix_OI.shape[1]], matrix_OI)

    return run


def transposed(all_OI: Sequence[Tensor], rows: int) -> Run:
    """`torch.mm` with matrices laid out (in, out)."""
    inputs = {width: torch.randn(rows, width) for width in {matrix.shape[1] for matrix in all_OI}}
    all_IO = [matrix_OI.t().contiguous() for matrix_OI in all_OI]

    @torch.inference_mode()
    def run() -> None:
        for matrix_IO in all_IO:
            torch.mm(inputs[matrix_IO.shape[0]], matrix_IO)

    return run


def one_dnn(all_OI: Sequence[Tensor], rows: int) -> Run | None:
    """oneDNN with weights packed for this number of rows; None where this torch has no such call (it is private)."""
    if not torch.backends.mkldnn.is_available():
        return None
    inputs = {width: torch.randn(rows, width) for width in {matrix.shape[1] for matrix in all_OI}}
    try:
        packed = [torch.ops.mkldnn._reorder_linear_weight(matrix_OI, rows) for matrix_OI in all_OI]
    except (AttributeError, RuntimeError):
        return None

    @torch.inference_mode()
    def run() -> None:
        for matrix, matrix_OI in zip(packed, all_OI, strict=True):
            torch.ops.mkldnn._linear_pointwise(inputs[matrix_OI.shape[1]], matrix, None, "none", [], "")

    return run


@cache
def products_library() -> ctypes.CDLL:
    """The kernel with a function for its products alone."""
    with TemporaryDirectory() as folder:
        library = Path(folder) / "products.so"
        compile_kernel(find_compiler(), library, Path(__file__).with_suffix(".c"))
        return ctypes.CDLL(str(library))


def native(engine: NativeEngine, rows: int) -> Run:
    """The native kernel's products, with matrices packed as for its passes."""
    room = torch.randn(rows * 8 * 4096)
    logits_TV = torch.empty(rows, -(-int(engine._model.ids) // LANES) * LANES)
    call, layers = engine._pass, len(engine.cache.layers)

    def run() -> None:
        call.rows, call.from_layer, call.to_layer = rows, 0, layers
        call.scratch, call.logits = room.data_ptr(), logits_TV.data_ptr()
        engine._kernel.run_products(*engine._refs)
        call.scratch = engine._scratch.data_ptr()

    return run


def interleaved(contenders: dict[str, Run], rounds: int, seed: int = 0) -> dict[str, list[float]]:
    """Seconds of each contender in each round; a round runs all of them, in an order of its own."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for run in contenders.values():
        run()
    for number in range(rounds):
        order = list(contenders)
        random.Random(f"{seed}/{number}").shuffle(order)
        for name in order:
            contenders[name]()  # what another left in the caches is not this one's fault
            began = perf_counter()
            contenders[name]()
            seconds[name].append(perf_counter() - began)
    return dict(seconds)


def ratio(above: Sequence[float], below: Sequence[float]) -> dict[str, float]:
    """Median and quartiles of the paired quotients."""
    low, middle, high = quantiles([a / b for a, b in zip(above, below, strict=True)], n=4)
    return {"value": middle, "low": low, "high": high}


def products_table(name: str, rows: int, rounds: int, rate_of: dict[int, float]) -> list[dict[str, Any]]:
    """One row per way to compute the products: ms, against plain F.linear on as many threads, % of the bound."""
    all_OI, most = matrices(weights_of(name)), torch.get_num_threads()
    total_bytes, found = sum(matrix.nbytes for matrix in all_OI), []
    for threads in sorted({1, most}):
        torch.set_num_threads(threads)
        ways = {
            "F.linear": linear(all_OI, rows),
            "mm, transposed": transposed(all_OI, rows),
            "oneDNN, packed": one_dnn(all_OI, rows),
            "native kernel": native(NativeEngine(weights_of(name), threads, products_library()), rows),
        }
        seconds = interleaved({way: run for way, run in ways.items() if run}, rounds)
        for way, times in seconds.items():
            found.append(
                {
                    "way": way, "threads": threads, "rows": rows, "ms": 1e3 * median(times),
                    "over_linear": ratio(times, seconds["F.linear"])["value"],
                    "percent_of_bound": 100 * total_bytes / rate_of[threads] / median(times),
                }
            )  # fmt: skip
    torch.set_num_threads(most)
    return found
