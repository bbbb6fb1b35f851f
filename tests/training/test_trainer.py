"""The training loop: what is learnt, how fast, and that it learns."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from specbench_s2d.training.checkpoint import CHECKPOINT
from specbench_s2d.training.data import Encoded, Packed
from specbench_s2d.training.init_model import ModelSize, new_model
from specbench_s2d.training.spec import TrainSpec
from specbench_s2d.training.trainer import (
    DivergedError,
    Progress,
    learning_rate_at,
    sums_of_losses,
    train,
    validation_loss,
)

from .factory import held_out, random_rows, tiny_model, tiny_spec

# The schedule


def test_the_learning_rate_warms_up_linearly_then_follows_a_cosine() -> None:
    spec = TrainSpec(tokens=100 * 16, length=8, batch=2, learning_rate=1.0, warmup=0.04, final_lr=0.2)
    assert spec.steps == 100
    warm_up = [learning_rate_at(step, spec) for step in range(4)]
    assert warm_up == [0.25, 0.5, 0.75, 1.0]
    assert learning_rate_at(4, spec) == 1.0
    assert learning_rate_at(52, spec) == pytest.approx(0.6)  # half-way: (1 + 0.2) / 2
    assert learning_rate_at(28, spec) == pytest.approx(0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2)  # a quarter
    assert learning_rate_at(100, spec) == pytest.approx(0.2)


def test_steps_are_the_tokens_over_those_of_one_step() -> None:
    assert TrainSpec(tokens=6_000_000, length=1536, batch=4).steps == 977  # 6,000,000 / 6,144 = 976.6
    assert TrainSpec(tokens=1).steps == 1


# The loss


def plain_cross_entropy(model: PreTrainedModel, ids: list[int], learn: list[bool]) -> float:
    """-log softmax of each learnt id given those before it, summed, in Python's own floats."""
    with torch.no_grad():
        rows = model(torch.tensor([ids])).logits[0].tolist()
    total = 0.0
    for row, target, counts in zip(rows, ids[1:], learn[1:], strict=False):
        total += math.log(math.fsum(math.exp(x) for x in row)) - row[target] if counts else 0.0
    return total


def test_the_loss_is_the_cross_entropy_of_the_marked_targets() -> None:
    model, rows = tiny_model(), random_rows(3, 8)
    expected = sum(
        plain_cross_entropy(model, ids, learn)
        for ids, learn in zip(rows.ids_BT.tolist(), rows.learn_BT.tolist(), strict=True)
    )
    ids_BT, learn_BT = torch.from_numpy(rows.ids_BT).long(), torch.from_numpy(rows.learn_BT)
    assert sums_of_losses(model, ids_BT, learn_BT, autocast=False).tolist() == [pytest.approx(expected, rel=1e-5)]


def gradients(model: PreTrainedModel, ids: list[int], learn: list[bool]) -> list[torch.Tensor]:
    loss = sums_of_losses(model, torch.tensor([ids]), torch.tensor([learn]), autocast=False).sum()
    return list(torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True))


def test_prompts_give_no_gradient_when_answers_alone_are_learnt() -> None:
    model = tiny_model()
    ids = [0, 4, 9, 2, 7, 7, 3]
    assert all(g.abs().sum() == 0 for g in gradients(model, ids, [False] * 7))
    answers = gradients(model, ids, [False, False, False, False, True, True, True])
    prompts = gradients(model, ids, [True, True, True, True, False, False, False])
    both = gradients(model, ids, [True] * 7)
    for whole, one, other in zip(both, answers, prompts, strict=True):
        assert torch.allclose(whole, one + other, atol=1e-5)
    assert any(g.abs().sum() > 0 for g in prompts)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_rows_without_answers_change_no_weight(optimizer: str, tmp_path: Path) -> None:
    rows = random_rows(4, 8)
    silent = Packed(rows.ids_BT, np.zeros_like(rows.learn_BT))
    model = tiny_model()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    train(model, silent, {}, tiny_spec(steps=2, weight_decay=0.0, optimizer=optimizer), tmp_path)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())


def test_micro_batches_change_nothing_but_rounding(tmp_path: Path) -> None:
    models = [tiny_model() for _ in range(2)]
    for size, model in zip((1, 4), models, strict=True):
        train(model, random_rows(8, 8), {}, tiny_spec(steps=3, micro_batch=size), tmp_path / str(size))
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-4)


# Validation


