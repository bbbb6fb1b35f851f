"""Faults that would stop a GPU, put back one by one: the rehearsal finds each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from specbench_s2d import build_decoder, load_model
from specbench_s2d.decoding.drafters import none
from specbench_s2d.decoding.drafters.chain import ChainDrafter
from specbench_s2d.decoding.drafters.none import NoDrafter
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.tree import Tree
from specbench_s2d.decoding.types import Proposal
from specbench_s2d.decoding.verifiers.token import TokenVerifier
from specbench_s2d.models.base import PassKind
from specbench_s2d.models.engines import layer
from specbench_s2d.models.engines import static_pass as static
from specbench_s2d.models.transfer import to_device
from tests.rehearsal.counts import Counts
from tests.rehearsal.rules import RefusedError

PROMPT = list(range(20, 40))
CPU = torch.device("cpu")


def test_a_proposal_that_stays_on_the_cpu(counts: Counts, tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As AR's was: empty, so that no value tells. The verdict read it together with the device's."""

    def start(self: NoDrafter, prompt_ids: Sequence[int], sampler: Sampler) -> None:
        self._nothing = Proposal(torch.empty(0, dtype=torch.long))

    def judge(self: TokenVerifier, proposal: Proposal, logits_TV: Tensor, sampler: Sampler) -> None:
        torch.cat((proposal.ids_G, logits_TV.argmax(-1))).tolist()

    monkeypatch.setattr(none.NoDrafter, "start", start)
    monkeypatch.setattr(TokenVerifier, "judge", judge)
    decoder = build_decoder("ar", load_model(str(tiny_models / "tiny-target"), "cuda", "float32"))
    with pytest.raises(RefusedError, match="cpu and cuda:0"):
        decoder.generate(PROMPT, 4)


def test_a_host_read_inside_a_capture(counts: Counts, tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine falls back to eager, and the reason is what CUDA would say."""
    place = layer.attention_inputs

    def reads(rows_T: Tensor, start_1: Tensor, *rest: object) -> layer.AttentionInputs:
        assert int(start_1) >= 0
        return place(rows_T, start_1, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(static, "PLAIN", layer.PLAIN._replace(attention_inputs=reads))
    monkeypatch.setattr("specbench_s2d.models.engines.cuda_graphs.PLAIN", layer.PLAIN._replace(attention_inputs=reads))
    model = load_model(str(tiny_models / "tiny-target"), "cuda", "float32")
    model.reserve(64)
    assert model.engine == "eager"
    assert "not permitted when stream is capturing" in model.engine_facts["why_eager"]


def test_a_value_of_the_capture_that_is_baked_in(
    counts: Counts, tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the pass stands, taken on the host: the replay stands where the capture did. The trial finds it."""
    compute = static.StaticPass.compute

    def stands_still(self: static.StaticPass, shape: object) -> None:
        self._start_1 = self._start_1.clone()  # a copy made while capturing
        compute(self, shape)  # type: ignore[arg-type]

    monkeypatch.setattr(static.StaticPass, "compute", stands_still)
    model = load_model(str(tiny_models / "tiny-target"), "cuda", "float32")
    model.reserve(64)
    assert model.engine == "eager"


def test_a_mask_of_the_cpu_beside_logits_of_the_device(
    counts: Counts, tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = Tree.of.__func__  # type: ignore[attr-defined]

    def with_cpu_mask(cls: type[Tree], parents: Sequence[int], device: torch.device) -> Tree:
        return Tree(to_device(list(parents), device), of(cls, parents, CPU).mask_MM)

    monkeypatch.setattr(Tree, "of", classmethod(with_cpu_mask))
    for engine in ("graphs", "eager"):
        models = [
            load_model(str(tiny_models / name), "cuda", "float32", engine=engine)
            for name in ("tiny-target", "tiny-draft")
        ]
        decoder = build_decoder("mjsd:candidates=3", *models)
        counts.clear()
        try:
            generation = decoder.generate(PROMPT, 8, ignore_eos=True)
        except RefusedError:
            continue
        sent = counts.wait_names["copy_to_device"]
        assert engine == "graphs" and sent >= len(generation.steps), "a mask was copied over unseen"


def test_a_graph_captured_while_it_is_timed(counts: Counts, tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drafter that announces too little: the pass runs eagerly, is counted, and a run names it."""
    monkeypatch.setattr(ChainDrafter, "target_passes", staticmethod(lambda options: [PassKind(2)]))
    models = [load_model(str(tiny_models / name), "cuda", "float32") for name in ("tiny-target", "tiny-draft")]
    build_decoder("sd", *models).generate(PROMPT, 8, ignore_eos=True)
    assert models[0].engine_facts["unannounced"] > 0
    model = load_model(str(tiny_models / "tiny-target"), "cuda", "float32")
    model.reserve(40)
    before, captured = counts.captures, model.engine_facts["captures"]
    model.extend(to_device([PROMPT], model.device))
    model.extend(to_device([PROMPT[:3]], model.device))
    assert counts.captures > before and model.engine_facts["captures"] > captured
