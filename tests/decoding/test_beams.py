"""Beam search over one cache equals the beam search of the definition, in which every beam is read from scratch."""

from __future__ import annotations

import itertools
import math
from functools import partial

import pytest
import torch
from torch import Tensor

from specbench_s2d.decoding.beams import Beams, Continuations, beam_search, best_continuations, best_indices
from specbench_s2d.models.base import LanguageModel, Likeliest
from specbench_s2d.models.exit_view import ExitView
from tests.fakes import FakeModel, Prefix
from tests.tiny import random_pair

PROMPT = (1, 0, 2)


def log_softmax(logits: list[float]) -> list[float]:
    highest = max(logits)
    total = math.log(sum(math.exp(x - highest) for x in logits)) + highest
    return [x - total for x in logits]


def logprobs_from_scratch(model: LanguageModel, prefix: Prefix) -> list[float]:
    """Log-probabilities of the next token after `prefix`, in plain floats, from one pass without a cache."""
    model.reset()
    return log_softmax(model.extend(torch.tensor([list(prefix)]))[0, -1].double().tolist())


def beams_by_hand(model: LanguageModel, prompt: Prefix, depth: int, width: int) -> list[tuple[Prefix, float]]:
    """The `width` best paths by joint log-likelihood, best first."""
    beams: list[tuple[Prefix, float]] = [((), 0.0)]
    for _ in range(depth):
        born = [
            ((*path, token), joint + logprob)
            for path, joint in beams
            for token, logprob in enumerate(logprobs_from_scratch(model, (*prompt, *path)))
        ]
        beams = sorted(born, key=lambda beam: -beam[1])[:width]
    return beams


def paths_of(beams: Beams) -> list[tuple[Prefix, float]]:
    found = []
    for place in beams.best:
        path = beams.path(place)
        ids = tuple(beams.ids[level][p] for level, p in enumerate(path))
        found.append((ids, sum(beams.logprobs[level][p] for level, p in enumerate(path))))
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("depth", "width"), [(1, 1), (1, 3), (2, 4), (4, 8), (5, 3), (3, 400)])
def test_the_beams_are_those_of_the_definition(seed: int, depth: int, width: int) -> None:
    for model in (FakeModel(vocabulary=6, seed=seed, context=500), random_pair(seed)[0]):
        model.reset()
        model.extend(torch.tensor([PROMPT[:-1]]))
        width_here = min(width, 12) if not isinstance(model, FakeModel) else width
        found = paths_of(beam_search(ExitView(model), PROMPT[-1:], depth, width_here, width_here))
        expected = beams_by_hand(model, PROMPT, depth, width_here)
        assert [path for path, _ in found] == [path for path, _ in expected]
        assert [joint for _, joint in found] == pytest.approx([joint for _, joint in expected], abs=1e-4)


def test_a_search_as_wide_as_all_prefixes_is_exact() -> None:
    model = FakeModel(vocabulary=4, seed=3, context=200)
    model.extend(torch.tensor([PROMPT[:-1]]))
    best = paths_of(beam_search(ExitView(model), PROMPT[-1:], 3, 16, 1))[0]
    joint = {
        path: sum(logprobs_from_scratch(model, (*PROMPT, *path[:i]))[path[i]] for i in range(3))
        for path in itertools.product(range(4), repeat=3)
    }
    assert best[0] == max(joint, key=lambda path: joint[path])


def test_one_pass_runs_all_beams_of_a_level_and_the_prefix_stays() -> None:
    """`depth` passes; the cache holds the context and the beams of all levels but the last."""
    model = FakeModel(vocabulary=6, seed=0)
    model.extend(torch.tensor([PROMPT[:-2]]))
    model.passes = 0
    beams = beam_search(ExitView(model), PROMPT[-2:], 4, 5, 2)
    assert model.passes == 4
    assert model.length == len(PROMPT) + 3 * 5
    path = beams.path(beams.best[0])
    model.keep_path(beams.rows(path), len(PROMPT))
    kept = [beams.ids[level][place] for level, place in enumerate(path)][:-1]
    assert model._layers[0] == [*PROMPT, *kept]


