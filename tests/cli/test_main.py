"""The command line's manners: one line for a mistake, the right exit code, a traceback only when asked for."""

from __future__ import annotations

import json

import pytest

from specbench_s2d import __version__
from specbench_s2d.cli import main as cli


def complaint(arguments: list[str], capsys: pytest.CaptureFixture[str], code: int = 2) -> str:
    """The one line on stderr that a command leaves, after checking its exit code."""
    assert cli.main(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert "Traceback" not in captured.err
    return lines[0]


MISTAKES = {
    "unknown command": (["rn"], "No such command 'rn'. Did you mean 'run'?"),
    "unknown option": (["run", "--targt", "x"], "No such option: --targt (Possible options: --strict, --target)"),
    "missing value": (["run", "--target"], "requires an argument"),
    "unknown target": (["run", "--target", "demo-xxl"], "unknown model 'demo-xxl'"),
    "unknown decoder": (
        ["run", "--decoder", "sdd", "--target", "demo-s"],
        "unknown decoder 'sdd'. Did you mean 'sd', 's2d' or 'mjsd'?",
    ),
    "unknown decoder option": (["run", "--decoder", "sd:gama=3", "--target", "demo-s"], "Did you mean 'gamma'?"),
    "unknown suite": (["suites", "sumarization"], "Did you mean 'summarization'"),
    "a bad number": (["run", "--limit", "0"], "limit: Input should be greater than or equal to 1, got '0'"),
    "a folder that is no run": (["report", "no/such/folder"], "no/such/folder: no such folder"),
    "a missing run file": (["run", "missing.toml"], "missing.toml: no such run file"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_on_stderr_and_exit_code_2(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, message = MISTAKES[case]
    assert message in complaint(arguments, capsys)


def test_what_a_person_gave_is_no_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    """`:x:` would be a cross."""
    assert complaint(["suites", "--questions", "hub:x:y"], capsys).startswith("error: hub:x:y: write hub:OWNER/NAME")


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(ValueError, match="demo-xxl"):
        cli.main(["run", "--target", "demo-xxl", "--debug"])


def test_an_unexpected_error_is_one_line_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("something odd\nwith details")

    monkeypatch.setattr("specbench_s2d.models.demo.demo_models", fail)
    assert "unexpected RuntimeError: something odd (--debug shows where)" in complaint(["models"], capsys)


def test_so_is_a_panic_of_a_library_in_rust(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise type("PanicException", (BaseException,), {})("index out of bounds")

    monkeypatch.setattr("specbench_s2d.models.demo.demo_models", fail)
    assert "unexpected PanicException: index out of bounds (--debug shows where)" in complaint(["models"], capsys)


def test_no_permission_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise PermissionError(13, "Permission denied", "a/folder")

    monkeypatch.setattr("specbench_s2d.models.demo.demo_models", refuse)
    assert "a/folder: Permission denied" in complaint(["models"], capsys)


def test_ctrl_c_exits_with_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("specbench_s2d.models.demo.demo_models", interrupt)
    assert cli.main(["models"]) == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("command", ["suites", "models", "decoders", "env"])
def test_every_list_has_a_table_and_json(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command]) == 0
    assert capsys.readouterr().out.strip()
    assert cli.main([command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) is not None


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"specbench-s2d {__version__}\n"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("run", "report", "suites", "models", "decoders", "env", "train"))
