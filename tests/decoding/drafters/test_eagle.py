"""EAGLE against its formulas: states, chains and trees recomputed from scratch, ids against AR's."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import chi2

from specbench_s2d import build_decoder, load_model
from specbench_s2d.decoding.sampling import probabilities
from specbench_s2d.decoding.spec import parse_decoder
from specbench_s2d.decoding.types import Proposal, chain_of
from specbench_s2d.errors import ModelError, UserError
from specbench_s2d.models.base import FINAL, LanguageModel, PassKind
from specbench_s2d.models.chat import ChatTemplate
from specbench_s2d.models.heads.eight_bits import unscaled
from specbench_s2d.models.token_ranking import write_ranking
from specbench_s2d.models.weight_files import SAFE as FILE
from specbench_s2d.resources import demo_folder, drafts_folder
from specbench_s2d.suites import load_questions
from specbench_s2d.training.eagle import EagleModule
from specbench_s2d.training.init_model import load_source
from tests.models.captured import RerunningCapture, few_buckets, graph_engine
from tests.models.heads.made import Eagle3FromScratch, FromScratch, made_head, write_eagle3, write_head
from tests.refusals import refused
from tests.tiny import write_padded

PROMPT = [5, 9, 3, 17, 40, 2, 8]
Path_ = tuple[int, ...]


@dataclass
class Made:
    """A random head: recomputed from scratch, its folder, and its target's."""

    reference: FromScratch
    folder: Path
    of: Path

    def loaded(self) -> tuple[LanguageModel, LanguageModel]:
        """Target and head."""
        return load_model(str(self.of)), load_model(str(self.folder))


@pytest.fixture(scope="module")
def heads(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Made]:
    """A head of each version."""
    folder, found = tmp_path_factory.mktemp("heads"), {}
    for version in (1, 3):
        reference, of = made_head(version, tiny_models, folder / f"tiny-eagle-{version}")
        found[version] = Made(reference, folder / f"tiny-eagle-{version}", of)
    return found


@pytest.fixture(params=[1, 3], ids=["eagle-1", "eagle-3"])
def made(request: pytest.FixtureRequest, heads: dict[int, Made]) -> Made:
    """The head of a version; a test that takes it runs for both."""
    return heads[request.param]


def proposals(decoder: Any, new_tokens: int = 24, prompt: list[int] = PROMPT) -> list[tuple[list[int], Proposal]]:
    """The contexts and proposals of a generation."""
    found, propose = [], decoder.drafter.propose

    def watched(context: list[int], room: int) -> Proposal:
        proposal: Proposal = propose(context, room)
        found.append((list(context), proposal))
        return proposal

    decoder.drafter.propose = watched
    decoder.generate(prompt, max_new_tokens=new_tokens, ignore_eos=True)
    return found


def paths(proposal: Proposal) -> list[Path_]:
    assert proposal.tree is not None
    found: list[Path_] = []
    for token, parent in zip(proposal.ids_G.tolist(), proposal.tree.parents_N.tolist(), strict=True):
        found.append((*(found[parent] if parent >= 0 else ()), token))
    return found


def test_a_chain_is_the_argmax_of_states_recomputed_from_scratch(made: Made) -> None:
    assert_a_chain_is_the_argmax(made.reference, load_model(str(made.of), engine="eager"), made.folder, "eager")


@pytest.mark.parametrize("version", [1, 3])
def test_a_chain_of_the_native_kernel_is_the_argmax_too(version: int, tmp_path: Path) -> None:
    of, out = demo_folder() / "demo-s", tmp_path / "head"
    made = FromScratch(write_head(of, out)) if version == 1 else Eagle3FromScratch(write_eagle3(of, out), out)
    assert_a_chain_is_the_argmax(made, load_model(str(of), engine="native"), out, "native")


def assert_a_chain_is_the_argmax(reference: FromScratch, target: LanguageModel, folder: Path, engine: str) -> None:
    head = load_model(str(folder), engine=engine)
    steps = proposals(build_decoder("eagle:gamma=3", target, head))
    assert head.engine == target.engine == engine
    assert len(steps) > 5
    for context, proposal in steps:
        for place, token in enumerate(proposal.ids_G.tolist()):
            logprobs = reference.logprobs_after(context, proposal.ids_G.tolist()[:place])
            assert token == int(logprobs.argmax())
            assert proposal.token_logprobs()[place].item() == pytest.approx(logprobs[token].item(), abs=1e-4)


