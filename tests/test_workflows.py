"""The workflows: the commands in them, what the GPU gate does with and without a baseline of its card, and what is
checked before a release is published."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.documents import ROOT, check_words, command_lines

FOLDER = ROOT / ".github" / "workflows"
Steps = list[dict[str, Any]]


def workflow(name: str) -> dict[str, Any]:
    """The workflow; YAML 1.1 reads its key `on` as True."""
    facts: dict[Any, Any] = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    return {"on" if key is True else key: value for key, value in facts.items()}


def steps(name: str) -> Steps:
    return [step for job in workflow(name)["jobs"].values() for step in job.get("steps", [])]


def step(name: str) -> dict[str, Any]:
    [found] = [step for file in ("gpu.yml", "release.yml") for step in steps(file) if step.get("name") == name]
    return found


def test_every_command_of_the_gpu_workflow_is_one_of_the_programs() -> None:
    scripts = [one.get("run", "").replace('"${baselines[@]}"', "--baseline base") for one in steps("gpu.yml")]
    lines = [words for script in scripts for words in command_lines(script)]
    assert [words[0] for words in lines] == ["env", "env", "run", "check"]
    for words in lines:
        check_words(words)
    assert "--require-speed" in lines[-1] and "cuda" in lines[2]


def test_every_command_of_the_release_is_one_of_the_programs() -> None:
    [version, *lines] = command_lines(step("Try the wheel")["run"])
    assert version == ["--version"]
    assert [words[0] for words in lines] == ["run", "report"]
    for words in lines:
        check_words(words)


def test_tests_run_on_every_python_that_the_package_names() -> None:
    pythons = workflow("ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [f"Programming Language :: Python :: {version}" for version in pythons] == [
        line for line in project["classifiers"] if line.startswith("Programming Language :: Python :: 3.")
    ]
    assert project["requires-python"] == f">={pythons[0]}"


def test_only_what_passed_is_published_and_only_that_job_may() -> None:
    facts = workflow("release.yml")
    assert facts["on"] == {"push": {"tags": ["v*"]}}
    assert facts["jobs"]["ci"]["uses"] == "./.github/workflows/ci.yml" and "workflow_call" in workflow("ci.yml")["on"]
    publish = facts["jobs"]["publish"]
    assert publish["needs"] == ["ci", "build"] and publish["environment"]["name"] == "pypi"
    assert publish["steps"][-1] == {"uses": "pypa/gh-action-pypi-publish@release/v1"}
    allowed = {name: job.get("permissions", facts["permissions"]) for name, job in facts["jobs"].items()}
    assert allowed == {"ci": {"contents": "read"}, "build": {"contents": "read"}, "publish": {"id-token": "write"}}


def test_the_gpu_workflow_runs_where_and_when_it_says() -> None:
    facts = workflow("gpu.yml")
    assert set(facts["on"]) == {
        "workflow_dispatch",
        "schedule",
        "push",
    }  # a stranger's pull request runs on no one's GPU
    [job] = facts["jobs"].values()
    assert job["runs-on"] == ["self-hosted", "linux", "${{ inputs.label || 'gpu' }}"]


def test_the_gpu_workflow_keeps_the_run_whatever_happens() -> None:
    kept = step("Keep the run")
    assert kept["if"] == "always()"
    names = {Path(line).name for line in kept["with"]["path"].split()}
    assert names == {"report.html", "summary.csv", "manifest.json", "records.jsonl", "gate.xml", "gate.md"}


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.yml")))
def test_every_script_is_good_bash(name: str) -> None:
    scripts = [one["run"] for one in steps(name) if "run" in one]
    assert scripts
    for script in scripts:
        done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr


@pytest.fixture
def runner(tmp_path: Path) -> Path:
    """A folder to run steps in, with a `specbench-s2d` that answers `env` and writes down what else it was given."""
    program = tmp_path / "bin" / "specbench-s2d"
    program.parent.mkdir()
    facts = json.dumps({"gpu": {"name": "NVIDIA H100 80GB HBM3"}, "cpu": {"model": "AMD EPYC"}})
    program.write_text(
        f"#!/bin/sh\nif [ $1 = env ]; then echo '{facts}'; else echo \"$@\" >> given; exit ${{EXIT:-0}}; fi\n"
    )
    program.chmod(0o755)
    return tmp_path


def act(runner: Path, name: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a step's script as a runner would."""
    files = {name: str(runner / name) for name in ("GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    path = f"{runner / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step(name)["run"]],
        cwd=runner, env={"PATH": path, "GITHUB_RUN_ID": "17", **files, **variables},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(("tag", "right"), [("v1.2.3", True), ("v1.2.4", False), ("1.2.3", False)])
def test_a_tag_is_held_to_the_version(runner: Path, tag: str, right: bool) -> None:
    (runner / "specbench_s2d").mkdir()
    (runner / "specbench_s2d" / "__init__.py").write_text('__version__ = "1.2.3"\n')
    done = act(runner, "Hold the tag to the version", GITHUB_REF_NAME=tag)
    assert (done.returncode == 0) is right, done.stderr
    assert right or f"{tag} stands on version 1.2.3; tag v1.2.3" in done.stdout


def make_baseline(runner: Path, name: str) -> None:
    folder = runner / "results" / "baselines" / "gpu" / name
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")


def test_the_cards_name_becomes_a_folders(runner: Path) -> None:
    done = act(runner, "Look at the card")
    assert not done.returncode, done.stderr
    assert (runner / "GITHUB_ENV").read_text() == "CARD=nvidia-h100-80gb-hbm3\n"


@pytest.mark.parametrize(("status", "passed_on"), [("0", True), ("1", True), ("2", False), ("130", False)])
def test_a_run_with_failed_cells_is_judged_and_one_that_could_not_start_is_not(
    runner: Path, status: str, passed_on: bool
) -> None:
    done = act(runner, "Run the gate's grid", EXIT=status)
    assert (done.returncode == 0) is passed_on
    assert (runner / "GITHUB_ENV").read_text() == f"RUN_STATUS={status}\n"


GATE = "Hold it to the baseline of the card"


def test_the_gate_takes_all_baselines_of_this_card_and_of_no_other(runner: Path) -> None:
    for name in ("nvidia-l4", "nvidia-l4-2", "nvidia-l40s", "nvidia-l4-24gb"):
        make_baseline(runner, name)
    done = act(runner, GATE, CARD="nvidia-l4", RUN_STATUS="0")
    assert not done.returncode, done.stderr
    [given] = (runner / "given").read_text().splitlines()
    folders = [word for word in given.split() if word.startswith("results/baselines/")]
    assert folders == ["results/baselines/gpu/nvidia-l4", "results/baselines/gpu/nvidia-l4-2"]
    assert "--require-speed --junit gate.xml --markdown gate.md" in given


@pytest.mark.parametrize("code", ["1", "3"])
def test_the_gates_exit_code_is_the_jobs(runner: Path, code: str) -> None:
    make_baseline(runner, "nvidia-l4")
    assert act(runner, GATE, CARD="nvidia-l4", RUN_STATUS="0", EXIT=code).returncode == int(code)


def test_without_a_baseline_the_run_is_a_candidate_and_the_job_no_pass(runner: Path) -> None:
    done = act(runner, GATE, CARD="nvidia-l4", RUN_STATUS="0")
    assert done.returncode == 3 and "No baseline of this card" in done.stdout
    page = (runner / "GITHUB_STEP_SUMMARY").read_text()
    assert "There is no baseline of nvidia-l4" in page and page == (runner / "gate.md").read_text()
    assert "gh run download 17 --name baseline-nvidia-l4 --dir results/baselines/gpu/nvidia-l4" in page
    assert (runner / "GITHUB_OUTPUT").read_text() == "candidate=yes\n"
    assert not (runner / "given").exists()


def test_a_run_that_failed_is_no_candidate(runner: Path) -> None:
    done = act(runner, GATE, CARD="nvidia-l4", RUN_STATUS="1")
    assert done.returncode == 1 and "The run failed" in done.stdout
    assert not (runner / "GITHUB_OUTPUT").exists()
