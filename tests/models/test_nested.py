"""The nested draft against its sub-models run from scratch: same logits, no layer twice, roll-back of what waits."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from specbench_s2d.errors import ModelError
from specbench_s2d.models.base import LanguageModel, Likeliest
from specbench_s2d.models.exits import check_exits, resolve_exits
from specbench_s2d.models.nested import NestedDraft
from tests.fakes import FakeModel
from tests.models.reference import tree_mask
from tests.refusals import refused
from tests.tiny import random_nested


def from_scratch(model: LanguageModel, ids: list[int], depth: int) -> Tensor:
    """Logits (V,) of the sub-model of that depth after `ids`, without a cache."""
    model.reset()
    hidden_BTD = model.extend(torch.tensor([ids]), to_layer=depth)
    return model.head(hidden_BTD[:, -1:])[0, -1]


class Counting:
    """Wraps a lean model's `extend` and `read`: how often each (layer, position) ran since the test last cut the
    position itself."""

    def __init__(self, model: LanguageModel) -> None:
        self.runs: Counter[tuple[int, int]] = Counter()
        self._model = model
        for name in ("extend", "read"):
            setattr(model, name, self._counted(getattr(model, name)))

    def _counted(self, run: Callable[..., Any]) -> Callable[..., Any]:
        def counted(inputs: Tensor, from_layer: int = 0, to_layer: int | None = None, *rest: Any, **more: Any) -> Any:
            start = self._model.layer_length(from_layer)
            for layer in range(from_layer, to_layer or self._model.depth):
                for position in range(start, start + inputs.shape[1]):
                    self.runs[layer, position] += 1
            return run(inputs, from_layer, to_layer, *rest, **more)

        return counted

    def cut(self, length: int) -> None:
        self.runs = Counter({at: n for at, n in self.runs.items() if at[1] < length})


def probabilities_of(likeliest: Likeliest) -> Tensor:
    """(V,) of the next token after the last row, where all of the vocabulary was asked for."""
    ids_V, logprobs_V = likeliest.ids_RK[-1], likeliest.logprobs_RK[-1]
    assert ids_V.sort().values.tolist() == list(range(len(ids_V)))
    assert logprobs_V.tolist() == sorted(logprobs_V.tolist(), reverse=True), "the best come first"
    return torch.zeros(len(ids_V)).scatter(0, ids_V, logprobs_V.exp())


@pytest.mark.parametrize("seed", range(10))
def test_each_exit_reads_what_the_sub_model_alone_would(seed: int) -> None:
    """Tokens go as deep as a coin says, with cuts in between: each distribution is the sub-model's from scratch."""
    model, alone = random_nested(seed), random_nested(seed)
    counting, coin = Counting(model), random.Random(seed)
    nested = NestedDraft(model)
    context = [coin.randrange(model.vocabulary) for _ in range(5)]
    nested.prefill(context)
    for _ in range(30):
        new = [coin.randrange(model.vocabulary) for _ in range(coin.choice((1, 1, 2)))]
        context += new
        for stage in range(coin.randint(1, len(nested.exits))):
            read_V = probabilities_of(nested.read(stage, new, best=model.vocabulary))
            expected_V = from_scratch(alone, context, nested.exits[stage])
            torch.testing.assert_close(read_V, expected_V.softmax(-1), atol=1e-5, rtol=0)
        if coin.random() < 0.3:
            del context[len(context) - coin.randint(1, 3) :]
            nested.rollback(len(context))
            counting.cut(len(context))
    assert max(counting.runs.values()) == 1, "a layer ran twice for a position"


def test_layer_runs_counts_layers_times_positions_after_the_prefill() -> None:
    nested = NestedDraft(FakeModel(exits=(2, 3, 4)))
    nested.prefill([1, 2, 3])
    assert nested.layer_runs == 0
    nested.run(0, [4, 1])
    assert (nested.layer_runs, nested.waiting(1)) == (4, 2)
    nested.run(0, [2])
    nested.run(1, ())  # all three waiting states pass layer 3 together
    assert (nested.layer_runs, nested.waiting(1), nested.waiting(2)) == (4 + 2 + 3, 0, 3)
    nested.run(2, ())
    assert (nested.layer_runs, nested.waiting(2)) == (4 + 2 + 3 + 3, 0)