def grown_by_hand(reference: FromScratch, context: list[int], depth: int, topk: int, tokens: int) -> dict[Path_, float]:
    """EAGLE-2's tree by its definition: kept paths with their cumulative log-probabilities."""
    frontier: dict[Path_, float] = {(): 0.0}
    seen: dict[Path_, float] = {}
    for _ in range(depth):
        born: dict[Path_, float] = {}
        for path, joint in frontier.items():
            best = reference.logprobs_after(context, list(path)).topk(topk)
            born |= {(*path, t): joint + p for p, t in zip(best.values.tolist(), best.indices.tolist(), strict=True)}
        seen |= born
        frontier = dict(sorted(born.items(), key=lambda item: -item[1])[:topk])
    return dict(sorted(seen.items(), key=lambda item: -item[1])[:tokens])


def test_a_tree_holds_the_likeliest_nodes_of_states_recomputed_from_scratch(made: Made) -> None:
    for context, proposal in proposals(build_decoder("eagle:depth=3,topk=3,tokens=8", *made.loaded()), 10):
        expected = grown_by_hand(made.reference, context, 3, 3, 8)
        assert set(paths(proposal)) == set(expected)
        for path, logprob in zip(paths(proposal), proposal.token_logprobs().tolist(), strict=True):
            parent = expected[path[:-1]] if len(path) > 1 else 0.0
            assert logprob == pytest.approx(expected[path] - parent, abs=1e-4)


