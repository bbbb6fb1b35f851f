"""The README tells the truth: its tables, its output and its commands are the program's own."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.readme import README, ROOT, blocks, commands

TEXT = README.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["run-output", "commands", "run-flags", "decoders", "models", "definitions"])
def test_a_generated_block_is_what_the_program_says(name: str) -> None:
    """Out of date? `make readme` writes all of them anew."""
    assert f"<!-- begin:{name} -->\n{blocks()[name]}\n<!-- end:{name} -->" in TEXT


def documented() -> list[list[str]]:
    """Every `specbench-s2d …` line in a code block, split into words."""
    lines = [line for block in re.findall(r"```(?:bash|sh)\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
    return [shlex.split(line.split(" #")[0])[1:] for line in lines if line.startswith("specbench-s2d ")]


def test_every_documented_command_and_flag_exists() -> None:
    assert documented()
    for words in documented():
        name = " ".join(words[:2]) if words[0] == "train" else words[0]
        assert name in commands(), f"no command {name!r}"
        flags = {flag for parameter in commands()[name].params for flag in parameter.opts}
        unknown = [word for word in words if word.startswith("--") and word not in flags]
        assert not unknown, f"{name}: no flag {unknown}"


def test_every_make_target_and_file_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"^make ([a-z]+)", TEXT, re.MULTILINE))
    assert named and named <= targets
    for path in re.findall(r"\]\(([^)#]+)\)", TEXT):
        if not path.startswith("http"):
            assert (ROOT / path).exists(), path


def test_the_python_example_runs() -> None:
    code = next(block for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    generation = names["generation"]
    assert generation.ids and generation.steps  # type: ignore[attr-defined]
