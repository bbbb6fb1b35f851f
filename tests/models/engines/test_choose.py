"""Which engine a model gets: the one asked for, else the fastest that model and machine allow, and why."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from specbench_s2d import build_decoder, load_model
from specbench_s2d.errors import ModelError, UserError
from specbench_s2d.models.engines import choose
from specbench_s2d.models.engines.capture import Work
from specbench_s2d.models.engines.choose import EngineChoice, check_engine, choose_engine
from specbench_s2d.models.engines.cuda_graphs import CudaGraphEngine
from specbench_s2d.models.engines.native_build import NoCompilerError
from tests.models.captured import RecordingCapture
from tests.models.reference import assert_close, family_model, random_ids, recomputed
from tests.models.test_llama import lean_twin
from tests.refusals import refused

CPU = torch.device("cpu")


def config(**changes: Any) -> Any:
    found = family_model("llama").config
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def test_graphs_where_it_can_be_and_eager_when_asked() -> None:
    assert choose_engine(None, "m", config(), CPU, torch.float32).name == "graphs"
    assert choose_engine("graphs", "m", config(), CPU, torch.float32).name == "graphs"
    assert choose_engine("eager", "m", config(), CPU, torch.float32).name == "eager"


def test_eager_says_why_where_graphs_cannot_be() -> None:
    found = choose_engine(None, "m", config(), CPU, torch.bfloat16)
    assert (found.name, "float32" in (found.why_eager or "")) == ("eager", True)
    with refused(ModelError, "m --engine graphs", "multiples of 16", "--engine eager"):
        choose_engine("graphs", "m", config(hidden_size=40), CPU, torch.float32)


def test_without_a_compiler_a_cpu_is_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise NoCompilerError("no C compiler (cc): the native kernel cannot be built; install one")

    monkeypatch.setattr(choose, "native_library", missing)
    found = choose_engine(None, "m", config(), CPU, torch.float32)
    assert found.why_eager == "no C compiler (cc): the native kernel cannot be built"
    with refused(ModelError, "no C compiler", "--engine eager"):
        choose_engine("graphs", "m", config(), CPU, torch.float32)


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
        (RecordingCapture(), "graphs", None),
        (_Broken(), "eager", "graphs failed here (RuntimeError: CUDA error: operation not permitted)"),
        (_Forgetful(), "eager", "graphs differ from eager by"),
    ],
    ids=["that work", "that cannot be captured", "that come out otherwise"],
)
def test_on_a_gpu_graphs_are_tried_before_they_are_trusted(capture: Any, engine: str, why: str | None) -> None:
    """Where nobody asked for them by name."""
    made = EngineChoice("graphs", lambda weights: CudaGraphEngine(weights, capture))
    model = lean_twin(family_model("llama"), made)
    model.reserve(8)
    assert model.engine == engine
    assert (model.engine_facts.get("why_eager") or "").startswith(why or "")
    assert (model.engine_facts["graphs"] > 0) is (engine == "graphs"), "graphs that are not trusted take no memory"
    ids_BT = random_ids(9)
    assert_close(model.extend(ids_BT), recomputed(family_model("llama"), ids_BT))


def test_an_unknown_engine_is_refused() -> None:
    with refused(UserError, "--engine fast", "eager, graphs"):
        check_engine("fast")
    with refused(UserError, "--engine fast", "eager, graphs"):
        load_model("demo-tiny", engine="fast")


def test_transformers_forward_has_no_graphs() -> None:
    with refused(ModelError, "demo-tiny --engine graphs", "transformers"):
        load_model("demo-tiny", device="cpu", lean=False, engine="graphs")


@pytest.mark.parametrize("decoder", ["ar", "sd", "s2d", "s2d-tree", "mjgd", "mjsd:candidates=4", "beam+token"])
def test_both_engines_decode_the_same_ids(decoder: str) -> None:
    """On the demo models, whose best logits are further apart than rounding."""
    ids = {}
    for engine in ("eager", "graphs"):
        target, draft, nested = (
            load_model(name, device="cpu", dtype="float32", engine=engine)
            for name in ("demo-s", "demo-draft-sft", "demo-draft")
        )
        serving = nested if decoder.startswith("s2d") else draft
        built = build_decoder(decoder, target, None if decoder in ("ar", "mjgd") else serving)
        prompt = target.tokenizer.encode("Tell me about the old bridge over the river, and who built it.")
        generation = built.generate(prompt, max_new_tokens=32, ignore_eos=True)
        ids[engine] = (generation.ids, [step.accepted for step in generation.steps])
    assert ids["eager"] == ids["graphs"]
