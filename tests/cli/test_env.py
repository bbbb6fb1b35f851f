"""`env`: the manifest's facts in words and as JSON, and what is wrong below them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from specbench_s2d.cli import main as cli
from specbench_s2d.cli.env import show
from specbench_s2d.measure.conditions import findings

FACTS: dict[str, Any] = {
    "python": "3.11.0",
    "observed_unix_s": 0.0,
    "settings": {"OMP_NUM_THREADS": "4", "MKL_NUM_THREADS": None},
    "cpu": {"usable_cores": 2, "threads": 4, "governor": None, "governor_reason": "no such file"},
    "memory": {"total_bytes": 16 * 2**30},
    "gpu": {"name": None, "reason": "the run used cpu", "sm_clock_mhz": 1980, "mig": False, "throttle_reasons": []},
}


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")


def printed(capsys: pytest.CaptureFixture[str], threads: int = 4, as_json: bool = False) -> str:
    facts = {**FACTS, "cpu": {**FACTS["cpu"], "threads": threads}}
    show("cpu", facts, findings("cpu", facts), as_json)
    return capsys.readouterr().out


def row(text: str, name: str) -> str:
    """The value beside a name, of the one row that has it."""
    (line,) = (line for line in text.splitlines() if re.search(rf"(^|  ){re.escape(name)}  ", line))
    return re.split("  +", line.strip())[-1]


def test_values_stand_with_their_units_and_gaps_with_their_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys)
    assert row(text, "python") == "3.11.0"
    assert row(text, "observed") == "1970-01-01 00:00:00 UTC"
    assert (row(text, "OMP_NUM_THREADS"), row(text, "MKL_NUM_THREADS")) == ("4", "–")
    assert row(text, "governor") == "– (no such file)"
    assert (row(text, "total"), row(text, "sm clock")) == ("16.0 GiB", "1,980 MHz")
    assert (row(text, "mig"), row(text, "throttle reasons")) == ("no", "none")
    assert "governor reason" not in text


def test_what_is_wrong_stands_below_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    table, _, wrong = printed(capsys).partition("Wrong for benchmarking")
    assert "usable cores" in table
    assert "4 threads on 2 usable cores" in wrong and "set OMP_NUM_THREADS=2" in wrong
    assert "Nothing found that is wrong for benchmarking on cpu." in printed(capsys, threads=2)


def test_json_is_the_facts_and_the_findings(capsys: pytest.CaptureFixture[str]) -> None:
    said = json.loads(printed(capsys, as_json=True))
    (finding,) = said.pop("findings")
    assert said == FACTS
    assert finding == {
        "about": "CPU", "what": "4 threads on 2 usable cores", "advice": "set OMP_NUM_THREADS=2", "transient": False,
        "unfit": True,
    }  # fmt: skip


def test_the_command_shows_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["env", "--device", "cpu", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["gpu"] == {"name": None, "reason": "the run used cpu"}
    assert said["cpu"]["usable_cores"] >= 1 and said["attention"]["sdpa_backends"] == ["flash", "math"]


def test_a_device_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["env", "--device", "tpu"]) == 2
    assert "--device tpu: not a device; give cpu, cuda or cuda:N, or auto for all GPUs." in capsys.readouterr().err
