"""Decoders declare all passes that they run: every graph is captured before a generation, and none in one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from specbench_s2d import build_decoder, load_model
from specbench_s2d.decoding.acceptance_trace import AcceptanceTrace
from specbench_s2d.decoding.decoder import Decoder, PairDecoder
from specbench_s2d.decoding.spec import parse_decoder
from specbench_s2d.measure.teacher_forcing import score
from specbench_s2d.models.base import LanguageModel
from specbench_s2d.models.heads.medusa import MedusaHead
from specbench_s2d.models.heads.shape import HEADS
from specbench_s2d.models.token_ranking import RANKING_FILE
from specbench_s2d.registry import drafters, verifiers
from tests.models.captured import RecordingCapture, RerunningCapture, few_buckets, graph_engine
from tests.models.heads.made import write_head
from tests.models.heads.medusa_made import write_medusa
from tests.slow import slow_but

TOKENS = 40
DECODERS = (
    "ar",
    "sd",
    "sd:gamma=heuristic",
    "sd:gamma=1",
    "sd:exit=2",
    "sd:sampling=greedy",
    "s2d",
    "s2d:thresholds=0+0+0",
    "s2d:thresholds=1+1+0",
    "s2d:gamma=heuristic",
    "s2d-tree",
    "s2d-tree:depth=1",
    "s2d-tree:depth=9,thresholds=1+0.1+0",
    "s2d-tree:thresholds=0.2+0.2+0,topk=3,depth=6,tokens=9",
    "s2d-auto",
    "mjgd",
    "mjgd:k=1",
    "mjgd:k=2,beams=3",
    "mjsd",
    "mjsd:gamma=1",
    "mjsd:exit=2",
    "mjsd:gamma=heuristic,beams=3",
    "mjsd:candidates=4",
    "mjsd:candidates=3,gamma=2,beams=3",
    "mjsd:draft_temperature=1",
    "mjsd:draft_temperature=1,candidates=2,exit=2",
    "suffix:gamma=auto",
    "recycling:tokens=20",
    "first(lookup|sd)",
    "eagle:gamma=3",
    "eagle:depth=3,topk=2,tokens=5",
    "eagle:gamma=2,draft_vocabulary=40",
    "medusa",
    "medusa:gamma=2,draft_vocabulary=40",
    "medusa+typical:tree=confidence,tokens=9,topk=3",
    "first(recycling|s2d-tree)",
    "first(lookup|eagle:gamma=3)",
    "first(suffix|eagle:depth=3,topk=2,tokens=5)",
    *(
        f"{drafter}+{verifier}"
        for drafter in sorted({*drafters.names()} - {"medusa"})
        for verifier in ("token", "joint")  # a verifier runs no pass, and asks at most for likelihoods
        if verifiers.load(verifier).needs_likelihoods <= drafters.load(drafter).has_likelihoods
    ),
    "sd:draft_vocabulary=40",
    "sd:exit=2,draft_vocabulary=40",
    "s2d:draft_vocabulary=40",
    "s2d-auto:draft_vocabulary=40",
    "s2d-tree:draft_vocabulary=9,topk=9",
    "mjsd:draft_vocabulary=40,candidates=4",
    "mjsd:draft_vocabulary=40,draft_temperature=1",
)

QUICK = (
    "ar", "sd", "sd:gamma=heuristic", "sd:exit=2", "s2d", "s2d-tree", "s2d-auto", "mjgd", "mjsd", "mjsd:candidates=4",
    "mjsd:draft_temperature=1", "suffix:gamma=auto", "recycling:tokens=20", "eagle:gamma=3",
    "eagle:depth=3,topk=2,tokens=5", "medusa", "first(lookup|eagle:gamma=3)", "sorted+joint", "s2d:draft_vocabulary=40",
)  # fmt: skip


class Captured:
    """A target and a draft on the CUDA graph engine, each with a capture of its own, and a decoder of them."""

    def __init__(
        self,
        folder: Path,
        decoder: str,
        draft: str = "tiny-nested",
        capture: type[RerunningCapture] | type[RecordingCapture] = RerunningCapture,
    ) -> None:
        self._captures: list[RerunningCapture | RecordingCapture] = []
        self._of = capture
        self.target = self._load(folder / "tiny-target")
        self.draft = self._draft(folder, draft, parse_decoder(decoder).kind.draft_kind)
        self.decoder: Decoder = build_decoder(decoder, target=self.target, draft=self.draft)
        self.decoder.make_ready(300)
        self._ready = self.recorded

    def _draft(self, folder: Path, draft: str, kind: str) -> LanguageModel | None:
        if kind not in HEADS:
            return None if kind == "none" else self._load(folder / draft)
        head = folder / f"tiny-{kind}"
        if not head.exists():
            (write_head if kind == "eagle" else write_medusa)(folder / "tiny-target", head)
            shutil.copy(folder / "tiny-draft" / RANKING_FILE, head)
        return load_model(str(head), "cpu", engine="eager")

    def _load(self, folder: Path) -> LanguageModel:
        self._captures.append(self._of())
        return load_model(str(folder), "cpu", engine=graph_engine(self._captures[-1], few_buckets))

    @property
    def models(self) -> list[LanguageModel]:
        """Those with an engine; Medusa's heads are products of one state."""
        return [m for m in (self.target, self.draft) if m is not None and not isinstance(m, MedusaHead)]

    @property
    def recorded(self) -> int:
        return sum(capture.recorded for capture in self._captures)

    @property
    def repeated(self) -> int:
        return sum(capture.repeated for capture in self._captures)

    def follow(self, trace: AcceptanceTrace) -> None:
        if isinstance(self.decoder, PairDecoder):
            self.decoder.follow(trace)

    def assert_all_was_declared(self) -> None:
        facts = [model.engine_facts for model in self.models]
        assert [engine["engine"] for engine in facts] == ["cuda-graphs"] * len(facts)
        assert [engine["unannounced"] for engine in facts] == [0] * len(facts)
        assert self.recorded == self._ready, "something was captured in a generation"
        assert sum(engine["captures"] for engine in facts) == sum(engine["graphs"] for engine in facts) == self._ready


