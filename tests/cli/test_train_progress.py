"""Live progress of training: one line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import re
import time
from types import SimpleNamespace

import pytest

from specbench_s2d.cli.screen import Screen
from specbench_s2d.cli.train_progress import AnswerWatch, Watch
from specbench_s2d.training.trainer import Progress


def progress(step: int, validation: dict[str, float] | None = None) -> Progress:
    return Progress(step, 10, step * 80, 2.5, 1234.0, validation)


def shown_on(console: Screen) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_terminal_shows_one_line_with_the_speed_and_the_time_left() -> None:
    console = Screen(file=io.StringIO(), force_terminal=True, width=120)
    with Watch(console) as watch:
        watch.announce("demo-s: random weights")
        for step in range(1, 6):
            watch(progress(step, {"qa": 1.5, "all": 1.5} if step == 5 else None))
    shown = shown_on(console)
    for part in ("demo-s", "reading the data", "50%", "loss 2.500", "1,234 tokens/s", "0 s left", "qa 1.50"):
        assert part in shown
    assert shown.count("held-out") == 1


def test_a_line_that_stays_is_parted_between_words_on_a_narrow_terminal() -> None:
    console = Screen(file=io.StringIO(), force_terminal=True, width=40)
    with Watch(console) as watch:
        watch(progress(10, {"qa": 1.5, "all": 1.5}))
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown_on(console)).splitlines()
    assert [line for line in lines if "held-out" in line or "qa 1.50" in line] == [
        "2.500, 1,234 tokens/s; held-out",
        "nats/token: qa 1.50, all 1.50",
    ]
    assert " left" not in shown_on(console), "nothing is left at the end"


def test_elsewhere_there_are_plain_lines() -> None:
    console = Screen(file=io.StringIO(), force_terminal=False, width=40)
    with Watch(console) as watch:
        watch.announce("demo-s: random weights")
        for step in range(1, 6):
            watch(progress(step, {"qa": 1.5, "all": 1.5} if step == 5 else None))
    assert shown_on(console).splitlines() == [
        "demo-s: random weights",
        "demo-s: step 1/10, 80 tokens, loss 2.500, 1,234 tokens/s, 1 s left",
        "demo-s: step 5/10, 400 tokens, loss 2.500, 1,234 tokens/s, 0 s left; held-out nats/token: qa 1.50, all 1.50",
    ]


def test_answers_have_one_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 20.0, 60.0])
    fake = SimpleNamespace(perf_counter=lambda: next(clock), monotonic=time.monotonic)
    monkeypatch.setattr("specbench_s2d.cli.train_progress.time", fake)
    console = Screen(file=io.StringIO(), force_terminal=False, width=40)
    with AnswerWatch(console) as watch:
        watch.announce("a.jsonl: answers of demo-s")
        for done, tokens in ((40, 1000), (50, 1500), (90, 4500)):  # forty: ten of now, thirty of an earlier run
            watch(done, 90, tokens)
    assert shown_on(console).splitlines() == [
        "a.jsonl: answers of demo-s",
        "a.jsonl: 40 of 90 prompts answered, 1,000 tokens, 100 tokens/s",
        "a.jsonl: 90 of 90 prompts answered, 4,500 tokens, 75 tokens/s",
    ]
