"""Every decoder writes on the rehearsed device what it writes on the CPU: engines, temperatures, both forwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest
import torch

from specbench_s2d import build_decoder, load_model
from specbench_s2d.decoding.decoder import Decoder, PairDecoder
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.types import Options as BaseOptions
from specbench_s2d.decoding.types import Proposal, Verdict
from specbench_s2d.decoding.verifiers.token import TokenVerifier
from specbench_s2d.errors import ModelError, UserError
from specbench_s2d.models.base import LanguageModel
from specbench_s2d.models.transfer import to_device
from tests.models.heads.made import write_eagle3, write_head
from tests.refusals import refused
from tests.rehearsal.counts import Counts
from tests.slow import slow_but

PLAIN = ("sd", "sd:exit=2", "mjsd", "mjsd:candidates=4", "mjsd:draft_temperature=1")
SMALL = ("sd:draft_vocabulary=40", "mjsd:draft_vocabulary=40,candidates=4")
NESTED = ("s2d", "s2d-tree", "s2d-auto")
SMALL_NESTED = ("s2d:draft_vocabulary=40", "s2d-tree:draft_vocabulary=40", "sd:exit=2,draft_vocabulary=40")
NESTED_PAIRS = ("sorted+joint", "sorted-tree+joint")
HEADED = ("eagle:gamma=3", "eagle:depth=3,topk=3,tokens=8", "first(suffix|eagle:gamma=3)")
LEAN = [
    *((name, None) for name in ("ar", "mjgd", "mjgd:k=2,beams=3")),
    *((name, "tiny-draft") for name in (*PLAIN, *SMALL, "chain+joint", "beam+token:candidates=3")),
    *((name, "tiny-nested") for name in (*NESTED, *SMALL_NESTED, *NESTED_PAIRS)),
    *((name, "tiny-eagle") for name in HEADED),
]
EAGER = (
    "ar", "mjgd", "sd", "sd:exit=2", "mjsd:candidates=4", "mjsd:draft_temperature=1", "s2d", "s2d-tree", "chain+joint",
    "beam+token:candidates=3", "sd:draft_vocabulary=40", "s2d-tree:draft_vocabulary=40", *HEADED,
)  # fmt: skip
"""One of each kind of draft and verdict: an engine knows no options of a decoder, only its passes."""
QUICK = ("ar", "sd", "mjsd:candidates=4", "s2d-tree", "sd:draft_vocabulary=40", "chain+joint", *HEADED[:2])
CELLS = [(*cell, "cuda-graphs") for cell in LEAN] + [(*cell, "eager") for cell in LEAN if cell[0] in EAGER]
WHOLE = [cell for cell in LEAN if cell[0] in EAGER and "exit" not in cell[0] and cell[1] != "tiny-nested"]
PROMPT = list(range(20, 50))
TEMPERATURES = (0.0, 1.0)
Load = Callable[..., LanguageModel]


@pytest.fixture(scope="module", autouse=True)
def _tiny_head(tiny_models: Path) -> None:
    if not (tiny_models / "tiny-eagle").exists():
        write_head(tiny_models / "tiny-target", tiny_models / "tiny-eagle")


def written(decoder: Decoder, temperature: float) -> tuple[list[int], list[int]]:
    generation = decoder.generate(PROMPT, 12, temperature=temperature, top_k=50, seed=3, ignore_eos=True)
    return generation.ids, [step.accepted for step in generation.steps]


@cache
def on_the_cpu(
    load: Load, folder: Path, spec: str, draft: str | None, lean: bool = True
) -> list[tuple[list[int], list[int]]]:
    """What it writes there, by temperature."""
    decoder = built(load, folder, spec, draft, "cpu", "eager" if lean else None, lean)
    return [written(decoder, temperature) for temperature in TEMPERATURES]


def built(
    load: Load, folder: Path, spec: str, draft: str | None, device: str, engine: str | None = None, lean: bool = True
) -> Decoder:
    target, own = (
        load(str(folder / name), device, "float32", lean=lean, engine=engine) if name else None
        for name in ("tiny-target", draft)
    )
    assert target is not None
    return build_decoder(spec, target, own)


@pytest.mark.parametrize(
    ("spec", "draft", "engine"), slow_but(QUICK, CELLS), ids=[f"{spec}-{engine}" for spec, _, engine in CELLS]
)
def test_the_lean_forward_writes_what_it_does_on_the_cpu(
    load: Load, tiny_models: Path, spec: str, draft: str | None, engine: str
) -> None:
    there = built(load, tiny_models, spec, draft, "cuda", engine)
    ours = [written(there, temperature) for temperature in TEMPERATURES]
    here = on_the_cpu(load, tiny_models, spec, draft)
    if spec == "s2d-auto":  # it decides by clocks; its ids at temperature 0 do not depend on them
        assert ours[0][0] == here[0][0]
    else:
        assert ours == here
    models = [model for model in (there.target, there.draft) if model]
    assert all(model.engine == engine for model in models)
    assert all(model.engine_facts.get("unannounced", 0) == 0 for model in models)


@pytest.mark.parametrize(
    ("name", "engine"), slow_but(HEADED[1:2], [*((name, "cuda-graphs") for name in HEADED), (HEADED[1], "eager")])
)
def test_eagle_3_s_head_writes_what_it_does_on_the_cpu(load: Load, tiny_models: Path, name: str, engine: str) -> None:
    """Beside a target whose passes are cut where the head reads."""
    deep, head = tiny_models / "tiny-deep", tiny_models / "tiny-eagle3"
    if not head.exists():
        write_eagle3(deep, head)
    there, here = (
        build_decoder(name, *(load(str(folder), device, "float32", engine=own) for folder in (deep, head)))
        for device, own in (("cuda", engine), ("cpu", "eager"))
    )
    assert [written(there, t) for t in TEMPERATURES] == [written(here, t) for t in TEMPERATURES]
    models = [model for model in (there.target, there.draft) if model]
    assert [model.engine for model in models] == [engine, engine]
    assert all(model.engine_facts.get("unannounced", 0) == 0 for model in models)


@pytest.mark.parametrize(
    ("asked", "engine"),
    [(None, "cuda-graphs"), ("graphs", "cuda-graphs"), ("cuda-graphs", "cuda-graphs"), ("eager", "eager")],
)
def test_a_model_says_which_engine_it_has(
    shared_counts: Counts, tiny_models: Path, asked: str | None, engine: str
) -> None:
    model = load_model(str(tiny_models / "tiny-target"), "cuda", "float32", engine=asked)
    model.reserve(64)
    assert model.engine == model.engine_facts["engine"] == engine


def test_the_native_engine_is_refused_on_a_gpu(shared_counts: Counts, tiny_models: Path) -> None:
    said = "it runs on cpu, and the device is cuda; give engine='cuda-graphs' or eager, or device='cpu'."
    with refused(UserError, f"engine='native': {said}"):
        load_model(str(tiny_models / "tiny-target"), "cuda", "float32", engine="native")


@pytest.mark.parametrize(("spec", "draft"), slow_but(("ar", "sd"), WHOLE), ids=[name for name, _ in WHOLE])
def test_transformers_forward_writes_what_it_does_on_the_cpu(
    load: Load, tiny_models: Path, spec: str, draft: str | None
) -> None:
    there = built(load, tiny_models, spec, draft, "cuda", lean=False)
    here = on_the_cpu(load, tiny_models, spec, draft, lean=False)
    assert [written(there, temperature) for temperature in TEMPERATURES] == here


@pytest.mark.parametrize("dtype", slow_but(["bfloat16"], ["bfloat16", "float16"]))
def test_half_precision_models_run_with_float32_logits(shared_counts: Counts, tiny_models: Path, dtype: str) -> None:
    target, draft = (load_model(str(tiny_models / name), "cuda", dtype) for name in ("tiny-target", "tiny-nested"))
    assert target.extend(to_device([PROMPT], target.device)).dtype == torch.float32
    ids = {build_decoder(spec, target, draft).generate(PROMPT, 8, ignore_eos=True).ids[0] for spec in ("ar", "s2d")}
    assert len(ids) == 1
    for model in (target, draft):  # settled by now: graphs that rounding makes differ are not taken for wrong
        assert model.engine == "cuda-graphs" and "why_eager" not in model.engine_facts


class _EchoDrafter:
    """A plug-in: proposes what followed the last token when it stood before, and tells nothing of its passes."""

    draft_kind = "none"

    class Options(BaseOptions):
        """None."""

    def __init__(self, draft: None, options: BaseOptions) -> None:
        del draft, options

    def start(self, prompt_ids: Sequence[int], sampler: Sampler) -> None:
        self._device = sampler.device

    def propose(self, context: Sequence[int], room: int) -> Proposal:
        places = [i for i, token in enumerate(context[:-1]) if token == context[-1]]
        following = list(context[places[-1] + 1 :][: min(3, room)]) if places else []
        return Proposal(to_device(following, self._device))

    def commit(self, committed: int, verdict: Verdict) -> None:
        return None


class EchoDecoding(PairDecoder):
    """The plug-in with the token rule."""

    drafter_class = _EchoDrafter
    verifier_class = TokenVerifier


@pytest.mark.parametrize("engine", ["cuda-graphs", "eager"])
def test_a_plug_in_runs_too(shared_counts: Counts, tiny_models: Path, engine: str) -> None:
    there, here = (
        load_model(str(tiny_models / "tiny-target"), device, "float32", engine=own)
        for device, own in (("cuda", engine), ("cpu", "eager"))
    )
    build_decoder("ar", there).generate(PROMPT, 4)  # which announces what it asks for, on the same target
    ids = [EchoDecoding(model, None, EchoDecoding.Options(), "echo") for model in (there, here)]
    assert written(ids[0], 0.0) == written(ids[1], 0.0)
    assert there.engine_facts.get("unannounced", 0) == 0


def test_a_draft_on_another_device_is_refused(shared_counts: Counts, tiny_models: Path) -> None:
    target, draft = (
        load_model(str(tiny_models / name), device) for name, device in (("tiny-target", "cuda"), ("tiny-draft", "cpu"))
    )
    with refused(ModelError, "tiny-target is on cuda", "tiny-draft on cpu", "load both on one device"):
        build_decoder("sd", target, draft)
