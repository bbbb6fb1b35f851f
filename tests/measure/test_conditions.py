"""What is wrong with a machine, from made-up facts: one rule after another, and a clean machine without a finding."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest

from specbench_s2d.measure import conditions as module
from specbench_s2d.measure.conditions import Finding, findings, load_meanwhile, moved, observe, restless
from specbench_s2d.measure.environment import environment

GIB = 2**30
CLEAN: dict[str, Any] = {
    "observed_unix_s": 1000.0,
    "cpu": {
        "usable_cores": 8,
        "quota_cores": None,
        "threads": 8,
        "governor": "performance",
        "other_load_cores": 0.7,
        "stolen_cores": 0.3,
        "clock_mhz": 3000.0,
    },
    "memory": {"total_bytes": 64 * GIB, "limit_bytes": None, "available_bytes": 50 * GIB, "swap_used_bytes": 2**20},
    "python_build": {"debug_build": False, "dev_mode": False, "traced": False, "sanitizers": []},
    "torch": {"debug_build": False, "deterministic": False},
    "settings": {"CUDA_LAUNCH_BLOCKING": None},
    "gpu": {
        "name": "NVIDIA H100",
        "uuid": "GPU-1",
        "power_limit_w": 700.0,
        "default_power_limit_w": 700.0,
        "mig": False,
        "utilization_percent": 1,
        "other_processes": 0,
        "throttle_reasons": [],
        "temperature_c": 50,
        "sm_clock_mhz": 1980,
        "memory_clock_mhz": 2619,
        "power_throttled_s": 7.0,
        "thermal_throttled_s": 0.0,
    },
}


def with_facts(**changes: Any) -> dict[str, Any]:
    """A clean machine but for `section__name=value`."""
    facts = copy.deepcopy(CLEAN)
    for path, value in changes.items():
        section, _, name = path.partition("__")
        facts[section][name] = value
    return facts


def said(found: list[Finding]) -> str:
    """The only finding, in one line."""
    (finding,) = found
    assert finding.advice
    return f"{finding.about}: {finding.what}"


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1"])
def test_a_clean_machine_gives_no_finding(device: str) -> None:
    assert findings(device, CLEAN) == []
    assert moved(CLEAN, {**CLEAN, "observed_unix_s": 2000.0}) == []


RULES: dict[str, tuple[dict[str, Any], str]] = {
    "a busy GPU": ({"gpu__utilization_percent": 6}, "GPU: busy: 6 % before the run"),
    "a shared GPU": ({"gpu__other_processes": 2}, "GPU: shared: 2 other compute process(es)"),
    "throttling": ({"gpu__throttle_reasons": ["power cap", "heat (driver)"]}, "held down: power cap, heat (driver)"),
    "a hot GPU": ({"gpu__temperature_c": 85}, "GPU: hot: 85 °C"),
    "a low power limit": ({"gpu__power_limit_w": 500.0}, "GPU: power limit 500 W, below the default of 700 W"),
    "MIG": ({"gpu__mig": True}, "GPU: a part of a GPU (MIG)"),
    "a MIG device that hides its mode": ({"gpu__mig": None, "gpu__uuid": "MIG-1"}, "GPU: a part of a GPU (MIG)"),
    "a GPU without NVML": ({"gpu__reason": "NVML: Driver Not Loaded"}, "cannot be read (NVML: Driver Not Loaded)"),
    "a blocked host": ({"settings__CUDA_LAUNCH_BLOCKING": "1"}, "torch: CUDA_LAUNCH_BLOCKING"),
    "a busy CPU": ({"cpu__other_load_cores": 0.9}, "CPU: busy: other processes use 0.9 of the 8 cores"),
    "a CPU that is not one's own": ({"cpu__stolen_cores": 0.5}, "CPU: the hypervisor withholds 0.5 of 8 cores"),
    "a governor that saves": ({"cpu__governor": "performance, powersave"}, "CPU: governor performance, powersave"),
    "too many threads": ({"cpu__threads": 9}, "CPU: 9 threads on 8 usable cores"),
    "a quota below the threads": ({"cpu__quota_cores": 1.5}, "CPU: 8 threads, but a quota of 1.5 cores"),
    "swapping": ({"memory__swap_used_bytes": GIB}, "memory: 1.0 GiB are swapped out"),
    "little memory": ({"memory__available_bytes": 6 * GIB}, "memory: 6.0 of 64.0 GiB are free"),
    "a debug build of Python": ({"python_build__debug_build": True}, "Python: a debug build"),
    "sanitizers": ({"python_build__sanitizers": ["address"]}, "Python: runs under sanitizers: address"),
    "development mode": ({"python_build__dev_mode": True}, "Python: development mode is on"),
    "a tracer": ({"python_build__traced": True}, "Python: a debugger, profiler or coverage tool traces every call"),
    "a debug build of torch": ({"torch__debug_build": True}, "torch: a debug build"),
    "deterministic kernels": ({"torch__deterministic": True}, "torch: deterministic algorithms are on"),
}


@pytest.mark.parametrize("rule", RULES)
def test_one_thing_that_is_wrong_is_one_finding(rule: str) -> None:
    changes, expected = RULES[rule]
    assert expected in said(findings("cuda", with_facts(**changes)))


@pytest.mark.parametrize("rule", RULES)
def test_a_run_on_a_cpu_does_not_ask_what_the_gpu_does(rule: str) -> None:
    changes, _ = RULES[rule]
    of_the_gpu = any(name.startswith(("gpu", "settings")) for name in changes)
    assert len(findings("cpu", with_facts(**changes))) == (0 if of_the_gpu else 1)


@pytest.mark.parametrize(
    ("changes", "transient"),
    [
        ({"cpu__other_load_cores": 2.0}, True),
        ({"cpu__stolen_cores": 2.0}, True),
        ({"gpu__utilization_percent": 50}, True),
        ({"gpu__temperature_c": 90}, True),
        ({"cpu__governor": "powersave"}, False),
        ({"cpu__threads": 16}, False),
        ({"gpu__power_limit_w": 300.0}, False),
        ({"torch__debug_build": True}, False),
    ],
)
def test_what_comes_and_goes_is_told_from_how_the_machine_is_set_up(changes: dict[str, Any], transient: bool) -> None:
    """Times are compared between runs on one machine, set up as it is; not where other work came over one of them."""
    (finding,) = findings("cuda:0", with_facts(**changes))
    assert finding.transient is transient


def test_what_moved_is_passing() -> None:
    after = with_facts(gpu__sm_clock_mhz=1500)
    assert all(finding.transient for finding in moved(CLEAN, after)) and moved(CLEAN, after)


def test_memory_is_little_against_a_containers_limit() -> None:
    facts = with_facts(memory__limit_bytes=4 * GIB, memory__available_bytes=GIB // 4)
    assert said(findings("cpu", facts)) == "memory: 0.2 of 4.0 GiB are free"


def test_the_advice_names_the_number_to_set() -> None:
    assert findings("cpu", with_facts(cpu__threads=9))[0].advice == "set OMP_NUM_THREADS=8"
    assert "OMP_NUM_THREADS=1," in findings("cpu", with_facts(cpu__quota_cores=0.5))[0].advice
    assert "-pl 700" in findings("cuda", with_facts(gpu__power_limit_w=500.0))[0].advice


def test_facts_that_are_not_known_say_nothing() -> None:
    unknown = {part: dict.fromkeys(facts) if isinstance(facts, dict) else facts for part, facts in CLEAN.items()}
    assert findings("cuda", unknown) == findings("cuda", {}) == []
    assert moved(unknown, CLEAN) == moved({}, {}) == []


MOVES: dict[str, tuple[dict[str, Any], str]] = {
    "the GPU's clock": ({"gpu__sm_clock_mhz": 1800}, "GPU: clocks moved from 1,980 to 1,800 MHz"),
    "its memory's clock": ({"gpu__memory_clock_mhz": 1593}, "GPU memory: clocks moved from 2,619 to 1,593 MHz"),
    "the CPU's clock": ({"cpu__clock_mhz": 2600.0}, "CPU: clocks moved from 3,000 to 2,600 MHz"),
    "heat": ({"gpu__temperature_c": 71}, "GPU: warmed from 50 to 71 °C"),
    "the power limit": ({"gpu__power_throttled_s": 18.0}, "GPU: held down by its power limit for 11.0 s of 1000 s"),
    "heat that held it down": ({"gpu__thermal_throttled_s": 11.0}, "GPU: held down by heat for 11.0 s of 1000 s"),
}


@pytest.mark.parametrize("move", MOVES)
def test_one_thing_that_moved_is_one_finding(move: str) -> None:
    changes, expected = MOVES[move]
    after = {**with_facts(**changes), "observed_unix_s": 2000.0}
    assert said(moved(CLEAN, after)) == expected


def test_small_moves_are_none() -> None:
    after = with_facts(
        gpu__sm_clock_mhz=1900, cpu__clock_mhz=2750.0, gpu__temperature_c=70, gpu__power_throttled_s=16.0
    )
    assert moved(CLEAN, {**after, "observed_unix_s": 2000.0}) == []


def test_observing_is_short_and_its_facts_are_of_the_environments_sections() -> None:
    began = time.monotonic()
    now = observe("cpu")
    assert time.monotonic() - began < 2 * module.WINDOW_S  # a busy machine may take its time
    facts = environment("cpu")
    for part, content in now.items():
        if isinstance(content, dict):
            assert content.keys() <= facts[part].keys()
    assert now["observed_unix_s"] <= facts["observed_unix_s"]


QUIET = {"usable_cores": 2, "other_load_cores": 0.05, "stolen_cores": 0.0, "disturbed_share": 0.0,
         "most_other_load_cores": 0.2}  # fmt: skip


def test_load_meanwhile_counts_on_average_and_in_bursts() -> None:
    assert load_meanwhile(QUIET) == []
    both = said(load_meanwhile({**QUIET, "other_load_cores": 1.9, "disturbed_share": 1.0}))
    assert "busy while it was timed: other processes used 1.9 of the 2 cores on average" in both
    burst = said(load_meanwhile({**QUIET, "disturbed_share": 0.08, "most_other_load_cores": 2.0}))
    assert "busy for 8 % of the time while it was timed: other processes used up to 2.0 of the 2 cores" in burst
    assert "the hypervisor took 0.5 of the 2 cores" in said(load_meanwhile({**QUIET, "stolen_cores": 0.5}))
    assert load_meanwhile({**QUIET, **dict.fromkeys(QUIET), "usable_cores": 2}) == []


def test_restless_warm_ups_are_one_finding_with_their_spreads() -> None:
    assert restless({}) == []
    (found,) = restless({"sd": 0.31, "s2d": 0.4})
    assert found.what == "never became steady, with the spread of the last runs: sd (31 %), s2d (40 %)"
    assert found.transient and found.unfit


def test_what_comes_and_goes_makes_a_machine_unfit_and_a_governor_does_not() -> None:
    unfit = {
        case: findings("cuda", with_facts(**{case: value}))[0].unfit
        for case, value in {
            "cpu__other_load_cores": 3.0, "gpu__throttle_reasons": ["power"], "cpu__threads": 9,
            "python_build__traced": True, "cpu__governor": "powersave", "gpu__mig": True, "gpu__power_limit_w": 400.0,
        }.items()
    }  # fmt: skip
    assert [case for case, is_unfit in unfit.items() if not is_unfit] == [
        "cpu__governor", "gpu__mig", "gpu__power_limit_w"
    ]  # fmt: skip
