"""The Typer application, and the one place where a user's mistake becomes one line on stderr."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import typer
from typer.exceptions import Abort, TyperException

from specbench_s2d import __version__
from specbench_s2d.cli import (
    check,
    compare,
    env,
    export,
    importing,
    lists,
    merge,
    models,
    project,
    report,
    run,
    screen,
    suites,
    train,
)
from specbench_s2d.cli.help import App
from specbench_s2d.display import visible
from specbench_s2d.errors import UserError, in_one_line, is_stop
from specbench_s2d.files import remedy

app = App(
    name="specbench-s2d",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    run.run, merge.merge, report.report, compare.compare, check.check, export.export, project.project,
):  # fmt: skip
    app.command()(command)
app.command(name="import")(importing.import_run)
for listing in (suites.suites, lists.decoders, env.env):
    app.command()(listing)
app.add_typer(models.app, name="models")
app.add_typer(train.app, name="train")


_NO_INTEGER = "Input should be a valid integer, unable to parse string as an integer"


def _show_version(asked: bool) -> None:
    if asked:
        screen.stdout().say(f"specbench-s2d {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Measure speculative decoding: targets x decoders x Spec-Bench's suites, honestly timed."""


def main(argv: list[str] | None = None) -> int:
    """Run the CLI and return its exit code; tracebacks only under `--debug` (or SPECBENCH_DEBUG=1)."""
    screen.prepare_streams()
    arguments = sys.argv[1:] if argv is None else argv
    debug = "--debug" in arguments or os.environ.get("SPECBENCH_DEBUG") == "1"
    try:
        result = app([word for word in arguments if word != "--debug"], standalone_mode=False)
        return result if isinstance(result, int) else 0
    except Exception as error:
        if debug:
            raise
        return _explain(error)
    except KeyboardInterrupt:
        _complain("stopped.")
        return 130
    except SystemExit:
        raise
    except BaseException as error:
        if debug or is_stop(error):
            raise
        return _explain(error)


def entry() -> None:
    """The console script."""
    try:
        code = main()
    except Exception:  # under --debug
        sys.stderr.write(visible(traceback.format_exc(), keep="\n\t"))
        code = 1
    sys.exit(code)


def _explain(error: BaseException) -> int:
    """One line for whatever went wrong, and the exit code that fits."""
    if isinstance(error, UserError):
        _complain(str(error))
        return error.exit_code
    if isinstance(error, Abort):
        _complain("stopped.")
        return 130
    if isinstance(error, TyperException):
        message = error.format_message()
        if message:  # empty: the help was asked for by giving no argument, and is already there
            _complain(message.replace(_NO_INTEGER, "give a whole number, in digits."))
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        sys.stderr.close()  # the reader of our output has gone; there is nobody to tell
        return 1
    if isinstance(error, OSError):
        advice = remedy(error, "")
        what = f"{error.filename or 'a file, or standard output'}: {error.strerror or error}"
        _complain(f"{what}; {advice}." if advice else f"{what}.")
        return 2
    _complain(f"unexpected {in_one_line(error, kind=True)} (--debug shows where).")
    return 2


def _complain(text: str) -> None:
    screen.stderr().say(f"error: {text}", "red")
