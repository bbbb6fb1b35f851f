"""Over which passes the noise bound is measured: those that are told are those that run; the manifest tells them."""

from __future__ import annotations

from pathlib import Path

import torch

from specbench_s2d.bench.plan import make_plan
from specbench_s2d.bench.runner import execute
from specbench_s2d.config import RunSpec
from specbench_s2d.measure.teacher_forcing import NoiseRows, logit_noise, noise_rows
from specbench_s2d.runs.folder import read_manifest
from tests.fakes import FakeModel


class Watched(FakeModel):
    """Keeps the rows of every pass, of those under a mask apart."""

    def __init__(self, takes_masks: bool) -> None:
        super().__init__(context=200)
        self.takes_masks = takes_masks
        self.chains: set[int] = set()
        self.trees: set[int] = set()

    def extend(self, inputs: torch.Tensor, *arguments: object, **options: object) -> torch.Tensor:
        (self.chains if options.get("mask") is None else self.trees).add(inputs.shape[1])
        return super().extend(inputs, *arguments, **options)  # type: ignore[arg-type]


def test_one_two_and_four_rows_come_always_and_trees_where_masks_are_taken() -> None:
    assert noise_rows(FakeModel(), {6, 1}, {61, 1}) == NoiseRows((1, 2, 4, 6), (61,))
    assert noise_rows(FakeModel(), (), ()) == NoiseRows((1, 2, 4), ())
    assert noise_rows(Watched(takes_masks=False), (9,), (6,)) == NoiseRows((1, 2, 4, 9), ())


def test_the_rows_that_are_told_are_those_that_run() -> None:
    """The last 96 positions are a multiple of every chain's rows, and of a tree's less the token before its branch."""
    for takes_masks in (True, False):
        model = Watched(takes_masks)
        told = noise_rows(model, (6, 8), (7, 13))
        logit_noise(model, [i % 5 for i in range(120)], (6, 8), (7, 13))
        assert model.chains - {120} == set(told.chains) == {1, 2, 4, 6, 8}
        assert model.trees == set(told.trees) == ({7, 13} if takes_masks else set())


def test_the_manifest_tells_the_passes_of_the_runs_own_decoders(tiny_models: Path, tmp_path: Path) -> None:
    """AR's one row, the three drafted tokens and one before them; no decoder here grows trees."""
    spec = RunSpec(
        target=[str(tiny_models / "tiny-target")],
        draft=[str(tiny_models / "tiny-draft")],
        decoder=["ar", "sd:gamma=3", "sd:gamma=8"],
        suite=["qa"],
        questions="embedded",
        limit=1,
        max_new_tokens=4,
        device="cpu",
        energy="off",
    )
    execute(make_plan(spec), tmp_path / "run")
    (facts,) = read_manifest(tmp_path / "run")["targets"].values()
    assert facts["logit_noise_rows"] == {"chains": [1, 2, 4, 9], "trees": []}
    assert 0 <= facts["logit_noise"] < 1e-3
    assert {engine["head_dtype"] for engine in facts["engines"].values()} == {"float32"}
