"""The native engine: the same logits to the last bit, however wide the pass and however many threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from specbench_s2d import load_model
from specbench_s2d.models.base import Likeliest
from specbench_s2d.models.draft_vocabulary import DraftVocabulary
from specbench_s2d.models.engines.native import NativeEngine, PanelCache, why_not_native
from tests.models.reference import assert_close, family_model, random_ids
from tests.models.test_llama import lean_twin

CPU = torch.device("cpu")


def native(threads: int | None = 1, family: str = "llama", engines: list[NativeEngine] | None = None) -> Any:
    def make(weights: Any) -> NativeEngine:
        made = NativeEngine(weights, threads=threads)
        if engines is not None:
            engines.append(made)
        return made

    return lean_twin(family_model(family), make)


def in_passes(model: Any, ids_BT: Tensor, width: int) -> Tensor:
    model.reset()
    return torch.cat([model.extend(ids_BT[:, at : at + width])[0] for at in range(0, ids_BT.shape[1], width)])


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_widths_and_threads_change_no_bit(family: str, threads: int) -> None:
    ids_BT = random_ids(90)
    expected_TV = native(1, family).extend(ids_BT)[0]
    model = native(threads, family)
    for width in (1, 2, 5, 6, 7, 13, 64):
        assert torch.equal(in_passes(model, ids_BT, width), expected_TV), f"passes of {width}"


def shaped(**shape: int) -> Any:
    """A random model of another shape, tied."""
    config = LlamaConfig(
        vocab_size=1000, max_position_embeddings=600, initializer_range=0.1, tie_word_embeddings=True, **shape
    )
    torch.manual_seed(3)
    return LlamaForCausalLM(config).eval()


SHAPES = {
    "panels that two and three threads share": {
        "hidden_size": 576, "intermediate_size": 192, "num_hidden_layers": 1, "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
    "inputs that are no multiple of a block": {
        "hidden_size": 144, "intermediate_size": 208, "num_hidden_layers": 2, "num_attention_heads": 3,
        "num_key_value_heads": 1,
    },
    "heads wider than a panel": {
        "hidden_size": 160, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 80,
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=SHAPES)
def row_by_row(request: pytest.FixtureRequest) -> tuple[Any, Tensor, Tensor]:
    """A model, a prompt of some chunks, and the logits of passes of one row."""
    reference, ids_BT = shaped(**SHAPES[request.param]), torch.arange(7, 337)[None]
    expected_TV = in_passes(lean_twin(reference, partial(NativeEngine, threads=1)), ids_BT, 1)
    assert_close(expected_TV, lean_twin(reference).extend(ids_BT)[0])
    return reference, ids_BT, expected_TV


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_width_up_to_several_tiles_is_one_row_to_the_bit(
    row_by_row: tuple[Any, Tensor, Tensor], threads: int
) -> None:
    """From positions before, across and behind the end of a chunk of attention's positions."""
    reference, ids_BT, expected_TV = row_by_row
    model = lean_twin(reference, partial(NativeEngine, threads=threads))
    assert torch.equal(model.extend(ids_BT)[0], expected_TV)
    widths = [*range(2, 20), 24, 67] if threads == 1 else [7, 13, 17]
    for cached in (256, 120, 0):
        for width in widths:
            model.rollback(cached)
            found_TV = model.extend(ids_BT[:, cached : cached + width])[0]
            assert torch.equal(found_TV, expected_TV[cached : cached + width]), f"{width} rows after {cached}"


@pytest.mark.parametrize("threads", [1, 2])
def test_a_branch_sees_its_own_path_whatever_chunks_lie_between(threads: int) -> None:
    """A mask over 300 positions of which row t sees a third: eager attention is the reference."""
    ids_BT, new = random_ids(309), 9
    mask_TS = torch.rand(new, 300, generator=torch.Generator().manual_seed(1)) < 0.3
    mask_TS[:, :200] &= torch.arange(new)[:, None] % 2 == 0  # every second row sees nothing of a whole chunk
    mask_TS[:, -new:] |= torch.eye(new, dtype=torch.bool)
    logits = []
    for model in (native(threads), lean_twin(family_model("llama"))):
        model.extend(ids_BT[:, :300])
        logits.append(model.extend(ids_BT[:, 300:], mask=mask_TS)[0])
    assert_close(*logits)


