"""Damaged model folders are refused in one line, quickly, or the damage changes nothing that is read."""

from __future__ import annotations

import codecs
import importlib
import json
import os
import random
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from specbench_s2d.errors import ModelError, UserError
from specbench_s2d.models import load_model
from specbench_s2d.models.resolve import load_tokenizer, resolve_model
from specbench_s2d.training.init_model import load_source
from specbench_s2d.training.init_model import load_tokenizer as load_training_tokenizer
from tests.refusals import refused

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
LIMIT_S = 5.0
SEED = 1


@contextmanager
def within(limit_s: float) -> Iterator[None]:
    """Raise `TimeoutError` where the block takes longer: reading a pipe would wait for ever."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"more than {limit_s:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def damages() -> Iterator[Any]:
    """The module of damages that the benchmark draws from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("damages")


@pytest.fixture
def damaged(tiny_models: Path, tmp_path: Path) -> Path:
    """A copy of a small Llama with exits, to be damaged."""
    return Path(shutil.copytree(tiny_models / "tiny-nested", tmp_path / "damaged"))


def rewrite(file: Path, **fields: Any) -> None:
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    file.write_text(json.dumps(content | fields), encoding="utf-8")


def what_loading_says(folder: Path) -> str:
    """The refusal of a folder, empty where it loads and reads a text."""
    try:
        with within(LIMIT_S):
            model = load_model(str(folder), "cpu")
            model.extend(torch.tensor([model.tokenizer.encode("Some text.")]))
    except UserError as error:
        return str(error)
    return ""


def test_whatever_is_damaged_is_refused_in_one_line(
    damages: Any, tiny_models: Path, tiny_opt: Path, tmp_path: Path
) -> None:
    """A few of each kind, of a lean model and of one through transformers; the benchmark tries many more."""
    sound = tmp_path / "sound"
    for folder in (tiny_models / "tiny-nested", tiny_opt / "tiny-opt"):
        shutil.copytree(folder, sound / folder.name)
    coin, refusals = random.Random(SEED), 0
    for kind, found in damages.all_damages(sound, SEED).items():
        for damage in coin.sample(found, min(6, len(found))):
            bad = Path(shutil.copytree(sound / damage.folder, tmp_path / "bad"))
            damage.apply(bad)
            said = what_loading_says(bad)
            assert "\n" not in said and len(said) < 1000, f"{kind}, {damage.name}: {said}"
            refusals += bool(said)
            shutil.rmtree(bad)
    assert refusals > 20


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_hidden_layers", 0),
        ("num_hidden_layers", -1),
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", None),
        ("num_attention_heads", 0),
        ("num_attention_heads", None),
        ("num_key_value_heads", 3),
        ("head_dim", 7),
        ("hidden_size", 10**9),
        ("vocab_size", "many"),
        ("vocab_size", 10**8),
        ("intermediate_size", [64]),
        ("max_position_embeddings", 10**9),
        ("rms_norm_eps", float("nan")),
        ("rope_parameters", {"rope_type": "llama3", "rope_theta": 1e4}),
        ("rope_parameters", {"rope_type": "default", "rope_theta": 0.0}),
        ("quantization_config", "int8"),
    ],
)
def test_a_field_of_the_config_is_named(damaged: Path, field: str, value: Any) -> None:
    rewrite(damaged / "config.json", **{field: value})
    with within(LIMIT_S), refused(ModelError, "damaged: config.json", field.replace("rope_parameters", "rope")):
        assert resolve_model(str(damaged)).config is None


def test_a_config_of_more_than_the_files_hold_is_refused(damaged: Path) -> None:
    """Before room is made for it: 9,999 layers of transformers' modules take half a minute."""
    rewrite(damaged / "config.json", num_hidden_layers=9_999)
    with within(LIMIT_S), refused(ModelError, "damaged: config.json describes more than", "9,999 layers of width 32"):
        load_model(str(damaged), "cpu", lean=False)


