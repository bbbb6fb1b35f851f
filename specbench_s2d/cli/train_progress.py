"""Live progress of a training run: a bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from specbench_s2d.training import trainer

SECONDS_BETWEEN_LINES = 30.0


class Watch:
    """A `trainer.Watcher` that prints progress; a context manager, so that the bar is removed before anything else
    prints.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("left  {task.fields[status]}"),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._title = "training"
        self._last_line_s = float("-inf")

    def __enter__(self) -> Watch:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def announce(self, text: str) -> None:
        """Print what starts now, as `name: text`; the bar then carries the name."""
        self._console.print(text, style="bold", markup=False, highlight=False, soft_wrap=True)
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task, self._title, self._last_line_s = None, text.partition(":")[0], float("-inf")

    def __call__(self, progress: trainer.Progress) -> None:
        if self._task is None:
            self._task = self._bar.add_task(self._title, total=progress.steps, completed=progress.step - 1, status="")
        status = f"loss {progress.loss:.3f}  {progress.tokens_per_s:,.0f} tokens/s"
        self._bar.update(self._task, completed=progress.step, status=status, refresh=progress.validation is not None)
        due = not self._console.is_terminal and time.monotonic() - self._last_line_s > SECONDS_BETWEEN_LINES
        if progress.validation is not None or due:
            self._line(progress, status)

    def _line(self, progress: trainer.Progress, status: str) -> None:
        self._last_line_s = time.monotonic()
        line = f"{self._title}: step {progress.step}/{progress.steps}  {progress.tokens:,} tokens  {status}"
        if progress.validation:
            by_suite = "  ".join(f"{suite} {nll:.2f}" for suite, nll in progress.validation.items())
            line += f"  held-out nats/token: {by_suite}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class AnswerWatch:
    """Prints how many prompts are answered, and the answers' tokens per second, at most every 30 seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began_s = time.perf_counter()
        self._last_line_s = float("-inf")

    def __call__(self, done: int, of: int, tokens: int) -> None:
        now_s = time.perf_counter()
        if now_s - self._last_line_s < SECONDS_BETWEEN_LINES and done < of:
            return
        self._last_line_s = now_s
        rate = tokens / (now_s - self._began_s)
        text = f"{done:,} of {of:,} prompts answered, {tokens:,} tokens, {rate:,.0f} tokens/s"
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