def test_a_demo_model_is_the_same_to_the_bit_too() -> None:
    """Heads of 64 and panels that several threads share."""
    ids_BT = torch.arange(3, 103)[None]
    model = load_model("demo-tiny", device="cpu", dtype="float32", engine="native")
    whole_TV = model.extend(ids_BT)[0]
    assert torch.equal(in_passes(model, ids_BT, 1), whole_TV)
    assert_close(whole_TV, load_model("demo-tiny", device="cpu", dtype="float32", engine="eager").extend(ids_BT)[0])


def test_growing_keeps_what_is_cached() -> None:
    ids_BT = random_ids(700)
    model, whole_TV = native(), native().extend(ids_BT)[0]
    assert torch.equal(in_passes(model, ids_BT, 350), whole_TV), "512 positions are outgrown in the second pass"


def test_a_cache_of_panels_moves_states_as_the_plain_one_does() -> None:
    cache = PanelCache(layers=2, kv_heads=2, head_width=16, limit=200)
    cache.reserve(200)
    cache.lengths = [150, 140]
    for keys, values in cache.layers:
        keys.copy_(torch.arange(keys.shape[1] * 64).view(1, -1, 1, 64).expand_as(keys))
        values.copy_(torch.arange(values.shape[1]).view(1, -1, 1).expand_as(values))
    cache.keep_path([0, 3, 20, 45], start=100)
    assert cache.lengths == [104, 103]
    for layer, kept in enumerate(([100, 103, 120, 145], [100, 103, 120])):
        keys, values = cache.layers[layer]
        flat = keys.transpose(2, 3).flatten(1, 2)
        assert flat[0, 100 : 100 + len(kept), 5].tolist() == kept
        assert values[1, 100 : 100 + len(kept), 0].tolist() == kept


def test_the_fastest_number_of_threads_is_chosen_and_told() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        made: list[NativeEngine] = []
        native(None, engines=made)
        facts = made[0].facts()
        times = facts["pass_ms_by_threads"]
        allowed = min(2, len(os.sched_getaffinity(0)))
        assert set(times) == ({1, 2} if allowed > 1 else set())
        assert facts["threads"] == min(times, key=times.__getitem__, default=1)
    finally:
        torch.set_num_threads(before)


def test_two_python_threads_may_run_passes_at_once() -> None:
    """The second finds the team busy and runs alone: slower, and right."""
    ids_BT = random_ids(60)
    expected_TV = native(2).extend(ids_BT)[0]
    models, wrong = [native(2) for _ in range(2)], list[int]()

    def decode(model: Any) -> None:
        for _ in range(30):
            if not torch.equal(in_passes(model, ids_BT, 10), expected_TV):
                wrong.append(1)

    both = [threading.Thread(target=decode, args=(model,)) for model in models]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert not wrong


def test_a_forked_child_gathers_a_team_of_its_own() -> None:
    model, ids_BT = native(2), random_ids(20)
    expected_TV = in_passes(model, ids_BT, 5)
    child = os.fork()
    if not child:
        os._exit(0 if torch.equal(in_passes(model, ids_BT, 5), expected_TV) else 1)
    assert os.waitpid(child, 0)[1] == 0


REFUSED: dict[str, tuple[Callable[[Any], Any], torch.dtype, str]] = {
    "another dtype": (lambda config: config, torch.bfloat16, "computes in float32 on a CPU, not in bfloat16 on cpu"),
    "a width": (lambda config: _with(config, hidden_size=40), torch.float32, "multiples of 16, not 40, 16, 48"),
}


def _with(config: Any, **changes: Any) -> Any:
    for name, value in changes.items():
        setattr(config, name, value)
    return config


@pytest.mark.parametrize("case", REFUSED)
def test_what_it_cannot_run_is_said(case: str) -> None:
    change, dtype, said = REFUSED[case]
    assert said in (why_not_native(change(family_model("llama").config), CPU, dtype) or "")


def test_a_vocabulary_of_any_size_will_do() -> None:
    config = family_model("llama").config
    assert config.vocab_size % 16
    assert why_not_native(config, CPU, torch.float32) is None
    assert native().extend(random_ids(3)).shape == (1, 3, config.vocab_size)


@pytest.mark.parametrize("scale", [20.0, 60.0, 2000.0])
def test_gates_far_below_nought_are_shut(scale: float) -> None:
    """silu(-100) is 0, though e^100 is beyond float32."""
    reference = family_model("llama")
    with torch.no_grad():
        for name, weight in reference.named_parameters():
            if "gate_proj" in name:
                weight.mul_(scale)
    ids_BT = random_ids(40)
    eager_TV = lean_twin(reference).extend(ids_BT)[0]
    native_TV = lean_twin(reference, partial(NativeEngine, threads=1)).extend(ids_BT)[0]
    assert torch.equal(native_TV.argmax(-1), eager_TV.argmax(-1))
    assert_close(native_TV, eager_TV, 1e-4 * max(1.0, float(eager_TV.abs().max())))


