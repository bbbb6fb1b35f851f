"""`tie_word_embeddings: true` beside what is stored: logits are transformers', in every form of weights."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from specbench_s2d.errors import ModelError
from specbench_s2d.models import load_model
from specbench_s2d.models.memory import plan_memory
from specbench_s2d.models.resolve import resolve_model
from tests.models.reference import assert_close, random_ids, recomputed
from tests.refusals import refused
from tests.vicuna import as_bin, as_legacy_bin, as_safetensors

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
Weights = dict[str, torch.Tensor]


def keep_both(weights: Weights) -> None:
    """As granite ships: two different matrices."""


def equal(weights: Weights) -> None:
    weights[HEAD] = weights[EMBEDDING].clone()


def embedding_alone(weights: Weights) -> None:
    del weights[HEAD]


def head_alone(weights: Weights) -> None:
    del weights[EMBEDDING]


def sharded(weights: Weights, folder: Path) -> None:
    """Head and embedding in different files."""
    shards = {"model-1.safetensors": {n: t for n, t in weights.items() if n != HEAD}}
    if HEAD in weights:
        shards["model-2.safetensors"] = {HEAD: weights[HEAD]}
    for name, part in shards.items():
        save_file(part, folder / name, metadata={"format": "pt"})
    index = {tensor: name for name, part in shards.items() for tensor in part}
    content = {"metadata": {}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content), encoding="utf-8")


STORED: list[Callable[[Weights], None]] = [keep_both, equal, embedding_alone, head_alone]
FORMS: list[Callable[[Weights, Path], None]] = [as_safetensors, as_bin, as_legacy_bin, sharded]
CASES = [*((keep_both, form) for form in FORMS), *((stored, form) for stored in STORED[1:] for form in FORMS[::3])]


def tied(model: Path, out: Path, stored: Callable[[Weights], None], form: Callable[[Weights, Path], None]) -> Path:
    """A copy of a model whose config ties the head."""
    shutil.copytree(model, out, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    (out / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}), encoding="utf-8")
    weights = load_file(model / "model.safetensors")
    stored(weights)
    form(weights, out)
    return out


@pytest.mark.parametrize(("stored", "form"), CASES, ids=lambda one: one.__name__)
def test_logits_are_transformers(
    stored: Callable[[Weights], None], form: Callable[[Weights, Path], None], tiny_models: Path, tmp_path: Path
) -> None:
    folder = tied(tiny_models / "tiny-target", tmp_path / "tied", stored, form)
    reference = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    lean, ids_BT = load_model(resolve_model(str(folder)), "cpu"), random_ids(20)
    assert lean.identity.forward == "lean"
    assert_close(lean.extend(ids_BT), recomputed(reference, ids_BT))
    separate = reference.lm_head.weight is not reference.model.embed_tokens.weight
    assert separate == (stored is keep_both), "what transformers does here has changed"
    assert ("head" in lean.load_facts) == separate
    planned = plan_memory(resolve_model(str(folder)), torch.float32)
    assert planned.weights_bytes == lean.parameter_bytes == 4 * sum(p.numel() for p in reference.parameters())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_keeps_the_head_that_is_stored(dtype: str, tiny_models: Path, tmp_path: Path) -> None:
    folder = tied(tiny_models / "tiny-target", tmp_path / "tied", keep_both, as_safetensors)
    lean, ids_BT = load_model(resolve_model(str(folder)), "cpu", dtype), random_ids(20)
    whole = load_model(resolve_model(str(tiny_models / "tiny-target")), "cpu", dtype)
    assert torch.equal(lean.extend(ids_BT), whole.extend(ids_BT))
    planned = plan_memory(resolve_model(str(folder)), lean.dtype, on_host=True)
    assert planned.weights_bytes == lean.parameter_bytes


@pytest.mark.parametrize(("dtype", "is_head"), [(torch.int8, True), (torch.float16, True), (torch.float64, False)])
def test_a_head_of_another_type_is_compared_by_value(
    dtype: torch.dtype, is_head: bool, tiny_models: Path, tmp_path: Path
) -> None:
    """Zeros as int8 are what an embedding below 1 rounds to."""

    def stored(weights: Weights) -> None:
        weights[HEAD] = weights[EMBEDDING].to(dtype)

    folder = tied(tiny_models / "tiny-target", tmp_path / "tied", stored, as_safetensors)
    assert resolve_model(str(folder)).has_separate_head == is_head


def test_every_exit_of_a_nested_draft_is_read_through_that_head(tiny_models: Path, tmp_path: Path) -> None:
    folder = tied(tiny_models / "tiny-nested", tmp_path / "tied", keep_both, as_safetensors)
    lean, whole = (load_model(resolve_model(str(one)), "cpu") for one in (folder, tiny_models / "tiny-nested"))
    assert lean.exits == (1, 2, 3)
    for depth in lean.exits:
        ids_BT = random_ids(1, seed=depth)
        assert torch.equal(*(one.head(one.extend(ids_BT, to_layer=depth)) for one in (lean, whole)))


def test_it_is_said_once_and_by_us(
    tiny_models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tied(tiny_models / "tiny-target", tmp_path / "granite-like", keep_both, as_safetensors)
    for lean in (True, False):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = load_model(str(folder), "cpu", lean=lean)
        (line,) = [str(one.message) for one in caught if one.category is UserWarning]
        assert line.startswith("granite-like: config.json ties its head to the embedding (tie_word_embeddings), and")
        assert "head is lm_head.weight" in line
        assert model.load_facts["head"].startswith("lm_head.weight, which differs")
    assert "tie_word_embeddings=False" not in caplog.text + "".join(capfd.readouterr())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_model(resolve_model(str(folder)), "cpu")  # whoever resolved it says it
        load_model(str(tiny_models / "tiny-target"), "cpu")


def test_neither_of_a_tied_pair_is_refused(tiny_models: Path, tmp_path: Path) -> None:
    def neither(weights: Weights) -> None:
        del weights[HEAD], weights[EMBEDDING]

    folder = tied(tiny_models / "tiny-target", tmp_path / "neither", neither, as_safetensors)
    with refused(ModelError, "neither", f"'{EMBEDDING}'"):
        load_model(str(folder), "cpu")


def test_untied_weights_without_a_head_are_refused(tiny_models: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_models / "tiny-target", tmp_path / "headless"))
    weights = load_file(folder / "model.safetensors")
    del weights[HEAD]
    as_safetensors(weights, folder)
    with refused(ModelError, "headless", f"'{HEAD}'"):
        load_model(str(folder), "cpu")
