"""`run --print-slurm N`: the file that it prints is submitted to a stand-in for Slurm's sbatch, and refusals come
before it is printed."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from specbench_s2d.analysis.report import write
from specbench_s2d.cli.main import main
from specbench_s2d.cli.slurm import _slurm_time
from specbench_s2d.runs.folder import read_manifest
from tests.cli.test_merge import untimed

SBATCH = r"""#!/bin/bash
# Runs an array's tasks, or a job, at once; prints its number; keeps in $SLURM_STATE/NUMBER whether all of it succeeded.
array= after= script= log=/dev/null kept=pending
while [ -z "$script" ]; do
    case $1 in
    --array=1-*) array=${1#--array=1-} ;;
    --dependency=afterok:*) after=${1#*:} ;;
    --output=*) log=${1#--output=} ;;
    --kill-on-invalid-dep=yes) kept=cancelled ;;
    --parsable | --gres=gpu:1) ;;
    -*) echo "sbatch: unrecognized option '$1'" >&2; exit 1 ;;
    *) script=$1 ;;
    esac
    shift
done
job=$(($(ls "$SLURM_STATE" | wc -l) + 1))
code=0
if [ -n "$after" ] && [ "$(cat "$SLURM_STATE/$after")" != 0 ]; then
    code=$kept
elif [ -n "$array" ]; then
    for task in $(seq "$array"); do
        SLURM_ARRAY_TASK_ID=$task bash "$script" "$@" > "${log/\%a/$task}" 2>&1 || code=$?
    done
else
    bash "$script" "$@" > "$log" 2>&1 || code=$?
fi
echo "$code" > "$SLURM_STATE/$job"
echo "$job;cluster"
"""


@pytest.fixture
def grid(tiny_models: Path) -> list[str]:
    given = ["run", "--target", str(tiny_models / "tiny-target"), "--decoder", "ar", "--suite", "qa"]
    return [
        *given,
        "--questions",
        "embedded",
        "--limit",
        "2",
        "--max-new-tokens",
        "4",
        "--device",
        "cpu",
        "--energy",
        "off",
    ]


PROGRAM = """#!/bin/bash
printf '%s\\n' "$@" > asked
exit "$(cat answer)"
"""


def submit(script: str, folder: Path, run: Callable[[list[str]], int]) -> tuple[list[list[str]], str]:
    """Hand the printed file to bash, where sbatch is the stand-in, and run its commands by `run`, words to exit code:
    all words that were run, and what the file said."""
    for name, content in (("sbatch", SBATCH), ("program", PROGRAM)):
        (folder / name).write_text(content)
        (folder / name).chmod(0o755)
    (folder / "state").mkdir(exist_ok=True)
    for pipe in ("asked", "answer"):
        (folder / pipe).unlink(missing_ok=True)
        os.mkfifo(folder / pipe)
    lines = [f"program=({folder}/program)" if line.startswith("program=(") else line for line in script.splitlines()]
    (folder / "grid.sh").write_text("\n".join(lines))
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "SLURM_STATE": str(folder / "state")}
    said: list[str] = []

    def bash() -> None:
        done = subprocess.run(["bash", "grid.sh"], cwd=folder, env=environment, capture_output=True, text=True)
        said.append(done.stdout + done.stderr)
        (folder / "asked").write_text("")  # the last that is read

    (thread := threading.Thread(target=bash, daemon=True)).start()
    ran: list[list[str]] = []
    while words := (folder / "asked").read_text().splitlines():
        ran.append(words)
        (folder / "answer").write_text(str(run(words)))
    thread.join()
    return ran, said[0]


def printed(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The file that `run --print-slurm 2` prints."""
    capsys.readouterr()
    assert main([*words, "--print-slurm", "2"]) == 0
    return capsys.readouterr().out