def prompt(length: int, seed: int = 1) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(10, 250, (length,), generator=generator).tolist()


@pytest.mark.parametrize("name", slow_but(QUICK, DECODERS))
def test_declared_passes_are_all_that_a_decoder_runs(name: str, tiny_models: Path) -> None:
    """Each shape is captured once, before the first generation, and every narrow pass then finds its graph."""
    captured = Captured(tiny_models, name)
    captured.follow(AcceptanceTrace([3, 0, 9, 1], [0, 2, 1, 0, 0]))
    captured.assert_all_was_declared()
    before = captured.repeated
    for length, temperature in ((70, 0.0), (1, 1.0), (30, 1.0)):
        generation = captured.decoder.generate(
            prompt(length, seed=length), TOKENS, temperature=temperature, seed=length, ignore_eos=True
        )
        assert len(generation.ids) == TOKENS
        captured.assert_all_was_declared()
    assert captured.repeated > before + 3 * TOKENS // 10


SEARCHES_AND_TREES = [
    name for name in DECODERS if name.startswith(("mjgd", "mjsd", "s2d-tree")) or name in ("sd", "beam+token")
]


@pytest.mark.parametrize("name", slow_but(("sd", "mjgd", "mjsd", "s2d-tree"), SEARCHES_AND_TREES))
def test_fewer_beams_next_to_the_contexts_end_find_their_graphs(name: str, tiny_models: Path) -> None:
    captured = Captured(tiny_models, name)
    for model in captured.models:
        model.context = 150
    for temperature in (0.0, 1.0):
        generation = captured.decoder.generate(prompt(100), 50, temperature=temperature, ignore_eos=True)
        assert len(generation.ids) == 50
    captured.assert_all_was_declared()


@pytest.mark.parametrize("name", ["sd:gamma=heuristic", "mjsd:gamma=heuristic,beams=5,tau=0"])
def test_long_proposals_find_their_graphs_too(name: str, tiny_models: Path) -> None:
    """A draft that is the target is always right, so that every proposal is two tokens longer."""
    captured = Captured(tiny_models, name, draft="tiny-target")
    generation = captured.decoder.generate(prompt(30), 220, ignore_eos=True)
    assert max(len(step.drafted) for step in generation.steps) > 20
    captured.assert_all_was_declared()


@pytest.mark.parametrize("waiting", [9, 40, 63, 80])
def test_states_that_waited_long_go_deeper_in_a_graph(waiting: int, tiny_models: Path) -> None:
    """Every token leaves at the first exit, and then one goes to the last: beyond 64 states the pass is a wide one."""
    captured = Captured(tiny_models, "sorted-scripted+scripted:gamma=3", capture=RecordingCapture)
    captured.follow(AcceptanceTrace([3], [0] * (waiting - 1) + [2, 1]))
    eager = build_decoder(
        "sorted-scripted+scripted:gamma=3",
        target=load_model(str(tiny_models / "tiny-target"), "cpu", engine="eager"),
        draft=load_model(str(tiny_models / "tiny-nested"), "cpu", engine="eager"),
    )
    assert isinstance(eager, PairDecoder)
    eager.follow(AcceptanceTrace([3], [0] * (waiting - 1) + [2, 1]))
    ours, theirs = (one.generate(prompt(30), 150, ignore_eos=True) for one in (captured.decoder, eager))
    assert 3 in [depth for step in ours.steps for depth in step.exit_depths]
    assert [step.drafted for step in ours.steps] == [step.drafted for step in theirs.steps]
    captured.assert_all_was_declared()


@pytest.mark.parametrize("tokens", [1, 8, 9, 20, 64, 70])
def test_scoring_an_answer_captures_nothing_and_raises_no_alarm(tokens: int, tiny_models: Path) -> None:
    captured = Captured(tiny_models, "s2d")
    repeated = captured.repeated
    ours = score(captured.target, prompt(20), prompt(tokens, seed=2))
    captured.assert_all_was_declared()
    assert captured.repeated == repeated
    plain = score(load_model(str(tiny_models / "tiny-target"), "cpu", engine="eager"), prompt(20), prompt(tokens, 2))
    assert ours == plain


def test_what_was_not_declared_runs_eagerly_and_is_counted(tiny_models: Path) -> None:
    captured = Captured(tiny_models, "s2d")
    recorded = captured.recorded
    captured.target.reset()
    for count, undeclared in ((1, 0), (6, 0), (7, 1), (64, 2), (65, 2)):
        captured.target.extend(torch.tensor([prompt(count)]))
        assert captured.target.engine_facts["unannounced"] == undeclared, count
    assert captured.recorded == recorded
    captured.target.prepare(captured.decoder.target_passes(captured.decoder.options))
    assert captured.recorded == recorded, "what was declared before is captured"
