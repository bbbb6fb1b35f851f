"""Half-precision models through transformers' own forward give float32 logits, and the plan knows what that takes."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, ModelHook, SequentialHook, add_hook_to_module
from torch import Tensor, nn
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTJConfig,
    GPTJForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
)

from specbench_s2d.models.base import Identity
from specbench_s2d.models.hf import TransformersModel
from specbench_s2d.models.hf_head import Float32Head
from specbench_s2d.models.load import load_model
from specbench_s2d.models.memory import MemoryPlan, plan_memory
from specbench_s2d.models.resolve import resolve_model
from tests.models.reference import VOCABULARY, random_ids, random_model

_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
_GATED = {**_SHAPE, "intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8}
Family = tuple[type[Any], type[Any], dict[str, Any]]
# Cohere scales its logits, Gemma 2 caps them, GPT-J's head has a bias.
MODELS: dict[str, Family] = {
    "opt": (OPTConfig, OPTForCausalLM, {**_SHAPE, "ffn_dim": 48, "init_std": 0.2}),
    "opt, narrow words": (OPTConfig, OPTForCausalLM, {**_SHAPE, "ffn_dim": 48, "word_embed_proj_dim": 16}),
    "gpt-neox": (GPTNeoXConfig, GPTNeoXForCausalLM, {**_SHAPE, "intermediate_size": 48}),
    "llama": (LlamaConfig, LlamaForCausalLM, {**_GATED, "tie_word_embeddings": False}),
    "llama, tied": (LlamaConfig, LlamaForCausalLM, {**_GATED, "tie_word_embeddings": True}),
    "gpt-j": (
        GPTJConfig,
        GPTJForCausalLM,
        {"vocab_size": VOCABULARY, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4},
    ),
    "cohere": (CohereConfig, CohereForCausalLM, {**_GATED, "logit_scale": 0.3}),
    "gemma2": (Gemma2Config, Gemma2ForCausalLM, {**_GATED, "final_logit_softcapping": 2.0}),
}
AFTERWARDS = {
    "cohere": lambda logits: logits * 0.3,
    "gemma2": lambda logits: torch.tanh(logits / 2.0) * 2.0,
}


def half(name: str, dtype: torch.dtype = torch.bfloat16) -> PreTrainedModel:
    config_class, model_class, changes = MODELS[name]
    return random_model(config_class, model_class, **changes).to(dtype)


def wrapped(model: PreTrainedModel) -> TransformersModel:
    nobody: Any = None
    return TransformersModel(Identity("random", architecture="test"), model, nobody, frozenset())


@torch.inference_mode()
def states(model: PreTrainedModel, ids_BT: Tensor) -> Tensor:
    """The hidden states (B, T, D) that the model gives its own head."""
    taken: list[Tensor] = []
    head: Any = model.get_output_embeddings()
    watching = head.register_forward_pre_hook(lambda module, args: taken.append(args[0]))
    model(input_ids=ids_BT, use_cache=False)
    watching.remove()
    (hidden_BTD,) = taken
    assert hidden_BTD.dtype == model.dtype
    return hidden_BTD


@torch.inference_mode()
def expected(model: PreTrainedModel, name: str, ids_BT: Tensor) -> Tensor:
    """A float32 head over the model's own hidden states, and what the model does to its logits afterwards."""
    head: Any = model.get_output_embeddings()
    bias = None if head.bias is None else head.bias.float()
    logits_BTV = nn.functional.linear(states(model, ids_BT).float(), head.weight.float(), bias)
    return AFTERWARDS[name](logits_BTV) if name in AFTERWARDS else logits_BTV


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_logits_are_a_float32_head_over_the_models_own_states(name: str, dtype: torch.dtype) -> None:
    model, ids_BT = half(name, dtype), random_ids(20)
    logits_BTV = expected(deepcopy(model), name, ids_BT)
    ours = wrapped(model)
    given_BTV = ours.extend(ids_BT)
    assert given_BTV.dtype == torch.float32
    torch.testing.assert_close(given_BTV, logits_BTV, atol=1e-5, rtol=0)
    rounded_BTV = given_BTV.to(dtype).float()
    assert (rounded_BTV != given_BTV).float().mean() > 0.9, "finer than steps of the model's dtype"
    torch.testing.assert_close(ours.extend(random_ids(1), last_only=True).shape, torch.Size((1, 1, VOCABULARY)))
    assert ours.engine_facts == {"engine": "eager", "head_dtype": "float32"}


@torch.inference_mode()
def test_two_near_logits_are_told_apart() -> None:
    """Two rows of the head that differ in one weight by 2^-7: at logits of 16 to 32, steps of bfloat16 are 2^-3."""
    model, ids_BT = half("llama"), random_ids(6)
    state_D = states(model, ids_BT)[0, -1]
    head: Any = model.get_output_embeddings()
    place = int(state_D.abs().argmax())
    near_D = 30 * state_D / (state_D @ state_D)
    near_D[place] = 1.0
    head.weight[3], head.weight[5] = near_D, near_D
    head.weight[5, place] += 2**-7
    rounded_V = deepcopy(model)(input_ids=ids_BT, use_cache=False).logits[0, -1]
    assert 16 <= float(rounded_V[3]) < 32 and rounded_V[3] == rounded_V[5]
    logits_V = wrapped(model).extend(ids_BT)[0, -1]
    assert float(logits_V[5] - logits_V[3]) == pytest.approx(float(state_D[place]) * 2**-7, abs=1e-5)


