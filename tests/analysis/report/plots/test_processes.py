"""Plots drawn by several processes: the same files as by one, and what one of them raises."""

from __future__ import annotations

import pickle
import time
from functools import partial
from pathlib import Path

import pytest

from specbench_s2d.analysis.report.plots import draw, processes
from specbench_s2d.analysis.tables.series import PlotTables
from specbench_s2d.analysis.tables.summary import summary_table
from tests.analysis.factory import paper_run


def tables() -> PlotTables:
    records = [*paper_run(3), *(r.model_copy(update={"target": "u"}) for r in paper_run(3))]
    return PlotTables.of(records, summary_table(records))


def numbered(folder: Path, first: int, every: int) -> list[Path]:
    return [folder / f"{number}.svg" for number in range(first, 7, every)]


def on_a_full_disk(first: int, every: int) -> list[Path]:
    if first:
        raise OSError(28, "No space left on device", "mat.png")
    return []


@pytest.mark.usefixtures("pictures")
def test_two_processes_write_what_one_writes_in_the_same_order(tmp_path: Path) -> None:
    alone, shared = (draw.draw_all(tables(), tmp_path / str(count), count) for count in (1, 2))
    assert [path.name for path in alone] == [path.name for path in shared] and len(alone) > 4
    assert [path.read_bytes() for path in alone] == [path.read_bytes() for path in shared]


def test_every_plot_is_drawn_by_one_process(tmp_path: Path) -> None:
    assert sorted(processes.draw_in(3, partial(numbered, tmp_path))) == numbered(tmp_path, 0, 1)


def test_what_another_process_raises_is_raised_here_with_the_file_s_name() -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        processes.draw_in(2, on_a_full_disk)
    assert caught.value.filename == "mat.png"


def test_few_panels_are_drawn_here_and_many_by_as_many_processes_as_there_are_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "usable_cores", lambda: 4)
    each = processes.PANELS_EACH
    assert [processes.processes_for(panels) for panels in (0, each, 2 * each, 3 * each, 100 * each)] == [1, 1, 2, 3, 4]
    monkeypatch.setattr(processes, "usable_cores", lambda: 64)
    assert processes.processes_for(100 * each) == processes.MOST


def test_a_process_answers_with_its_files(tmp_path: Path) -> None:
    reply = processes.answer(pickle.dumps((partial(numbered, tmp_path), 1, 2)))
    assert pickle.loads(reply) == (numbered(tmp_path, 1, 2), None)


def test_a_process_ends_with_the_one_that_asked_in_the_middle_of_a_plot(tmp_path: Path) -> None:
    process = processes._start(partial(for_ever, tmp_path), 1, 2)
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.close()
    assert process.wait(30) == 1
    process.stdout.close()


def for_ever(folder: Path, first: int, every: int) -> list[Path]:
    (folder / "begun").touch()
    while True:
        time.sleep(1)
