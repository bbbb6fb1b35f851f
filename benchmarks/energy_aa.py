"""What sampling a GPU's power beside the timed windows costs: AR against itself, with and without the sampler.

    python benchmarks/energy_aa.py [--pairs 300] [--target demo-m] [--new-tokens 192] [--device cpu] [--out FILE]

One process decodes one prompt over and over in three ways that take turns, in an order drawn anew for each round:
`off`, `off_again` (the same thing, which shows what nothing costs) and `on`, where a meter samples from its thread.
Opening and closing the meter lies outside the clock, as in a run. Each round gives two ratios of seconds, `on` and
`off_again` over `off`; the figure is the geometric mean over rounds with its 95 % interval by the normal distribution.

On a GPU the meter is NVML. On a CPU a replayed NVML stands in, which answers as slowly as `--answer-us` says and lets
go of Python's lock meanwhile, as the library does.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import pynvml
import typer
from figures import measured, write

from specbench_s2d import build_decoder, load_model
from specbench_s2d.measure.energy.choose import gpu_meter
from specbench_s2d.measure.energy.nvml import NvmlMeter
from specbench_s2d.measure.energy.reading import read_during
from specbench_s2d.measure.energy.trace import SAMPLE_EVERY_S
from specbench_s2d.measure.nvml import Nvml
from specbench_s2d.models.load import hide_progress_bars

ALLOWED = 0.005
"""The share of a window's time that sampling may cost."""
WATTS = 200.0
ANSWERS: Mapping[str, Callable[[], Any]] = {
    "nvmlInit": lambda: None,
    "nvmlShutdown": lambda: None,
    "nvmlDeviceGetHandleByUUID": lambda: "GPU-replayed",
    "nvmlDeviceGetMigMode": lambda: [0, 0],
    "nvmlDeviceGetEnforcedPowerLimit": lambda: 700_000,
    "nvmlDeviceGetTotalEnergyConsumption": lambda: int(1000 * WATTS * time.perf_counter()),
    "nvmlDeviceGetFieldValues": lambda: [
        SimpleNamespace(nvmlReturn=pynvml.NVML_SUCCESS, value=SimpleNamespace(uiVal=int(1000 * WATTS)))
    ],
    "nvmlDeviceGetClockInfo": lambda: 1980,
    "nvmlDeviceGetTemperature": lambda: 41,
    "nvmlDeviceGetCurrentClocksThrottleReasons": lambda: 0,
}
_REST_S = 2 * SAMPLE_EVERY_S
WAYS = ("off", "off_again", "on")


class ReplayedLibrary:
    """pynvml with one GPU that draws `WATTS`; each of its answers takes `answer_s`."""

    def __init__(self, answer_s: float) -> None:
        self._answer_s = answer_s

    def __getattr__(self, name: str) -> Any:
        """A function that answers slowly, or pynvml's own constant."""
        if name not in ANSWERS:
            return getattr(pynvml, name)

        def answer(*arguments: Any) -> Any:
            time.sleep(self._answer_s)
            return ANSWERS[name]()

        return answer


def rounds(decode: Callable[[], None], open_meter: Callable[[], NvmlMeter], pairs: int) -> list[dict[str, float]]:
    """Seconds of one decode in each way, round by round."""
    draw = random.Random(0)
    found = []
    for _ in range(pairs):
        taken = dict.fromkeys(WAYS, 0.0)
        for way in draw.sample(WAYS, len(WAYS)):
            taken[way] = sampled(decode, open_meter) if way == "on" else rested(decode)
        found.append(taken)
    return found


def timed(decode: Callable[[], None]) -> float:
    """Seconds of one decode."""
    began_s = time.perf_counter()
    decode()
    return time.perf_counter() - began_s


def rested(decode: Callable[[], None]) -> float:
    """The same after as much rest as `sampled` takes before its decode: caches and clocks are then alike."""
    time.sleep(_REST_S)
    return timed(decode)


def sampled(decode: Callable[[], None], open_meter: Callable[[], NvmlMeter]) -> float:
    """Seconds of one decode while a meter samples; the meter's own reads lie outside."""
    with closing(open_meter()) as meter:
        read_during(meter, lambda: time.sleep(_REST_S))  # its thread has started
        taken, reading = read_during(meter, lambda: timed(decode))
    if reading.trace_reason and taken > _REST_S:
        raise SystemExit(f"nothing was sampled: {reading.trace_reason}")
    return taken


def ratio(found: list[dict[str, float]], way: str) -> dict[str, float]:
    """The geometric mean of `way` over `off`, and its interval."""
    logs = [math.log(taken[way] / taken["off"]) for taken in found]
    middle, half = statistics.fmean(logs), 1.96 * statistics.stdev(logs) / math.sqrt(len(logs))
    return {"ratio": math.exp(middle), "low": math.exp(middle - half), "high": math.exp(middle + half)}


def main(
    pairs: Annotated[int, typer.Option(min=30, help="Rounds; one decode of each of three ways in each.")] = 300,
    target: Annotated[str, typer.Option(help="Target.")] = "demo-m",
    new_tokens: Annotated[int, typer.Option(min=1, help="New tokens a decode.")] = 192,
    device: Annotated[str, typer.Option(help="cpu, or a GPU with its own NVML.")] = "cpu",
    answer_us: Annotated[float, typer.Option(min=0, help="On a CPU: how long the replayed NVML answers.")] = 100.0,
    out: Annotated[Path, typer.Option(help="Write the figures as JSON.")] = Path("results/benchmarks/energy_aa.json"),
) -> None:
    """Print and write what the sampler costs."""
    hide_progress_bars()
    model = load_model(target, device=device)
    decoder, prompt = build_decoder("ar", target=model), list(range(20, 84))

    def decode() -> None:
        decoder.generate(prompt, max_new_tokens=new_tokens, ignore_eos=True)

    def replayed() -> NvmlMeter:
        return NvmlMeter(["GPU-replayed"], lambda: Nvml(ReplayedLibrary(answer_us / 1e6)))

    real = device.startswith("cuda")
    for _ in range(10):
        decode()
    found = rounds(decode, (lambda: gpu_meter(device)) if real else replayed, pairs)
    ratios = {way: ratio(found, way) for way in WAYS[1:]}
    for way, one in ratios.items():
        typer.echo(f"{way} over off: {one['ratio']:.4f} [{one['low']:.4f}–{one['high']:.4f}], {pairs} rounds")
    what = "seconds of one AR decode with the power sampler over those without; see benchmarks/energy_aa.py"
    content = {
        **measured(what, device),
        "target": target,
        "new_tokens": new_tokens,
        "nvml": "the driver's" if real else f"replayed, {answer_us:g} µs an answer",
        "samples_per_s": 1 / SAMPLE_EVERY_S,
        "allowed": ALLOWED,
        "ratios": ratios,
        "below_allowed": ratios["on"]["high"] - 1 < ALLOWED,
        "rounds": found,
    }
    write(out, content)


if __name__ == "__main__":
    typer.run(main)