@pytest.mark.parametrize("options", ["gamma=1", "gamma=4", "depth=4,topk=4,tokens=12", "gamma=3,draft_vocabulary=50"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("version", [1, 3])
def test_greedy_ids_equal_ar_s(options: str, seed: int, version: int, tiny_models: Path, tmp_path: Path) -> None:
    if version == 3 and "draft_vocabulary" in options:
        pytest.skip("it has a vocabulary of its own")
    _, of = made_head(version, tiny_models, tmp_path / "head", seed)
    target, head = load_model(str(of)), load_model(str(tmp_path / "head"))
    head.ranking = load_model(str(tiny_models / "tiny-draft")).ranking
    decoder = build_decoder(f"eagle:{options}", target, head)
    expected = build_decoder("ar", target).generate(PROMPT, max_new_tokens=40, ignore_eos=True).ids
    assert decoder.generate(PROMPT, max_new_tokens=40, ignore_eos=True).ids == expected


class Told:
    """A drafter that proposes of what AR writes: nothing, three right tokens, or two right ones and a wrong one."""

    def __init__(self, expected: list[int], prompt: int) -> None:
        self._ids, self._prompt, self._turn = expected, prompt, 0

    def start(self, prompt_ids: list[int], sampler: Any) -> None:
        pass

    def propose(self, context: list[int], room: int) -> Proposal:
        done = len(context) - self._prompt
        right, wrong = ((0, 0), (3, 0), (2, 1), (0, 1))[self._turn % 4]
        self._turn += 1
        return chain_of([*self._ids[done : done + right], *[0] * wrong], torch.device("cpu"))

    def commit(self, committed: int, verdict: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("name", "engine"),
    [("gamma=3", "eager"), ("gamma=3", "native"), ("depth=3,topk=3,tokens=8", "eager")],
)
def test_after_others_steps_it_drafts_as_a_head_that_ran_the_whole_prefix(
    name: str, engine: str, tiny_models: Path, tmp_path: Path
) -> None:
    of = tiny_models / "tiny-target" if engine == "eager" else demo_folder() / "demo-s"
    reference = FromScratch(write_head(of, tmp_path / "head"))
    target, head = load_model(str(of), engine=engine), load_model(str(tmp_path / "head"), engine=engine)
    decoder: Any = build_decoder(f"first(lookup|eagle:{name})", target, head)
    expected = build_decoder("ar", target).generate(PROMPT, max_new_tokens=30, ignore_eos=True).ids
    asked, eagle = list[tuple[list[int], Proposal]](), decoder.drafter._drafters[1]
    decoder.drafter._drafters[0] = Told(expected, len(PROMPT))
    propose = eagle.propose
    eagle.propose = lambda context, room: asked.append((list(context), propose(context, room))) or asked[-1][1]
    generation = decoder.generate(PROMPT, max_new_tokens=30, ignore_eos=True)
    assert generation.ids == expected
    assert {step.accepted for step in generation.steps} >= {2, 3} and len(asked) > 3
    assert {len(later) - len(context) for (context, _), (later, _) in pairwise(asked)} & {8, 9}  # of four steps' pairs
    for context, proposal in asked:
        ids = proposal.ids_G.tolist()
        if proposal.tree is not None:
            assert set(paths(proposal)) == set(grown_by_hand(reference, context, 3, 3, 8))
            continue
        for place, token in enumerate(ids):
            assert token == int(reference.logprobs_after(context, ids[:place]).argmax())


@pytest.mark.parametrize("name", ["first(suffix|eagle:gamma=3)", "first(lookup|eagle:depth=3,topk=3,tokens=8)"])
def test_within_first_greedy_ids_equal_ar_s_and_every_pass_is_read(name: str, made: Made) -> None:
    target, head = made.loaded()
    decoder = build_decoder(name, target, head)
    prompt = [*PROMPT, 11, 12, 13] * 3
    expected = build_decoder("ar", target).generate(prompt, max_new_tokens=40, ignore_eos=True).ids
    for _ in range(2):
        assert decoder.generate(prompt, max_new_tokens=40, ignore_eos=True).ids == expected
    assert {kind.states for kind in decoder.target_passes(decoder.options)} == {(FINAL,)}


def test_training_s_parallel_drafts_are_those_of_decoding(made: Made) -> None:
    """Step s of the training-time test at pair t: s tokens drafted on the head's own states from base t - s."""
    reference = made.reference
    head, ids = reference.head, [*PROMPT, 11, 12, 13]
    ids_BT = torch.tensor([ids])
    with torch.no_grad():
        states = head.read(ids_BT)[0][:, :-1]
        embedded, before = head.target.get_input_embeddings()(ids_BT[:, 1:]), []
        for step in range(3):
            predicted = head(embedded, states, before)
            for pair in range(step, len(ids) - 1):
                base = pair - step
                expected = reference.state_after(ids[: base + 2], ids[base + 2 : pair + 2])
                assert torch.allclose(predicted[0, pair], expected, atol=1e-4)
            states = torch.nn.functional.pad(predicted, (0, 0, 1, 0))[:, :-1]


def test_a_head_for_another_target_is_refused(made: Made) -> None:
    head, demo_s = load_model(str(made.folder)), load_model("demo-s")
    with refused(
        ModelError, f"{made.folder.name} is a draft head on states of width 32", "demo-s has states of width 192"
    ):
        build_decoder("eagle", demo_s, head)


def test_published_pickles_load_as_safetensors_do(made: Made, tmp_path: Path) -> None:
    write = write_head if made.of.name == "tiny-target" else write_eagle3
    write(made.of, tmp_path / "head", pickled=True)
    target = load_model(str(made.of))
    texts = [
        build_decoder("eagle:gamma=3", target, load_model(str(folder))).generate(PROMPT, max_new_tokens=12).steps
        for folder in (made.folder, tmp_path / "head")
    ]
    assert [step.drafted for step in texts[0]] == [step.drafted for step in texts[1]]
    assert math.isfinite(sum(len(step.drafted) for step in texts[0]))


def test_a_sampled_chain_says_the_distribution_it_was_drawn_from(made: Made) -> None:
    reference = made.reference
    decoder: Any = build_decoder("eagle:gamma=3", *made.loaded())
    seen, propose = [], decoder.drafter.propose
    decoder.drafter.propose = lambda context, room: seen.append((list(context), propose(context, room))) or seen[-1][1]
    decoder.generate(PROMPT, max_new_tokens=16, temperature=1.0, seed=3, ignore_eos=True)
    for context, proposal in seen:
        for place in range(len(proposal.ids_G)):
            q_V = reference.logprobs_after(context, proposal.ids_G.tolist()[:place]).exp()
            assert torch.allclose(proposal.q_GV[place], q_V, atol=1e-4)


@pytest.mark.parametrize("options", ["gamma=2", "depth=2,topk=2,tokens=4"])
def test_sampled_tokens_follow_the_target_s_law(options: str, made: Made) -> None:
    """Three tokens of the three likeliest each, 27 outcomes, over 400 or 120 draws; false alarm 1 in 10,000."""
    draws = 400 if made.of.name == "tiny-target" else 120
    target, head = made.loaded()
    decoder = build_decoder(f"eagle:{options}", target, head)
    found = Counter(
        tuple(decoder.generate(PROMPT, 3, temperature=1.0, top_k=3, seed=seed, ignore_eos=True).ids)
        for seed in range(draws)
    )
    law: dict[Path_, float] = {(): 1.0}
    for _ in range(3):
        grown: dict[Path_, float] = {}
        for path, share in law.items():
            target.reset()
            logits = target.extend(torch.tensor([[*PROMPT, *path]]), last_only=True)[0]
            p_V = probabilities(logits, 1.0, 3, 1.0)[0]
            grown |= {(*path, int(t)): share * float(p_V[t]) for t in p_V.nonzero()[:, 0]}
        law = grown
    assert set(found) <= set(law)
    expected = {path: draws * share for path, share in law.items()}
    few = [path for path, count in expected.items() if count < 5]
    pairs = [(found[path], count) for path, count in expected.items() if count >= 5]
    if few:
        pairs.append((sum(found[path] for path in few), sum(expected[path] for path in few)))
    statistic = sum((seen - count) ** 2 / count for seen, count in pairs if count)
    assert chi2.sf(statistic, len(pairs) - 1) > 1e-4


def test_models_and_heads_do_not_stand_in_for_each_other(made: Made, tiny_models: Path) -> None:
    target, head = made.loaded()
    draft = load_model(str(tiny_models / "tiny-draft"))
    with refused(UserError, "decoder 'eagle' takes a draft head (eagle), and tiny-draft is a model"):
        build_decoder("eagle", target, draft)
    with refused(UserError, f"decoder 'sd' takes a draft model, and {head.name} is a draft head (eagle)"):
        build_decoder("sd", target, head)


def test_what_was_accepted_is_drafted_on_from_the_target_s_states() -> None:
    """The head that ships is right often enough that steps follow every number of accepted tokens."""
    module = EagleModule(load_source("demo-m"), 0)
    stored = load_file(str(drafts_folder() / "demo-m-eagle" / FILE))
    read = unscaled(stored.__getitem__, "demo-m-eagle")
    module.load_state_dict({name: read(name).float() for name in stored if not name.endswith("_scale")})
    reference, target = FromScratch(module), load_model("demo-m")
    chat = ChatTemplate.choose(target.tokenizer, None)
    decoder = build_decoder("eagle:gamma=3", target, load_model("demo-m-eagle"))
    steps: list[tuple[list[int], Proposal]] = []
    counts: set[int] = set()
    for question in load_questions("embedded", ["math_reasoning", "translation"], 1):
        made = proposals(decoder, 32, chat.encode([{"role": "user", "content": question.turns[0]}]))
        counts |= {len(later[0]) - len(context) - 1 for (context, _), later in pairwise(made)}
        steps += made
    assert counts >= {0, 1, 2}
    for context, proposal in steps:
        for place, token in enumerate(proposal.ids_G.tolist()):
            assert token == int(reference.logprobs_after(context, proposal.ids_G.tolist()[:place]).argmax())


def test_a_tree_holds_no_id_outside_the_small_vocabulary(heads: dict[int, Made], tiny_models: Path) -> None:
    target, head = heads[1].loaded()
    head.ranking = load_model(str(tiny_models / "tiny-draft")).ranking
    decoder: Any = build_decoder("eagle:depth=2,topk=10,tokens=60,draft_vocabulary=4", target, head)
    drafted = [set(proposal.ids_G.tolist()) for _, proposal in proposals(decoder, 8)]
    assert all(ids <= set(decoder.drafter._vocabulary.ids) for ids in drafted) and any(drafted)


def test_the_passes_that_are_prepared_are_cut_where_the_head_reads(heads: dict[int, Made]) -> None:
    for version, layers in ((1, (4,)), (3, (2, 4, 5))):
        decoder = build_decoder("eagle:gamma=2", *heads[version].loaded())
        assert [kind.states for kind in decoder.own_target_passes()] == [layers]
    assert build_decoder("ar", heads[1].loaded()[0]).own_target_passes() == [PassKind(1)]


@pytest.mark.parametrize(("options", "said"), [
    ("gamma=4,depth=3", "it is of a tree, and gamma=N asks for a chain"),
    ("gamma=100000", "less than or equal to 63"), ("depth=5000", "less than or equal to 32"),
    ("topk=5000", "less than or equal to 64"), ("tokens=1000000", "less than or equal to 512"),
])  # fmt: skip
def test_absurd_sizes_and_options_that_would_be_ignored_are_refused(options: str, said: str) -> None:
    with refused(UserError, "decoder 'eagle'", said):
        parse_decoder(f"eagle:{options}")


@pytest.mark.parametrize("spec", ["eagle:draft_vocabulary=64,gamma=3", "eagle:draft_vocabulary=325,depth=2,topk=3"])
def test_a_small_vocabulary_beside_a_target_of_fewer_ids_is_declared_as_it_is_used(
    spec: str, tiny_models: Path, tmp_path: Path
) -> None:
    """The head was trained over a table with eight rows more than there are tokens; each pass is a graph."""
    padded = write_padded(tiny_models / "tiny-target", tmp_path / "padded", 8)
    write_head(padded, tmp_path / "head")
    write_ranking(tmp_path / "head", [1] * 328, {})
    target = load_model(str(padded), engine=graph_engine(RerunningCapture(), few_buckets))
    head = load_model(str(tmp_path / "head"))
    assert (target.vocabulary, head.vocabulary) == (320, 328)
    ids = build_decoder(spec, target, head).generate(PROMPT, 12, ignore_eos=True).ids
    assert ids == build_decoder("ar", target).generate(PROMPT, 12, ignore_eos=True).ids
    assert (target.engine_facts["unannounced"], head.engine_facts["unannounced"]) == (0, 0)
