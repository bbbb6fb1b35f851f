"""`benchmarks/gpu.py` on a CPU with small shapes: what it writes, and that no row takes another down with it."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from specbench_s2d.models.engines.compiled import VARIABLE
from tests.documents import ROOT

FOLDER = ROOT / "benchmarks"
SMALL = [
    *("--device", "cpu", "--dtype", "float32", "--target", "shape:demo-s", "--draft", "shape:demo-tiny"),
    *("--nested", "shape:demo-draft", "--prompt-tokens", "24", "--new-tokens", "8", "--rounds", "1", "--others", "12"),
]
Rows = dict[str, dict[str, Any]]


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.fixture
def gpu() -> ModuleType:
    return importlib.import_module("gpu")


def rows_of(out: Path, name: str) -> Rows:
    facts = json.loads(out.read_text(encoding="utf-8"))
    return {row["row"]: row for row in facts["sets"][name]["rows"]}


@pytest.mark.slow
def test_rows_are_measured_and_held_to_what_is_to_be_reached(gpu: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "new" / "gpu.json"
    assert gpu.main([*SMALL, "--out", str(out), "--rows", "ar", "verify", "draft", "growth", "eager", "static"]) == 0
    plain, apart = rows_of(out, "plain"), rows_of(out, "apart")
    assert [*plain, *apart] == ["ar", "verify", "draft", "growth", "eager", "static"]
    for row in (*plain.values(), *apart.values()):
        assert (row["state"], row["error"]) == ("measured", None)
        assert isinstance(row["value"], float) and row["value"] > 0
        assert row["reached"] is eval(f"{row['value']} {row['to_reach']}")
    assert plain["ar"]["engines"]["target"]["engine"] in ("eager", "native", "cuda-graphs")
    assert apart["static"]["engines"]["target"]["engine"] in ("eager", "native", "cuda-graphs")
    assert (apart["eager"]["in_turn"], apart["static"]["in_turn"]) == (True, False)
    for row in rows_of(out, "compiled").values():
        assert (row["state"], row["error"]) == ("cannot be here", "layers are compiled on a GPU alone, not on cpu")
    facts = json.loads(out.read_text(encoding="utf-8"))
    assert {"gpu", "driver", "torch", "cuda", "transformers"} <= facts["machine"].keys()
    assert facts["machine"]["gpu"] is None and facts["machine"]["torch"]
    assert str(tmp_path) not in out.read_text(encoding="utf-8")
    assert [path.name for path in out.parent.iterdir()] == ["gpu.json"]  # no part of a file is left


PLANTED = """
    import os, signal, time

    def well(setting):
        return {"value": 1.0, "compile": os.environ.get("SPECBENCH_COMPILE"), "process": os.getpid()}

    def fails(setting):
        raise MemoryError("12 GiB wanted\\nand more")

    def swallows(setting):
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                time.sleep(60)
            except Exception:
                pass

    def swallows_all(setting):
        try:
            time.sleep(60)
        except BaseException:
            time.sleep(60)

    def dies(setting):
        os.kill(os.getpid(), signal.SIGKILL)

    def hangs(setting):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        time.sleep(60)
"""
DRIVER = """
    import sys
    from pathlib import Path

    sys.path[:0] = [{benchmarks!r}, {here!r}]
    import gpu
    from gpu_table import Row, RowSet

    gpu._LEAST_S, gpu._AGAIN_S, gpu._GRACE_S = 0.1, 0.3, 1

    def row(name, work, seconds=60):
        return Row(name, f"one that {{work}}", f"planted:{{work}}", 1, True, seconds)

    rows = {rows}
    sets = [RowSet("plain", rows, compile="0"), RowSet("compiled", rows), RowSet("apart", rows, alone=True)]
    sys.exit(gpu.main(sys.argv[1:], sets, Path(__file__)))
"""


def drive(folder: Path, rows: str, *arguments: str) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Run `gpu.py` with planted rows, as a process with processes of its own."""
    (folder / "planted.py").write_text(textwrap.dedent(PLANTED))
    text = textwrap.dedent(DRIVER).format(benchmarks=str(FOLDER), here=str(folder), rows=rows)
    (folder / "driver.py").write_text(text)
    command = [sys.executable, str(folder / "driver.py"), *SMALL, "--out", str(folder / "gpu.json"), *arguments]
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    return done, folder / "gpu.json"


