"""Processes of a run that end with the one that started them."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import psutil

PARENT = """
    import multiprocessing, time
    from specbench_s2d.bench.local_process import end_with_parent

    def child():
        end_with_parent()
        time.sleep(60)

    if __name__ == "__main__":
        process = multiprocessing.get_context("spawn").Process(target=child)
        process.start()
        print(process.pid, flush=True)
        process.join()
"""


def test_a_process_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(PARENT))
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        child.wait(timeout=20)


def test_a_process_watches_for_its_parent_before_it_imports_what_takes_long() -> None:
    """Else it would live on for as long as an import of torch takes."""
    light = "import sys, specbench_s2d.bench.local_process; print('torch' in sys.modules, 'pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", light], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