def test_nothing_runs_above_an_exit_until_a_token_goes_deeper() -> None:
    model = FakeModel(exits=(1, 2, 3))
    nested = NestedDraft(model)
    nested.prefill([1, 2])
    nested.run(0, [3])
    nested.run(0, [4])
    assert [model.layer_length(layer) for layer in range(3)] == [4, 2, 2]


def test_roll_back_cuts_waiting_states_too() -> None:
    nested = NestedDraft(FakeModel(exits=(1, 2, 3)))
    nested.prefill([1, 2])
    for token in (3, 4, 1):
        nested.run(0, [token])
    nested.run(1, ())
    nested.run(0, [2])
    nested.rollback(4)
    assert (nested.length, nested.waiting(1), nested.waiting(2)) == (4, 0, 2)
    nested.run(0, [2])
    nested.run(1, ())
    nested.run(2, ())  # the fake refuses states that are not of these positions
    assert (nested.length, nested.waiting(1), nested.waiting(2)) == (5, 0, 0)


def test_keep_moves_waiting_states_together() -> None:
    """A tree of 3 with children 4 and 1 has passed two stages; the path 3, 1 is kept, and goes deeper."""
    model = FakeModel(exits=(1, 2, 3))
    nested = NestedDraft(model)
    nested.prefill([1, 2])
    nested.run(0, [3])
    mask_TM = tree_mask([-1, 0, 0])
    nested.read(0, [4, 1], mask_TM[-2:], rows=2)
    nested.read(1, (), mask_TM, rows=2)
    nested.keep_path([0, 2], 2)
    assert [model.layer_length(layer) for layer in range(3)] == [4, 4, 2]
    last = nested.read(2, (), best=5)  # the fake refuses states that are not those of 1, 2, 3 and 1, 2, 3, 1
    torch.testing.assert_close(probabilities_of(last), model.logits_at((1, 2, 3, 1), 3).softmax(-1))


def test_the_last_rows_are_read_each_with_its_own_best() -> None:
    model = FakeModel(exits=(1, 3))
    nested = NestedDraft(model)
    nested.prefill([1, 2])
    read = nested.read(0, [3, 0, 4], rows=2, best=2)
    for row, prefix in enumerate([(1, 2, 3, 0), (1, 2, 3, 0, 4)]):
        best = model.logits_at(prefix, 1).log_softmax(-1).topk(2)
        assert read.ids_RK[row].tolist() == best.indices.tolist()
        torch.testing.assert_close(read.logprobs_RK[row], best.values)


def test_exits_asked_for_win_over_the_drafts_own() -> None:
    assert NestedDraft(FakeModel(exits=(2, 3, 4)), exits=(1, 4)).exits == (1, 4)
    assert resolve_exits(FakeModel(exits=(2, 3, 4)), None) == (2, 3, 4)


@pytest.mark.parametrize(
    ("exits", "said"),
    [
        ((3, 2), "exits 3, 2: give each depth once, shallow to deep"),
        ((2, 2), "exits 2, 2: give each depth once"),
        ((2, 5), "exits 2, 5: an exit is a depth from 1 to 4"),
        ((0, 4), "exits 0, 4: an exit is a depth from 1 to 4"),
        ((), "no exits"),
    ],
)
def test_exits_that_cannot_be_are_refused(exits: tuple[int, ...], said: str) -> None:
    with refused(ModelError, "draft d", said):
        check_exits(exits, 4, "draft d")


def test_a_plain_draft_has_no_exits_to_choose_from() -> None:
    with refused(ModelError, "draft d is plain: its config declares no exits", "depths from 1 to 4"):
        resolve_exits(_Plain(), None)


def test_a_draft_without_layer_ranges_cannot_be_nested() -> None:
    with refused(ModelError, "draft fake-0", "no layer ranges"):
        resolve_exits(FakeModel(), (1,))


class _Plain:
    name, depth, exits, has_layer_ranges = "d", 4, (), True
