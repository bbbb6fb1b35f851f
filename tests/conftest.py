"""Fixtures that more than one part of the tests needs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run looks at the machine for a moment, not a second, and warms up by one generation of each decoder: how fast
    it is, is no part of these tests. Rounding is measured over a few positions, and the lean forward is not held to
    transformers' at every load. All three have tests of their own, and processes that tests start do them as ever."""
    from specbench_s2d.bench import session  # here, for it imports torch
    from specbench_s2d.bench.warm_up import WarmUp
    from specbench_s2d.measure import bandwidth, conditions, teacher_forcing
    from specbench_s2d.models import forward_check

    def one_run(run: Callable[[], float]) -> WarmUp:
        run()
        return WarmUp(1, 0.0, 0.0, stable=True)

    monkeypatch.setattr(session, "warm_up", one_run)

    monkeypatch.setattr(forward_check, "UNASKED_PARAMETERS", 0)
    monkeypatch.setattr(bandwidth, "CPU_BUFFER_BYTES", 2**20)
    monkeypatch.setattr(bandwidth, "CPU_ROUND_BYTES", 2**20)
    monkeypatch.setattr(conditions, "WINDOW_S", 0.01)
    monkeypatch.setattr(teacher_forcing, "NOISE_POSITIONS", 24)


@pytest.fixture
def pictures() -> None:
    """For tests of a run's plots: without it, runs draw none."""


@pytest.fixture(autouse=True)
def no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run draws no plots, which would take half of its time, unless the test asks for `pictures`."""
    from specbench_s2d.analysis.report.plots import draw  # here, for it imports matplotlib

    if "pictures" not in request.fixturenames:
        monkeypatch.setattr(draw, "figures", lambda tables, *share: iter(()))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package's cache folder, not made yet and this test's own."""
    monkeypatch.setenv("SPECBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of development data: SPECBENCH_DATA, else `../shared/data` beside the checkout; skips without one."""
    chosen = os.environ.get("SPECBENCH_DATA")
    root = Path(chosen) if chosen else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not root.is_dir():
        pytest.skip(f"no development data: SPECBENCH_DATA is {'not a folder' if chosen else 'not set'}")
    return root


@pytest.fixture(scope="session")
def spec_bench_file(data_root: Path) -> Path:
    """Spec-Bench's question file; skips where it is not at hand."""
    path = data_root / "spec_bench" / "question.jsonl"
    if not path.is_file():
        pytest.skip("no spec_bench/question.jsonl in the development data")
    return path


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small random models: tiny-target, its draft tiny-draft, and tiny-other, which fits neither."""
    from tests.tiny import write_tiny_family  # here, for it imports torch and transformers

    return write_tiny_family(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def tiny_opt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny-opt and its draft tiny-opt-draft."""
    from tests.tiny import write_tiny_opt  # here, for it imports torch and transformers

    return write_tiny_opt(tmp_path_factory.mktemp("opt"))