def test_whatever_a_row_does_the_others_are_measured(tmp_path: Path) -> None:
    planted = ("fails", "swallows", "swallows_all", "dies", "hangs", "well")
    rows = ", ".join(f"row({name!r}, {name!r}, {60 if name in ('fails', 'well') else 1})" for name in planted)
    done, out = drive(tmp_path, f"[{rows}]", "--sets", "plain")
    assert done.returncode == 1, done.stderr
    found = rows_of(out, "plain")
    assert {name: row["error"] for name, row in found.items()} == {
        "fails": "MemoryError: 12 GiB wanted",
        "swallows": "given up after 1 s",
        "swallows_all": "given up after 1 s",
        "dies": "its process died of signal 9",
        "hangs": "it did not stop when its time was over, and was killed",
        "well": None,
    }
    assert [row["state"] for row in found.values()] == ["failed"] * 5 + ["measured"]
    assert found["well"]["reached"] is True and found["fails"]["reached"] is None
    assert done.stdout.count("\n") == len(planted)


def test_plain_graphs_come_first_then_compiled_ones_then_rows_in_processes_of_their_own(tmp_path: Path) -> None:
    done, out = drive(tmp_path, "[row('one', 'well'), row('two', 'well')]")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["plain"] * 2 + ["compiled"] * 2 + ["apart"] * 2
    processes = {}
    for name, switch in (("plain", "0"), ("compiled", None), ("apart", None)):
        found = rows_of(out, name)
        assert [row["compile"] for row in found.values()] == [switch, switch]
        processes[name] = {row["process"] for row in found.values()}
    assert [len(of) for of in processes.values()] == [1, 1, 2]
    assert len(set().union(*processes.values())) == 4


def test_rows_that_no_time_was_left_for_say_so(tmp_path: Path) -> None:
    done, out = drive(tmp_path, "[row('slow', 'swallows', 60), row('late', 'well')]", "--minutes", "0.05")
    assert done.returncode == 1
    plain = rows_of(out, "plain")
    assert plain["slow"]["error"].startswith("given up after")
    assert (plain["late"]["state"], plain["late"]["error"]) == (
        "left out",
        "no time was left: all rows together end after 0.05 minutes",
    )


def test_the_alarm_is_no_exception_that_passes_for_another(gpu: ModuleType) -> None:
    assert not issubclass(gpu.OutOfTimeError, Exception)


def test_the_switch_is_the_engines(gpu: ModuleType) -> None:
    assert importlib.import_module("gpu_table").COMPILE == VARIABLE


def test_every_row_that_touches_transformers_has_a_process_of_its_own_and_the_compiled_one_is_last(
    gpu: ModuleType,
) -> None:
    alone = [row for one in gpu.SETS if one.alone for row in one.rows]
    together = [row for one in gpu.SETS if not one.alone for row in one.rows]
    assert alone[-1].work == "gpu_peers:over_static"
    assert {row.work for row in together if row.work.startswith("gpu_peers:")} == set()
    assert all(callable(row.measure) for row in (*alone, *together))


