"""`.bin` weights: the same numbers as safetensors, by the restricted unpickler, and refused in one line otherwise."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from specbench_s2d.errors import ModelError
from specbench_s2d.models import load_model
from specbench_s2d.models.memory import plan_memory
from specbench_s2d.models.pickled import PickledWeights, read_pickle
from specbench_s2d.models.resolve import resolve_model
from specbench_s2d.models.weight_files import find_weights
from specbench_s2d.models.weights import load_weights
from tests.models.reference import assert_close
from tests.refusals import refused
from tests.vicuna import BIN_FORMS, as_bin, as_legacy_shards, as_safetensors, as_shards, tiny_llama, write_vicuna

IDS_BT = torch.tensor([[1, 300, 17, 350, 9, 9, 260]])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny Vicuna in every form, its safetensors for comparison."""
    root = tmp_path_factory.mktemp("vicunas")
    for name, save in {"safetensors": as_safetensors, **BIN_FORMS}.items():
        write_vicuna(root / name, save)
    return root


@pytest.mark.parametrize("lean", [True, False])
@pytest.mark.parametrize("form", BIN_FORMS)
def test_logits_are_those_of_safetensors_and_of_transformers(folders: Path, form: str, lean: bool) -> None:
    model = load_model(str(folders / form), "cpu", lean=lean)
    logits_BTV = model.extend(IDS_BT)
    assert torch.equal(logits_BTV, load_model(str(folders / "safetensors"), "cpu", lean=lean).extend(IDS_BT))
    theirs: Any = AutoModelForCausalLM.from_pretrained(str(folders / form), dtype=torch.float32)
    with torch.no_grad():
        assert_close(logits_BTV, theirs(IDS_BT).logits)


@pytest.mark.parametrize("lean", [True, False])
def test_half_precision_files_load_in_the_dtype_asked_for(tmp_path: Path, lean: bool) -> None:
    forms = {"bin": as_bin, "safe": as_safetensors}
    for name, save in forms.items():
        write_vicuna(tmp_path / name, lambda state, out, save=save: save({n: t.half() for n, t in state.items()}, out))
    ours, same = (load_model(str(tmp_path / name), "cpu", "float32", lean=lean) for name in forms)
    assert ours.dtype == torch.float32 and torch.equal(ours.extend(IDS_BT), same.extend(IDS_BT))


PUBLISHED = {
    "Vicuna v1.3": {"transformers_version": "4.28.1", "use_cache": False},
    "Vicuna v1.5": {"pretraining_tp": 1, "rope_scaling": None, "num_key_value_heads": 4, "_name_or_path": "vicuna"},
    "a padding id of -1": {"pad_token_id": -1, "max_sequence_length": 2048},
    "JackFram's": {"bos_token_id": 0, "pad_token_id": 1},
}


@pytest.mark.parametrize("case", PUBLISHED)
def test_configs_of_their_time_load(folders: Path, tmp_path: Path, case: str) -> None:
    """Fields by the names of transformers 4, and a generation config with settings that greedy decoding ignores."""
    vicuna = Path(shutil.copytree(folders / "shards", tmp_path / "vicuna"))
    fields = json.loads((vicuna / "config.json").read_text())
    for newer in ("rope_parameters", "dtype", "head_dim", "attention_bias", "mlp_bias"):
        fields.pop(newer, None)
    (vicuna / "config.json").write_text(json.dumps({**fields, "torch_dtype": "float16", **PUBLISHED[case]}))
    sampled = {"bos_token_id": 1, "eos_token_id": 2, "max_length": 4096, "temperature": 0.9, "top_p": 0.6}
    (vicuna / "generation_config.json").write_text(json.dumps(sampled))
    expected = load_model(str(folders / "safetensors"), "cpu").extend(IDS_BT)
    for lean in (True, False):
        model = load_model(str(vicuna), "cpu", lean=lean)
        assert model.eos_ids == {2} and model.context == 2048
        assert_close(model.extend(IDS_BT), expected)


def test_a_model_of_another_family_loads_with_or_without_its_prefix(tiny_opt: Path, tmp_path: Path) -> None:
    """OPT's are saved as `model.decoder.…` or as `decoder.…`, and without the tied head."""
    state = AutoModelForCausalLM.from_pretrained(str(tiny_opt / "tiny-opt")).state_dict()
    expected = load_model(str(tiny_opt / "tiny-opt"), "cpu").extend(IDS_BT % 50)
    for prefix in ("model.decoder.", "decoder."):
        out = Path(shutil.copytree(tiny_opt / "tiny-opt", tmp_path / f"opt-{prefix}"))
        (out / "model.safetensors").unlink()
        names = {
            name.replace("model.decoder.", prefix): t.clone() for name, t in state.items() if name != "lm_head.weight"
        }
        torch.save(names, out / "pytorch_model.bin")
        assert torch.equal(load_model(str(out), "cpu").extend(IDS_BT % 50), expected)
        found = resolve_model(str(out))
        assert plan_memory(found, torch.float32).weights_bytes == found.weights.files[0].stat().st_size


