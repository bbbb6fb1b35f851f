"""One metered block: work repeated until it is long enough to be metered, and the energy that it took."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import fmean, median
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from specbench_s2d.errors import is_stop
from specbench_s2d.measure.energy.meter import EnergyMeter, Reading, Sample
from specbench_s2d.measure.energy.reading import net_of_idle, read_during, reason_of
from specbench_s2d.measure.energy.trace import integrate_j

MIN_BLOCK_S = 5.0
"""Counters that are updated ten times a second err by at most 2 % over five seconds. Not measured on a GPU."""
MOST_ROUNDS = 2000
"""The most rounds of a block: rounds of less than 2.5 ms are too short to be metered."""
IDLE_S = 3.0
SETTLE_S = 2.0
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
NotNegative = Annotated[float, Field(ge=0, le=1e30)]
IDLE_MOST_S = 30.0
IDLE_TOLERANCE = 0.05
"""Idle power is taken as settled where the thirds of its reading lie no further apart than this share of their mean."""


class Metered(BaseModel):
    """The energy of one block. `energy_j`: by the energy counter, None with a `reason`. `trace_j`: by integrating the
    sampled power, None with a `trace_reason`.

    `disagreement`: trace over counter, less one. `energy_net_j`: less what the idle device would have drawn meanwhile,
    None with a `net_reason`.
    `clocks_mhz`: lowest and highest, by clock. `throttled`: what throttled the device at any sample.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    meter: str
    covers: list[str]
    rounds: Count
    new_tokens: Count
    block_s: NotNegative
    energy_j: NotNegative | None = None
    trace_j: NotNegative | None = None
    disagreement: float | None = None
    idle_power_w: NotNegative | None = None
    energy_net_j: float | None = None
    energy_j_per_token: NotNegative | None = None
    energy_net_j_per_token: float | None = None
    power_limit_w: NotNegative | None = None
    clocks_mhz: dict[str, tuple[float, float]] = {}
    temperature_max_c: float | None = None
    throttled: list[str] = []
    reason: str | None = None
    trace_reason: str | None = None
    net_reason: str | None = None

    @classmethod
    def failed(cls, meter: EnergyMeter, reason: str) -> Metered:
        """The block of work that failed."""
        return Metered(
            meter=meter.name,
            covers=list(meter.covers),
            rounds=0,
            new_tokens=0,
            block_s=0.0,
            reason=reason,
            trace_reason=reason,
            net_reason=reason,
        )


def measure_block(
    meter: EnergyMeter,
    work: Callable[[], int],
    synchronize: Callable[[], None],
    idle_power_w: float | None = None,
    min_s: float = MIN_BLOCK_S,
    most_rounds: int = MOST_ROUNDS,
) -> Metered:
    """Meter rounds of `work`, each of which returns its new tokens, until `min_s` have passed or after `most_rounds`.

    The device is synchronised at both ends. Where a block stays too short or the meter fails, energy is None with the
    reason. Raises only what `work` raises; the meter is then stopped too.
    """
    rounds = new_tokens = 0

    def work_on() -> None:
        nonlocal rounds, new_tokens
        began_s = meter.clock()
        while rounds < most_rounds and (rounds == 0 or meter.clock() - began_s < min_s):
            new_tokens += work()
            rounds += 1
            synchronize()

    synchronize()
    _, reading = read_during(meter, work_on)
    return _metered(meter, reading, rounds, new_tokens, idle_power_w, min_s)


class IdlePower(NamedTuple):
    """Watts of idle devices, None with a `reason`.

    `spread`: of the median power in the three thirds of the reading, the largest less the least over their mean; None
    where the meter samples no power. `waited_s`: seconds of rest, to the end of the reading.
    """

    watts: float | None
    reason: str | None = None
    spread: float | None = None
    waited_s: float = 0.0

    def facts(self) -> dict[str, Any]:
        """For the manifest: whether the power had settled (None: not known), and after how long."""
        settled = None if self.spread is None else self.spread <= IDLE_TOLERANCE
        facts = {"settled": settled, "spread": self.spread, "waited_s": round(self.waited_s, 3)}
        return facts | ({} if settled is not None else {"reason": self.reason or "the meter samples no power"})


