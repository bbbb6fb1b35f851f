"""A draft that is a base's first layers and a LoRA adapter: the base plus B A times the scale, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from specbench_s2d import load_model
from specbench_s2d.errors import ModelError, UserError
from specbench_s2d.models.adapter import CONFIG, WEIGHTS
from specbench_s2d.models.resolve import resolve_model
from specbench_s2d.training.init_model import ModelSource
from specbench_s2d.training.jobs import Corpus, train_model
from specbench_s2d.training.surgery import cut_layers
from tests.refusals import refused
from tests.training.factory import sums, tiny_checkpoint, tiny_spec, tiny_tokenizer, write_chats

IDS = [5, 9, 3, 11, 4, 8]
SPEC = tiny_spec(lora_rank=2, lora_alpha=8.0, learning_rate=5e-2, exits=(1, 2), length=40, tokens=960)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "draft"
    data = write_chats(out.parent / "sums.jsonl", sums(120))
    start = ModelSource("cut", str(base), 2)
    train_model("draft", start, tiny_tokenizer(), Corpus([str(data)]), SPEC, out, "train soft", adapter=True)
    return out


@pytest.fixture
def draft(trained: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "draft"
    copy.mkdir()
    for file in trained.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def test_its_forward_is_held_to_transformers_over_the_merged_weights(draft: Path) -> None:
    facts = load_model(resolve_model(str(draft)), device="cpu", verify_forward=True).load_facts["forward_check"]
    assert facts["checked"] and facts["largest_difference"] < 1e-5


def test_it_computes_what_peft_computes_over_the_cut_base(base: Path, draft: Path) -> None:
    cut = cut_layers(AutoModelForCausalLM.from_pretrained(str(base)), 2)
    untouched = cut(torch.tensor([IDS])).logits
    theirs = PeftModel.from_pretrained(cut, str(draft)).eval()(torch.tensor([IDS])).logits
    ours = load_model(str(draft)).extend(torch.tensor([IDS]))
    assert torch.allclose(ours, theirs[:, -ours.shape[1] :], atol=1e-5)
    assert not torch.allclose(theirs, untouched, atol=1e-3)


def test_the_folder_holds_the_adapter_alone(draft: Path) -> None:
    assert not (draft / "model.safetensors").exists()
    assert len(load_file(str(draft / WEIGHTS))) == 2 * 2 * 7
    assert (draft / WEIGHTS).stat().st_size < 100_000


def test_everything_else_is_the_bases(base: Path, draft: Path) -> None:
    found, its_base = resolve_model(str(draft)), resolve_model(str(base))
    assert found.exits == (1, 2) and found.depth == 2
    assert found.tokenizer.get_vocab() == its_base.tokenizer.get_vocab()
    assert found.eos_ids == its_base.eos_ids
    assert found.ranking is not None
    assert found.sha256 not in ("", its_base.sha256)


def test_another_adapter_is_another_model(draft: Path) -> None:
    before = resolve_model(str(draft)).sha256
    factors = load_file(str(draft / WEIGHTS))
    save_file({name: factor + 1 for name, factor in factors.items()}, str(draft / WEIGHTS))
    assert resolve_model(str(draft)).sha256 != before


def change_config(draft: Path, **fields: object) -> None:
    config = json.loads((draft / CONFIG).read_text())
    (draft / CONFIG).write_text(json.dumps(config | fields))


def test_an_adapter_of_other_layers_is_refused_and_not_loaded_in_part(draft: Path) -> None:
    factors = load_file(str(draft / WEIGHTS))
    save_file({name: factor for name, factor in factors.items() if ".layers.0." in name}, str(draft / WEIGHTS))
    with refused(ModelError, "the 2 layers that config.json names (14 tensors, layers 0 to 0)"):
        load_model(str(draft))


def test_what_is_no_lora_is_refused(draft: Path) -> None:
    change_config(draft, peft_type="LOHA")
    with refused(ModelError, "its adapter is LOHA"):
        resolve_model(str(draft))
    change_config(draft, r=0)
    with refused(ModelError, "no LoRA configuration"):
        resolve_model(str(draft))


@pytest.mark.parametrize(
    ("field", "value"),
    [("r", 3), ("r", "2"), ("lora_alpha", float("nan")), ("lora_alpha", None), ("base_model_name_or_path", 5)],
)
def test_an_odd_field_is_named(draft: Path, field: str, value: object) -> None:
    change_config(draft, **{field: value})
    with refused(ModelError, "rank 3" if value == 3 else f"{field} is {value}"):
        load_model(str(draft))


def test_an_adapter_over_an_adapter_is_refused_and_not_followed_for_ever(draft: Path) -> None:
    change_config(draft, base_model_name_or_path=str(draft))
    with refused(ModelError, "draft: its base draft is an adapter too"):
        resolve_model(str(draft))


def test_a_factor_with_nan_is_named(draft: Path) -> None:
    factors = load_file(str(draft / WEIGHTS))
    name = sorted(factors)[0]
    factors[name].view(-1)[:2] = float("nan")
    save_file(factors, str(draft / WEIGHTS))
    with refused(ModelError, "draft: 2 of the ", f"values of {name!r} are NaN or inf"):
        load_model(str(draft))


def test_missing_factors_and_a_missing_base_are_named(draft: Path, tmp_path: Path) -> None:
    change_config(draft, base_model_name_or_path=str(tmp_path / "gone"))
    with refused(UserError, "gone"):
        resolve_model(str(draft))
    (draft / WEIGHTS).unlink()
    with refused(ModelError, f"no {WEIGHTS}"):
        resolve_model(str(draft))


def test_a_base_of_another_width_is_refused(draft: Path, base: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in base.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"hidden_size": 64}))
    change_config(draft, base_model_name_or_path=str(other))
    with refused(ModelError, "another hidden_size than other"):
        resolve_model(str(draft))


def test_transformers_cannot_load_it(draft: Path) -> None:
    with refused(ModelError, "leave out lean=False"):
        load_model(str(draft), lean=False)
