"""Flags made from a model's fields: names, values, defaults and help, and what reaches the command."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import typer
from pydantic import BaseModel, Field
from typer.testing import CliRunner

from specbench_s2d.cli.flags import flags_from, given_flags
from specbench_s2d.cli.main import app, main
from specbench_s2d.config import RunSpec

ORDINARY = (
    "out", "dry_run", "retry_failed", "strict", "as_json", "debug", "print_slurm", "ray", "ray_address", "allow_mixed",
    "safe_csv",
)  # fmt: skip
"""Flags of `run` that are no part of what a run is."""


class Settings(BaseModel):
    """Every kind of field that flags are made from."""

    steps: int = Field(gt=0, description="Steps to take, in metres.")
    rate: float = Field(0.5, ge=0, le=1, description="Share of them.")
    mode: Literal["walk", "run"] | None = Field(None, description="How; default: whichever is faster.")
    name: list[str] = Field(default=[], description="Who; repeatable.")
    loud: bool = Field(False, description="Say so.")
    stops: tuple[int, ...] = Field((), description="Where to stop.")


def help_of(**defaults: Any) -> str:
    @flags_from(Settings.model_fields, "values", dict, defaults)
    def command(*, values: dict[str, Any]) -> None:
        """Walk."""

    made = typer.Typer()
    made.command()(command)
    return " ".join(CliRunner(env={"COLUMNS": "200"}).invoke(made, ["--help"]).output.split())


def parse(*words: str, **defaults: Any) -> dict[str, Any]:
    """The values that the command is handed for these words."""
    seen: dict[str, Any] = {}

    @flags_from(Settings.model_fields, "values", dict, defaults)
    def command(first: bool = False, *, values: dict[str, Any], last: int = 1) -> None:
        seen.update(values, first=first, last=last)

    made = typer.Typer()
    made.command()(command)
    assert CliRunner().invoke(made, words, catch_exceptions=False).exit_code == 0
    return seen


def test_help_shows_choices_ranges_and_defaults() -> None:
    shown = help_of()
    assert "--steps <int> Steps to take, in metres; above 0. [required]" in shown
    assert "--rate <float> Share of them; at least 0, at most 1. [default: 0.5]" in shown
    assert "--mode <walk|run> How; default: whichever is faster." in shown
    assert "--stops <int,…> Where to stop." in shown
    assert "--loud --no-loud <bool> Say so." in shown
    assert "--rate <float> Share of them; at least 0, at most 1; default: 0.5." in help_of(rate=None)


def test_values_reach_the_command_as_typed_and_its_own_flags_stay() -> None:
    words = ("--steps", "3", "--name", "a", "--name", "b", "--no-loud", "--stops", "1,2", "--last", "7")
    assert parse(*words, mode="run") == {
        "steps": "3", "rate": "0.5", "mode": "run", "name": ["a", "b"], "loud": False, "stops": "1,2",
        "first": False, "last": 7,
    }  # fmt: skip


def test_what_was_not_given_is_told_from_what_was() -> None:
    unset = dict.fromkeys(Settings.model_fields)
    assert given_flags({n: v for n, v in parse(**unset).items() if n in unset}) == {}
    given = parse("--rate", "0", "--no-loud", **unset)
    assert given_flags({n: v for n, v in given.items() if n in unset}) == {"rate": "0", "loud": False}


# `run` and `project`


def parameters(command: str) -> dict[str, Any]:
    root: Any = typer.main.get_command(app)
    return {p.name: p for p in root.commands[command].params}


def test_run_has_a_flag_for_every_field_of_its_spec_with_the_fields_own_words() -> None:
    flags = parameters("run")
    assert flags.keys() - RunSpec.model_fields.keys() == {"spec", *ORDINARY}
    for name, field in RunSpec.model_fields.items():
        assert flags[name].opts == ["--" + name.replace("_", "-")]
        assert flags[name].default is None, "else it would win over a run file"
        assert flags[name].help.startswith(str(field.description).partition(";")[0].removesuffix("."))


def test_project_has_runs_words_for_what_both_take() -> None:
    run, project = parameters("run"), parameters("project")
    for name in ("device", "dtype", "engine"):
        assert (project[name].help, project[name].metavar) == (run[name].help, run[name].metavar)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dtype", "int3"], "error: --dtype: Input should be 'float32', 'bfloat16' or 'float16', got 'int3'."),
        (
            ["--limit", "many"],
            "error: --limit: Input should be a valid integer, unable to parse string",
        ),
        (["--top-p", "2"], "error: --top-p: Input should be less than or equal to 1, got '2'."),
        (["--replay-turns", "mine"], "error: --replay-turns: Input should be 'own' or 'ar', got 'mine'."),
    ],
)
def test_a_bad_value_is_one_line_with_what_was_given_and_what_is_allowed(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *words]) == 2
    message = capsys.readouterr().err
    assert message.startswith(said) and message.count("\n") == 1
