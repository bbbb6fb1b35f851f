"""The Python API, as docs/api.md shows it."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import specbench_s2d
from specbench_s2d import build_decoder, load_model
from specbench_s2d.decoding.decoder import Decoder
from specbench_s2d.errors import UserError
from specbench_s2d.models.devices import find_dtype
from tests.refusals import refused

HEAVY = ("torch", "transformers", "pandas", "matplotlib")


def test_the_package_imports_nothing_heavy() -> None:
    """A command line's `--help` must not wait for torch."""
    program = f"import sys, specbench_s2d; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_names_are_there_and_no_others() -> None:
    assert specbench_s2d.__all__ == ["build_decoder", "load_model"]
    assert all(callable(getattr(specbench_s2d, name)) for name in specbench_s2d.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        specbench_s2d.no_such_name  # noqa: B018


def test_generate_takes_what_the_page_says() -> None:
    parameters = inspect.signature(Decoder.generate).parameters
    defaults = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
    assert defaults == {
        "max_new_tokens": 128,
        "temperature": 0.0,
        "top_k": 0,
        "top_p": 1.0,
        "seed": 0,
        "ignore_eos": False,
    }


def test_a_target_a_draft_a_decoder_a_generation(tiny_models: Path) -> None:
    target = load_model(str(tiny_models / "tiny-target"), device="cpu", dtype="float32")
    draft = load_model(str(tiny_models / "tiny-draft"), device="cpu", dtype="float32")
    prompt_ids = target.tokenizer.encode("Write a short letter to a friend about the weather.")
    decoder = build_decoder("sd", target=target, draft=draft, gamma=3)
    generation = decoder.generate(
        prompt_ids, max_new_tokens=40, temperature=0.0, top_k=0, top_p=1.0, seed=0, ignore_eos=True
    )
    reference = build_decoder("ar", target=target).generate(prompt_ids, max_new_tokens=40, ignore_eos=True)
    assert generation.ids == reference.ids
    assert all(isinstance(token, int) for token in generation.ids)
    assert generation.stop == "length"
    assert generation.ids[1:] == [token for step in generation.steps for token in step.emitted]
    accepted = sum(step.accepted for step in generation.steps)
    assert 0 < accepted < sum(len(step.drafted) for step in generation.steps)


def test_a_string_builds_the_same_decoder(tiny_models: Path) -> None:
    target = load_model(str(tiny_models / "tiny-target"), device="cpu")
    draft = load_model(str(tiny_models / "tiny-draft"), device="cpu")
    assert build_decoder("sd:gamma=3", target, draft).label == build_decoder("sd", target, draft, gamma=3).label


def test_messages_name_parameters_and_no_flags(tiny_models: Path) -> None:
    target = load_model(str(tiny_models / "tiny-target"), device="cpu")
    with refused(UserError, "dtype='int3': give one of float32, bfloat16, float16."):
        load_model("demo-s", device="cpu", dtype="int3")
    with refused(UserError, "device='tpu': not a device; give cpu, cuda or cuda:N"):
        load_model("demo-s", device="tpu")
    with refused(UserError, "engine='native': on a CPU it computes in float32", "give dtype='float32', or engine='ea"):
        load_model("demo-s", device="cpu", dtype="bf16", engine="native")
    with refused(UserError, "decoder 'sd' needs a draft model; give draft=load_model('NAME')."):
        build_decoder("sd", target)
    with refused(UserError, "Lower max_new_tokens, or shorten the prompt."):
        build_decoder("ar", target).generate([1, 2, 3], max_new_tokens=10**6)


@pytest.mark.parametrize("dtype", ["bf16", "bfloat16", torch.bfloat16])
def test_a_dtype_has_other_names_and_may_be_torch_s(dtype: Any) -> None:
    assert find_dtype(dtype, "cpu") is torch.bfloat16


def test_arguments_of_other_types_are_refused_by_their_parameter(tiny_models: Path) -> None:
    target = load_model(tiny_models / "tiny-target", device=torch.device("cpu"), dtype=torch.float32)
    assert target.device == torch.device("cpu")
    wrong: Any
    for wrong in (None, 3):
        with refused(UserError, f"load_model: name {wrong} is no text; give a model's name"):
            load_model(wrong)
        with refused(UserError, f"build_decoder: decoder {wrong} is no text; give a name"):
            build_decoder(wrong, target)
    for wrong in (0, 1):
        with refused(UserError, f"device='{wrong}': not a device; give cpu, cuda or cuda:N"):
            load_model("demo-s", device=wrong)
    for name in ("lean", "trust_remote_code", "verify_forward"):
        options: Any = {name: "no"}
        with refused(UserError, f"{name}='no': give True or False."):
            load_model("demo-s", device="cpu", **options)
    for wrong in ("demo-s", 5):
        given = repr(wrong if isinstance(wrong, str) else "NAME")
        with refused(UserError, f"build_decoder: target {wrong!r} is no loaded model; give load_model({given})."):
            build_decoder("ar", wrong)
        with refused(UserError, f"build_decoder: draft {wrong!r} is no loaded model"):
            build_decoder("sd", target, wrong)
    with refused(UserError, "decoder 'ar,sd': lists 2 decoders; give one."):
        build_decoder("ar,sd", target)
    wrong = "no"
    with refused(UserError, "ignore_eos='no': give True or False."):
        build_decoder("ar", target).generate([1, 2], ignore_eos=wrong)
