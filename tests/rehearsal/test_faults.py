"""Faults that would stop a GPU, put back one by one: the rehearsal finds each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from specbench_s2d import load_model
from specbench_s2d.decoding.decoder import PairDecoder
from specbench_s2d.decoding.drafters.beam import BeamDrafter
from specbench_s2d.decoding.drafters.chain import ChainDrafter
from specbench_s2d.decoding.drafters.none import NoDrafter
from specbench_s2d.decoding.faults import PartError
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.types import Options, Proposal
from specbench_s2d.decoding.verifiers.token import TokenVerifier
from specbench_s2d.models.base import LanguageModel, PassKind
from specbench_s2d.models.engines.choose import MakeEngine
from specbench_s2d.models.engines.cuda_graphs import CudaGraphEngine
from specbench_s2d.models.engines.layer import PLAIN, AttentionInputs, PassFunctions
from specbench_s2d.models.transfer import to_device
from tests.rehearsal.counts import Counts
from tests.rehearsal.rules import RefusedError

PROMPT = list(range(20, 40))


def graphs_of(functions: PassFunctions) -> MakeEngine:
    """The CUDA graph engine with these functions in place of the plain ones."""
    return partial(CudaGraphEngine, plain=functions)


class StaysOnTheCpu(NoDrafter):
    """As AR's once did: its proposal is empty, so that no value tells."""

    def start(self, prompt_ids: Sequence[int], sampler: Sampler) -> None:
        self._nothing = Proposal(torch.empty(0, dtype=torch.long))


class ReadsTogether(TokenVerifier):
    """Reads the proposal together with what is on the device."""

    def judge(self, proposal: Proposal, logits_TV: Tensor, sampler: Sampler) -> None:  # type: ignore[override]
        torch.cat((proposal.ids_G, logits_TV.argmax(-1))).tolist()


class StayingDecoder(PairDecoder):
    drafter_class, verifier_class = StaysOnTheCpu, ReadsTogether


def test_a_proposal_that_stays_on_the_cpu(counts: Counts, tiny_models: Path) -> None:
    target = load_model(str(tiny_models / "tiny-target"), "cuda", "float32")
    decoder = StayingDecoder(target, None, StayingDecoder.Options())
    with pytest.raises(PartError, match="cpu and cuda:0") as error:
        decoder.generate(PROMPT, 4)
    assert isinstance(error.value.__cause__, RefusedError)


def test_a_host_read_inside_a_capture(counts: Counts, tiny_models: Path) -> None:
    """The engine falls back to eager, and the reason is what CUDA would say."""

    def reads(rows_T: Tensor, start_1: Tensor, *others: object) -> AttentionInputs:
        assert int(start_1) >= 0
        return PLAIN.attention_inputs(rows_T, start_1, *others)  # type: ignore[arg-type]

    engine = graphs_of(PLAIN._replace(attention_inputs=reads))
    model = load_model(str(tiny_models / "tiny-target"), "cuda", "float32", engine=engine)
    model.reserve(64)
    assert model.engine == "eager"
    assert "not permitted when stream is capturing" in model.engine_facts["why_eager"]


def test_a_value_of_the_capture_that_is_baked_in(counts: Counts, tiny_models: Path) -> None:
    """Where the pass starts, copied before the capture: every replay starts there, and the trial finds it."""
    copies: dict[int, Tensor] = {}

    def stands_still(rows_T: Tensor, start_1: Tensor, *others: object) -> AttentionInputs:
        copied_1 = copies.setdefault(len(rows_T), start_1.clone())
        return PLAIN.attention_inputs(rows_T, copied_1, *others)  # type: ignore[arg-type]

    engine = graphs_of(PLAIN._replace(attention_inputs=stands_still))
    model = load_model(str(tiny_models / "tiny-target"), "cuda", "float32", engine=engine)
    model.reserve(64)
    assert model.engine == "eager" and "differ from eager" in model.engine_facts["why_eager"]


class CpuMask(BeamDrafter):
    """A mask of the CPU beside logits of the device."""

    def propose(self, context: Sequence[int], room: int) -> Proposal:
        proposal = super().propose(context, room)
        assert proposal.tree is not None
        return replace(proposal, tree=replace(proposal.tree, mask_MM=proposal.tree.mask_MM.cpu()))


class MaskedDecoder(PairDecoder):
    drafter_class, verifier_class = CpuMask, TokenVerifier


def models(folder: Path, engine: str | None = None) -> list[LanguageModel]:
    return [load_model(str(folder / name), "cuda", "float32", engine=engine) for name in ("tiny-target", "tiny-draft")]


@pytest.mark.parametrize("engine", ["cuda-graphs", "eager"])
def test_a_mask_of_the_cpu_beside_logits_of_the_device(counts: Counts, tiny_models: Path, engine: str) -> None:
    options = MaskedDecoder.Options(candidates=3)  # type: ignore[call-arg]
    decoder = MaskedDecoder(*models(tiny_models, engine), options)
    counts.clear()
    try:
        generation = decoder.generate(PROMPT, 8, ignore_eos=True)
    except RefusedError:
        return
    sent = counts.wait_names["copy_to_device"]
    assert engine == "cuda-graphs" and sent >= len(generation.steps), "a mask was copied over unseen"


class DeclaresTooLittle(ChainDrafter):
    """Declares target passes of two rows, and needs six."""

    @staticmethod
    def target_passes(options: Options) -> list[PassKind]:
        return [PassKind(2)]


class UndeclaredDecoder(PairDecoder):
    drafter_class, verifier_class = DeclaresTooLittle, TokenVerifier


def test_a_pass_that_was_not_declared_runs_eagerly_and_is_counted(counts: Counts, tiny_models: Path) -> None:
    target, draft = models(tiny_models)
    UndeclaredDecoder(target, draft, UndeclaredDecoder.Options()).generate(PROMPT, 8, ignore_eos=True)
    assert target.engine_facts["unannounced"] > 0


def test_a_graph_captured_while_it_is_timed(counts: Counts, tiny_models: Path) -> None:
    """By whoever declares nothing."""
    model = load_model(str(tiny_models / "tiny-target"), "cuda", "float32")
    model.reserve(40)
    before, captured = counts.captures, model.engine_facts["captures"]
    model.extend(to_device([PROMPT], model.device))
    model.extend(to_device([PROMPT[:3]], model.device))
    assert counts.captures > before and model.engine_facts["captures"] > captured
