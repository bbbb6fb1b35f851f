"""Medusa's heads: every published form gives the paper's logits; what is refused, and how."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from specbench_s2d import build_decoder, load_model
from specbench_s2d.errors import ModelError, UserError
from specbench_s2d.models.heads.medusa import MedusaHead
from specbench_s2d.models.memory import plan_memory
from specbench_s2d.models.resolve import resolve_model
from specbench_s2d.models.token_ranking import write_ranking
from specbench_s2d.models.vocabulary import check_pair
from tests.models.heads.medusa_made import MedusaFromScratch, write_medusa
from tests.refusals import refused
from tests.tiny import write_padded

PROMPT = [5, 9, 3, 17, 40, 2, 8]
FORMS = {
    "published": (5, 1, True, "medusa_lm_head.pt", ""),
    "safetensors": (3, 1, True, "medusa_lm_head.safetensors", ""),
    "through the target's LM head": (4, 1, False, "medusa_lm_head.safetensors", ""),
    "two blocks": (2, 2, True, "medusa_lm_head.pt", ""),
    "no block": (2, 0, True, "medusa_lm_head.pt", ""),
    "taken out of a checkpoint of everything": (2, 1, True, "medusa_lm_head.safetensors", "medusa_head."),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_as_published_gives_the_papers_logits(form: str, tiny_models: Path, tmp_path: Path) -> None:
    heads, blocks, own, file, prefix = FORMS[form]
    made = MedusaFromScratch(tiny_models / "tiny-target", heads, blocks, own, seed=1)
    head = load_model(str(made.write(tmp_path / "heads", file, prefix)))
    target = load_model(str(tiny_models / "tiny-target"))
    assert isinstance(head, MedusaHead) and head.heads == heads
    _, (states,) = target.extend_with_states(torch.tensor([PROMPT]), [target.depth])
    logits = head.logits(states[-1:], heads, target)
    assert torch.allclose(logits.double(), made.logits(PROMPT), atol=1e-4)
    assert torch.allclose(head.logits(states[-1:], 1, target), logits[:1], atol=1e-5)


def test_a_tokenizer_beside_the_heads_does_not_make_them_a_model(tiny_models: Path, tmp_path: Path) -> None:
    """The authors' training code saves one there."""
    made = write_medusa(tiny_models / "tiny-target", tmp_path / "heads")
    shutil.copy(tiny_models / "tiny-target" / "tokenizer.json", made)
    shape = resolve_model(str(made)).head_shape
    assert shape is not None and (shape.kind, shape.heads, shape.layers, shape.width) == ("medusa", 4, 1, 32)


def test_rows_of_padding_beyond_the_targets_ids_are_left_out(tiny_models: Path, tmp_path: Path) -> None:
    padded = write_padded(tiny_models / "tiny-target", tmp_path / "padded", rows=8)
    made = MedusaFromScratch(padded, 2, 1, True, seed=0)
    for k in range(2):
        made.tensors[f"{k}.1.weight"][-8:] *= 30  # which would be proposed
    target, head = load_model(str(padded)), load_model(str(made.write(tmp_path / "heads")))
    assert head.vocabulary == target.vocabulary + 8
    write_ranking(tmp_path / "heads", [1] * 328, {})
    head = load_model(str(tmp_path / "heads"))
    expected = build_decoder("ar", target).generate(PROMPT, 8).ids
    for spec in ("medusa:gamma=2", "medusa:gamma=2,draft_vocabulary=328"):
        assert build_decoder(spec, target, head).generate(PROMPT, 8).ids == expected


