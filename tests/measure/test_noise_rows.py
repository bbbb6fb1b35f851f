"""Over which passes the noise bound is measured: those that are told are those that run; the manifest tells them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from specbench_s2d.bench.runner import execute
from specbench_s2d.decoding.spec import build_decoder, parse_decoders
from specbench_s2d.measure.teacher_forcing import NoiseRows, logit_noise
from specbench_s2d.models.base import PassKind
from specbench_s2d.runs.folder import read_manifest
from tests.fakes import FakeModel
from tests.tiny_run import tiny_plan


class Watched(FakeModel):
    """Keeps the rows of every pass, of those under a mask apart."""

    def __init__(self, takes_masks: bool) -> None:
        super().__init__(context=200)
        self.takes_masks = takes_masks
        self.chains: set[int] = set()
        self.trees: set[int] = set()

    def extend(self, inputs: torch.Tensor, *arguments: object, **options: object) -> torch.Tensor:
        mask = arguments[2] if len(arguments) > 2 else options.get("mask")
        (self.chains if mask is None else self.trees).add(inputs.shape[1])
        return super().extend(inputs, *arguments, **options)  # type: ignore[arg-type]


def test_the_widths_are_those_of_the_declared_passes_and_no_others() -> None:
    """A kind that runs over a range has both ends measured, and the powers of two between them."""
    assert NoiseRows.of([PassKind(6, least=6), PassKind(61, seen=61, least=61)], 48) == NoiseRows((6,), (61,), 48)
    assert NoiseRows.of([PassKind(1), PassKind(9)], 1024) == NoiseRows((1, 2, 4, 8, 9), (), 96)
    assert NoiseRows.of([PassKind(13, seen=13, least=3)]).trees == (3, 4, 8, 13)


@pytest.mark.parametrize(
    ("decoder", "chains", "trees"),
    [
        ("ar", (1,), ()),
        ("sd", (6,), ()),
        ("sd:gamma=heuristic", (2, 4, 8, 16, 32, 64), ()),
        ("s2d-auto", (1, 2, 4, 8, 9), ()),
        ("s2d-tree", (), (61,)),
        ("mjsd:candidates=4", (), (5, 8, 16, 17)),
        ("mjgd", (1,), (8,)),
        ("mjgd:k=1", (1,), ()),
    ],
)
def test_each_decoders_widths(decoder: str, chains: tuple[int, ...], trees: tuple[int, ...]) -> None:
    (asked,) = parse_decoders([decoder])
    found = NoiseRows.of(asked.kind.target_passes(asked.options))
    assert (found.chains, found.trees) == (chains, trees)


@pytest.mark.parametrize("decoder", ["ar", "sd", "sd:gamma=heuristic", "mjsd:candidates=3,gamma=3", "mjgd:beams=4"])
def test_a_decoder_takes_no_wider_and_no_narrower_pass_than_is_measured(decoder: str) -> None:
    target, draft = Watched(takes_masks=True), FakeModel(seed=1, context=200)
    built = build_decoder(decoder, target, None if decoder.startswith(("ar", "mjgd")) else draft)
    built.generate([1, 2, 3], max_new_tokens=40)
    rows = NoiseRows.of(built.target_passes(built.options))
    for ran, measured in ((target.chains - {3}, rows.chains), (target.trees, rows.trees)):  # 3: the prefill
        assert not ran or min(measured) <= min(ran) <= max(ran) <= max(measured)


def test_the_rows_that_are_told_are_those_that_run() -> None:
    """The last 96 positions are a multiple of every chain's rows, and of a tree's less the token before its branch."""
    model, rows = Watched(takes_masks=True), NoiseRows((6, 8), (7, 13), 32)
    logit_noise(model, [i % 5 for i in range(120)], rows)
    before, prefill = 24, 120
    assert model.chains == {before, prefill, 32, 6, 8}
    assert model.trees == {7, 13}


def test_the_manifest_tells_the_passes_of_the_runs_own_decoders(tiny_models: Path, tmp_path: Path) -> None:
    """AR's one row, the three drafted tokens and one before them; no decoder here grows trees; four tokens are scored
    at a time, after a prompt that is both the shortest and the longest."""
    plan = tiny_plan(tiny_models, ["ar", "sd:gamma=3", "sd:gamma=8"], limit=1, max_new_tokens=4)
    records = execute(plan, tmp_path / "run").records
    (facts,) = read_manifest(tmp_path / "run")["targets"].values()
    (prompt,) = {record.prompt_tokens for record in records}
    assert facts["logit_noise_rows"] == {"chains": [1, 4, 9], "trees": [], "scored": 4, "prefill": [prompt, prompt]}
    assert 0 <= facts["logit_noise"] < 1e-3
    assert {engine["head_dtype"] for engine in facts["engines"].values()} == {"float32"}