def test_the_file_submitted_gives_the_records_of_one_run(
    grid: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(write, "draw_all", lambda *given: [])  # plots take seconds
    assert main([*grid, "--out", "whole"]) == 0
    script = printed([*grid, "--out", "a grid"], capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["whole"]  # printing runs and writes nothing
    ran, said = submit(script, tmp_path, main)
    assert len(ran) == 3 and "submitted the merge into a grid: job 2, log a grid-shards/merge.log" in said
    assert untimed(tmp_path / "a grid") == untimed(tmp_path / "whole")
    assert [part["shard"] for part in read_manifest(tmp_path / "a grid")["parts"]] == ["1/2", "2/2"]
    assert submit(script, tmp_path, main) == ([], "a grid is there already: there is nothing left to submit.\n")


def test_a_failed_task_cancels_the_merge_and_the_same_file_runs_it_again(
    grid: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    script = printed([*grid, "--out", "runs/a", "--strict"], capsys)
    parts = ["runs/a-shards/1-of-2", "runs/a-shards/2-of-2"]
    shards = [[*grid, "--strict", "--shard", f"{i + 1}/2", "--out", parts[i]] for i in (0, 1)]
    merge = ["merge", *parts, "--out", "runs/a"]

    def ran(code: int) -> list[list[str]]:
        """What runs where the second shard ends with `code`."""
        return submit(script, tmp_path, lambda words: code if "2/2" in words else 0)[0]

    assert ran(137) == shards and (tmp_path / "state" / "2").read_text() == "cancelled\n"
    assert ran(1) == shards  # without tables: it is not complete
    (tmp_path / parts[1]).mkdir()
    (tmp_path / parts[1] / "summary.csv").touch()
    assert ran(1) == [*shards, merge]  # cells failed, and all were run
    assert ran(2) == shards


def test_words_of_the_command_line_reach_the_tasks_as_they_were(
    tiny_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my grid.toml").write_text(f'target = "{tiny_models / "tiny-target"}"\nquestions = "embedded"\n')
    more = ["--no-ignore-eos", "--decoder", "ar", "--suite", "qa", "--suite", "rag", "--retry-failed", "--limit", "2"]
    script = printed(["run", "my grid.toml", *more], capsys)
    words = "run 'my grid.toml' --decoder ar --suite qa --suite rag --limit 2 --no-ignore-eos --retry-failed --shard"
    assert words in script
    assert 'array=$(sbatch --parsable --array=1-2 --gres="gpu:$gpus" --output' in script and "\ngpus=1 " in script
    assert f"\nfolder={tmp_path}\nout=results/runs/" in script


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--dry-run"], "--print-slurm 2: runs nothing, and prints a file for bash; leave --dry-run out."),
        (["--json"], "--print-slurm 2: runs nothing, and prints a file for bash; leave --json out."),
        (["--allow-mixed"], "--print-slurm 2: runs nothing, and prints a file for bash; leave --allow-mixed out."),
        (["--shard", "1/2"], "--shard 1/2: --print-slurm gives every task a shard of its own; leave --shard out."),
        (["--out", "."], "--out .: holds something already, and the shards are merged there; give a new folder."),
        (["--out", "a\x1bb"], "--print-slurm 2: a name holds control characters; rename what bears it."),
        (["--device", "cuda:1"], "--device cuda:1: a task sees its own GPU alone; give cuda, or leave --device out."),
        (["--device", "gpu"], "--device gpu: not a device; give cpu, cuda or cuda:N, or auto for all GPUs."),
        (["--decoder", "sdd"], "unknown decoder 'sdd'"),
        (["--limit", "1"], "--print-slurm 2: the grid has 1 targets × 1 questions, so at most 1 shards"),
        (["--template", "no.jinja"], "unknown template 'no.jinja'"),
        (["--max-new-tokens", "5000"], "5,0"),
        (["--energy", "joules"], "unknown meter 'joules'"),
        (["--energy", "auto", "--energy-blocks"], "--energy-blocks meters whole suites"),
        (["--engine", "cuda-graphs"], "--engine cuda-graphs: it runs on cuda"),
        (["--device", "cuda", "--engine", "native"], "--engine native: it runs on cpu"),
        (["--print-slurm", "1"], "--print-slurm': Input should be greater than or equal to 2"),
    ],
)
def test_what_run_refuses_is_refused_before_the_file_is_printed(
    more: list[str], said: str, grid: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "something").touch()
    assert main([*grid, "--print-slurm", "2", *more]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and said in err


def test_times_are_written_as_slurm_reads_them() -> None:
    assert [_slurm_time(s) for s in (0.2, 3_600, 93_784)] == ["00:00:01", "01:00:00", "1-02:03:04"]
