"""`--verify-forward`: the lean forward is held to transformers' own at load, and one that computes something else is
refused."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from specbench_s2d.errors import ModelError
from specbench_s2d.models import forward_check, load_model
from specbench_s2d.models import load as load_module
from specbench_s2d.models.forward_check import POSITIONS
from specbench_s2d.models.llama import LlamaModel
from specbench_s2d.models.memory import plan_memory
from specbench_s2d.models.resolve import resolve_model
from tests.models.captured import RerunningCapture, few_buckets, graph_engine
from tests.models.reference import FAMILIES, family_model
from tests.refusals import refused
from tests.tiny import write_padded

CASES = [*((family, "float32") for family in FAMILIES), ("llama", "bfloat16"), ("qwen2", "float16")]


@pytest.fixture(scope="module")
def families(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each family's small random model."""
    out = tmp_path_factory.mktemp("families")
    folders = {}
    for number, name in enumerate(FAMILIES):
        folders[name] = out / f"family-{number}"
        shutil.copytree(tiny_models / "tiny-target", folders[name], ignore=shutil.ignore_patterns("*.safetensors"))
        family_model(name).save_pretrained(str(folders[name]))
    return folders


def checked(folder: Path, **options: Any) -> dict[str, Any]:
    """The facts of the check, asked for."""
    model = load_model(resolve_model(str(folder)), "cpu", verify_forward=True, **options)
    assert model.length == 0 and model.read_bytes == 0
    facts: dict[str, Any] = model.load_facts["forward_check"]
    return facts


@pytest.mark.parametrize(("family", "dtype"), CASES)
def test_every_family_passes(family: str, dtype: str, families: dict[str, Path]) -> None:
    facts = checked(families[family], dtype=dtype)
    assert facts["checked"] and facts["positions"] == POSITIONS == 16
    assert facts["largest_difference"] <= facts["bound"] / (100 if dtype == "float32" else 1.5)
    assert dtype != "float32" or (facts["bound"] == 1e-3 and facts["argmax_agreement"] == 1)


def other_rope(config: Any, tensors: dict[str, Tensor]) -> None:
    config.rope_parameters = {**config.rope_parameters, "rope_theta": 11_000.0}


def no_bias(config: Any, tensors: dict[str, Tensor]) -> None:
    for name in tensors:
        if name.endswith("1.self_attn.q_proj.bias"):
            tensors[name].zero_()


def swapped_norms(config: Any, tensors: dict[str, Tensor]) -> None:
    one, other = (f"model.layers.1.{name}.weight" for name in ("input_layernorm", "post_attention_layernorm"))
    tensors[one], tensors[other] = tensors[other], tensors[one]


def other_eps(config: Any, tensors: dict[str, Tensor]) -> None:
    config.rms_norm_eps = 1e-2


def no_head_norm(config: Any, tensors: dict[str, Tensor]) -> None:
    tensors["model.layers.0.self_attn.k_norm.weight"].fill_(1.0)


def fewer_key_heads(config: Any, tensors: dict[str, Tensor]) -> None:
    keys = tensors["model.layers.0.self_attn.k_proj.weight"]
    tensors["model.layers.0.self_attn.k_proj.weight"] = keys.flip(0)


def no_attention_factor(config: Any, tensors: dict[str, Tensor]) -> None:
    config.rope_parameters = {**config.rope_parameters, "attention_factor": 1.0}


FAULTS: list[tuple[str, Callable[[Any, dict[str, Tensor]], None]]] = [
    ("llama", other_rope), ("qwen2", no_bias), ("mistral", swapped_norms), ("llama", other_eps),
    ("qwen3", no_head_norm), ("llama", fewer_key_heads), ("llama, yarn rope", no_attention_factor),
]  # fmt: skip


