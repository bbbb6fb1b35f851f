"""Every method writes the same with CUDA graphs as eagerly, and captures nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from specbench_s2d import build_decoder, load_model
from specbench_s2d.models.base import LanguageModel
from tests.models.captured import RecordingCapture, few_buckets, graph_engine

DECODERS = [
    ("ar", None),
    ("sd:gamma=4", "tiny-draft"),
    ("s2d:thresholds=0.4+0.3+0", "tiny-nested"),
    ("s2d-tree", "tiny-nested"),
    ("mjgd:beams=3", None),
    ("mjsd:beams=3,tau=0.2", "tiny-draft"),
    ("mjsd:beams=4,candidates=2", "tiny-draft"),
]


@pytest.fixture(scope="module")
def eager(tiny_models: Path) -> dict[str, LanguageModel]:
    return {
        name: load_model(str(tiny_models / name), "cpu", engine="eager")
        for name in ("tiny-target", "tiny-draft", "tiny-nested")
    }


@pytest.fixture(scope="module")
def capture() -> RecordingCapture:
    return RecordingCapture()


@pytest.fixture(scope="module")
def captured(eager: dict[str, LanguageModel], tiny_models: Path, capture: RecordingCapture) -> dict[str, LanguageModel]:
    engine = graph_engine(capture, few_buckets)
    models = {name: load_model(str(tiny_models / name), "cpu", engine=engine) for name in eager}
    for model in models.values():
        model.reserve(200)
    return models


def prompt(seed: int, length: int = 70) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(10, 250, (length,), generator=generator).tolist()


@pytest.mark.parametrize(("spec", "draft"), DECODERS, ids=[spec for spec, _ in DECODERS])
def test_the_ids_are_the_eager_ones(
    eager: dict[str, LanguageModel],
    captured: dict[str, LanguageModel],
    capture: RecordingCapture,
    spec: str,
    draft: str | None,
) -> None:
    before = capture.repeated
    written = []
    for models in (eager, captured):
        decoder = build_decoder(spec, target=models["tiny-target"], draft=models[draft] if draft else None)
        written.append(decoder.generate(prompt(1), 40, ignore_eos=True))
    assert written[0].ids == written[1].ids
    assert capture.repeated > before


def test_a_second_question_captures_nothing_new(captured: dict[str, LanguageModel], capture: RecordingCapture) -> None:
    decoder = build_decoder(DECODERS[2][0], target=captured["tiny-target"], draft=captured["tiny-nested"])
    decoder.generate(prompt(2), 40, ignore_eos=True)
    before = capture.recorded
    for seed, length in ((3, 12), (4, 120), (5, 70)):
        decoder.generate(prompt(seed, length), 40, ignore_eos=True)
    assert capture.recorded == before