@pytest.mark.parametrize("name", ["opt", "llama", "llama, tied"])
def test_bytes_are_those_that_are_there_and_those_that_a_pass_reads(name: str) -> None:
    """A tied head stays, as the embedding, beside its float32 copy; another gives way to it."""
    model = half(name)
    layers_bytes = sum(p.nbytes for part, p in model.named_parameters() if "embed" not in part and "head" not in part)
    looked_up = sum(p.nbytes for part, p in model.named_parameters() if "embed" in part)
    ours = wrapped(model)
    assert ours.parameter_bytes == layers_bytes + looked_up + VOCABULARY * 32 * 4
    ours.extend(random_ids(1))
    positions = sum(p.nbytes for part, p in model.named_parameters() if "embed_positions" in part)
    keys_and_values = 2 * 2 * 1 * 32 * 2 // (1 if name == "opt" else 2)
    assert ours.read_bytes == layers_bytes + positions + VOCABULARY * 32 * 4 + keys_and_values


def test_a_float32_model_keeps_its_head() -> None:
    model = half("llama", torch.float32)
    head = model.get_output_embeddings()
    ours = wrapped(model)
    assert model.get_output_embeddings() is head
    assert ours.engine_facts["head_dtype"] == "float32"


def test_a_head_of_its_own_kind_is_left_and_said_to_be_rounded() -> None:
    """As bitsandbytes' layers are: subclasses of a linear one."""

    class Linear4bit(nn.Linear):
        pass

    model = half("llama")
    head = Linear4bit(32, VOCABULARY, bias=False, dtype=torch.bfloat16)
    model.set_output_embeddings(head)
    ours = wrapped(model)
    assert model.get_output_embeddings() is head
    facts = ours.engine_facts
    assert facts["head_dtype"] == "bfloat16"
    assert facts["head_dtype_reason"] == "its head is a Linear4bit, not a plain linear layer"


def test_hooks_of_a_head_on_another_device_go_over_to_the_new_one() -> None:
    model, ids_BT = half("llama, tied"), random_ids(8)
    logits_BTV = expected(deepcopy(model), "llama, tied", ids_BT)
    calls: list[torch.dtype] = []

    class Watching(ModelHook):
        def post_forward(self, module: nn.Module, output: Any) -> Any:
            calls.append(output.dtype)
            return output

    hook = SequentialHook(AlignDevicesHook(execution_device="cpu", io_same_device=True), Watching())
    old: Any = model.get_output_embeddings()
    add_hook_to_module(old, hook)
    ours = wrapped(model)
    new: Any = model.get_output_embeddings()
    assert isinstance(new, Float32Head) and new._hf_hook is hook and not hasattr(old, "_hf_hook")
    torch.testing.assert_close(ours.extend(ids_BT), logits_BTV, atol=1e-5, rtol=0)
    assert calls == [torch.float32]


def test_on_a_gpu_the_weight_is_shared_and_on_a_cpu_there_is_one_copy() -> None:
    """The device without memory stands for a GPU: what is asked is which tensor is kept."""
    for device, shared in (("meta", True), ("cpu", False)):
        head = nn.Linear(32, VOCABULARY, bias=False, device=device, dtype=torch.bfloat16)
        ours = Float32Head(head)
        assert (ours.weight is head.weight) == shared
        logits_BTV = ours(torch.empty(1, 3, 32, device=device, dtype=torch.bfloat16))
        assert logits_BTV.dtype == torch.float32 and logits_BTV.shape == (1, 3, VOCABULARY)


def planned(name: str, dtype: torch.dtype, on_host: bool = True) -> MemoryPlan:
    found = resolve_model(name)
    return plan_memory(found, dtype, on_host=on_host)


@pytest.mark.parametrize("name", ["demo-tiny", "demo-s"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("lean", [True, False])
def test_the_plan_counts_the_float32_head_of_either_forward(name: str, dtype: str, lean: bool) -> None:
    model = load_model(name, "cpu", dtype, lean=lean, engine="eager")
    assert planned(name, getattr(torch, dtype)).weights_bytes == model.parameter_bytes
    assert model.engine_facts["head_dtype"] == "float32"


@pytest.mark.parametrize("tied", [True, False])
def test_what_a_float32_head_takes_by_hand(tied: bool) -> None:
    """61 x 32 entries. Tied, 4 bytes each come beside the embedding; else they take the place of 2, held until then."""
    found = resolve_model("demo-tiny")
    vars(found)["config"] = LlamaConfig(**{**_GATED, "tie_word_embeddings": tied})
    host, device = (plan_memory(found, torch.bfloat16, on_host=on_host) for on_host in (True, False))
    assert host.weights_bytes - device.weights_bytes == 61 * 32 * (4 if tied else 2)
    assert host.loading_bytes == (device.loading_bytes if tied else max(device.loading_bytes, 61 * 32 * 2))
    whole = plan_memory(found, torch.float32, on_host=True)
    assert whole.weights_bytes == plan_memory(found, torch.float32).weights_bytes


def test_another_familys_plan_counts_it_too(tiny_opt: Path) -> None:
    model = load_model(str(tiny_opt / "tiny-opt"), "cpu", "bfloat16")
    stated = planned(str(tiny_opt / "tiny-opt"), torch.bfloat16).weights_bytes
    assert model.parameter_bytes <= stated < 1.1 * model.parameter_bytes  # the files' headers come on top


def test_half_precision_through_either_forward_differs_by_less_than_its_steps() -> None:
    """demo-s in bfloat16: both heads are float32, so that logits differ by what the layers round alone."""
    lean, whole = (load_model("demo-s", "cpu", "bfloat16", lean=lean, engine="eager") for lean in (True, False))
    ids_BT = torch.arange(40, 60)[None]
    ours_TV, theirs_TV = lean.extend(ids_BT)[0], whole.extend(ids_BT)[0]
    assert ours_TV.dtype == theirs_TV.dtype == torch.float32
    assert float((ours_TV - theirs_TV).abs().max()) < 0.05 * float(theirs_TV.abs().max())
