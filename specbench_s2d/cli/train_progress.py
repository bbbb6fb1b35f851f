"""Live progress of training: one line that is rewritten on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from specbench_s2d.cli.hash_line import hashes_shown
from specbench_s2d.cli.screen import Screen
from specbench_s2d.spelling import duration

if TYPE_CHECKING:
    from specbench_s2d.training import trainer

SECONDS_BETWEEN_LINES = 30.0


class _OneLine:
    """The line of one job after another; a context manager, so that it is removed before anything else prints."""

    def __init__(self, console: Screen, title: str) -> None:
        self._console, self._title = console, title
        columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=20), TaskProgressColumn())
        self._bar = Progress(*columns, TextColumn("{task.fields[status]}"), console=console, transient=True)
        self._task: TaskID | None = None
        self._last_line_s = float("-inf")
        self._hashes = hashes_shown(console, self._show_status)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar.start()
        self._hashes.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._hashes.__exit__(None, None, None)
        if self._console.is_terminal:
            self._bar.stop()

    def announce(self, text: str) -> None:
        """Print what starts now, as `name: text`; the line then carries the name, and says that it waits for data."""
        self._console.say(text, "bold")
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._title, self._last_line_s = text.partition(":")[0], float("-inf")
        self._task = self._bar.add_task(self._title, total=None, status="reading the data")

    def _show(self, done: int, of: int, said: str, status: str, last: str | None = None) -> None:
        """Rewrite the line; elsewhere print it where one is due. `said`: how far it is, in words; `last`: what is to
        stay on a terminal too, at the end of a line of its own."""
        if self._task is None:
            self._task = self._bar.add_task(self._title, status="")
        self._bar.update(self._task, total=of, completed=done, status=status, refresh=last is not None)
        due = not self._console.is_terminal and time.monotonic() - self._last_line_s > SECONDS_BETWEEN_LINES
        if last is not None or due:
            self._last_line_s = time.monotonic()
            self._console.say(f"{self._title}: {said}, {status}{last or ''}")

    def _show_status(self, text: str) -> None:
        if self._task is not None:
            self._bar.update(self._task, status=text, refresh=True)


class Watch(_OneLine):
    """A `trainer.Watcher`: step, loss, tokens per second, time left; held-out losses when they are measured."""

    def __init__(self, console: Screen) -> None:
        super().__init__(console, "training")

    def __call__(self, progress: trainer.Progress) -> None:
        tokens_left = progress.tokens / progress.step * (progress.steps - progress.step)
        rate = f"{progress.tokens_per_s:,.0f} tokens/s"
        left = f", {duration(tokens_left / progress.tokens_per_s)} left" if tokens_left else ""
        status = f"loss {progress.loss:.3f}, {rate}{left}"
        held_out = None
        if progress.validation is not None:
            held_out = "; held-out nats/token: " if progress.validation else ""
            held_out += ", ".join(f"{suite} {nll:.2f}" for suite, nll in progress.validation.items())
        said = f"step {progress.step:,}/{progress.steps:,}, {progress.tokens:,} tokens"
        self._show(progress.step, progress.steps, said, status, held_out)


class AnswerWatch(_OneLine):
    """How many prompts are answered, tokens of answers per second, time left."""

    def __init__(self, console: Screen) -> None:
        super().__init__(console, "answers")
        self._first: tuple[int, float] | None = None
        self._began_s = time.perf_counter()

    def __call__(self, done: int, of: int, tokens: int) -> None:
        """`done` of so many prompts have answers, those of an earlier run included; `tokens`: of this run's answers."""
        now_s = time.perf_counter()
        first_done, first_s = self._first = self._first or (done, now_s)
        pace = (done - first_done) / (now_s - first_s) if done > first_done else 0.0  # prompts per second
        left = f", {duration((of - done) / pace)} left" if pace and done < of else ""
        status = f"{tokens:,} tokens, {tokens / (now_s - self._began_s):,.0f} tokens/s{left}"
        self._show(done, of, f"{done:,} of {of:,} prompts answered", status, "" if done == of else None)
