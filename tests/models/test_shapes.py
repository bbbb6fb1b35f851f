"""`shape:NAME`: the real architecture, the same lean forward, random weights that are the same each time."""

from __future__ import annotations

from math import prod

import pytest
import torch

from specbench_s2d import build_decoder, load_model
from specbench_s2d.errors import ModelError, UnknownNameError, UserError
from specbench_s2d.models import LanguageModel, check_pair
from specbench_s2d.models.base import Identity
from specbench_s2d.models.demo import demo_names
from specbench_s2d.models.llama import LlamaModel, why_not_lean
from specbench_s2d.models.load import tensor_reader
from specbench_s2d.models.resolve import load_tokenizer, resolve_model
from specbench_s2d.models.shapes import Shape, random_weights, shape_names, shape_rows
from specbench_s2d.models.tensors import layer_shapes, parameters, tensor_shapes
from tests.models.peak import Peak
from tests.refusals import refused

# As their publishers count them: LLaMA table 2, Llama 2 and 3 model cards, the names of the two small drafts.
PUBLISHED_MILLIONS = {
    "vicuna-7b": 6_738,
    "vicuna-13b": 13_016,
    "vicuna-33b": 32_529,
    "llama-2-7b": 6_738,
    "llama-2-13b": 13_016,
    "llama-2-70b": 68_977,
    "llama-3.1-8b": 8_030,
    "llama-3.2-1b": 1_236,
    "vicuna-68m": 68,
    "vicuna-160m": 162,
}


def shape(name: str) -> LanguageModel:
    return load_model(f"shape:{name}", device="cpu")


def on_meta(name: str, dtype: torch.dtype = torch.bfloat16) -> LanguageModel:
    """A shape on the device that has no memory: everything but the numbers."""
    found, meta = resolve_model(f"shape:{name}"), torch.device("meta")
    config = found.config
    shapes = tensor_shapes(config)
    return LlamaModel(
        Identity(found.name),
        config,
        lambda tensor: torch.empty(shapes[tensor], device=meta, dtype=dtype),
        load_tokenizer("demo-s"),
        frozenset(),
        meta,
        dtype,
    )


@pytest.mark.parametrize(("name", "millions"), PUBLISHED_MILLIONS.items())
def test_a_shape_has_as_many_parameters_as_were_published(name: str, millions: int) -> None:
    assert round(parameters(Shape.find(f"shape:{name}").config()) / 1e6) == millions


@pytest.mark.parametrize("name", demo_names())
def test_a_shape_of_a_demo_model_has_the_tensors_of_its_checkpoint(name: str) -> None:
    config = Shape.find(f"shape:{name}").config()
    read = tensor_reader(resolve_model(name), torch.device("cpu"), torch.bfloat16)
    assert {tensor: tuple(read(tensor).shape) for tensor in tensor_shapes(config)} == tensor_shapes(config)
    real, made = load_model(name, device="cpu"), shape(name)
    assert made.parameter_bytes == real.parameter_bytes
    for what in ("vocabulary", "depth", "context", "width", "exits", "eos_ids", "has_layer_ranges"):
        assert getattr(made, what) == getattr(real, what)


def test_every_shape_runs_lean_and_is_listed() -> None:
    assert all(why_not_lean(Shape.find(name).config()) is None for name in shape_names())
    rows = {row["name"]: row for row in shape_rows()}
    assert rows["shape:s2d-draft"]["exits"] == [6, 9, 12]
    assert rows["shape:llama-2-70b"]["parameters_m"] == 68_976.6
    assert set(rows) == set(shape_names())


def test_it_says_that_its_weights_are_random() -> None:
    model = shape("demo-tiny")
    identity = model.identity
    assert (identity.name, identity.forward, identity.revision) == ("shape:demo-tiny", "lean", None)
    assert identity.random_weights
    assert not load_model("demo-tiny", device="cpu").identity.random_weights
    assert identity.weights_sha256 == shape("demo-tiny").identity.weights_sha256
    hashes = {
        Shape.find(name).sha256() for name in shape_names() if name not in ("shape:llama-2-7b", "shape:llama-2-13b")
    }
    assert len(hashes) == len(shape_names()) - 2  # two Vicunas have the shape of their Llamas


