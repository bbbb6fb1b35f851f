"""What will run on a GPU when one is at hand, run here: the tests that want one, and the rows of the GPU table (but
for the row that compares ids, which test_decoders does).

A minute on a borrowed GPU is dear; a row that trips over a wrong name must not spend it. Figures mean nothing here.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from specbench_s2d.models.transfer import to_device
from tests.models.engines import test_cuda
from tests.rehearsal.counts import Counts

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.slow
def test_the_tests_of_a_gpus_passes_hold_on_the_rehearsed_device(counts: Counts) -> None:
    test_cuda.test_passes_equal_the_eager_ones(None, "bfloat16")
    test_cuda.test_methods_write_the_same(None, "s2d", "demo-draft")
    test_cuda.test_a_pass_does_not_wait_for_the_device()


def test_debug_mode_refuses_a_wait(counts: Counts) -> None:
    """So that the tests above, which switch it on, can fail."""
    sent = to_device([1, 2], torch.device("cuda"))
    torch.cuda.set_sync_debug_mode("error")
    try:
        with pytest.raises(RuntimeError, match="synchroniz"):
            sent.tolist()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("row", ["ar_of_bound", "verify_over_ar", "draft_pass", "s2d_over_cost_model", "growth"])
def test_the_rows_of_the_gpu_table_run(
    counts: Counts, row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("gpu_rows", "gpu_setting"):
        sys.modules.pop(name, None)
    import gpu_rows
    from gpu_setting import Setting

    setting = Setting(
        "cuda", "bfloat16", "shape:demo-s", "shape:demo-tiny", "shape:demo-draft", 24, 6, 1, 1, tmp_path / "gpu.json"
    )
    figures = getattr(gpu_rows, row)(setting)
    assert figures["value"] is not None
    assert {engine["engine"] for engine in setting.engines.values()} <= {"cuda-graphs"}
