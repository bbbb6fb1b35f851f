"""Drafting from a small vocabulary: what is proposed, its likelihoods, and the options' limits.

Oracle: the same decoder over a draft whose logits are -inf outside the ids, for every reader.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from specbench_s2d import build_decoder, load_model
from specbench_s2d.decoding.decoder import Decoder
from specbench_s2d.decoding.spec import parse_decoder
from specbench_s2d.decoding.types import Generation
from specbench_s2d.errors import UserError
from tests.decoding import clocked
from tests.fakes import Clock, FakeModel, FixedRanking
from tests.refusals import refused

PROMPT, TEXT = [1, 0], list(range(20, 50))
RANKING = [6, 2, 9, 4, 0, 1, 3, 5, 7, 8]
NAMES = (
    "sd",
    "sd:exit=2",
    "sd:sampling=greedy",
    "s2d",
    "s2d:thresholds=0.3+0.3+0",
    "s2d-auto",
    "s2d-tree:topk=2",
    "mjsd:beams=3",
    "mjsd:beams=3,candidates=2",
    "mjsd:beams=3,draft_temperature=1",
    "mjsd+token:beams=3",
    "chain+joint",
    "sorted+joint",
    "sorted-tree+joint:topk=2",
)


def with_size(name: str, size: int) -> str:
    return f"{name}{',' if ':' in name else ':'}draft_vocabulary={size}"


def models(clock: Clock, seed: int = 0) -> tuple[FakeModel, FakeModel]:
    target = FakeModel(10, seed=seed, context=200, clock=clock, layer_s=1.0)
    draft = FakeModel(10, seed=seed + 100, context=200, exits=(1, 2, 4), clock=clock, layer_s=0.01)
    draft.ranking = FixedRanking(RANKING)
    own = draft.logits_at
    draft.logits_at = lambda prefix, depth: (  # type: ignore[method-assign]
        target.logits_after(prefix) if sum(prefix) % 2 else own(prefix, depth)
    )
    return target, draft


def masked(draft: FakeModel, ids: list[int]) -> None:
    """The draft rules out all other ids itself."""
    outside, own = [token for token in range(10) if token not in ids], draft.logits_at

    def logits_at(prefix: tuple[int, ...], depth: int) -> Tensor:
        return own(prefix, depth).index_fill(0, torch.tensor(outside), float("-inf"))

    draft.logits_at = logits_at  # type: ignore[method-assign]


def written(generation: Generation) -> list[tuple[list[int], list[int], list[int]]]:
    return [(step.drafted, step.emitted, step.exit_depths) for step in generation.steps]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("size", [3, 4, 9])
@pytest.mark.parametrize("name", NAMES)
def test_a_draft_of_few_ids_is_the_full_one_masked(name: str, size: int, temperature: float, clock: Clock) -> None:
    generations = []
    for small in (True, False):
        target, draft = models(clock := Clock())
        if not small:
            masked(draft, RANKING[:size])
        decoder = clocked.build_decoder(with_size(name, size) if small else name, target, draft, clock)
        generations.append(decoder.generate(PROMPT, 30, temperature=temperature, seed=5))
    ours, oracle = generations
    assert written(ours) == written(oracle)
    for step, expected in zip(ours.steps, oracle.steps, strict=True):
        assert step.draft_logprobs == pytest.approx(expected.draft_logprobs)
    drafted = {token for step in ours.steps for token in step.drafted}
    assert drafted <= set(RANKING[:size]) and len(drafted) > 1


@pytest.mark.parametrize("name", [name for name in NAMES if "joint" not in name and "mjsd:" not in name])
@pytest.mark.parametrize("seed", range(3))
def test_greedy_ids_are_ars(name: str, seed: int, clock: Clock) -> None:
    """Ids that the draft cannot propose reach the output all the same."""
    target, draft = models(clock, seed)
    expected = build_decoder("ar", target).generate(PROMPT, 40).ids
    generation = clocked.build_decoder(with_size(name, 3), target, draft, clock).generate(PROMPT, 40)
    assert generation.ids == expected
    assert set(expected) - set(RANKING[:3]), "the target writes other ids too"


@pytest.mark.parametrize("name", ["sd", "s2d", "s2d-tree", "s2d-auto", "mjsd+token"])
def test_real_models_write_what_ar_writes(tiny_models: Path, name: str) -> None:
    nested = name.startswith("s2d")
    target = load_model(str(tiny_models / "tiny-target"), "cpu")
    expected = build_decoder("ar", target).generate(TEXT, 40, ignore_eos=True).ids
    for lean in (True,) if nested else (True, False):
        draft = load_model(str(tiny_models / ("tiny-nested" if nested else "tiny-draft")), "cpu", lean=lean)
        generation = build_decoder(f"{name}:draft_vocabulary=60", target, draft).generate(TEXT, 40, ignore_eos=True)
        assert generation.ids == expected
        drafted = {token for step in generation.steps for token in step.drafted}
        assert drafted and drafted <= set(range(0, 180, 3)), "every third id comes first in its ranking"


@pytest.mark.parametrize("name", ["sd", "sd:exit=2", "s2d", "s2d-tree", "s2d-auto", "mjsd+token"])
def test_the_demo_drafts_write_what_ar_writes_on_the_native_engine(name: str) -> None:
    target, draft = (load_model(name, "cpu", "float32", engine="native") for name in ("demo-s", "demo-draft"))
    expected = build_decoder("ar", target).generate(TEXT, 24, ignore_eos=True).ids
    generation = build_decoder(with_size(name, 256), target, draft).generate(TEXT, 24, ignore_eos=True)
    assert generation.ids == expected
    assert draft.ranking is not None
    assert {token for step in generation.steps for token in step.drafted} <= set(draft.ranking.ids(2048)[:256])


def test_two_decoders_of_one_draft_have_vocabularies_of_their_own(tiny_models: Path) -> None:
    target, draft = (load_model(str(tiny_models / name), "cpu") for name in ("tiny-target", "tiny-nested"))

    def drafted(decoder: Decoder) -> list[list[int]]:
        return [step.drafted for step in decoder.generate(TEXT, 30, ignore_eos=True).steps]

    specs = ("s2d", "s2d:draft_vocabulary=30", "s2d:draft_vocabulary=90")
    decoders = [build_decoder(spec, target, draft) for spec in specs]
    first = [drafted(decoder) for decoder in decoders]
    assert first[0] != first[1] != first[2]
    assert [drafted(decoder) for decoder in reversed(decoders)] == first[::-1]


def test_a_text_ranks_in_place_of_the_drafts_own(tiny_models: Path, tmp_path: Path) -> None:
    target, draft = (load_model(str(tiny_models / name), "cpu") for name in ("tiny-target", "tiny-draft"))
    (tmp_path / "text.txt").write_text("a stone bridge over the river\n" * 3, encoding="utf-8")
    spec = f"sd:draft_vocabulary=3,vocabulary_from={tmp_path / 'text.txt'}"
    generation = build_decoder(spec, target, draft).generate(TEXT, 30, ignore_eos=True)
    known = set(draft.tokenizer("a stone bridge over the river\n", add_special_tokens=False)["input_ids"])
    assert {token for step in generation.steps for token in step.drafted} <= known


# Declared passes and hashes


def test_declared_passes_say_the_vocabulary_from_a_models_files_alone(tiny_models: Path) -> None:
    from specbench_s2d.models.resolve import resolve_model

    resolved = resolve_model(str(tiny_models / "tiny-nested"))
    for name in ("sd", "sd:exit=2", "s2d", "s2d-auto", "s2d-tree", "mjsd"):
        spec = parse_decoder(with_size(name, 50))
        passes = spec.kind.draft_passes(spec.options, resolved)
        assert {kind.vocabulary and len(kind.vocabulary) for kind in passes} == {50}, name
        plain = parse_decoder(name)
        assert {kind.vocabulary for kind in plain.kind.draft_passes(plain.options, resolved)} == {None}


def test_the_hash_is_that_of_the_ids(clock: Clock) -> None:
    def hashes(spec: str, ranking: list[int]) -> dict[str, str]:
        _, draft = models(clock)
        draft.ranking = FixedRanking(ranking)
        parsed = parse_decoder(spec)
        return parsed.kind.data_hashes(parsed.options, draft)

    one = hashes("sd:draft_vocabulary=3", RANKING)
    assert list(one) == ["draft_vocabulary=3"]
    assert hashes("s2d:draft_vocabulary=3", RANKING) == one
    assert hashes("sd:draft_vocabulary=3", [2, 9, 6, *RANKING[3:]]) == one, "the same three ids in another order"
    assert hashes("sd:draft_vocabulary=3", RANKING[::-1]) != one
    for name in ("sd", "s2d", "s2d-auto", "s2d-tree", "mjsd", "ar"):
        assert hashes(name, RANKING) == {}


# Bad input


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("sd:draft_vocabulary=0", "decoder 'sd': draft_vocabulary=0: input should be greater than or equal to 1"),
        ("s2d:draft_vocabulary=-2", "decoder 's2d': draft_vocabulary=-2: input should be greater than or equal to 1"),
        ("s2d-auto:draft_vocabulary=few", "decoder 's2d-auto': draft_vocabulary=few: input should be a valid integer"),
        ("mjsd:draft_vocabulary=7", "draft_vocabulary=7: at least as many ids as there are beams (8)"),
        ("mjsd:draft_vocabulary=3,beams=4", "draft_vocabulary=3: at least as many ids as there are beams (4)"),
        ("s2d-tree:draft_vocabulary=9", "topk=10: at most as many as draft_vocabulary has ids (9)"),
        ("s2d-tree:draft_vocabulary=2,topk=3", "topk=3: at most as many as draft_vocabulary has ids (2)"),
        ("sd:vocabulary_from=x.txt", "vocabulary_from=x.txt: it says what draft_vocabulary=N is counted from"),
        ("ar:draft_vocabulary=4", "unknown option of decoder 'ar': 'draft_vocabulary'"),
    ],
)
def test_options_out_of_range_are_refused_in_one_line(spec: str, said: str) -> None:
    with refused(UserError, said):
        parse_decoder(spec)


@pytest.mark.parametrize("name", ["sd", "s2d", "s2d-auto", "s2d-tree", "mjsd"])
def test_a_vocabulary_that_the_draft_does_not_have_is_refused_before_weights_load(name: str, clock: Clock) -> None:
    target, draft = models(clock)
    spec = parse_decoder(with_size(name, 11))
    said = "draft_vocabulary=11: draft fake-100 has a vocabulary of 10 ids; give 1 to 10."
    with refused(UserError, said):
        spec.kind.check_draft(spec.options, draft)
    with refused(UserError, said):
        spec.build(target, draft)
    draft.ranking = None
    spec = parse_decoder(with_size(name, 10))
    with refused(UserError, "draft fake-100 holds no token_ranking.json"):
        spec.kind.check_draft(spec.options, draft)


def test_labels_name_the_vocabulary() -> None:
    assert parse_decoder("s2d:draft_vocabulary=256").label == "s2d:draft_vocabulary=256"
    assert parse_decoder("sd:gamma=3,draft_vocabulary=256").label == "sd:gamma=3,draft_vocabulary=256"