@pytest.mark.parametrize(
    "fields",
    [
        {"pretraining_tp": 0.5},
        {"pad_token_id": -1},
        {"some_field": [None]},
        {"num_local_experts": 0},
        {"dtype": None},
        {"sliding_window": "9"},
    ],
)
def test_fields_that_nothing_reads_may_hold_anything(damaged: Path, fields: dict[str, Any]) -> None:
    rewrite(damaged / "config.json", **{name: value for name, value in fields.items() if name != "pretraining_tp"})
    assert resolve_model(str(damaged)).depth == 3


@pytest.mark.parametrize("content", ["[]", "3", "null", '"text"', "", "{", "[" * 100_000])
@pytest.mark.parametrize("file", ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"])
def test_a_file_that_holds_no_object_is_named(damaged: Path, file: str, content: str) -> None:
    (damaged / file).write_text(content, encoding="utf-8")
    with refused(ModelError, "damaged: ", file.removesuffix("_config.json").removesuffix(".json")):
        assert resolve_model(str(damaged)).tokenizer is None


@pytest.mark.parametrize("load", [load_tokenizer, load_training_tokenizer])
def test_settings_of_a_tokenizer_that_show_when_it_is_used_are_refused(damaged: Path, load: Any) -> None:
    rewrite(damaged / "tokenizer_config.json", model_max_length="2")
    with refused(ModelError, "damaged", "tokenizer"):
        load(str(damaged))


@pytest.mark.parametrize("load", [load_tokenizer, load_training_tokenizer])
@pytest.mark.parametrize(
    "fields",
    [
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
        {"decoder": {"type": "Strip", "content": "a", "start": 10**6, "stop": 10**6}},
        {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
    ],
    ids=["charsmap", "decoder", "pre-tokenizer"],
)
def test_a_tokenizer_at_which_tokenizers_panics_is_refused(damaged: Path, fields: dict[str, Any], load: Any) -> None:
    """What tokenizers raises then is no `Exception`."""
    rewrite(damaged / "tokenizer.json", **fields)
    with refused(ModelError, "damaged", "tokenizer"):
        load(str(damaged))


def test_a_config_that_the_tokenizer_is_chosen_by_is_named_itself(damaged: Path) -> None:
    rewrite(damaged / "config.json", tie_word_embeddings=None)
    with refused(ModelError, "damaged: config.json cannot be used", "tie_word_embeddings"):
        assert resolve_model(str(damaged)).tokenizer is None


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("value", [2.5, "2", [[1]], [1, "a"], True, {"a": 1}])
def test_an_eos_that_is_no_id_is_named(damaged: Path, file: str, value: Any) -> None:
    rewrite(damaged / file, eos_token_id=value)
    with refused(ModelError, f"damaged: {file}: ", "eos_token_id"):
        assert resolve_model(str(damaged)).config and resolve_model(str(damaged)).eos_ids is None


PLACES = {
    "a link to": lambda file: file.symlink_to("nowhere"),
    "a pipe": lambda file: os.mkfifo(file),
    "a folder": lambda file: file.mkdir(),
    "a device": lambda file: file.symlink_to("/dev/zero"),
    "a link that leads round in a circle": lambda file: file.symlink_to(file),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors", "generation_config.json"])
def test_what_is_no_file_is_named_and_not_opened(damaged: Path, file: str, place: str) -> None:
    (damaged / file).unlink()
    PLACES[place](damaged / file)
    with within(LIMIT_S), refused(ModelError, "damaged: ", f"{file} is ", place):
        resolve_model(str(damaged))


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
def test_a_byte_order_mark_is_named_for_transformers_takes_none(damaged: Path, file: str) -> None:
    (damaged / file).write_bytes(codecs.BOM_UTF8 + (damaged / file).read_bytes())
    with refused(ModelError, f"damaged: {file} begins with a byte order mark", "save it as UTF-8 without one"):
        resolve_model(str(damaged))


@pytest.mark.parametrize("load", [load_tokenizer, load_training_tokenizer, load_source])
@pytest.mark.parametrize("file", ["tokenizer.json", "config.json"])
def test_import_and_train_do_not_wait_for_a_pipe_either(damaged: Path, load: Any, file: str) -> None:
    (damaged / file).unlink()
    os.mkfifo(damaged / file)
    with within(LIMIT_S), refused(ModelError, "damaged", file, "a pipe"):
        load(str(damaged))


def edit(folder: Path, name: str, **changes: Any) -> None:
    """One tensor of a checkpoint as another dtype, or with values in it."""
    weights = load_file(folder / "model.safetensors")
    if "dtype" in changes:
        weights[name] = weights[name].to(changes["dtype"])
    for value, count in changes.get("planted", {}).items():
        weights[name].view(-1)[:count] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("lean", [True, False])
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.bool, torch.int64, torch.float8_e4m3fn])
def test_numbers_without_scales_are_refused(damaged: Path, dtype: torch.dtype, lean: bool) -> None:
    edit(damaged, "model.layers.1.mlp.up_proj.weight", dtype=dtype)
    with refused(ModelError, "damaged: 'model.layers.1.mlp.up_proj.weight' is stored as", "quantization_config"):
        load_model(str(damaged), "cpu", lean=lean)


@pytest.mark.parametrize("lean", [True, False])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused_by_name_and_count(damaged: Path, value: float, lean: bool) -> None:
    edit(damaged, "model.layers.1.mlp.up_proj.weight", planted={value: 3})
    said = "damaged: 3 of the 2,048 values of 'model.layers.1.mlp.up_proj.weight' are NaN or inf"
    with refused(ModelError, said):
        load_model(str(damaged), "cpu", lean=lean)


def test_weights_beyond_the_range_of_the_dtype_are_told_apart(damaged: Path) -> None:
    edit(damaged, "model.norm.weight", planted={1e5: 2})
    with refused(ModelError, "damaged: 2 of the 32 values of 'model.norm.weight'", "range of float16", "bfloat16"):
        load_model(str(damaged), "cpu", dtype="float16")
    assert load_model(str(damaged), "cpu", dtype="bfloat16").depth == 3


def test_a_training_source_lacks_no_tensor_and_no_number(damaged: Path) -> None:
    edit(damaged, "model.norm.weight", planted={float("nan"): 1})
    with refused(ModelError, "1 of the 32 values of 'model.norm.weight' are NaN or inf"):
        load_source(str(damaged))
    weights = load_file(damaged / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, damaged / "model.safetensors", metadata={"format": "pt"})
    with refused(ModelError, "the weights lack 'model.norm.weight'"):
        load_source(str(damaged))


FAMILIES = {
    "llama": {"num_key_value_heads": 2},
    "mistral": {"num_key_value_heads": 2, "sliding_window": None},
    "qwen2": {"num_key_value_heads": 2},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 8},
    "gemma": {"num_key_value_heads": 1, "head_dim": 16},
    "phi3": {"num_key_value_heads": 2, "pad_token_id": 0},
    "granite": {"num_key_value_heads": 2},
    "mixtral": {"num_key_value_heads": 2, "num_local_experts": 2},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 16},
    "gpt2": {},
    "bloom": {},
    "gpt_neox": {},
    "falcon": {},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_configs_of_real_families_pass(tmp_path: Path, family: str) -> None:
    """Small ones, as transformers writes them, and those of published sizes."""
    from transformers import AutoConfig

    size = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    AutoConfig.for_model(family, **size, **FAMILIES[family]).save_pretrained(str(tmp_path))
    if family == "bloom":
        rewrite(tmp_path / "config.json", seq_length=64)
    save_file({"model.weight": torch.zeros(2**22)}, tmp_path / "model.safetensors")
    found = resolve_model(str(tmp_path))
    assert (found.rows, found.depth) == (64, 2) and found.context > 1
