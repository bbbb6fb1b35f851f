"""EAGLE's heads on the native engine: a chain in one call is its passes one by one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from specbench_s2d import load_model
from specbench_s2d.errors import ModelError
from specbench_s2d.models.base import LanguageModel
from specbench_s2d.models.draft_vocabulary import DraftVocabulary
from specbench_s2d.models.heads.eagle import EagleHead
from specbench_s2d.resources import demo_folder
from tests.models.heads.made import write_eagle3
from tests.refusals import refused

Pair = tuple[LanguageModel, EagleHead, DraftVocabulary | None]


@pytest.fixture(scope="module", params=["eagle-1", "eagle-1 over 500 ids", "eagle-3"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A target, a head, and the ids that it proposes."""
    folder = "demo-m-eagle"
    if request.param == "eagle-3":
        folder = str(tmp_path_factory.mktemp("heads") / "head")
        write_eagle3(demo_folder() / "demo-m", Path(folder), ids=range(0, 2048, 3))
    target, head = load_model("demo-m"), load_model(folder)
    assert isinstance(head, EagleHead)
    head.attach(target)
    assert head.engine == target.engine == "native"
    small = DraftVocabulary.of(range(0, 2000, 4), target.vocabulary) if "500" in request.param else None
    return target, head, small or head.own_ids


def one_by_one(
    head: EagleHead, ids_T: torch.Tensor, states_TD: torch.Tensor, tokens: int, vocabulary: DraftVocabulary | None
) -> torch.Tensor:
    found = []
    for _ in range(tokens):
        states_TD, likeliest = head.predict(ids_T, states_TD, vocabulary=vocabulary)
        found.append(likeliest.packed_2RK[:, :, 0])
        ids_T, states_TD = likeliest.ids_RK[0], states_TD[-1:]
    return torch.cat(found, dim=1)


@pytest.mark.parametrize(("before", "new", "tokens"), [(0, 1, 1), (5, 1, 4), (70, 3, 6), (126, 5, 3), (10, 150, 2)])
def test_a_chain_in_one_call_is_its_passes_one_by_one(pair: Pair, before: int, new: int, tokens: int) -> None:
    target, head, vocabulary = pair
    torch.manual_seed(before)
    ids_T, states_TD = torch.randint(5, 2000, (before + new,)), torch.randn(before + new, target.width)
    found, read = [], []
    for way in (head.chain, lambda *given: one_by_one(head, *given)):
        head.reset()
        if before:
            head.advance(ids_T[:before], states_TD[:before])
        bytes_before = head.read_bytes
        found.append(way(ids_T[before:], states_TD[before:], tokens, vocabulary))
        assert head.length == before + new + tokens - 1
        read.append(head.read_bytes - bytes_before)
    assert torch.equal(*found) and read[0] == read[1]
    assert len(found[0][1].unique()) > 1 or tokens == 1


def test_a_chain_beyond_the_context_is_refused(pair: Pair) -> None:
    _, head, vocabulary = pair
    head.reset()
    ids_T, states_TD = torch.full((head.context - 2,), 7), torch.zeros(head.context - 2, head.width)
    head.advance(ids_T, states_TD)
    with refused(ModelError, f"{head.context + 1} positions asked for"):
        head.chain(ids_T[:1], states_TD[:1], 3, vocabulary)
