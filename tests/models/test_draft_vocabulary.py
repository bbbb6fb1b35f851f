"""A small vocabulary: every engine computes the full head masked with -inf, from the rows of its ids alone.

Oracle: the same pass with the whole head, logits outside the vocabulary set to -inf afterwards.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from specbench_s2d import load_model
from specbench_s2d.models.base import LanguageModel, Likeliest, PassKind
from specbench_s2d.models.draft_vocabulary import DraftVocabulary
from specbench_s2d.models.engines.eager import EagerEngine
from specbench_s2d.models.engines.native import NativeEngine
from specbench_s2d.models.hf_head import CuttableHead
from tests.models.captured import RecordingCapture, few_buckets, graph_engine
from tests.models.reference import VOCABULARY, assert_close, family_model, random_ids
from tests.models.test_llama import lean_twin

ENGINES: dict[str, Callable[[], Any]] = {
    "eager": lambda: EagerEngine,
    "native": lambda: NativeEngine,
    "graphs": lambda: graph_engine(RecordingCapture(), few_buckets),
}
FEW = ("llama", "llama, tied", "qwen3")


def small(size: int, seed: int = 0, full: int = VOCABULARY) -> DraftVocabulary:
    return DraftVocabulary.of(random.Random(seed).sample(range(full), size), full)


def masked(logits_TV: Tensor, vocabulary: DraftVocabulary) -> Tensor:
    outside = [token for token in range(vocabulary.full_size) if token not in vocabulary.ids]
    logits_TV = logits_TV.clone()
    logits_TV[..., outside] = float("-inf")
    return logits_TV


def kinds(vocabulary: DraftVocabulary | None) -> list[PassKind]:
    passes = [PassKind(4, best=best, vocabulary=vocabulary) for best in (0, 1, 4)]
    passes += [PassKind(4, 0, 2, best=best, vocabulary=vocabulary) for best in (0, 1, 4)]
    return [*passes, PassKind(4, from_layer=3, vocabulary=vocabulary)]


def twins(family: str, engine: str, *vocabularies: DraftVocabulary) -> tuple[LanguageModel, LanguageModel]:
    """The same model twice, the first with passes of the vocabularies prepared; both hold nine positions."""
    pair = lean_twin(family_model(family), ENGINES[engine]()), lean_twin(family_model(family), ENGINES[engine]())
    for model in pair:
        model.reserve(100)
        model.prepare([kind for one in (None, *vocabularies) for kind in kinds(one)])
        model.extend(random_ids(9), last_only=True)
    return pair


@pytest.mark.parametrize("size", [1, 2, 17, VOCABULARY])
@pytest.mark.parametrize("family", FEW)
@pytest.mark.parametrize("engine", ENGINES)
def test_logits_and_likeliest_are_those_of_the_masked_head(engine: str, family: str, size: int) -> None:
    vocabulary = small(size)
    ours, whole = twins(family, engine, vocabulary)
    for new, last_only in ((1, True), (1, False), (3, False), (3, True)):
        ids_BT = random_ids(new, seed=new)
        cut = ours.extend(ids_BT, last_only=last_only, vocabulary=vocabulary)
        assert_close(cut, masked(whole.extend(ids_BT, last_only=last_only), vocabulary))
    hidden_BTD = ours.extend(random_ids(2), to_layer=2, vocabulary=vocabulary)
    assert_close(hidden_BTD, whole.extend(random_ids(2), to_layer=2))
    assert_close(ours.head(hidden_BTD, vocabulary), masked(whole.head(hidden_BTD), vocabulary))
    for to_layer, best in ((None, 1), (None, 4), (2, 1), (2, 4)):
        for model in (ours, whole):
            model.rollback(9)
        _, likeliest = ours.read(random_ids(3), 0, to_layer, None, 2, best, vocabulary)
        top = whole.extend(random_ids(3), 0, to_layer)
        logits = masked(top if to_layer is None else whole.head(top), vocabulary)[0, -2:]
        expected = Likeliest.of(logits, min(best, size))
        assert torch.equal(likeliest.ids_RK, expected.ids_RK)
        assert_close(likeliest.logprobs_RK, expected.logprobs_RK)
        assert_close(likeliest.logprobs_RK.exp().sum(-1), expected.logprobs_RK.exp().sum(-1))
    assert all(model.engine_facts.get("unannounced", 0) == 0 for model in (ours, whole))


@pytest.mark.parametrize("engine", ENGINES)
def test_several_vocabularies_of_one_model_do_not_meet(engine: str) -> None:
    """Two cuts of the same size and the whole, in turn, over one cache."""
    one, other = small(9, seed=1), small(9, seed=2)
    ours, whole = twins("llama, tied", engine, one, other)
    for vocabulary in (one, None, other, one, other, None):
        logits = whole.extend(random_ids(2))
        expected = logits if vocabulary is None else masked(logits, vocabulary)
        assert_close(ours.extend(random_ids(2), vocabulary=vocabulary), expected)
    assert ours.length == whole.length == 9 + 12


@pytest.mark.parametrize("size", [1, 16, 17, 40])
@pytest.mark.parametrize("family", ["llama", "llama, tied"])
def test_the_native_engines_logits_are_the_whole_heads_to_the_bit(family: str, size: int) -> None:
    vocabulary = small(size)
    ours, whole = twins(family, "native")
    assert torch.equal(
        ours.extend(random_ids(5), vocabulary=vocabulary), masked(whole.extend(random_ids(5)), vocabulary)
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_that_was_asked_for_a_small_vocabulary_is_the_same_without(engine: str) -> None:
    ours, whole = twins("llama, tied", engine, small(5))
    ours.extend(random_ids(2), vocabulary=small(5))
    ours.rollback(9)
    assert torch.equal(ours.extend(random_ids(4)), whole.extend(random_ids(4)))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_rows_that_are_read_are_counted(engine: str) -> None:
    """Width 64, float32: a row of the head is 256 bytes."""
    ours, whole = twins("llama", engine, small(11))
    start = ours.read_bytes, whole.read_bytes
    for model, named in ((ours, {"vocabulary": small(11)}), (whole, {})):
        model.extend(random_ids(1), **named)  # type: ignore[arg-type]
        model.read(random_ids(1), 0, 2, None, 1, 1, **named)  # type: ignore[arg-type]
        model.head(torch.zeros(1, 1, 64), **named)
    saved = (whole.read_bytes - start[1]) - (ours.read_bytes - start[0])
    assert saved == 3 * (VOCABULARY - 11) * 64 * 4


def test_the_product_has_as_many_outputs_as_there_are_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    from specbench_s2d.models.engines import eager

    widths, real = list[int](), eager.head_logits

    def seen(hidden_TD: Tensor, head_DV: Tensor) -> Tensor:
        widths.append(head_DV.shape[1])
        return real(hidden_TD, head_DV)

    ours, _ = twins("llama", "eager")
    monkeypatch.setattr(eager, "head_logits", seen)
    ours.extend(random_ids(1), vocabulary=small(7))
    ours.read(random_ids(1), vocabulary=small(7))
    ours.head(torch.zeros(1, 1, 64), small(7))
    assert widths == [7, 7, 7]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["tiny-draft", "tiny-opt"])
def test_transformers_own_forward_cuts_its_head_too(name: str, dtype: str, tiny_models: Path, tiny_opt: Path) -> None:
    folder = tiny_opt if name == "tiny-opt" else tiny_models
    ours, whole = (load_model(str(folder / name), "cpu", dtype, lean=False) for _ in range(2))
    vocabulary = small(30, full=ours.vocabulary)
    for ids in ([3, 4, 5], [7], [8, 9]):
        for last_only in (True, False):
            ids_BT = torch.tensor([ids])
            cut, expected = (
                ours.extend(ids_BT, last_only=last_only, vocabulary=vocabulary),
                whole.extend(ids_BT, last_only=last_only),
            )
            assert_close(cut, masked(expected, vocabulary), 1e-4 if dtype == "float32" else 1e-2)
            assert torch.equal(cut == float("-inf"), masked(expected, vocabulary) == float("-inf"))
    saved = whole.read_bytes - ours.read_bytes
    head = ours._model.get_output_embeddings()  # type: ignore[attr-defined]
    assert isinstance(head, CuttableHead) and head.weight.shape[0] == ours.vocabulary
    assert saved == 6 * (ours.vocabulary - 30) * head.weight[0].nbytes
    assert torch.equal(ours.extend(torch.tensor([[3, 4]])), whole.extend(torch.tensor([[3, 4]])))
    assert_close(
        ours.read(torch.tensor([[5]]), best=3, vocabulary=vocabulary)[1].packed_2RK,
        Likeliest.of(masked(whole.extend(torch.tensor([[5]]))[0], vocabulary), 3).packed_2RK,
        1e-4 if dtype == "float32" else 1e-2,
    )
    assert ours.parameter_bytes == whole.parameter_bytes


def test_a_head_that_cannot_be_cut_is_computed_whole(tiny_models: Path) -> None:
    class OddLinear(torch.nn.Linear):
        """Not plainly linear, as far as can be told."""

    ours, whole = (load_model(str(tiny_models / "tiny-draft"), "cpu", lean=False) for _ in range(2))
    head = ours._model.get_output_embeddings()  # type: ignore[attr-defined]
    odd = OddLinear(head.in_features, head.out_features, bias=False)
    odd.weight = head.weight
    ours._model.set_output_embeddings(odd)  # type: ignore[attr-defined]
    vocabulary, ids_BT = small(9, full=ours.vocabulary), torch.tensor([[3, 4, 5]])
    assert_close(ours.extend(ids_BT, vocabulary=vocabulary), masked(whole.extend(ids_BT), vocabulary))
    assert ours.read_bytes == whole.read_bytes


def test_two_with_the_same_ids_are_equal_and_the_order_given_does_not_count() -> None:
    one = DraftVocabulary.of([5, 1, 3], 9)
    assert one == DraftVocabulary.of([1, 3, 5], 9) and hash(one) == hash(DraftVocabulary.of([3, 5, 1], 9))
    assert one.ids == (1, 3, 5) and len(one) == 3
    assert len({one, DraftVocabulary.of([1, 3, 5], 8), DraftVocabulary.of([1, 3, 6], 9)}) == 3


def test_equal_logits_go_to_the_first_id_as_over_the_full_vocabulary() -> None:
    logits_1V = torch.tensor([[0.0, 2.0, 2.0, 1.0, 2.0]])
    vocabulary = DraftVocabulary.of([4, 2, 0], 5)
    cut = Likeliest.of(logits_1V[:, list(vocabulary.ids)], 1, vocabulary)
    assert cut.ids_RK.tolist() == Likeliest.of(masked(logits_1V, vocabulary), 1).ids_RK.tolist() == [[2]]
    assert float(cut.logprobs_RK) == pytest.approx(float(torch.tensor([2.0, 0.0, 2.0]).log_softmax(0)[0]))