def test_what_is_out_of_range_is_refused_and_what_is_laid_out_otherwise_is_not() -> None:
    model, ids_BT = native(), random_ids(6)
    expected_TV = model.extend(ids_BT)[0]
    model.reset()
    assert torch.equal(model.extend(ids_BT.repeat_interleave(2, 1)[:, ::2])[0], expected_TV)
    model.reset()
    assert torch.equal(model.extend(ids_BT.int())[0], expected_TV)
    with pytest.raises(IndexError, match="an id is out of range: 0 to 60"):
        model.extend(torch.tensor([[61]]))
    model.reset()
    with pytest.raises(IndexError, match="a row of the mask sees no position"):
        model.extend(ids_BT, mask=torch.zeros(6, 6, dtype=torch.bool))


@pytest.mark.parametrize("size", [None, 19])
@pytest.mark.parametrize(("new", "rows", "best"), [(1, 1, 1), (2, 1, 1), (5, 5, 3), (7, 2, 4), (200, 1, 1)])
def test_layers_and_exit_check_in_one_call_are_those_of_two_to_the_bit(
    new: int, rows: int, best: int, size: int | None
) -> None:
    """The head's rows are the last of the pass; hidden states are returned of all."""
    vocabulary = None if size is None else DraftVocabulary.of(range(3, 3 + size), 61)
    together, apart = native(), native()
    for model in (together, apart):
        model.extend(random_ids(9))
    hidden_BTD, likeliest = together.read(random_ids(new), 0, 2, None, rows, best, vocabulary)
    expected_BTD = apart.extend(random_ids(new), to_layer=2)
    assert torch.equal(hidden_BTD, expected_BTD)
    logits_RV = apart.head(expected_BTD[:, -rows:], vocabulary)[0]
    expected = Likeliest.of(logits_RV, best)
    assert torch.equal(likeliest.ids_RK, expected.ids_RK)
    assert_close(likeliest.logprobs_RK, expected.logprobs_RK, 1e-6)
    assert together.read_bytes == apart.read_bytes


def head_of(logits_V: list[float], threads: int) -> Any:
    """A model of one layer whose logits are these, whatever it reads, and its hidden state."""
    reference = family_model("llama, tied")
    model = lean_twin(reference, partial(NativeEngine, threads=threads))
    with torch.no_grad():
        state = model.extend(random_ids(1), to_layer=1)
        normed_D = torch.nn.functional.rms_norm(state[0, 0], (64,), reference.model.norm.weight, 1e-6)
        packed = model._engine._packed["head"]  # one panel: 61 of 64 outputs
        packed.zero_()
        packed[0, 0, : len(logits_V)] = torch.tensor(logits_V) / normed_D[0]
    return model, state


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("size", [1, 5, 16, 17, 33, 61])
def test_the_kernels_likeliest_is_torchs(size: int, threads: int) -> None:
    """Of equal logits the first; the padding of a panel, whose logits are 0, is no token."""
    values = [-9.0 - (i * 7 % 11) / 4 for i in range(61)]
    values[1::3] = [-3.0] * len(values[1::3])
    ids = sorted({*range(0, 61, 4), *range(61)}, key=lambda i: (i * 13) % 61)[:size]
    model, state = head_of(values, threads)
    vocabulary = DraftVocabulary.of(ids, 61)
    _, found = model.read(state, 1, 1, None, 1, 1, vocabulary)
    kept = torch.tensor(values)[list(vocabulary.ids)]
    logits = model.head(state, vocabulary)[0]
    assert_close(logits[0, list(vocabulary.ids)], kept, 1e-5)
    assert_close(found.logprobs_RK, kept.log_softmax(0).max().view(1, 1), 1e-5)
    assert found.ids_RK.tolist() == Likeliest.of(logits, 1).ids_RK.tolist()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [0, 20, 60])
def test_a_logit_that_is_no_number_makes_the_log_probability_none(place: int, value: float) -> None:
    model, state = head_of([0.5] * 61, 1)
    model._engine._packed["head"][0, 0, place] *= value
    _, found = model.read(state, 1, 1, None, 1, 1, DraftVocabulary.of(range(61), 61))
    assert bool(found.logprobs_RK.isnan().all())
    assert 0 <= int(found.ids_RK) < 61
