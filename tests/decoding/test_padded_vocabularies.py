"""Target and draft padded differently: every decoder generates what it generates without padding, greedily and with
sampling, so what is known of it there (losslessness: `test_lossless.py`) holds here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from specbench_s2d.decoding.decoder import Decoder
from specbench_s2d.decoding.spec import build_decoder
from specbench_s2d.models import LanguageModel, load_model
from tests.tiny import write_padded

SPECS = (
    "ar", "sd", "sd:exit=2", "sd:draft_vocabulary=40", "s2d", "s2d-tree:depth=2", "mjgd:beams=4", "mjsd:beams=4",
    "mjsd:beams=4,draft_temperature=0.9", "recycling", "suffix", "first(lookup|chain)+token",
)  # fmt: skip
PADDING = {"tiny-target": 19, "tiny-draft": 3, "tiny-nested": 64}


@pytest.fixture(scope="module")
def models(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[LanguageModel, ...]]:
    """By name: without padding rows and with them, these through the lean forward."""
    out = tmp_path_factory.mktemp("padded")
    padded = {name: write_padded(tiny_models / name, out / name, rows) for name, rows in PADDING.items()}
    return {
        name: tuple(load_model(str(path), "cpu") for path in (tiny_models / name, folder))
        for name, folder in padded.items()
    }


def decoders(spec: str, models: dict[str, tuple[LanguageModel, ...]]) -> list[Decoder]:
    """The decoder without padding and with it."""
    name = "tiny-nested" if spec.startswith("s2d") or "exit" in spec else "tiny-draft"
    drafts = models[name] if spec.startswith(("sd", "s2d", "mjsd", "first")) else (None, None)
    return [build_decoder(spec, *pair) for pair in zip(models["tiny-target"], drafts, strict=True)]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("spec", SPECS)
def test_padding_changes_nothing(spec: str, temperature: float, models: dict[str, tuple[LanguageModel, ...]]) -> None:
    whole, padded = (
        one.generate([5, 6, 7, 8], 16, temperature, seed=1, ignore_eos=True) for one in decoders(spec, models)
    )
    assert padded.ids == whole.ids and max(padded.ids) < 320
    assert [step.drafted for step in padded.steps] == [step.drafted for step in whole.steps]


def test_what_decides_by_time_emits_what_ar_emits_without_padding(
    models: dict[str, tuple[LanguageModel, ...]],
) -> None:
    (whole, _), (_, padded) = decoders("ar", models), decoders("s2d-auto", models)
    ids = [one.generate([5, 6, 7, 8], 12, ignore_eos=True).ids for one in (whole, padded)]
    assert ids[0] == ids[1]


def test_the_padding_would_be_emitted(models: dict[str, tuple[LanguageModel, ...]], tiny_models: Path) -> None:
    """Were its logits not left out: of the target's own rows."""
    target = models["tiny-target"][1]
    assert isinstance(target.vocabulary, int)
    ids = build_decoder("ar", target).generate([5, 6, 7, 8], 40, 1.0, seed=1, ignore_eos=True).ids
    hidden_BTD = target.extend(torch.tensor([ids]), to_layer=target.depth)
    rows_VD = target._engine.heads.of(None)  # type: ignore[attr-defined]
    logits_TV = target._engine._norm(hidden_BTD[0]) @ rows_VD.t()  # type: ignore[attr-defined]
    assert (logits_TV.argmax(-1) >= 320).any()