def test_a_write_that_is_cut_short_leaves_the_file_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = importlib.import_module("gpu_table")
    path = tmp_path / "gpu.json"
    table.write_whole(path, {"a": 1})

    def stopped(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        table.write_whole(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}


def test_published_acceptances_are_the_papers() -> None:
    assert importlib.import_module("gpu_rows").published_mat() == 2.86


def test_only_files_with_tests_that_want_a_gpu_are_collected() -> None:
    files = importlib.import_module("gpu_peers").gpu_test_files()
    names = {path.relative_to(ROOT / "tests").as_posix() for path in files}
    assert "models/engines/test_cuda.py" in names and "test_layout.py" not in names
    assert Path(__file__).name not in names and len(names) < 30


def test_tests_are_counted(tmp_path: Path) -> None:
    page = tmp_path / "tests.xml"
    page.write_text(
        '<testsuites><testsuite tests="5" failures="1" errors="1" skipped="2"><testcase classname="a" name="well"/>'
        '<testcase classname="a" name="wrong"><failure/></testcase><testcase classname="b" name="broken"><error/>'
        '</testcase><testcase classname="b" name="x"><skipped/></testcase></testsuite></testsuites>'
    )
    counts, failing = importlib.import_module("gpu_peers").read_junit(page)
    assert counts == {"tests": 5, "passed": 1, "failed": 2, "skipped": 2}
    assert failing == ["a::wrong", "b::broken"]


def test_of_a_file_only_tests_that_want_a_gpu_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peers = importlib.import_module("gpu_peers")
    file = tmp_path / "test_planted.py"
    monkeypatch.setattr(peers, "gpu_test_files", lambda: [file])
    wanted = "import pytest\n@pytest.mark." + "gpu\ndef test_{0}(): {1}\n"
    file.write_text(wanted.format("good", "pass") + wanted.format("bad", "assert 0") + "def test_other(): assert 0\n")
    found = peers.gpu_tests(None)
    assert {name: found[name] for name in ("value", "tests", "passed", "failed", "skipped")} == {
        "value": 1, "tests": 2, "passed": 1, "failed": 1, "skipped": 0
    }  # fmt: skip
    assert [name.rpartition("::")[2] for name in found["failing"]] == ["test_bad"]
    file.write_text(wanted.format("absent", "pytest.skip('no CUDA device')"))
    with pytest.raises(RuntimeError, match="no test ran: pytest exited with 0: 1 skipped"):
        peers.gpu_tests(None)


def test_a_step_is_what_the_longer_of_two_profiles_has_more() -> None:
    module = importlib.import_module("gpu_profile")
    use = module.Use
    short = {("cudaLaunchKernel", False): use(10, 50.0, 0.0), ("gemm", True): use(10, 0.0, 100.0)}
    long = {
        ("cudaLaunchKernel", False): use(30, 150.0, 0.0),
        ("cudaLaunchKernelExC", False): use(2, 8.0, 0.0),
        ("cudaGraphLaunch", False): use(4, 20.0, 0.0),
        ("cudaMemcpyAsync", False): use(2, 6.0, 0.0),
        ("cudaStreamSynchronize", False): use(6, 90.0, 0.0),
        ("aten::_local_scalar_dense", False): use(2, 2.0, 0.0),
        ("gemm", True): use(50, 0.0, 500.0),
        ("Memcpy DtoH (Device -> Pageable)", True): use(2, 0.0, 4.0),
    }
    found = module.per_step(short, long, 2)
    counts = {"kernel_launches": 11, "graph_launches": 2, "memcpys": 1, "synchronizations": 3, "host_reads": 1}
    assert {name: found[name] for name in counts} == counts
    assert (found["launches"], found["copies_to_host"], found["device_activities"]) == (14, 1, 21)
    assert (found["device_us"], found["host_us"]) == (202, 113)
    assert found["top_kernels"][0] == {"name": "gemm", "calls": 20, "device_us": 200}
    assert found["top_host"][0] == {"name": "cudaLaunchKernel", "calls": 10, "host_us": 50}


@pytest.mark.slow
def test_steps_are_profiled_into_a_file_beside_the_table(gpu: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    arguments = [*SMALL, "--new-tokens", "16", "--sets", "--profile", "--out", str(out)]
    assert gpu.main(arguments) == 0
    row = rows_of(out, "profile_plain")["profile"]
    assert (row["state"], row["file"]) == ("measured", "gpu-profile-plain.json")
    steps = json.loads((tmp_path / row["file"]).read_text(encoding="utf-8"))["per_step"]
    assert list(steps) == ["ar", "s2d", "s2d, published acceptances", "sd"]
    calls = {name: {entry["name"]: entry["calls"] for entry in of["top_host"]} for name, of in steps.items()}
    assert steps["ar"]["steps"] == 12  # 15 steps of 16 tokens, less 3 of 4
    assert calls["ar"]["aten::argmax"] == 1  # the one verdict of a step
    assert steps["s2d"]["aten_calls"] > steps["sd"]["aten_calls"] > steps["ar"]["aten_calls"] > 0


def test_the_script_keeps_a_path_that_was_given_and_passes_arguments_on(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nif [ "$1" = - ]; then cat >/dev/null; else echo "$PYTHONPATH"; echo "$@"; fi\n')
    python.chmod(0o755)
    for given in ("given/one:two", ""):
        environment = {"PATH": os.environ["PATH"], "PYTHON": str(python), "PYTHONPATH": given}
        command = ["sh", str(FOLDER / "gpu.sh"), "--rows", "ar"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        path, words = done.stdout.splitlines()
        assert path == (f"{ROOT}:{given}" if given else str(ROOT))
        assert words == "benchmarks/gpu.py --rows ar"
