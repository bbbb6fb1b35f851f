"""Which engine a model gets: the one asked for, else the fastest that model and machine allow, and why."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from specbench_s2d import build_decoder, load_model
from specbench_s2d.bench.plan import make_plan
from specbench_s2d.config import RunSpec
from specbench_s2d.errors import ModelError, UserError
from specbench_s2d.models.engines.capture import Work
from specbench_s2d.models.engines.choose import ENGINES, MakeEngine, check_engine, choose_engine
from specbench_s2d.models.engines.cuda_graphs import CudaGraphEngine
from specbench_s2d.models.engines.eager import EagerEngine
from specbench_s2d.models.engines.native import NativeEngine
from specbench_s2d.models.engines.native_build import NoCompilerError
from tests.models.captured import RecordingCapture, graph_engine
from tests.models.reference import assert_close, family_model, random_ids, recomputed
from tests.models.test_llama import lean_twin
from tests.refusals import refused

CPU, GPU = torch.device("cpu"), torch.device("cuda:1")


def config(**changes: Any) -> Any:
    found = family_model("llama").config
    for name, value in changes.items():
        setattr(found, name, value)
    return found


@pytest.mark.parametrize(
    ("asked", "device", "engine"),
    [
        (None, CPU, NativeEngine),
        ("graphs", CPU, NativeEngine),
        ("native", CPU, NativeEngine),
        ("eager", CPU, EagerEngine),
        (None, GPU, CudaGraphEngine),
        ("graphs", GPU, CudaGraphEngine),
        ("cuda-graphs", GPU, CudaGraphEngine),
        ("eager", GPU, EagerEngine),
    ],
)
def test_every_name_on_every_device_that_has_it(asked: str | None, device: torch.device, engine: type) -> None:
    check_engine(asked, device, torch.float32)
    assert class_of(choose_engine(asked, "m", config(), device, torch.float32)) is engine


def class_of(make: MakeEngine) -> Any:
    """The engine's class, whose arguments may be bound already."""
    return getattr(make, "func", make)


@pytest.mark.parametrize(
    ("asked", "device", "dtype", "said"),
    [
        ("native", GPU, torch.float32, "it runs on cpu, and the device is cuda:1; give --engine cuda-graphs or eager"),
        ("cuda-graphs", CPU, torch.float32, "it runs on cuda, and the device is cpu; give --engine native or eager"),
        (
            "native",
            CPU,
            torch.bfloat16,
            "in float32, and the dtype is bfloat16; give --dtype float32, or --engine eager",
        ),
        ("graphs", CPU, torch.float16, "the dtype is float16; give --dtype float32, or --engine eager"),
        ("fast", CPU, torch.float32, f"give one of {', '.join(ENGINES)}"),
    ],
)
def test_a_name_that_the_device_or_the_dtype_does_not_have_is_refused(
    asked: str, device: torch.device, dtype: torch.dtype, said: str
) -> None:
    with refused(UserError, f"--engine {asked}: ", said):
        check_engine(asked, device, dtype)


def test_eager_says_why_where_the_native_kernel_cannot_run() -> None:
    model = load_model("demo-tiny", device="cpu", dtype="bfloat16")
    assert model.engine == "eager" and "computes in float32" in model.engine_facts["why_eager"]
    for asked in ("graphs", "native"):
        with refused(ModelError, f"m --engine {asked}", "multiples of 16", "--engine eager"):
            choose_engine(asked, "m", config(hidden_size=40), CPU, torch.float32)


def test_without_a_compiler_a_cpu_is_eager() -> None:
    def missing() -> None:
        raise NoCompilerError("no C compiler (cc): the native kernel cannot be built; install one")

    model = lean_twin(family_model("llama"), choose_engine(None, "m", config(), CPU, torch.float32, missing))
    assert model.engine == "eager"
    assert model.engine_facts["why_eager"] == "no C compiler (cc): the native kernel cannot be built"
    with refused(ModelError, "--engine native", "no C compiler", "--engine eager"):
        choose_engine("native", "m", config(), CPU, torch.float32, missing)


class _Broken:
    """A driver that captures nothing."""

    def capture(self, work: Work) -> Work:
        raise RuntimeError("CUDA error: operation not permitted\nand more")


class _Forgetful:
    """Graphs that do nothing when they are repeated."""

    def capture(self, work: Work) -> Work:
        return lambda: None


@pytest.mark.parametrize(
    ("capture", "engine", "why"),
    [
        (RecordingCapture(), "cuda-graphs", None),
        (_Broken(), "eager", "graphs failed here (RuntimeError: CUDA error: operation not permitted)"),
        (_Forgetful(), "eager", "graphs differ from eager by"),
    ],
    ids=["that work", "that cannot be captured", "that come out otherwise"],
)
def test_on_a_gpu_graphs_are_tried_before_they_are_trusted(capture: Any, engine: str, why: str | None) -> None:
    """Where nobody asked for them by name."""
    model = lean_twin(family_model("llama"), graph_engine(capture))
    model.reserve(8)
    assert model.engine == engine
    assert (model.engine_facts.get("why_eager") or "").startswith(why or "")
    assert (model.engine_facts["graphs"] > 0) is (engine == "cuda-graphs"), "graphs that are not trusted take no memory"
    ids_BT = random_ids(9)
    assert_close(model.extend(ids_BT), recomputed(family_model("llama"), ids_BT))


@pytest.mark.parametrize(
    ("asked", "engine"), [(None, "native"), ("graphs", "native"), ("native", "native"), ("eager",) * 2]
)
def test_a_model_says_which_engine_it_has(asked: str | None, engine: str) -> None:
    model = load_model("demo-tiny", device="cpu", engine=asked)
    assert model.engine == model.engine_facts["engine"] == engine


def test_engines_that_a_device_does_not_have_are_refused_before_anything_is_loaded() -> None:
    for asked, said in (("fast", "eager, graphs, native, cuda-graphs"), ("cuda-graphs", "engine='native' or eager")):
        with refused(UserError, f"engine={asked!r}", said):
            load_model("./no/such/folder", device="cpu", engine=asked)


def test_a_run_is_refused_when_it_is_planned() -> None:
    with refused(UserError, "--engine cuda-graphs: it runs on cuda, and the device is cpu"):
        make_plan(RunSpec(target=["demo-tiny"], decoder=["ar"], device="cpu", engine="cuda-graphs"))


def test_transformers_forward_is_always_eager() -> None:
    for asked in ("graphs", "native"):
        with refused(ModelError, f"demo-tiny engine={asked!r}: ", "transformers"):
            load_model("demo-tiny", device="cpu", lean=False, engine=asked)


@pytest.mark.parametrize("decoder", ["ar", "sd", "s2d", "s2d-tree", "mjgd", "mjsd:candidates=4", "beam+token"])
def test_both_engines_decode_the_same_ids(decoder: str) -> None:
    """On the demo models, whose best logits are further apart than rounding."""
    ids = {}
    for engine in ("eager", "native"):
        target, draft, nested = (
            load_model(name, device="cpu", dtype="float32", engine=engine)
            for name in ("demo-s", "demo-draft-sft", "demo-draft")
        )
        serving = nested if decoder.startswith("s2d") else draft
        built = build_decoder(decoder, target, None if decoder in ("ar", "mjgd") else serving)
        prompt = target.tokenizer.encode("Tell me about the old bridge over the river, and who built it.")
        generation = built.generate(prompt, max_new_tokens=32, ignore_eos=True)
        ids[engine] = (generation.ids, [step.accepted for step in generation.steps])
    assert ids["eager"] == ids["native"]