class Files:
    """Reads `.bin` files, and keeps which were opened, and what of each has not been taken yet."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.held: list[dict[str, torch.Tensor]] = []

    def read(self, file: Path, name: str) -> dict[str, torch.Tensor]:
        self.opened.append(file.name)
        self.held.append(read_pickle(file, name))
        return self.held[-1]


def test_zip_files_are_mapped_and_older_ones_are_let_go_of(folders: Path) -> None:
    """What is still held after the whole model was read once: the rotary buffer, which nobody asked for."""
    asked, files = list(tiny_llama().state_dict()), Files()
    older = PickledWeights(find_weights(folders / "shards of the older format", "v"), "v", files.read)
    taken = [older(name) for name in asked]
    assert [name for held in files.held for name in held] == ["model.layers.0.self_attn.rotary_emb.inv_freq"]
    assert torch.equal(older(asked[0]), taken[0])  # and again, when asked again
    zipped = folders / "one file" / "pytorch_model.bin"
    tensor = PickledWeights(find_weights(zipped.parent, "v"), "v")("lm_head.weight")
    assert str(zipped) in _mapped_at(tensor.data_ptr())


def _mapped_at(address: int) -> str:
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(end, 16) for end in line.split()[0].split("-"))
        if first <= address < last:
            return line
    return ""


def test_a_shard_is_read_once_and_when_it_is_needed(folders: Path) -> None:
    """The order of reading crosses the border of the two shards several times within layer 1."""
    files, found, device = Files(), find_weights(folders / "shards of the older format", "v"), torch.device("cpu")
    stored = PickledWeights(found, "v", files.read)
    assert files.opened == []
    stored("model.embed_tokens.weight")
    assert files.opened == ["pytorch_model-00001-of-00002.bin"]
    files = Files()
    load_weights(PickledWeights(found, "v", files.read), "v", tiny_llama().config, device, torch.float32)
    assert files.opened == ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]


class Harmful:
    """Writes a file where it is unpickled without restriction."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("lean", [True, False])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_harmful_pickle_is_refused_and_not_run(tmp_path: Path, lean: bool, zipped: bool) -> None:
    marker = tmp_path / "ran"
    folder = write_vicuna(tmp_path / "vicuna", as_bin)
    state: dict[str, Any] = {**tiny_llama().state_dict(), "more": Harmful(marker)}
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    with refused(ModelError, "vicuna", ".bin", f"{os.system.__module__}.system", "no code is run", "safetensors"):
        load_model(str(folder), "cpu", lean=lean)
    assert not marker.exists()
    torch.load(folder / "pytorch_model.bin", weights_only=False)
    assert marker.exists()  # it would have


def test_a_bare_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "w.bin").write_bytes(pickle.dumps({"a": Harmful(marker)}, protocol=2))
    with refused(ModelError, "vicuna", "w.bin"):
        read_pickle(tmp_path / "w.bin", "vicuna")
    assert not marker.exists()


DAMAGED = {
    "cut short": lambda whole: whole[: len(whole) // 2],
    "empty": lambda whole: b"",
    "a pointer of git-lfs": lambda whole: b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n",
    "a web page": lambda whole: b"<html>not found</html>",
}


@pytest.mark.parametrize("lean", [True, False])
@pytest.mark.parametrize("form", ["shards", "shards of the older format"])
@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files_are_refused(folders: Path, tmp_path: Path, case: str, form: str, lean: bool) -> None:
    vicuna = Path(shutil.copytree(folders / form, tmp_path / "my-vicuna"))
    shard = vicuna / "pytorch_model-00002-of-00002.bin"
    shard.write_bytes(DAMAGED[case](shard.read_bytes()))
    with refused(ModelError, "my-vicuna"):
        load_model(str(vicuna), "cpu", lean=lean)


@pytest.mark.parametrize("content", [[torch.ones(2)], {"model": {"a": torch.ones(2)}}, torch.ones(2)])
def test_what_is_no_table_of_tensors_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.bin")
    with refused(ModelError, "vicuna", "w.bin", "tensors by name"):
        read_pickle(tmp_path / "w.bin", "vicuna")


@pytest.mark.parametrize("save", [as_bin, as_shards, as_legacy_shards])
def test_a_missing_tensor_is_refused(tmp_path: Path, save: Any) -> None:
    gone = "model.layers.1.mlp.up_proj.weight"
    write_vicuna(tmp_path / "vicuna", lambda state, out: save({n: t for n, t in state.items() if n != gone}, out))
    for lean in (True, False):
        with refused(ModelError, "vicuna", f"'{gone}'"):
            load_model(str(tmp_path / "vicuna"), "cpu", lean=lean)