def idle_power(
    meter: EnergyMeter, seconds: float = IDLE_S, settle_s: float = SETTLE_S, most_s: float = IDLE_MOST_S
) -> IdlePower:
    """The power of devices that nothing works on: read for `seconds` after `settle_s` of rest, and again while it still
    moves, as a GPU's does for a while after its context is made; at most `most_s` in all."""
    waited_s = settle_s
    try:
        meter.sleep(settle_s)
        while True:
            _, reading = read_during(meter, lambda: meter.sleep(seconds))
            waited_s += reading.seconds
            if reading.counter_j is None:
                return IdlePower(None, reading.reason, None, waited_s)
            spread = _spread(reading)
            if spread is None or spread <= IDLE_TOLERANCE or waited_s + seconds > most_s:
                return IdlePower(reading.counter_j / reading.seconds, None, spread, waited_s)
    except BaseException as error:  # what measures energy loses no records
        if is_stop(error):
            raise
        return IdlePower(None, reason_of(error))


def _spread(reading: Reading) -> float | None:
    """How far the median powers of a reading's three thirds lie apart, over their mean; None without a trace."""
    if reading.trace_reason or len(reading.samples) < 3:
        return None
    began_s, third_s = reading.samples[0].at_s, reading.seconds / 3
    thirds: list[list[float]] = [[], [], []]
    for sample in reading.samples:
        thirds[min(2, int((sample.at_s - began_s) / third_s))].append(sample.power_w)
    if not all(thirds):
        return None
    middle = [median(third) for third in thirds]
    return (max(middle) - min(middle)) / fmean(middle)


def _metered(
    meter: EnergyMeter, reading: Reading, rounds: int, new_tokens: int, idle_power_w: float | None, min_s: float
) -> Metered:
    reason = reading.reason or _unusable(reading, rounds, new_tokens, min_s)
    energy_j = None if reason else reading.counter_j
    trace_j = None if reading.trace_reason else integrate_j(reading.samples)
    net_j, net_reason = net_of_idle(energy_j, reading.seconds, idle_power_w)
    return Metered(
        meter=meter.name,
        covers=list(meter.covers),
        rounds=rounds,
        new_tokens=new_tokens,
        block_s=reading.seconds if reading.seconds > 0 else 0.0,
        energy_j=energy_j,
        trace_j=trace_j,
        disagreement=trace_j / energy_j - 1 if energy_j and trace_j is not None else None,
        idle_power_w=idle_power_w,
        energy_net_j=net_j,
        energy_j_per_token=None if energy_j is None else energy_j / new_tokens,
        energy_net_j_per_token=None if net_j is None else net_j / new_tokens,
        power_limit_w=meter.power_limit_w,
        clocks_mhz=extremes(reading.samples),
        temperature_max_c=max((s.temperature_c for s in reading.samples if s.temperature_c is not None), default=None),
        throttled=sorted(frozenset().union(*(s.throttled for s in reading.samples))),
        reason=reason,
        trace_reason=reading.trace_reason or (None if trace_j is not None else "fewer than two samples of power"),
        net_reason=reason or net_reason,
    )


def _unusable(reading: Reading, rounds: int, new_tokens: int, min_s: float) -> str | None:
    """Why a counter's difference gives no energy per token; None where it does."""
    if not reading.seconds >= min_s:
        return f"{rounds} rounds took {reading.seconds:.2f} s; a block is measured from {min_s:g} s on"
    if not new_tokens:
        return "the block made no token"
    return None


def extremes(samples: Iterable[Sample]) -> dict[str, tuple[float, float]]:
    """The lowest and the highest of each clock."""
    seen: dict[str, list[float]] = {}
    for sample in samples:
        for name, values in sample.clocks_mhz.items():
            seen.setdefault(name, []).extend(values)
    return {name: (min(values), max(values)) for name, values in seen.items() if values}