@pytest.mark.parametrize(("family", "fault"), FAULTS, ids=[fault.__name__ for _, fault in FAULTS])
def test_a_lean_forward_that_computes_something_else_is_refused(
    family: str, fault: Any, families: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault is in what our forward computes with; the files are as they were."""

    def faulty(identity: Any, config: Any, read: Any, *rest: Any) -> LlamaModel:
        changed, tensors = copy.deepcopy(config), {}
        for name in load_module.tensor_shapes(config):
            tensors[name] = read(name).clone()
        fault(changed, tensors)
        return LlamaModel(identity, changed, tensors.__getitem__, *rest)

    monkeypatch.setattr(load_module, "LlamaModel", faulty)
    folder = families[family]
    assert load_model(resolve_model(str(folder)), "cpu").load_facts.get("forward_check") is None
    with refused(ModelError, folder.name, "of the largest, and 0.001 is allowed as rounding", "lean=False"):
        load_model(resolve_model(str(folder)), "cpu", verify_forward=True)


def test_a_mask_that_is_not_heeded_is_refused(families: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = LlamaModel.extend

    def without_mask(self: LlamaModel, inputs: Tensor, *given: Any, mask: Any = None, **options: Any) -> Tensor:
        return whole(self, inputs, *given, **options)

    monkeypatch.setattr(LlamaModel, "extend", without_mask)
    with refused(ModelError, "differ from transformers' own"):
        checked(families["llama"])


def test_small_models_are_checked_unasked(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = resolve_model(str(tiny_models / "tiny-target"))
    size = sum(tensor.numel() for tensor in family_parameters(found))
    for limit, is_checked in ((size, True), (size - 1, False)):
        monkeypatch.setattr(forward_check, "UNASKED_PARAMETERS", limit)
        assert ("forward_check" in load_model(found, "cpu").load_facts) is is_checked
        assert forward_check.is_checked(found, None) is is_checked
    monkeypatch.setattr(forward_check, "UNASKED_PARAMETERS", size)
    assert "forward_check" not in load_model(found, "cpu", verify_forward=False).load_facts


def family_parameters(found: Any) -> list[Tensor]:
    from safetensors.torch import load_file

    return list(load_file(found.weights.files[0]).values())


def test_what_cannot_be_checked_says_why(tiny_opt: Path, tiny_models: Path) -> None:
    reasons = {
        str(tiny_opt / "tiny-opt"): "it runs through transformers' own forward",
        "shape:demo-tiny": "random weights",
    }
    for name, reason in reasons.items():
        model = load_model(resolve_model(name), "cpu", verify_forward=True)
        assert model.load_facts["forward_check"] == {"checked": False, "reason": reason}
    whole = load_model(resolve_model(str(tiny_models / "tiny-target")), "cpu", lean=False, verify_forward=True)
    assert whole.load_facts["forward_check"]["checked"] is False


def test_transformers_that_does_not_run_is_a_reason_or_where_asked_a_refusal(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: Any) -> Any:
        raise MemoryError("no room\nfor it")

    monkeypatch.setattr(load_module, "read_module", broken)
    found = resolve_model(str(tiny_models / "tiny-target"))
    with refused(ModelError, "tiny-target --verify-forward: transformers' own forward does not run here (MemoryError"):
        load_model(found, "cpu", verify_forward=True)
    monkeypatch.setattr(forward_check, "UNASKED_PARAMETERS", 10**9)
    facts = load_model(found, "cpu").load_facts["forward_check"]
    assert facts["checked"] is False and "MemoryError: no room)" in facts["reason"]


def test_weights_that_are_no_numbers_are_not_judged_here(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from specbench_s2d.models import load
    from tests.bench.test_faulty_models import planted

    for check in ("check_finite", "check_module"):
        monkeypatch.setattr(load, check, lambda *_: None)

    folder = planted(tiny_models / "tiny-target", tmp_path / "bad", "model.norm.weight", slice(None), float("nan"))
    assert checked(Path(folder)) == {
        "checked": False, "reason": "logits of transformers' own forward are not finite numbers",
    }  # fmt: skip


def test_padded_heads_nested_drafts_and_adapters_pass(tiny_models: Path, tmp_path: Path) -> None:
    assert checked(write_padded(tiny_models / "tiny-target", tmp_path / "padded", 7))["checked"]
    assert checked(tiny_models / "tiny-nested")["checked"]


def test_the_graph_engine_is_checked_eagerly_and_tried_afterwards(tiny_models: Path) -> None:
    """Its trial waits for the cache that the run reserves, and nothing is captured before."""
    capture = RerunningCapture()
    made = graph_engine(capture, few_buckets)
    model = load_model(resolve_model(str(tiny_models / "tiny-target")), "cpu", engine=made, verify_forward=True)
    assert model.load_facts["forward_check"]["checked"] and capture.recorded == 0
    model.reserve(64)
    assert capture.recorded > 0 and model.engine == "cuda-graphs"


def test_the_plan_has_room_for_the_second_copy(tiny_models: Path) -> None:
    found = resolve_model(str(tiny_models / "tiny-target"))
    alone, beside = (plan_memory(found, torch.float32, checked=one) for one in (False, True))
    assert beside.loading_bytes > alone.weights_bytes > alone.loading_bytes
    assert beside.weights_bytes == alone.weights_bytes and beside.running_bytes == alone.running_bytes
