"""Graphs are tried before they are trusted: compiled ones, then plain ones; eager with the reason where both fail."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from specbench_s2d.errors import ModelError
from specbench_s2d.models.engines.capture import Work
from specbench_s2d.models.engines.eager import EagerEngine
from specbench_s2d.models.engines.graph_keys import MOST_ROWS, GraphKey
from specbench_s2d.models.engines.layer import PLAIN, PassFunctions
from specbench_s2d.models.engines.static_pass import StaticPass
from specbench_s2d.models.llama import LlamaModel
from tests.models.captured import RerunningCapture, graph_engine
from tests.models.reference import assert_close, family_model, random_ids
from tests.models.test_llama import lean_twin
from tests.refusals import refused

POSITIONS = 400
NAN = float("nan")


def every_value(tensor: Tensor, rows: int) -> None:
    tensor.mul_(1.2)


def last_row_is_nan(tensor: Tensor, rows: int) -> None:
    tensor[rows - 1 : rows] = NAN


class Wrong:
    """A capture whose graphs of some shapes leave damaged results."""

    def __init__(
        self, is_wrong: Callable[[GraphKey, int], bool], damage: Callable[[Tensor, int], None] = every_value
    ) -> None:
        self._is_wrong, self._damage = is_wrong, damage

    def capture(self, work: Work) -> Work:
        assert isinstance(work, partial)
        (key,), static = work.args, work.func.__self__
        repeat = RerunningCapture().capture(work)
        if not self._is_wrong(key, static.cache.capacity):
            return repeat

        def wrong() -> None:
            repeat()
            with torch.inference_mode(False), torch.no_grad():
                for results in written(static, key):
                    self._damage(results, key.rows)

        return wrong


def written(static: StaticPass, key: GraphKey) -> list[Tensor]:
    """The buffers that a graph writes its results to, rows first."""
    buffers = [(key.kind.states, static.out_TD), (key.kind.logits, static.logits_TV)]
    best = [static.best_2TK[key.kind.best].transpose(0, 1)] if key.kind.best else []
    return [results for writes, results in buffers if writes] + best


def tried(capture: Any, asked: str | None = None, compiled: PassFunctions | None = None) -> LlamaModel:
    model = lean_twin(family_model("llama"), graph_engine(capture, asked=asked, compiled=compiled))
    model.reserve(POSITIONS)
    return model


def assert_equals_eager(model: LlamaModel) -> None:
    """Over a prompt, a chain and a tree."""
    plain = lean_twin(family_model("llama"), EagerEngine)
    mask_TT = torch.ones(3, 3, dtype=torch.bool).tril()
    for ids_BT, mask in ((random_ids(9), None), (random_ids(2, seed=2), None), (random_ids(3, seed=3), mask_TT)):
        assert_close(model.extend(ids_BT, mask=mask), plain.extend(ids_BT, mask=mask))


WRONG: dict[str, tuple[Callable[[GraphKey, int], bool], str]] = {
    "everywhere": (lambda key, _: True, "one token, after 0 positions"),
    "only for 2 rows": (lambda key, _: key.rows == 2, "two tokens"),
    "only for 3 or more rows of a chain": (lambda key, _: key.rows > 3, "five tokens"),
    "only under masks": (lambda key, _: key.kind.mask_columns > 0, "a tree"),
    "only where states are given": (lambda key, _: key.kind.states and not key.kind.hidden, "the lower layers"),
    "only in the head alone": (lambda key, _: not key.kind.layers, "the head"),
    "only for hidden inputs": (lambda key, _: key.kind.hidden and bool(key.kind.layers), "the upper layers"),
    "only for the likeliest": (lambda key, _: key.kind.best > 0, "the likeliest"),
    "only in the last bucket": (
        lambda key, capacity: key.bucket == capacity - MOST_ROWS,
        "one token, after 400 positions",
    ),
    "only for many rows in the last bucket": (
        lambda key, capacity: key.bucket == capacity - MOST_ROWS and key.rows > 3,
        "five tokens, after 400 positions",
    ),
}


@pytest.mark.parametrize("damage", [every_value, last_row_is_nan])
@pytest.mark.parametrize("where", WRONG)
def test_graphs_that_compute_wrongly_are_refused_wherever_they_do(
    where: str, damage: Callable[[Tensor, int], None]
) -> None:
    is_wrong, said = WRONG[where]
    model = tried(Wrong(is_wrong, damage))
    assert model.engine == "eager"
    why = model.engine_facts["why_eager"]
    assert said in why
    assert ("differ from eager by 2" if damage is every_value else "not finite") in why
    assert_equals_eager(model)


def test_graphs_that_are_right_are_trusted_and_a_little_rounding_is_no_difference() -> None:
    for damage in (lambda tensor, rows: None, lambda tensor, rows: tensor.mul_(1.01)):
        model = tried(Wrong(lambda key, capacity: True, damage))
        assert model.engine == "cuda-graphs"
        assert "why_eager" not in model.engine_facts
    assert_equals_eager(tried(RerunningCapture()))


class Refused:
    """A driver that captures no tree."""

    def capture(self, work: Work) -> Work:
        assert isinstance(work, partial)
        if work.args[0].kind.mask_columns:
            raise RuntimeError("CUDA error: out of memory\nand more")
        return RerunningCapture().capture(work)


def test_whoever_asked_for_graphs_by_name_is_told_why_they_cannot_be() -> None:
    with refused(
        ModelError, "--engine graphs: graphs give values that are not finite (a tree, after 0", "--engine eager"
    ):
        tried(Wrong(lambda key, _: key.kind.mask_columns > 0, last_row_is_nan), "graphs")
    with refused(ModelError, "--engine cuda-graphs: graphs failed here (RuntimeError: CUDA error: out of memory)"):
        tried(Refused(), "cuda-graphs")
    assert tried(Refused()).engine == "eager"
    assert tried(RerunningCapture(), "cuda-graphs").engine == "cuda-graphs"


def raising(*arguments: Any) -> Tensor:
    raise RuntimeError("no ptxas here\nand a long trace")


def doubling_head(*arguments: Any) -> Tensor:
    return PLAIN.run_head(*arguments) * 2


def no_number_under_a_mask(hidden_TD: Tensor, inputs: Any, *rest: Any) -> Tensor:
    """Three rows are a tree's alone in a trial."""
    out_TD = PLAIN.run_layer(hidden_TD, inputs, *rest)
    return out_TD * NAN if len(out_TD) == 3 else out_TD


