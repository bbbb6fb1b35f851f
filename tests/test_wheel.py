"""The wheel works from any folder: built here, installed alone, run elsewhere, with its data inside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.metadata import Metadata

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "specbench_s2d"
DEMO_MODEL = "demo-tiny"


@dataclass(frozen=True)
class Installed:
    """The wheel, and the environment that it alone was installed into."""

    wheel: Path
    bin: Path
    elsewhere: Path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program of that environment in a folder far from the checkout; never raises for its exit code."""
        return subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=self.elsewhere,
            env=plain_environment(self.elsewhere),
            capture_output=True,
            text=True,
            timeout=120,
        )


def plain_environment(home: Path) -> dict[str, str]:
    """No PYTHONPATH and no settings of the person who runs the tests; nothing may be fetched."""
    keep = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    return keep | {"HOME": str(home), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "COLUMNS": "120"}


def call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build the wheel, and install it without its dependencies: those come from the environment of the tests."""
    folder = tmp_path_factory.mktemp("wheel")
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder / "dist"), str(ROOT))
    (wheel,) = (folder / "dist").glob("*.whl")
    call(sys.executable, "-m", "venv", "--without-pip", str(folder / "env"))
    python = str(folder / "env" / "bin" / "python")
    call(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet", str(wheel))
    borrow_packages(folder / "env")
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    return Installed(wheel, folder / "env" / "bin", elsewhere)


def borrow_packages(environment: Path) -> None:
    """Let `environment` see the packages of the running one, after its own.

    A path that a .pth file adds is not searched for .pth files itself, so an editable install of this checkout in the
    running environment stays out of sight.
    """
    borrowed = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text("\n".join(borrowed) + "\n", encoding="utf-8")


def files_below(folder: Path) -> set[str]:
    """Paths relative to `folder` of the files that git has or would take (none of its own, no caches)."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".gitkeep" and "__pycache__" not in path.parts
    }


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (PACKAGE, "specbench_s2d"),
        (ROOT / "suites", "specbench_s2d/_data/suites"),
        (ROOT / "results" / "published", "specbench_s2d/_data/results/published"),
    ],
    ids=["package", "suites", "published figures"],
)
def test_the_wheel_carries_the_data(installed: Installed, source: Path, target: str) -> None:
    expected = {f"{target}/{name}" for name in files_below(source)}
    if not expected:
        pytest.skip(f"no files under {source.relative_to(ROOT)} in this checkout")
    assert expected <= set(zipfile.ZipFile(installed.wheel).namelist())


def test_the_wheel_carries_nothing_else(installed: Installed) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(installed.wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"specbench_s2d"}


def test_the_wheel_carries_no_training_logs(installed: Installed) -> None:
    """What the model cards say of a training is in `training.json`; the logs have a line per step."""
    names = {Path(name).name for name in zipfile.ZipFile(installed.wheel).namelist()}
    assert "training.json" in names and "train_log.jsonl" not in names


def test_the_metadata_say_whose_licence_holds_for_what(installed: Installed) -> None:
    """Read as an index reads it: an unknown field or licence raises."""
    with zipfile.ZipFile(installed.wheel) as wheel:
        [folder] = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
        metadata = Metadata.from_email(wheel.read(f"{folder}/METADATA"))
        texts = {name: wheel.read(f"{folder}/licenses/{name}").decode() for name in metadata.license_files or ()}
    assert metadata.license_expression == "Apache-2.0 AND LicenseRef-specbench-s2d-demo-weights"
    assert set(texts) == {"LICENSE", "specbench_s2d/demo/LICENSE-NOTE.md"}
    assert "Apache License" in texts["LICENSE"]
    assert "not covered by the Apache-2.0 licence" in texts["specbench_s2d/demo/LICENSE-NOTE.md"]


def test_the_wheels_version_is_the_programs(installed: Installed) -> None:
    assert installed.run("specbench-s2d", "--version").stdout.split() == [
        "specbench-s2d",
        installed.wheel.name.split("-")[1],
    ]


def test_the_installed_copy_is_what_runs(installed: Installed) -> None:
    script = (
        "import json, specbench_s2d as package\n"
        "from specbench_s2d.resources import data_folder, demo_folder\n"
        "folders = [data_folder('suites'), data_folder('results/published'), demo_folder()]\n"
        "print(json.dumps([package.__file__, *map(str, folders)]))"
    )
    done = installed.run("python", "-c", script)
    assert done.returncode == 0, done.stderr
    for place in json.loads(done.stdout):
        assert Path(place).is_relative_to(installed.bin.parent), place
        assert not Path(place).is_relative_to(ROOT), place


def missing(*needed: Path) -> pytest.MarkDecorator:
    """Skip while the checkout itself lacks one of `needed`; the wheel could not carry it either."""
    absent = [str(path.relative_to(ROOT)) for path in needed if not path.exists()]
    return pytest.mark.skipif(bool(absent), reason=f"not in this checkout: {', '.join(absent)}")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(("--help",), "Usage", id="help"),
        pytest.param(("train", "--help"), "demo", id="train"),
        pytest.param(("suites", "--json"), "mt_bench", id="suites", marks=missing(PACKAGE / "cli" / "suites.py")),
        pytest.param(("models", "--json"), DEMO_MODEL, id="models", marks=missing(PACKAGE / "demo" / DEMO_MODEL)),
    ],
)
def test_commands_work_from_any_folder(installed: Installed, arguments: tuple[str, ...], expected: str) -> None:
    done = installed.run("specbench-s2d", *arguments)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
    if "--json" in arguments:
        json.loads(done.stdout)


@pytest.mark.slow
@missing(PACKAGE / "cli" / "run.py", PACKAGE / "demo" / DEMO_MODEL)
def test_a_run_from_any_folder_leaves_its_records_where_it_was_told(installed: Installed) -> None:
    options = ("--decoder", "ar", "--suite", "qa", "--limit", "1", "--max-new-tokens", "4", "--out", "a-run")
    done = installed.run("specbench-s2d", "run", "--target", DEMO_MODEL, *options)
    assert done.returncode == 0, done.stderr
    lines = (installed.elsewhere / "a-run" / "records.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines
    assert {json.loads(line)["status"] for line in lines} == {"ok"}