def test_heads_for_another_target_are_refused_with_both_numbers(tiny_models: Path, tmp_path: Path) -> None:
    made = resolve_model(str(write_medusa(tiny_models / "tiny-target", tmp_path / "heads")))
    with refused(ModelError, "heads is a draft head on states of width 32", "demo-s has states of width 192"):
        check_pair(resolve_model("demo-s"), made)
    tensors = {"0.0.linear.weight": torch.zeros(32, 32), "0.0.linear.bias": torch.zeros(32)}
    for rows in (300, 5000):
        tensors["0.1.weight"] = torch.zeros(rows, 32)
        torch.save(tensors, tmp_path / "heads" / "medusa_lm_head.pt")
        target, other = (resolve_model(str(path)) for path in (tiny_models / "tiny-target", tmp_path / "heads"))
        with refused(ModelError, "a vocabulary of 320 ids and draft heads", f"one of {rows:,}"):
            check_pair(target, other)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"1.0.linear.weight": torch.zeros(16, 16)}, "N.N.linear.bias (32,)"),
        ({"1.1.weight": None}, "N.N.weight (320, 32)"),
        ({"0.0.linear.bias": None}, "N.N.linear.weight (32, 32)"),
        ({"blocks.0.layers.0.weight": torch.zeros(2)}, "blocks.N.layers.N.weight (2,)"),
    ],
)
def test_heads_that_are_not_alike_are_refused_with_what_was_found(
    change: dict[str, torch.Tensor | None], found: str, tiny_models: Path, tmp_path: Path
) -> None:
    made = MedusaFromScratch(tiny_models / "tiny-target", 2, 1, True, seed=0)
    made.tensors = {name: tensor for name, tensor in (made.tensors | change).items() if tensor is not None}
    with refused(ModelError, "heads: it looks like a draft head of a kind that is not known here", found, "Medusa's N"):
        load_model(str(made.write(tmp_path / "heads")))


def test_the_form_of_another_engine_is_refused(tmp_path: Path) -> None:
    save_file({"blocks.0.layers.0.weight": torch.zeros(4, 4)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    with refused(ModelError, "a kind that is not known here (there are blocks.N.layers.N.weight (4, 4)"):
        load_model(str(tmp_path))


def test_a_checkpoint_of_model_and_heads_is_a_model(tiny_models: Path, tmp_path: Path) -> None:
    """The newer form of the authors' repository: it runs as a target, and is refused as heads."""
    both = tmp_path / "both"
    shutil.copytree(tiny_models / "tiny-target", both)
    made = MedusaFromScratch(both, 2, 1, True, seed=0)
    heads = {f"medusa_head.{name}": tensor for name, tensor in made.tensors.items()}
    save_file(load_file(both / "model.safetensors") | heads, both / "model.safetensors", metadata={"format": "pt"})
    fields = json.loads((both / "config.json").read_text()) | {"medusa_num_heads": 2}
    (both / "config.json").write_text(json.dumps(fields))
    target, model = load_model(str(tiny_models / "tiny-target")), load_model(str(both))
    assert build_decoder("ar", model).generate(PROMPT, 8).ids == build_decoder("ar", target).generate(PROMPT, 8).ids
    with refused(
        UserError, "'medusa' takes a draft head (medusa), and both is a model", "save its tensors medusa_head.*"
    ):
        build_decoder("medusa", target, model)


def test_heads_are_no_target(tiny_models: Path, tmp_path: Path) -> None:
    head = load_model(str(write_medusa(tiny_models / "tiny-target", tmp_path / "heads")))
    with refused(ModelError, "is a draft head, which reads a target's states; give it as --draft to medusa"):
        head.extend(torch.tensor([[1, 2]]))
    with refused(ModelError, "is a draft head"):
        head.head(torch.zeros(1, 1, 32))


def test_memory_is_that_of_the_heads(tiny_models: Path, tmp_path: Path) -> None:
    """4 heads of 32 x 32 + 32 and 320 x 32; in half precision LM heads are float32 on the host."""
    made = str(write_medusa(tiny_models / "tiny-target", tmp_path / "heads"))
    block, lm_head = 32 * 32 + 32, 320 * 32
    for dtype, size in ((torch.float32, 4), (torch.bfloat16, 2)):
        plan = plan_memory(resolve_model(made), dtype, positions=100, on_host=True)
        assert plan.weights_bytes == 4 * (size * block + 4 * lm_head)
        assert plan.weights_bytes == load_model(made, dtype=str(dtype).removeprefix("torch.")).parameter_bytes