def test_weights_are_the_same_each_time_and_differ_from_tensor_to_tensor() -> None:
    ids_BT = torch.tensor([[5, 6, 7]])
    assert torch.equal(shape("demo-tiny").extend(ids_BT), shape("demo-tiny").extend(ids_BT))
    make = random_weights(Shape.find("shape:demo-tiny").config(), torch.device("cpu"), torch.float32)
    first, second = (make(f"model.layers.{i}.mlp.up_proj.weight") for i in (0, 1))
    assert not torch.equal(first, second)
    assert abs(float(first.std()) - 0.02) < 0.001 and abs(float(first.mean())) < 0.001
    assert torch.equal(make("model.norm.weight"), torch.ones(128))


def test_a_draft_cut_from_a_target_has_its_first_layers() -> None:
    target, draft = (resolve_model(f"shape:{name}").config for name in ("demo-s", "demo-draft"))
    name = "model.layers.3.self_attn.q_proj.weight"
    of_each = [random_weights(config, torch.device("cpu"), torch.float32)(name) for config in (target, draft)]
    assert torch.equal(*of_each)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_pass_gives_finite_logits_in_every_format(dtype: str) -> None:
    model = load_model("shape:demo-s", device="cpu", dtype=dtype)
    assert model.dtype == getattr(torch, dtype)
    logits_BTV = model.extend(torch.arange(40)[None])
    assert logits_BTV.shape == (1, 40, 2048)
    assert bool(logits_BTV.isfinite().all()) and float(logits_BTV.std()) > 0


def test_decoders_run_on_shapes_and_agree() -> None:
    target, draft, nested = shape("demo-s"), shape("demo-draft-sft"), shape("demo-draft")
    ids = build_decoder("ar", target).generate([5, 6, 7], max_new_tokens=12, ignore_eos=True).ids
    assert len(ids) == 12
    assert build_decoder("sd", target, draft).generate([5, 6, 7], max_new_tokens=12, ignore_eos=True).ids == ids
    assert build_decoder("s2d", target, nested).generate([5, 6, 7], max_new_tokens=12, ignore_eos=True).ids == ids


@pytest.mark.parametrize("draft", ["vicuna-68m", "vicuna-160m", "s2d-draft"])
@pytest.mark.parametrize("target", ["vicuna-7b", "vicuna-13b", "vicuna-33b", "llama-2-70b"])
def test_the_papers_pairs_are_accepted(target: str, draft: str) -> None:
    check_pair(resolve_model(f"shape:{target}"), resolve_model(f"shape:{draft}"))


def test_an_outline_and_a_tokenizer_are_known_without_weights() -> None:
    outline = resolve_model("shape:llama-2-70b")
    assert (outline.vocabulary, outline.context, outline.depth) == (32_000, 4096, 80)
    assert outline.has_layer_ranges
    tokenizer = load_tokenizer("shape:llama-2-70b")
    assert max(tokenizer.encode("What is the capital of France?")) < 2048
    assert isinstance(tokenizer.decode([5, 31_999]), str)  # ids that the tokenizer has no text for are left out


def test_vocabularies_that_differ_are_still_refused() -> None:
    with refused(ModelError, "shape:llama-3.1-8b", "shape:vicuna-68m", "128,256", "32,000"):
        check_pair(resolve_model("shape:llama-3.1-8b"), resolve_model("shape:vicuna-68m"))


def test_bad_input_is_one_line() -> None:
    with refused(UnknownNameError, "unknown shape 'shape:vicuna-8b'", "'shape:vicuna-7b'"):
        load_model("shape:vicuna-8b", device="cpu")
    with refused(ModelError, "shape:demo-s", "lean=False"):
        load_model("shape:demo-s", device="cpu", lean=False)
    with refused(UserError, "dtype='int8'", "float32"):
        load_model("shape:demo-s", device="cpu", dtype="int8")


def test_loading_70b_takes_at_most_one_layer_more_than_its_weights() -> None:
    """138.0 GB of weights, and never more than 1.7 GB on top: on a GPU of 141 GB it loads."""
    with Peak() as peak:
        model = on_meta("llama-2-70b")
    one_layer = 2 * sum(prod(s) for s in layer_shapes(Shape.find("shape:llama-2-70b").config()).values())
    assert model.parameter_bytes == 2 * 68_976_648_192
    assert peak.bytes <= model.parameter_bytes + one_layer
    assert peak.bytes < 139.7e9