def test_of_one_level_the_logits_decide_though_their_logarithms_round_together() -> None:
    """Greedy AR takes the argmax of the logits: so must a block of one token, next-door floats and ties included."""
    logits_V = torch.full((6,), 1.0)
    logits_V[4] = torch.nextafter(logits_V[4], torch.tensor(2.0))
    for rows, best in ((logits_V, 4), (torch.tensor([0.0, 3.0, 3.0, 1.0, 3.0, 0.0]), 1)):
        model = FakeModel(vocabulary=6)
        model.logits_after = lambda prefix, rows=rows: rows  # type: ignore[method-assign,misc]
        model.extend(torch.tensor([PROMPT[:-1]]))
        assert beam_search(ExitView(model), PROMPT[-1:], 1, 8, 1).ids == [[best]]


@pytest.mark.parametrize("count", [1, 2, 7, 8, 40])
def test_the_best_of_all_rows_are_among_each_rows_best(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    logits_WV, above_W = torch.randn(5, 8, generator=generator), torch.randn(5, generator=generator)
    joint_N = (logits_WV.log_softmax(-1) + above_W[:, None]).flatten()
    expected = joint_N.topk(count)
    cells = chosen_of(logits_WV, above_W, count)
    assert (cells.parents_W * 8 + cells.ids_W).tolist() == expected.indices.tolist()
    torch.testing.assert_close(cells.joint_W, expected.values)


def chosen_of(logits_WV: Tensor, above_W: Tensor, count: int) -> Continuations:
    """What `best_continuations` chooses of beams with these next-token logits and joint log-likelihoods."""

    class Rows(ExitView):
        def __init__(self) -> None:
            pass

        def likeliest(self, ids_BT: Tensor, mask: Tensor | None, best: int) -> Likeliest:
            return Likeliest.of(logits_WV, best)

    rows = len(logits_WV)
    return best_continuations(Rows(), torch.zeros(1, rows, dtype=torch.long), torch.eye(rows).bool(), above_W, count)


@pytest.mark.parametrize("count", [1, 3, 5])
def test_more_may_be_read_of_each_beam_than_are_taken(count: int) -> None:
    """As many as passes are prepared for; what is chosen is the same."""
    reads: list[int] = []

    class Watched(ExitView):
        def likeliest(self, ids_BT: Tensor, mask: Tensor | None, best: int) -> Likeliest:
            reads.append(best)
            return super().likeliest(ids_BT, mask, best)

    found = []
    for prepared in ((), (2, 6), (1, 4)):
        model = FakeModel(vocabulary=8, seed=count)
        model.extend(torch.tensor([PROMPT[:-1]]))
        choose = partial(best_continuations, prepared=prepared)
        found.append(beam_search(Watched(model), PROMPT[-1:], 3, count, 1, choose))
    assert found[0] == found[1] == found[2]
    assert reads[:6] == [count, count, 1, {1: 2, 3: 6, 5: 6}[count], {1: 2, 3: 6, 5: 6}[count], 2]


def test_likeliest_takes_no_more_than_there_are() -> None:
    """Probabilities 0.4, 0.6 and 0.7, 0.3, of beams of 0.5 and 0.3: 0.3, 0.21, 0.2, 0.09."""
    logits_WV = torch.tensor([[0.4, 0.6], [0.7, 0.3]]).log()
    cells = chosen_of(logits_WV, torch.tensor([0.5, 0.3]).log(), 9)
    assert cells.ids_W.tolist() == [1, 0, 0, 1]
    assert cells.parents_W.tolist() == [0, 1, 0, 1]
    assert cells.joint_W.exp().tolist() == pytest.approx([0.3, 0.21, 0.2, 0.09])
    assert best_indices(torch.tensor([0.1, 0.3, 0.2, 0.0]), 9).tolist() == [1, 2, 0, 3]


def test_of_equals_the_first_is_taken_where_one_is_asked_for() -> None:
    assert best_indices(torch.tensor([0.0, 3.0, 1.0, 3.0]), 1).tolist() == [1]
    assert Likeliest.of(torch.tensor([[0.0, 3.0, 1.0, 3.0]]), 1).ids_RK.tolist() == [[1]]
