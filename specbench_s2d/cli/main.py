"""The Typer application, and the one place where a user's mistake becomes one line on stderr."""

from __future__ import annotations

import os
import sys

import typer
from rich.console import Console

from specbench_s2d.cli import report, train
from specbench_s2d.errors import UserError

app = typer.Typer(
    name="specbench-s2d",
    help="Measure speculative decoding: targets x decoders x Spec-Bench suites, honestly timed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("report")(report.report)
app.add_typer(train.app, name="train")


def main(argv: list[str] | None = None) -> int:
    """Run the CLI and return its exit code; tracebacks only under `--debug` (or SPECBENCH_DEBUG=1)."""
    arguments = sys.argv[1:] if argv is None else argv
    debug = "--debug" in arguments or os.environ.get("SPECBENCH_DEBUG") == "1"
    arguments = [a for a in arguments if a != "--debug"]
    try:
        result = app(arguments, standalone_mode=False)
        return result if isinstance(result, int) else 0
    except UserError as error:
        if debug:
            raise
        Console(stderr=True).print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 2