@pytest.mark.parametrize(
    ("compiled", "why"),
    [
        (PLAIN._replace(run_layer=raising), "graphs failed here (RuntimeError: no ptxas here)"),
        (PLAIN._replace(run_head=doubling_head), "graphs differ from eager by 100.0 %"),
        (PLAIN._replace(run_layer=no_number_under_a_mask), "graphs give values that are not finite (a tree"),
    ],
    ids=["that raise", "that compute wrongly", "that give no numbers under a mask"],
)
@pytest.mark.parametrize("asked", [None, "cuda-graphs"])
def test_compiled_functions_give_way_to_plain_graphs(compiled: PassFunctions, why: str, asked: str | None) -> None:
    """Graphs asked for by name are still graphs; nothing of the compiled ones stays."""
    model = tried(RerunningCapture(), asked, compiled)
    facts = model.engine_facts
    assert (model.engine, facts["compiled"]) == ("cuda-graphs", False)
    assert facts["why_not_compiled"].startswith(why)
    assert "why_eager" not in facts
    assert_equals_eager(model)


def test_compiled_functions_that_are_right_stay() -> None:
    calls: list[int] = []

    def counted(*arguments: Any) -> Tensor:
        calls.append(1)
        return PLAIN.run_head(*arguments)

    model = tried(RerunningCapture(), compiled=PLAIN._replace(run_head=counted))
    facts = model.engine_facts
    assert (model.engine, facts["compiled"], facts["why_not_compiled"]) == ("cuda-graphs", True, None)
    assert facts["captures"] == facts["graphs"]
    before = len(calls)
    assert_equals_eager(model)
    assert len(calls) > before


def test_where_neither_works_both_reasons_are_kept() -> None:
    facts = tried(Refused(), compiled=PLAIN._replace(run_layer=raising)).engine_facts
    assert facts["engine"] == "eager"
    assert "no ptxas here" in facts["why_not_compiled"]
    assert "out of memory" in facts["why_eager"]


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return family_model("llama")


def test_a_trial_leaves_no_trace(model: PreTrainedModel) -> None:
    """It writes to the cache that is used afterwards, at positions that are then overwritten."""
    ours, plain = tried(RerunningCapture()), lean_twin(model, EagerEngine)
    assert ours.length == 0
    for width in (1, 1, 3, 8, 2):
        assert_close(ours.extend(random_ids(width, seed=width)), plain.extend(random_ids(width, seed=width)))


def test_a_trial_happens_once_however_the_cache_grows() -> None:
    capture = RerunningCapture()
    model = tried(capture)
    tried_once, facts = capture.recorded, model.engine_facts
    assert facts["captures"] == facts["graphs"] == tried_once > 0
    model.reserve(POSITIONS + 500)
    assert capture.recorded == tried_once
