"""`load_model`: what it finds, what it says of it, and what it refuses in one line."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from specbench_s2d.decoding.spec import build_decoder
from specbench_s2d.errors import ModelError, UnknownNameError, UserError
from specbench_s2d.models import LanguageModel, check_pair, devices, load_model
from specbench_s2d.models import load as load_module
from specbench_s2d.models.devices import default_device, default_dtype
from specbench_s2d.models.hf import TransformersModel
from specbench_s2d.models.llama import why_not_lean
from specbench_s2d.models.load import read_module
from specbench_s2d.models.resolve import load_tokenizer, resolve_model
from tests.models.reference import assert_close
from tests.refusals import refused

PROMPT = "Write a letter to Anna."


def load(path: Path, **options: Any) -> LanguageModel:
    return load_model(str(path), device="cpu", **options)


@pytest.fixture
def broken(tiny_models: Path, tmp_path: Path) -> Path:
    """A copy of tiny-target that a test may damage."""
    return Path(shutil.copytree(tiny_models / "tiny-target", tmp_path / "broken"))


def change_json(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def ids_BT(model: LanguageModel) -> torch.Tensor:
    return torch.tensor([model.tokenizer.encode(PROMPT)])


def test_a_folder_becomes_a_model_that_says_what_it_is(tiny_models: Path) -> None:
    model = load(tiny_models / "tiny-target")
    assert model.name == "tiny-target"
    assert (model.depth, model.width, model.context, model.vocabulary) == (4, 32, 4096, len(model.tokenizer))
    assert model.dtype == torch.float32
    assert model.has_layer_ranges
    assert model.exits == ()
    assert model.eos_ids == {model.tokenizer.eos_token_id}
    identity = model.identity
    assert (identity.architecture, identity.forward, identity.revision) == ("llama", "lean", None)


def test_the_weight_hash_is_of_the_weights(tiny_models: Path, broken: Path) -> None:
    same = load(broken).identity.weights_sha256
    assert same == load(tiny_models / "tiny-target").identity.weights_sha256
    assert same != load(tiny_models / "tiny-draft").identity.weights_sha256


def test_a_nested_draft_keeps_its_exits_in_its_config(broken: Path) -> None:
    change_json(broken / "config.json", specbench_exits=[1, 2, 4])
    assert load(broken).exits == (1, 2, 4)


@pytest.mark.parametrize(("exits", "said"), [([3, 1], "exits 3, 1"), ([1, 9], "from 1 to 4"), (3.5, "exits 3.5")])
def test_exits_that_cannot_be_are_refused(broken: Path, exits: object, said: str) -> None:
    change_json(broken / "config.json", specbench_exits=exits)
    with refused(ModelError, said):
        load(broken)


def test_ends_come_from_config_generation_config_and_tokenizer(broken: Path) -> None:
    change_json(broken / "config.json", eos_token_id=[7, 8])
    change_json(broken / "generation_config.json", eos_token_id=9)
    model = load(broken)
    assert model.eos_ids == {7, 8, 9, model.tokenizer.eos_token_id}


def test_both_forwards_compute_the_same(tiny_models: Path) -> None:
    lean, whole = load(tiny_models / "tiny-target"), load(tiny_models / "tiny-target", lean=False)
    assert whole.identity.forward == "transformers (as asked)"
    assert not whole.has_layer_ranges
    assert_close(lean.extend(ids_BT(lean)), whole.extend(ids_BT(whole)))


@pytest.mark.parametrize("lean", [True, False])
def test_bfloat16_stays_near_float32(tiny_models: Path, lean: bool) -> None:
    exact, rough = load(tiny_models / "tiny-draft"), load(tiny_models / "tiny-draft", dtype="bfloat16", lean=lean)
    assert rough.dtype == torch.bfloat16
    head_bytes = exact.vocabulary * exact.width * 4  # stays float32 on a CPU
    assert (rough.parameter_bytes - head_bytes) * 2 == exact.parameter_bytes - head_bytes
    logits_BTV = rough.extend(ids_BT(rough))
    assert logits_BTV.dtype == torch.float32
    expected = exact.extend(ids_BT(exact))
    assert (logits_BTV - expected).abs().mean() < 0.05 * expected.std()
    assert len(build_decoder("ar", rough).generate([5, 6, 7], max_new_tokens=5, ignore_eos=True).ids) == 5


def test_an_outline_is_known_without_the_weights(broken: Path) -> None:
    (broken / "model.safetensors").write_bytes(b"not weights")
    outline = resolve_model(str(broken))
    assert (outline.name, outline.vocabulary, outline.context) == ("broken", len(outline.tokenizer), 4096)
    assert outline.tokenizer.decode(outline.tokenizer.encode(PROMPT)) == PROMPT


def test_defaults_are_the_gpu_in_bfloat16_else_the_cpu_in_float32() -> None:
    assert default_device() == ("cuda" if torch.cuda.is_available() else "cpu")
    assert (default_dtype("cpu"), default_dtype("cuda")) == ("float32", "bfloat16")


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "CPU", "mps"])
def test_an_unknown_device_is_refused(tiny_models: Path, device: str) -> None:
    with refused(UserError, f"device={device!r}", "cpu, cuda or cuda:N"):
        load_model(str(tiny_models / "tiny-target"), device=device)


def test_a_gpu_that_is_not_there_is_refused(tiny_models: Path) -> None:
    with refused(UserError, "device='cuda:99'", "CUDA devices", "device='cpu'"):
        load_model(str(tiny_models / "tiny-target"), device="cuda:99")


def test_an_unknown_dtype_is_refused(tiny_models: Path) -> None:
    with refused(UserError, "dtype='int8'", "float32, bfloat16, float16"):
        load(tiny_models / "tiny-target", dtype="int8")


def test_a_config_that_cannot_be_read_is_refused(broken: Path) -> None:
    (broken / "config.json").write_text('{"model_type": "llama", ', encoding="utf-8")
    with refused(ModelError, "broken", "config"):
        load(broken)


def test_a_generation_config_that_cannot_be_read_is_refused(broken: Path) -> None:
    (broken / "generation_config.json").write_text("eos: 2", encoding="utf-8")
    with refused(ModelError, "broken", "generation_config.json", "JSON"):
        load(broken)


def test_a_model_type_that_nobody_knows_is_refused(broken: Path) -> None:
    change_json(broken / "config.json", model_type="no-such-model")
    with refused(ModelError, "broken", "no-such-model"):
        load(broken)


@pytest.mark.parametrize("lean", [True, False])
def test_weights_cut_short_are_refused(broken: Path, lean: bool) -> None:
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with refused(ModelError, "broken"):
        load(broken, lean=lean)


@pytest.mark.parametrize("lean", [True, False])
def test_a_missing_tensor_is_refused(broken: Path, lean: bool) -> None:
    """transformers alone would go on with random numbers in its place."""
    weights = load_file(broken / "model.safetensors")
    del weights["model.layers.2.mlp.down_proj.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with refused(ModelError, "broken", "'model.layers.2.mlp.down_proj.weight'"):
        load(broken, lean=lean)


@pytest.mark.parametrize("lean", [True, False])
def test_weights_of_another_shape_than_the_config_says_are_refused(broken: Path, lean: bool) -> None:
    change_json(broken / "config.json", intermediate_size=80)
    with refused(ModelError, "broken"):
        load(broken, lean=lean)


def test_a_checkpoints_own_code_is_not_run_unasked(broken: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (broken / "custom.py").write_text(f"open({str(marker)!r}, 'w').close()\n", encoding="utf-8")
    auto_map = {"AutoConfig": "custom.Config", "AutoModelForCausalLM": "custom.Model"}
    change_json(broken / "config.json", model_type="custom", auto_map=auto_map)
    with refused(ModelError, "broken"):
        load(broken)
    assert not marker.exists()


def test_an_unknown_name_is_refused_with_the_nearest(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tiny_models / "family").mkdir(exist_ok=True)
    for name in ("demo-s", "demo-tiny"):
        if not (tiny_models / "family" / name).exists():
            (tiny_models / "family" / name).symlink_to(tiny_models / "tiny-target")
    monkeypatch.setattr("specbench_s2d.models.demo.demo_folder", lambda: tiny_models / "family")
    monkeypatch.setattr("specbench_s2d.models.resolve.demo_folder", lambda: tiny_models / "family")
    with refused(UnknownNameError, "model 'demo-tyni'", "'demo-tiny'", "demo-s", "hub id"):
        load_model("demo-tyni")
    assert load_model("demo-tiny", device="cpu").name == "demo-tiny"


def test_a_pair_of_one_family_is_accepted(tiny_models: Path) -> None:
    check_pair(load(tiny_models / "tiny-target"), load(tiny_models / "tiny-draft"))
    check_pair(resolve_model(str(tiny_models / "tiny-target")), resolve_model(str(tiny_models / "tiny-draft")))


def test_vocabularies_of_different_sizes_are_refused(tiny_models: Path) -> None:
    target, other = load(tiny_models / "tiny-target"), load(tiny_models / "tiny-other")
    with refused(ModelError, "tiny-target", "tiny-other", f"{target.vocabulary}", f"{other.vocabulary}"):
        check_pair(target, other)
    with refused(ModelError, "tiny-target", "tiny-other"):
        check_pair(resolve_model(str(tiny_models / "tiny-target")), resolve_model(str(tiny_models / "tiny-other")))
    with refused(ModelError, "tiny-target", "tiny-other"):
        build_decoder("sd", target, other)


def test_the_same_ids_for_other_tokens_are_refused(tiny_models: Path, broken: Path) -> None:
    file = broken / "tokenizer.json"
    whole = json.loads(file.read_text(encoding="utf-8"))
    vocabulary = whole["model"]["vocab"]
    vocabulary["A"], vocabulary["B"] = vocabulary["B"], vocabulary["A"]
    file.write_text(json.dumps(whole), encoding="utf-8")
    assert AutoTokenizer.from_pretrained(str(broken)).convert_tokens_to_ids("A") == vocabulary["A"]
    with refused(ModelError, "tiny-target", "broken", "differently"):
        check_pair(load(tiny_models / "tiny-target"), load(broken))


def test_a_tokenizer_needs_no_weights(tiny_models: Path, tmp_path: Path) -> None:
    for file in (tiny_models / "tiny-target").glob("tokenizer*"):
        shutil.copy(file, tmp_path)
    ids = load_tokenizer(str(tmp_path)).encode(PROMPT)
    assert ids == load(tiny_models / "tiny-target").tokenizer.encode(PROMPT)
    with refused(UnknownNameError, "unknown model 'demo-x'"):
        load_tokenizer("demo-x")


@pytest.mark.parametrize(
    ("method", "package"), [("gptq", "optimum"), ("awq", "gptqmodel"), ("bitsandbytes", "bitsandbytes")]
)
def test_a_quantised_checkpoint_is_transformers_to_load_and_says_what_to_install(
    broken: Path, method: str, package: str
) -> None:
    if find_spec(package):
        pytest.skip(f"{package} is installed")
    how = {"load_in_4bit": True} if method == "bitsandbytes" else {"bits": 4}
    change_json(broken / "config.json", quantization_config={"quant_method": method, **how})
    assert why_not_lean(resolve_model(str(broken)).config) == f"quantised ({method})"
    assert not resolve_model(str(broken)).has_layer_ranges
    with refused(ModelError, "broken", "pip install", package):
        load(broken)


def test_a_quantised_checkpoint_that_loads_says_so_and_counts_its_stored_bytes(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for transformers' quantised layers: packed numbers and scales, which are buffers."""
    whole = load(tiny_models / "tiny-target", lean=False)
    plain = whole.parameter_bytes
    model = cast(TransformersModel, whole)._model
    model.model.layers[0].mlp.register_buffer("qweight", torch.zeros(10, 6, dtype=torch.int32))
    model.model.layers[0].mlp.register_buffer("scratch", torch.zeros(999), persistent=False)
    monkeypatch.setattr(load_module, "quantisation", lambda config: "gptq")
    monkeypatch.setattr(load_module, "why_not_lean", lambda config: "quantised (gptq)")
    asked: list[object] = []
    monkeypatch.setattr(load_module, "read_module", lambda *given: asked.append(given[-2]) or model)
    quantised = load(tiny_models / "tiny-target")
    assert quantised.identity.forward == "transformers (quantised (gptq))"
    assert quantised.parameter_bytes == plain + 240
    assert asked == ["cpu"]  # laid out as it is read: quantised layers may refuse to be moved


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if torch saw two GPUs with room; transformers' own device map still finds the CPU alone."""
    monkeypatch.setattr(devices, "_gpus", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(
        load_module, "free_by_device", lambda device: dict.fromkeys(devices.all_devices(device), 10**12)
    )
    monkeypatch.setattr(load_module, "max_memory", lambda plans, free: {})


def test_auto_spreads_a_checkpoint_by_transformers_device_map(tiny_models: Path, two_gpus: None) -> None:
    name = str(tiny_models / "tiny-target")
    spread, lean = load_model(name, "auto", "float32"), load_model(name, "cpu")
    assert spread.identity.forward == "transformers (device map)"
    assert spread.device == torch.device("cpu") and not spread.has_layer_ranges
    assert_close(spread.extend(ids_BT(spread)), lean.extend(ids_BT(lean)))


def test_what_each_gpu_may_take_reaches_transformers(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default what is free there holds; a run that has drafts gives limits of its own."""
    monkeypatch.setattr(devices, "_gpus", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(load_module, "free_by_device", lambda device: {"cuda:0": 10**12, "cuda:1": 10**12})
    given: list[tuple[object, ...]] = []

    def read(*args: object) -> None:
        given.append(args[-2:])
        raise InterruptedError

    monkeypatch.setattr(load_module, "read_module", read)
    for limits in (None, {0: 5000, 1: 7000}):
        with pytest.raises(InterruptedError):
            load_model(str(tiny_models / "tiny-target"), "auto", "float32", limits=limits)
    (first, by_default), second = given
    assert second == ("sequential", {0: 5000, 1: 7000}) and first == "sequential"
    assert isinstance(by_default, dict) and set(by_default) == {0, 1}


def test_a_device_map_is_kept_as_given(tiny_models: Path) -> None:
    found = resolve_model(str(tiny_models / "tiny-target"))
    model = read_module(found, torch.device("cuda:7"), torch.float32, {"": "cpu"})
    assert model.device == torch.device("cpu")  # and was not moved to the place


def test_layers_that_would_wait_off_the_gpus_are_refused(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = resolve_model(str(tiny_models / "tiny-target"))
    model = SimpleNamespace(hf_device_map={"model.layers.0": 0, "model.layers.1": "cpu"}, named_parameters=list)
    monkeypatch.setattr(
        "transformers.AutoModelForCausalLM.from_pretrained", lambda *a, **k: (model, {"missing_keys": []})
    )
    with refused(ModelError, "tiny-target", "the GPUs cannot hold it"):
        read_module(found, torch.device("cpu"), torch.float32, "auto")
    model.hf_device_map = {"model.layers.0": 0, "model.layers.1": 1}
    assert read_module(found, torch.device("cpu"), torch.float32, "auto") is model


def test_auto_without_a_gpu_is_refused(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_gpus", lambda: 0)
    with refused(UserError, "device='auto'", "0 CUDA devices", "device='cpu'"):
        load_model(str(tiny_models / "tiny-target"), "auto")


@pytest.mark.parametrize(("name", "why"), [("shape:llama-2-70b", "a shape's weights"), ("demo-draft", "nested")])
def test_auto_is_refused_for_what_only_the_lean_forward_runs(name: str, why: str, two_gpus: None) -> None:
    with refused(ModelError, name, why, "device='cuda'"):
        load_model(name, "auto")