def test_validation_pools_the_tokens_of_all_suites() -> None:
    model = tiny_model()
    first = Encoded("a", np.array([1, 2, 3, 4], dtype=np.int32), np.array([False, False, True, True]))
    second = Encoded("b", np.array([5, 6], dtype=np.int32), np.array([False, True]))
    sums = [plain_cross_entropy(model, e.ids.tolist(), e.answer.tolist()) for e in (first, second)]
    measured = validation_loss(model, {"a": [first], "b": [second]}, autocast=False)
    expected = {"a": sums[0] / 2, "b": sums[1], "all": (sums[0] + sums[1]) / 3}
    assert measured == {2: pytest.approx(expected, rel=1e-5)}


def test_without_held_out_answers_nothing_is_reported() -> None:
    assert validation_loss(tiny_model(), {}, autocast=False) == {2: {}}


# Learning


@pytest.mark.parametrize(
    ("optimizer", "rate", "autocast"), [("adamw", 2e-2, False), ("muon", 5e-2, False), ("muon", 5e-2, True)]
)
def test_the_loss_falls_to_the_entropy_of_the_data_and_not_below(
    optimizer: str, rate: float, autocast: bool, tmp_path: Path
) -> None:
    """Every other id is a 2, and between them stands a fair coin: (ln 2) / 2 = 0.347 nats per token.

    Each row is seen once, so that the coins cannot be learnt by heart.
    """
    ids = np.full((80 * 8, 17), 2, dtype=np.int32)
    ids[:, 1::2] = np.random.default_rng(0).integers(0, 2, (80 * 8, 8))
    rows = Packed(ids, np.ones_like(ids, dtype=bool))
    model = new_model(ModelSize(layers=1, width=16, heads=1, kv_heads=1, feed_forward=24, context=32), 3, 0, None, None)
    spec = TrainSpec(tokens=80 * 8 * 16, length=16, batch=8, optimizer=optimizer, learning_rate=rate, autocast=autocast)
    losses = [row["loss"] for row in train(model, rows, {}, spec, tmp_path)]
    assert losses[0] > 1  # about ln 3: nothing is known yet
    end = sum(losses[-10:]) / 10
    assert math.log(2) / 2 - 0.01 < end < math.log(2) / 2 + 0.03


def test_the_watcher_is_told_every_step(tmp_path: Path) -> None:
    told: list[Progress] = []
    rows = train(tiny_model(), random_rows(8, 8), held_out(), tiny_spec(steps=6), tmp_path, told.append)
    assert [p.step for p in told] == [1, 2, 3, 4, 5, 6]
    assert [p.tokens for p in told] == [32, 64, 96, 128, 160, 192]
    assert [p.step for p in told if p.validation] == [5, 6]  # every fifth, and the last
    assert [p.loss for p in told] == [row["loss"] for row in rows]
    assert all(p.tokens_per_s > 0 for p in told)


# Divergence


def test_a_loss_that_is_no_number_stops_with_one_line_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    model = tiny_model()

    def break_at_five(progress: Progress) -> None:
        if progress.step == 5:
            with torch.no_grad():
                model.model.embed_tokens.weight.fill_(float("nan"))

    with pytest.raises(DivergedError, match=r"step 6: the training loss is nan.*kept.*lower --learning-rate") as caught:
        train(model, random_rows(8, 8), {}, tiny_spec(), tmp_path, break_at_five)
    assert "\n" not in str(caught.value)
    kept = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert kept["step"] == 4
    assert all(torch.isfinite(weight).all() for weight in kept["model"].values())


def test_a_gradient_that_is_no_number_never_reaches_the_weights(tmp_path: Path) -> None:
    model = tiny_model()
    model.model.norm.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(DivergedError, match=r"step 1: the gradient is (nan|inf).*no checkpoint yet"):
        train(model, random_rows(8, 8), {}, tiny_spec(), tmp_path)
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_a_small_vocabulary_is_learnt_as_if_no_other_id_existed() -> None:
    model, kept_V = tiny_model(), torch.tensor([2, 3, 7, 11, 13])
    ids_BT = torch.tensor([[3, 7, 1, 13, 5, 2, 11]])
    learn_BT = torch.ones_like(ids_BT, dtype=torch.bool)
    ours_E = sums_of_losses(model, ids_BT, learn_BT, False, (), kept_V)
    with torch.no_grad():
        logits_BTV = model(ids_BT[:, :-1]).logits
    others = [i for i in range(logits_BTV.shape[-1]) if i not in kept_V.tolist()]
    logits_BTV[..., others] = float("-inf")
    targets_BT = ids_BT[:, 1:]
    counted = torch.isin(targets_BT, kept_V)
    theirs = F.cross_entropy(logits_BTV[counted], targets_BT[counted], reduction="sum")
    assert counted.sum() == 4
    torch.testing.assert_close(ours_E[0], theirs)
