"""Rows of a head that no tokenizer names: their logits are left out by every engine, so that models of one tokenizer
pair."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from specbench_s2d.errors import ModelError
from specbench_s2d.models import check_pair, load_model
from specbench_s2d.models.base import Identity, LanguageModel
from specbench_s2d.models.draft_vocabulary import DraftVocabulary
from specbench_s2d.models.engines.choose import MakeEngine
from specbench_s2d.models.engines.eager import EagerEngine
from specbench_s2d.models.engines.native import NativeEngine
from specbench_s2d.models.hf import TransformersModel
from specbench_s2d.models.llama import LlamaModel
from specbench_s2d.models.resolve import resolve_model
from specbench_s2d.models.token_ranking import StoredRanking, write_ranking
from specbench_s2d.models.vocabulary import named_ids
from tests.models.captured import RerunningCapture, few_buckets, graph_engine
from tests.models.reference import VOCABULARY, assert_close, family_model, random_ids, recomputed, tree_mask
from tests.refusals import refused
from tests.tiny import write_padded

NAMED = 50  # of the family's 61 rows
FAMILY = "llama, tied"
MAKERS: dict[str, MakeEngine | None] = {
    "eager": EagerEngine,
    "native": partial(NativeEngine, threads=1),
    "cuda-graphs": graph_engine(RerunningCapture(), few_buckets),
    "transformers": None,
}


@pytest.fixture(params=MAKERS)
def padded(request: pytest.FixtureRequest) -> LanguageModel:
    """A model of 61 rows and 50 ids, through every engine and through transformers."""
    reference, nobody, engine = family_model(FAMILY), SimpleNamespace(), MAKERS[request.param]
    about: tuple[Any, ...] = (nobody, frozenset())
    if engine is None:
        return TransformersModel(Identity("padded"), reference, *about, NAMED)
    place, weights = (torch.device("cpu"), torch.float32), reference.state_dict()
    model = LlamaModel(Identity("padded"), reference.config, weights.__getitem__, *about, *place, engine, NAMED)
    model.reserve(64)
    assert model.engine == request.param  # graphs that fail their trial would leave it to the eager engine
    return model


def test_no_pass_gives_logits_of_padding(padded: LanguageModel) -> None:
    ids_BT, wide_BT = random_ids(12), random_ids(30, seed=4)
    expected = recomputed(family_model(FAMILY), torch.cat((ids_BT, wide_BT), dim=1))[..., :NAMED]
    assert padded.vocabulary == NAMED < VOCABULARY
    assert_close(padded.extend(ids_BT[:, :9], last_only=True), expected[:, 8:9])
    assert_close(padded.extend(ids_BT[:, 9:10]), expected[:, 9:10])
    mask_TT = tree_mask([-1, 0])
    assert_close(padded.extend(ids_BT[:, 10:], mask=mask_TT), expected[:, 10:12])
    assert_close(padded.extend(wide_BT), expected[:, 12:])


def test_the_likeliest_are_ids_that_the_tokenizer_names(padded: LanguageModel) -> None:
    ids_BT = random_ids(8)
    expected_V = recomputed(family_model(FAMILY), ids_BT)[0, -1, :NAMED]
    padded.extend(ids_BT[:, :7])
    best = padded.read(ids_BT[:, 7:], best=NAMED + 5)[1]
    assert sorted(best.ids_RK[0].tolist()) == list(range(NAMED))
    assert_close(best.logprobs_RK[0], expected_V.log_softmax(-1).sort(descending=True).values)


def test_a_small_vocabulary_is_of_the_named_ids(padded: LanguageModel) -> None:
    ids_BT, some = random_ids(8), DraftVocabulary.of([3, 48, 17], NAMED)
    logits_V = padded.extend(ids_BT, last_only=True, vocabulary=some)[0, 0]
    expected_V = recomputed(family_model(FAMILY), ids_BT)[0, -1]
    assert logits_V.shape == (NAMED,) and logits_V.isfinite().nonzero()[:, 0].tolist() == [3, 17, 48]
    assert_close(logits_V[[3, 17, 48]], expected_V[[3, 17, 48]])


def test_all_rows_of_the_head_count_as_read(padded: LanguageModel) -> None:
    """Leaving logits out costs nothing and saves nothing; a small vocabulary reads its own rows."""
    padded.extend(random_ids(4))
    before, row_bytes = padded.read_bytes, 64 * 4
    padded.extend(random_ids(1), vocabulary=DraftVocabulary.of([3, 48, 17], NAMED))
    small = padded.read_bytes - before
    padded.rollback(4)
    before = padded.read_bytes
    padded.extend(random_ids(1))
    assert padded.read_bytes - before - small == (VOCABULARY - 3) * row_bytes


def test_ids_end_with_the_last_that_the_tokenizer_names() -> None:
    def tokenizer(**ids: int) -> Any:
        class Tokenizer:
            def __len__(self) -> int:
                return len(ids)

            def get_vocab(self) -> dict[str, int]:
                return ids

        return Tokenizer()

    assert named_ids(tokenizer(a=0, b=1, c=2), 2) == 2
    assert named_ids(tokenizer(a=0, b=1, c=2), 3) == 3
    assert named_ids(tokenizer(a=0, b=1, c=2), 64) == 3
    assert named_ids(tokenizer(a=0, c=9), 64) == 10, "an id without a name before it is no padding"
    assert named_ids(tokenizer(a=0, c=99), 64) == 64


def test_a_loaded_model_has_the_ids_of_its_tokenizer(tiny_models: Path, tmp_path: Path) -> None:
    plain, folder = resolve_model(str(tiny_models / "tiny-target")), write_padded(
        tiny_models / "tiny-target", tmp_path / "padded", 19
    )  # fmt: skip
    found = resolve_model(str(folder))
    assert (found.rows, found.vocabulary) == (plain.vocabulary + 19, plain.vocabulary) == (339, 320)
    for lean in (True, False):
        model, whole = (load_model(str(one), "cpu", lean=lean) for one in (folder, tiny_models / "tiny-target"))
        assert model.vocabulary == 320 and model.load_facts == {"padding_rows": 19}
        ids_BT = torch.tensor([plain.tokenizer.encode("Tom has 12 apples.")])
        assert_close(model.extend(ids_BT), whole.extend(ids_BT))


def test_models_padded_differently_are_a_pair(tiny_models: Path, tmp_path: Path) -> None:
    target = resolve_model(str(write_padded(tiny_models / "tiny-target", tmp_path / "t", 19)))
    draft = resolve_model(str(write_padded(tiny_models / "tiny-draft", tmp_path / "d", 3)))
    check_pair(target, draft)
    check_pair(load_model(str(target.folder), "cpu"), load_model(str(draft.folder), "cpu"))


def test_names_beyond_the_head_do_not_part_a_pair(tiny_models: Path, tmp_path: Path) -> None:
    """A tokenizer with a token of its own, for which its model has no row; and one with a row for it."""
    added = Path(shutil.copytree(tiny_models / "tiny-draft", tmp_path / "added"))
    tokenizer = resolve_model(str(added)).tokenizer
    tokenizer.add_tokens(["<pad-of-its-own>"])
    tokenizer.save_pretrained(str(added))
    target = resolve_model(str(tiny_models / "tiny-target"))
    check_pair(target, resolve_model(str(added)))
    with_row = write_padded(added, tmp_path / "with-row", 1)
    with refused(ModelError, "tiny-target has a vocabulary of 320 ids", "draft with-row one of 321"):
        check_pair(target, resolve_model(str(with_row)))


def test_a_ranking_may_count_padding_rows_as_never_seen(tmp_path: Path) -> None:
    write_ranking(tmp_path, [1, 5, 3, 0, 0], {})
    ranking = StoredRanking(tmp_path / "token_ranking.json", "m")
    assert ranking.ids(3) == [1, 2, 0] and ranking.ids(5) == [1, 2, 0, 3, 4]
    with refused(ModelError, "counts must be 2 whole numbers"):
        ranking.ids(2)
    with refused(ModelError, "counts must be 6 whole numbers"):
        ranking.ids(6)


def test_a_shape_keeps_every_row(tiny_models: Path) -> None:
    """Its tokenizer is another model's, and its rows are timed."""
    shape = resolve_model("shape:llama-2-7b")
    assert shape.vocabulary == shape.rows == 32_000 > len(shape.tokenizer)


def test_the_plan_counts_the_rows_that_are_loaded(tiny_models: Path, tmp_path: Path) -> None:
    from specbench_s2d.models.memory import plan_memory

    folder = write_padded(tiny_models / "tiny-target", tmp_path / "padded", 19)
    loaded, planned = load_model(str(folder), "cpu"), plan_memory(resolve_model(str(folder)), torch.float32)
    assert planned.weights_bytes == loaded.parameter_bytes
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == 339
