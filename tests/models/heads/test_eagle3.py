"""EAGLE-3's head against its formulas: what it reads, its states and its logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from specbench_s2d import build_decoder, load_model
from specbench_s2d.models.base import LanguageModel
from specbench_s2d.models.draft_vocabulary import DraftVocabulary
from specbench_s2d.models.heads.eagle3 import Eagle3Head
from specbench_s2d.models.weight_files import SAFE
from specbench_s2d.resources import demo_folder
from tests.models.heads.made import IDS, Eagle3FromScratch, write_eagle3
from tests.models.heads.test_eagle3_shape import renamed
from tests.tiny import write_padded

PROMPT = [5, 9, 3, 17, 40, 2, 8, 31, 12]


@pytest.fixture(scope="module")
def made(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Eagle3FromScratch, Path]:
    out = tmp_path_factory.mktemp("heads") / "head"
    return Eagle3FromScratch(write_eagle3(tiny_models / "tiny-deep", out), out), out


@pytest.fixture(scope="module")
def made_for_demo_s(tmp_path_factory: pytest.TempPathFactory) -> tuple[Eagle3FromScratch, Path]:
    """The kernel takes no width of the tiny models."""
    out = tmp_path_factory.mktemp("heads") / "demo-s"
    return Eagle3FromScratch(write_eagle3(demo_folder() / "demo-s", out), out), out


@pytest.fixture
def target(tiny_models: Path) -> LanguageModel:
    return load_model(str(tiny_models / "tiny-deep"))


def logits_after(target: LanguageModel, folder: Path, prompt: list[int] = PROMPT) -> torch.Tensor:
    """Logits (V,) of the token after the next, by the head's own passes."""
    head = load_model(str(folder))
    assert isinstance(head, Eagle3Head)
    target.reset()
    _, states = target.extend_with_states(torch.tensor([prompt]), head.head_shape.state_layers(target.depth))
    fused_TD = head.fuse(states)
    head.attach(target)
    assert head.engine == target.engine
    predicted_TD = head.advance(torch.tensor(prompt[1:]), fused_TD[:-1])
    return head.logits(predicted_TD[-1:], head.own_ids)[0]


@pytest.mark.parametrize("options", [{"engine": "eager"}, {"engine": "native"}, {"lean": False}])
def test_the_states_are_those_that_enter_a_low_a_middle_and_a_high_layer(options: dict[str, str]) -> None:
    """Of eight layers 2, 4 and 5; transformers numbers them so, with the embedding as 0."""
    of = str(demo_folder() / "demo-s")
    reference = AutoModelForCausalLM.from_pretrained(of, dtype=torch.float32).model
    ids_BT = torch.tensor([PROMPT])
    with torch.no_grad():
        expected = reference(input_ids=ids_BT, output_hidden_states=True).hidden_states
        by_hand = reference.layers[1](  # the third layer reads what the second gives
            expected[1], position_embeddings=reference.rotary_emb(expected[1], torch.arange(len(PROMPT))[None])
        )
    _, states = load_model(of, **options).extend_with_states(ids_BT, (2, 4, 5))
    for found, layer in zip(states, (2, 4, 5), strict=True):
        assert torch.allclose(found, expected[layer][0], atol=1e-4)
    assert torch.allclose(states[0], by_hand.reshape(states[0].shape), atol=1e-4)


@pytest.mark.parametrize("prompt", [PROMPT, PROMPT * 20], ids=["short", "in two parts"])
@pytest.mark.parametrize("options", [{"engine": "native"}, {"engine": "eager"}, {"lean": False}])
def test_states_and_logits_are_those_of_the_formulas(
    made_for_demo_s: tuple[Eagle3FromScratch, Path], options: dict[str, Any], prompt: list[int]
) -> None:
    reference, folder = made_for_demo_s
    expected = reference.logits_of(reference.state_after(prompt, []))
    logits = logits_after(load_model("demo-s", **options), folder, prompt)
    assert torch.allclose(logits[list(IDS)], expected, atol=1e-4 * float(expected.abs().max()))
    assert all(logits[token] == float("-inf") for token in (*range(0, 320, 2), 2047))


def test_draft_ids_lead_to_the_target_s_in_any_order(
    made: tuple[Eagle3FromScratch, Path], target: LanguageModel, tmp_path: Path
) -> None:
    """Rows and map turned round together mean the same; the map alone does not."""
    stored = load_file(str(made[1] / SAFE))
    ids = (stored["d2t"] + torch.arange(len(IDS))).flip(0)
    other = copied(made[1], tmp_path / "other", stored | {"d2t": ids - torch.arange(len(IDS))})
    turned = copied(other, tmp_path / "turned", load_file(str(other / SAFE)) | {
        "lm_head.weight": stored["lm_head.weight"].flip(0).contiguous()
    })  # fmt: skip
    expected = logits_after(target, made[1])
    assert torch.allclose(logits_after(target, turned), expected, atol=1e-5)
    assert not torch.allclose(logits_after(target, other)[list(IDS)], expected[list(IDS)], atol=0.1)


def copied(folder: Path, out: Path, tensors: dict[str, torch.Tensor]) -> Path:
    out.mkdir()
    save_file(tensors, str(out / SAFE))
    (out / "config.json").write_bytes((folder / "config.json").read_bytes())
    return out


def test_names_with_layers_0_mean_the_same(
    made: tuple[Eagle3FromScratch, Path], target: LanguageModel, tmp_path: Path
) -> None:
    stored = load_file(str(made[1] / SAFE))
    renamed("midlayer.", "layers.0.")(stored)
    other = copied(made[1], tmp_path / "other", stored)
    assert torch.equal(logits_after(target, other), logits_after(target, made[1]))


def test_its_own_embedding_is_used_where_it_has_one(
    made: tuple[Eagle3FromScratch, Path], target: LanguageModel, tmp_path: Path
) -> None:
    stored, table_VD = load_file(str(made[1] / SAFE)), target.embed(torch.arange(320))
    same = copied(made[1], tmp_path / "same", stored | {"embed_tokens.weight": table_VD.clone()})
    other = copied(made[1], tmp_path / "other", stored | {"embed_tokens.weight": table_VD.flip(0).contiguous()})
    expected = logits_after(target, made[1])[list(IDS)]
    assert torch.allclose(logits_after(target, same)[list(IDS)], expected, atol=1e-4)
    assert not torch.allclose(logits_after(target, other)[list(IDS)], expected, atol=0.1)


def test_without_maps_it_proposes_all_ids(tiny_models: Path, target: LanguageModel, tmp_path: Path) -> None:
    module = write_eagle3(tiny_models / "tiny-deep", tmp_path / "head", ids=None)
    assert "d2t" not in module.state_dict()
    assert logits_after(target, tmp_path / "head").isfinite().all()


def test_ids_that_pad_the_target_s_head_are_never_proposed(tiny_models: Path, tmp_path: Path) -> None:
    """The head was trained over a table with eight rows more than there are tokens."""
    padded = write_padded(tiny_models / "tiny-deep", tmp_path / "padded", 8)
    write_eagle3(padded, tmp_path / "head", ids=range(0, 328, 3))
    target = load_model(str(padded))
    assert target.vocabulary == 320 and len(logits_after(target, tmp_path / "head")) == 320
    decoder = build_decoder("eagle:depth=2,topk=50,tokens=60", target, load_model(str(tmp_path / "head")))
    steps = decoder.generate(PROMPT, max_new_tokens=6, ignore_eos=True).steps
    drafted = {token for step in steps for token in step.drafted}
    assert drafted and drafted <= set(range(0, 320, 3))


def test_the_least_bytes_read_are_those_of_what_ran(
    made: tuple[Eagle3FromScratch, Path], target: LanguageModel
) -> None:
    """One pair: fc, the layer's matrices and norms, one cached position of 2 x 16 numbers; then norm and head."""
    head = load_model(str(made[1]))
    assert isinstance(head, Eagle3Head)
    head.attach(target)
    state_1D = head.fuse([torch.zeros(1, 32)] * 3)
    state_1D = head.advance(torch.tensor([5]), state_1D)
    assert head.read_bytes == 4 * (32 * 96 + 64 * 64 + 32 * 32 + 3 * 32 * 64 + 3 * 32 + 32)
    head.logits(state_1D, DraftVocabulary.of(IDS, 320))
    assert head.read_bytes == head.parameter_bytes + 4 * 32
